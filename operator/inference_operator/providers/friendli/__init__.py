"""Friendli Dedicated Endpoints."""

from inference_operator.providers.friendli.driver import DRIVER

__all__ = ["DRIVER"]
