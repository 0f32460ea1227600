"""The names that users, tools and stored objects rely on; changing one is a new API version."""

from __future__ import annotations

GROUP = "inference-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "InferenceEndpoint"
LIST_KIND = "InferenceEndpointList"
PLURAL = "inferenceendpoints"
SINGULAR = "inferenceendpoint"
SHORT_NAME = "ie"
CRD_NAME = f"{PLURAL}.{GROUP}"

SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""The form of the name of a Kubernetes object, a Secret's for instance; at most 253 characters."""

REFRESH_ANNOTATION = f"{GROUP}/refresh-requested-at"
"""Any new value makes the operator read the provider now."""

REAPPLY_ANNOTATION = f"{GROUP}/reapply-requested-at"
"""A non-empty value that differs from the remembered one sends the current generation once more."""

SUSPEND_ANNOTATION = f"{GROUP}/suspend"
"""`"true"` does what `spec.suspend: true` does."""


def selector(uid: str) -> str:
    """The label selector of the scale subresource: not empty, and unique to the object."""
    return f"{GROUP}/endpoint={uid}"
