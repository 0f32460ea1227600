"""A Lease over an API server in memory, and virtual time to watch it in."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import aiohttp

from inference_operator.kube.lease import Lease
from memory_api import MemoryApi
from virtual_time import in_virtual_time, now

PATH = "/apis/coordination.k8s.io/v1/namespaces/home/leases/inference-operator"
LOST = aiohttp.ServerDisconnectedError()


def lease(api: MemoryApi, identity: str = "one", *, election: bool = True) -> Lease:
    return Lease(api, namespace="home", name="inference-operator", identity=identity, election=election, clock=now)


def holder(api: MemoryApi) -> str:
    return str(api.objects[PATH]["spec"]["holderIdentity"])


def run(scenario: Coroutine[Any, Any, None]) -> None:
    in_virtual_time(scenario)
