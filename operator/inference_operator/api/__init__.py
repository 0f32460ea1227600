"""The contract with users: what they may write and what is reported back (pure)."""
