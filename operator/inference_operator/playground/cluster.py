"""The few Kubernetes calls that the demonstration needs, so that it depends on no client and no `kubectl`."""

import json
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import httpx

FIELD_MANAGER: Final = "inference-operator-demo"

PLURALS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ClusterRole": "clusterroles",
        "ClusterRoleBinding": "clusterrolebindings",
        "CustomResourceDefinition": "customresourcedefinitions",
        "InferenceEndpoint": "inferenceendpoints",
        "Namespace": "namespaces",
        "Secret": "secrets",
    }
)
"""Every kind that can be applied, and what it is called in a path."""

_TIMEOUT_SECONDS: Final = 30.0
_SERVED_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05

Manifest = Mapping[str, Any]


class ClusterError(RuntimeError):
    """The API server refused a request or cannot be reached; the message is its own."""


class Cluster:
    """An API server, as one user."""

    def __init__(self, url: str, *, ca_file: Path, token: str) -> None:
        """Connect to an API server.

        Args:
            url: Its origin.
            ca_file: The certificate authority to verify it with, PEM.
            token: The user's bearer token.
        """
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=ca_file),
            trust_env=False,
            timeout=_TIMEOUT_SECONDS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def version(self) -> str:
        """The release of the API server, such as `v1.36.3`."""
        return str(self._call("GET", "/version")["gitVersion"])

    def apply(self, manifest: Manifest) -> None:
        """Create or change an object by a server-side apply; nothing else that owns a field loses it.

        Raises:
            ClusterError: It was refused.
        """
        self._call(
            "PATCH",
            f"{collection_path(manifest)}/{manifest['metadata']['name']}",
            params={"fieldManager": FIELD_MANAGER},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=json.dumps(manifest),
        )

    def items(self, like: Manifest) -> list[dict[str, Any]]:
        """All objects of the kind and in the namespace of a manifest.

        Raises:
            ClusterError: They cannot be listed.
        """
        items: list[dict[str, Any]] = self._call("GET", collection_path(like))["items"]
        return items

    def wait_until_served(self, like: Manifest) -> None:
        """Wait until the API server serves the kind of a manifest, which it does soon after its definition is applied.

        Raises:
            ClusterError: It did not within half a minute.
        """
        deadline = time.monotonic() + _SERVED_SECONDS
        while True:
            try:
                self.items(like)
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _call(self, method: str, path: str, **request: Any) -> Any:
        try:
            response = self._client.request(method, path, **request)
        except httpx.TransportError as error:
            # The exception itself may quote the headers.
            raise ClusterError(f"{method} {path}: {type(error).__name__}") from None
        if response.is_error:
            raise ClusterError(f"{method} {path}: {_reason(response)}")
        return response.json()


def collection_path(manifest: Manifest) -> str:
    """The path under which the objects of a manifest's kind and namespace are."""
    group = manifest["apiVersion"]
    root = f"/apis/{group}" if "/" in group else f"/api/{group}"
    namespace = manifest["metadata"].get("namespace")
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{PLURALS[manifest['kind']]}"


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"
