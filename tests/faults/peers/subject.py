"""What the comparison asks of everything that is compared: to be started, killed, given resources, and believed."""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx
import yaml

from faults.comparison import Profile
from faults.peers.wish import Wish
from rig import Process, Rig, wait_for

POLL_SECONDS: Final = 2.0
"""How often every subject looks by itself. As shipped it is a minute for all that look at all."""

TIMEOUT_SECONDS: Final = 2.0
"""How long every subject waits for an answer of the provider."""

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_APPLY = {"Content-Type": "application/apply-patch+yaml"}


class Subject(ABC):
    """Something that keeps endpoints as resources describe them, at work in the namespace of a rig.

    Nobody else works in the rig's control plane, since not all subjects can be held to one namespace.
    """

    profile: ClassVar[Profile]
    version: ClassVar[str]
    kind: ClassVar[str]
    plural: ClassVar[str]
    provider: ClassVar[str] = "friendli"
    """Whose endpoints it keeps."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.install()

    @abstractmethod
    def install(self) -> None:
        """Bring into the cluster what it needs before it is started."""

    @abstractmethod
    def start(self) -> None:
        """Start a copy of it; more than one may run."""

    @abstractmethod
    def spec(self, wish: Wish) -> dict[str, Any]:
        """The `spec` of the resource by which a user asks for this."""

    @abstractmethod
    def claims(self, resource: Mapping[str, Any]) -> bool:
        """Whether the resource's status says that its newest generation is what the provider holds."""

    def kill(self) -> None:
        """Kill every copy of it, without any warning."""
        for process in self.rig.processes:
            process.kill()

    @property
    def path(self) -> str:
        """Where its resources are in the API server."""
        return f"/apis/{self.version}/namespaces/{self.rig.namespace}/{self.plural}"

    def apply(self, name: str, wish: Wish) -> None:
        """Create or edit a resource, as its author."""
        self.rig._apply(f"{self.path}/{name}", {"spec": self.spec(wish)}, self.version, self.kind, name)

    def resources(self) -> dict[str, dict[str, Any]]:
        """Every resource of the namespace, by name."""
        answer = self.rig.api.get(self.path)
        answer.raise_for_status()
        return {item["metadata"]["name"]: item for item in answer.json()["items"]}

    def delete(self, name: str) -> None:
        """Ask for a resource to be deleted."""
        self.rig.editor.delete(f"{self.path}/{name}").raise_for_status()

    def discard(self) -> None:
        """Remove every resource by force once nobody works on them, so that the next process does not find them."""
        headers = {"Content-Type": "application/merge-patch+json"}
        for name in self.resources():
            self.rig.api.patch(f"{self.path}/{name}", headers=headers, json={"metadata": {"finalizers": None}})
            self.rig.api.delete(f"{self.path}/{name}")
        wait_for(lambda: not self.resources(), what="the resources to be gone")

    def define(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Install custom resource definitions and wait until they are served."""
        for document in documents:
            path = f"{_DEFINITIONS}/{document['metadata']['name']}"
            query = {"fieldManager": "rig", "force": "true"}
            answer = self.rig.api.patch(path, params=query, headers=_APPLY, content=yaml.safe_dump(document))
            answer.raise_for_status()
        wait_for(lambda: self.rig.api.get(self.path).status_code == httpx.codes.OK, what=f"{self.plural} to be served")

    def spawn(self, command: Sequence[str | Path], **environment: str) -> None:
        """Start a program that works with the rig's control plane as the user `operator`."""
        own = {"KUBECONFIG": str(self.rig.plane.kubeconfig_of("operator")), **environment}
        log = self.rig.folder / f"{self.profile.name}-{self.rig.namespace}-{len(self.rig.processes)}.log"
        with log.open("wb") as sink:
            popen = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=os.environ | own)
        self.rig.processes.append(Process(popen, log))


def condition_of(resource: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition of a resource; empty when there is none of that type."""
    conditions = resource.get("status", {}).get("conditions", [])
    return next((found for found in conditions if found["type"] == kind), {})
