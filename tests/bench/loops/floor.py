"""FLOOR: watch, PUT, write it down; no safety at all, so nothing that is useful can be faster.

`--intent` makes it the yardstick of SAFE: one read of the provider and one guarded write of the intent before the PUT.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any

import aiohttp

from bench.loops.cluster import Cluster, authorization, is_due, path_of


class Floor:
    """Sends what it is told."""

    def __init__(self, cluster: Cluster, provider: aiohttp.ClientSession, *, intent: bool) -> None:
        self._cluster = cluster
        self._provider = provider
        self._intent = intent
        self._sent: dict[str, int] = {}

    async def run(self) -> None:
        """Handle every change until killed."""
        async with asyncio.TaskGroup() as tasks:
            async for resource in self._cluster.resources():
                uid, generation = resource["metadata"]["uid"], resource["metadata"]["generation"]
                if is_due(resource) and self._sent.get(uid) != generation:
                    self._sent[uid] = generation
                    tasks.create_task(self._handle(resource))

    async def _handle(self, resource: Mapping[str, Any]) -> None:
        metadata = resource["metadata"]
        if self._intent and not await self._prepare(resource):
            return
        async with self._provider.put(path_of(resource), json=resource["spec"]["update"]) as answer:
            state = "Applied" if answer.ok else f"HTTP {answer.status}"
        status = {"observedGeneration": metadata["generation"], "state": state}
        await self._cluster.patch_status(metadata["name"], {"status": status})

    async def _prepare(self, resource: Mapping[str, Any]) -> bool:
        async with self._provider.get(path_of(resource)) as answer:
            await answer.json()
        intent = {**resource.get("status", {}), "operation": {"generation": resource["metadata"]["generation"]}}
        return await self._cluster.swap_status(resource, intent) is not None


async def main() -> None:
    """Run until killed."""
    provider = aiohttp.ClientSession(
        os.environ["PROVIDER_ORIGIN"], headers=authorization(), timeout=aiohttp.ClientTimeout(total=30)
    )
    async with Cluster() as cluster, provider:
        await Floor(cluster, provider, intent="--intent" in sys.argv).run()


if __name__ == "__main__":
    asyncio.run(main())
