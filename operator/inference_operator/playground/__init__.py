"""The operator without a cluster or an account: a local control plane, emulated providers, and a demonstration."""
