"""SAFE: the least that "at most one version per change" needs, with the HTTP libraries of the operator.

Read the configuration and the count of versions side by side; store the intent if the object is still the one that was
read; PUT; write down the outcome. Nothing else: no retry, no look afterwards, no conditions, no metrics.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import Any, Final

import httpx

from bench.loops.cluster import Cluster, authorization, is_due, path_of

WORKERS: Final = 64
"""Resources in flight at once; as the operator ships."""

_ALONE: Final = httpx.Limits(max_connections=1, max_keepalive_connections=1)
"""A client for each connection: a pool that is shared by many requests is slow in httpcore 1.0."""


class Provider:
    """The provider's API on kept connections."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._idle: list[httpx.AsyncClient] = []

    async def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request; the answer is read whole."""
        client = self._idle.pop() if self._idle else self._new_client()
        answer = await client.request(method, path, json=body)
        self._idle.append(client)
        return answer

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._origin,
            headers=authorization(),
            verify=self._tls,
            limits=_ALONE,
            timeout=30,
            trust_env=False,
        )


class Safe:
    """Works on each resource one change at a time."""

    def __init__(self, cluster: Cluster, provider: Provider) -> None:
        self._cluster = cluster
        self._provider = provider
        self._places = asyncio.Semaphore(WORKERS)
        self._newest: dict[str, dict[str, Any]] = {}
        self._busy: set[str] = set()

    async def run(self) -> None:
        """Handle every change until the watch ends."""
        async with asyncio.TaskGroup() as tasks:
            async for resource in self._cluster.resources():
                uid = resource["metadata"]["uid"]
                self._newest[uid] = resource
                if is_due(resource) and uid not in self._busy:
                    self._busy.add(uid)
                    tasks.create_task(self._work(uid))

    async def _work(self, uid: str) -> None:
        tried = None
        async with self._places:
            while (resource := self._newest[uid]) is not tried and is_due(resource):
                tried = resource
                await self._handle(resource)
            self._busy.remove(uid)

    async def _handle(self, resource: dict[str, Any]) -> None:
        path, generation = path_of(resource), resource["metadata"]["generation"]
        live, versions = await asyncio.gather(
            self._provider.call("GET", path), self._provider.call("GET", f"{path}/version?limit=100")
        )
        base = max((int(number) for number in versions.raise_for_status().json()["data"]), default=0)
        live.raise_for_status()
        operation = {"id": uuid.uuid4().hex, "generation": generation, "baseVersion": base}
        kept = {name: value for name, value in resource.get("status", {}).items() if name != "operation"}
        stored = await self._cluster.swap_status(resource, {**kept, "operation": operation})
        if stored is None:
            return
        answer = await self._provider.call("PUT", path, resource["spec"]["update"])
        state = "Applied" if answer.is_success else f"HTTP {answer.status_code}"
        await self._cluster.swap_status(stored, {"observedGeneration": generation, "state": state})


async def main() -> None:
    """Run until killed."""
    async with Cluster() as cluster:
        await Safe(cluster, Provider(os.environ["PROVIDER_ORIGIN"])).run()


if __name__ == "__main__":
    asyncio.run(main())
