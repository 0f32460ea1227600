"""The least that a loop needs of Kubernetes: a list, a watch and patches of the status, by aiohttp alone."""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import yaml

MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"

_LONGEST_EVENT = 1 << 22

Json = dict[str, Any]


class Cluster:
    """The resources at the path `RESOURCES` of the API server of `KUBECONFIG`."""

    def __init__(self) -> None:
        config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._session = aiohttp.ClientSession(
            cluster["server"],
            headers={"Authorization": f"Bearer {user['token']}", "Accept": "application/json"},
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=authority)),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=_LONGEST_EVENT,
        )
        self._path = os.environ["RESOURCES"]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def resources(self) -> AsyncIterator[Json]:
        """Every resource as it is, then every change of one; from the beginning whenever the watch ends."""
        while True:
            async for resource in self._until_the_watch_ends():
                yield resource

    async def _until_the_watch_ends(self) -> AsyncIterator[Json]:
        async with self._session.get(self._path) as answer:
            answer.raise_for_status()
            listed = await answer.json()
        print("working", flush=True)
        for item in listed["items"]:
            yield item
        query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
        async with self._session.get(self._path, params=query) as events:
            async for line in events.content:
                event = json.loads(line)
                if event["type"] in {"ADDED", "MODIFIED"}:
                    yield event["object"]

    async def patch_status(self, name: str, patch: Mapping[str, Any] | Sequence[Any], kind: str = MERGE) -> Json | None:
        """Patch the status; None if the object has changed meanwhile."""
        async with self._session.patch(
            f"{self._path}/{name}/status", data=json.dumps(patch), headers={"Content-Type": kind}
        ) as answer:
            if answer.status in {404, 409}:
                return None
            answer.raise_for_status()
            return dict(await answer.json())

    async def swap_status(self, resource: Mapping[str, Any], status: Mapping[str, Any]) -> Json | None:
        """Replace the status if the object is as it was read; None if it has changed meanwhile."""
        metadata = resource["metadata"]
        patch = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {"op": "add", "path": "/status", "value": dict(status)},
        ]
        return await self.patch_status(metadata["name"], patch, JSON_PATCH)


def is_due(resource: Mapping[str, Any]) -> bool:
    """Whether the status speaks of an older generation, and no update for this one was begun."""
    status, generation = resource.get("status", {}), resource["metadata"]["generation"]
    return generation not in {status.get("observedGeneration"), status.get("operation", {}).get("generation")}


def path_of(resource: Mapping[str, Any]) -> str:
    """Where its endpoint is at the provider."""
    return f"/dedicated/beta/endpoint/{resource['spec']['endpointId']}"


def authorization() -> dict[str, str]:
    """The header that carries the provider's key."""
    return {"Authorization": f"Bearer {os.environ['PROVIDER_TOKEN']}"}
