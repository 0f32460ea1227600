"""The in-memory provider: for tests, and as the reference for what a driver must do."""

from inference_operator.providers.memory.driver import DRIVER

__all__ = ["DRIVER"]
