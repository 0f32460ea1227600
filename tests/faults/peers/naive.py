"""A plain kopf handler: what a team has that writes its own operator without a thought of faults."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import httpx

from faults.comparison import Profile
from faults.peers.subject import POLL_SECONDS, TIMEOUT_SECONDS, Subject
from faults.peers.wish import Wish

HANDLER: Final = Path(__file__).with_name("kopf_handler.py")

_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_DEFINITION: Final = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "endpoints.plain.test"},
    "spec": {
        "group": "plain.test",
        "scope": "Namespaced",
        "names": {"kind": "Endpoint", "plural": "endpoints", "singular": "endpoint"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _OPEN, "status": _OPEN}}},
            }
        ],
    },
}


class Naive(Subject):
    """The handler of `kopf_handler.py`, run by kopf itself."""

    profile = Profile(
        name="naive",
        title="plain kopf handler",
        version=f"kopf {version('kopf')}, httpx {httpx.__version__}",
        settings=f"kopf run --standalone; waits {TIMEOUT_SECONDS:g} s for an answer (5 as shipped) and"
        f" {POLL_SECONDS:g} s before a failed handler is run again (60 as shipped)",
    )
    version, kind, plural = "plain.test/v1", "Endpoint", "endpoints"

    def install(self) -> None:
        self.define([_DEFINITION])

    def start(self) -> None:
        command = [sys.executable, "-m", "kopf", "run", "--standalone", "--namespace", self.rig.namespace, str(HANDLER)]
        self.spawn(
            command,
            PROVIDER_ORIGIN=self.rig.emulators.urls()["friendli"],
            TIMEOUT_SECONDS=str(TIMEOUT_SECONDS),
            BACKOFF_SECONDS=str(POLL_SECONDS),
        )

    def spec(self, wish: Wish) -> dict[str, Any]:
        return {"endpointId": wish.endpoint_id, "secretName": "key", "update": wish.body()}

    def claims(self, resource: Mapping[str, Any]) -> bool:
        status = resource.get("status", {})
        current: bool = status.get("observedGeneration") == resource["metadata"]["generation"]
        return current and status.get("state") == "Applied"
