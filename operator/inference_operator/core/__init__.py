"""The decisions, free of network, clock, randomness and framework."""
