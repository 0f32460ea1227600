"""The inference operator: model endpoints at GPU providers as Kubernetes resources."""

__version__ = "0.1.0"
