"""Novita Serverless GPU Endpoints."""

from inference_operator.providers.novita.driver import DRIVER

__all__ = ["DRIVER"]
