"""SAFE: the least that "at most one version per change" needs, with the HTTP libraries of the operator.

Read the configuration and the count of versions side by side; store the intent if the object is still the one that was
read; PUT; write down the outcome. Nothing else: no retry, no look afterwards, no conditions, no metrics.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import httpcore

from bench.loops.cluster import Cluster, authorization, is_due, path_of

WORKERS: Final = 64
"""Resources in flight at once; as the operator ships."""

TIMEOUT_SECONDS: Final = 30


class Answer(NamedTuple):
    """What the provider said."""

    status: int
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return self.status < HTTPStatus.MULTIPLE_CHOICES


class Provider:
    """The provider's API on kept connections, each used by one request at a time."""

    def __init__(self, origin: str) -> None:
        url = httpcore.URL(origin)
        self._origin = url.origin
        self._headers = [(b"Host", origin.partition("//")[2].encode()), *_encoded(authorization())]
        self._idle: list[httpcore.AsyncHTTPConnection] = []

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        """One request; the answer is read whole."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            connection = await self._kept() or httpcore.AsyncHTTPConnection(self._origin)
            answer = await connection.handle_async_request(self._request(method, path, body))
            async with aclosing(answer):
                content = await answer.aread()
        self._idle.append(connection)
        return Answer(answer.status, content)

    async def _kept(self) -> httpcore.AsyncHTTPConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _request(self, method: str, path: str, body: Any) -> httpcore.Request:
        origin = self._origin
        url = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=path)
        if body is None:
            return httpcore.Request(method, url, headers=self._headers)
        content = json.dumps(body).encode()
        more = _encoded({"Content-Type": "application/json", "Content-Length": str(len(content))})
        return httpcore.Request(method, url, headers=[*self._headers, *more], content=content)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


class Safe:
    """Works on each resource one change at a time."""

    def __init__(self, cluster: Cluster, provider: Provider) -> None:
        self._cluster = cluster
        self._provider = provider
        self._places = asyncio.Semaphore(WORKERS)
        self._newest: dict[str, dict[str, Any]] = {}
        self._busy: set[str] = set()

    async def run(self) -> None:
        """Handle every change until killed."""
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
        if not (live.ok and versions.ok):
            raise RuntimeError(f"the provider answered {live.status} and {versions.status}")
        json.loads(live.content)
        base = max(map(int, json.loads(versions.content)["data"]), default=0)
        operation = {"id": uuid.uuid4().hex, "generation": generation, "baseVersion": base}
        kept = {name: value for name, value in resource.get("status", {}).items() if name != "operation"}
        stored = await self._cluster.swap_status(resource, {**kept, "operation": operation})
        if stored is None:
            return
        answer = await self._provider.call("PUT", path, resource["spec"]["update"])
        state = "Applied" if answer.ok else f"HTTP {answer.status}"
        await self._cluster.swap_status(stored, {"observedGeneration": generation, "state": state})


async def main() -> None:
    """Run until killed."""
    async with Cluster() as cluster:
        await Safe(cluster, Provider(os.environ["PROVIDER_ORIGIN"])).run()


if __name__ == "__main__":
    asyncio.run(main())
