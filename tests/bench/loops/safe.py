"""SAFE: the least that "at most one version per change" needs, with the HTTP of the operator.

Read the configuration and the count of versions side by side; store the intent if the object is still the one that was
read; PUT; write down the outcome. Nothing else: no retry, no look afterwards, no conditions, no metrics.

`--typed` has it work on the operator's resource, whose fields it translates, and whose schema the API server checks:
what it then takes longer is the resource's share of what the operator takes longer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from bench.loops.cluster import Cluster, Json, authorization, is_due, path_of
from faults.peers.wish import Wish
from inference_operator.providers.answers import Answer
from inference_operator.providers.exchange import Exchange, trust

WORKERS: Final = 64
"""Resources in flight at once; as the operator ships."""

TIMEOUT_SECONDS: Final = 30


class Provider:
    """The provider's API, by the operator's own HTTP."""

    def __init__(self, origin: str) -> None:
        self._exchange = Exchange(origin, timeout=TIMEOUT_SECONDS, tls=trust(None), proxy_url=None)

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        """One request; an answer that does not come is fatal."""
        content = None if body is None else json.dumps(body).encode()
        headers = {**authorization(), **({} if body is None else {"Content-Type": "application/json"})}
        answer = await self._exchange.run(method, path, headers=headers, content=content)
        if not isinstance(answer, Answer):
            raise RuntimeError(answer.why)  # noqa: TRY004 - not about types
        return answer


def _is_ok(answer: Answer) -> bool:
    return answer.status < HTTPStatus.MULTIPLE_CHOICES


def _translated(spec: Json) -> Json:
    scaling = spec["scaling"]
    wish = Wish(
        spec["endpointId"],
        replicas=scaling["maxReplicas"],
        model=spec["friendli"]["hfModelRepo"],
        comment=spec["versionComment"],
        least=scaling["minReplicas"],
    )
    return wish.body()


class Form(NamedTuple):
    """What a resource looks like.

    Attributes:
        update: What its spec asks of the provider.
        required: What its schema wants in the status beside what SAFE keeps there.
    """

    update: Callable[[Json], Json]
    required: Json


PLAIN: Final = Form(lambda spec: dict(spec["update"]), {})
TYPED: Final = Form(_translated, {"uid": "-", "hash": "-", "startedAt": "-"})


class Safe:
    """Works on each resource one change at a time."""

    def __init__(self, cluster: Cluster, provider: Provider, form: Form) -> None:
        self._cluster = cluster
        self._provider = provider
        self._form = form
        self._places = asyncio.Semaphore(WORKERS)
        self._newest: dict[str, Json] = {}
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

    async def _handle(self, resource: Json) -> None:
        path, generation = path_of(resource), resource["metadata"]["generation"]
        live, versions = await asyncio.gather(
            self._provider.call("GET", path), self._provider.call("GET", f"{path}/version?limit=100")
        )
        if not (_is_ok(live) and _is_ok(versions)):
            raise RuntimeError(f"the provider answered {live.status} and {versions.status}")
        json.loads(live.content)
        base = max(map(int, json.loads(versions.content)["data"]), default=0)
        operation = {"id": uuid.uuid4().hex, "generation": generation, "baseVersion": base, **self._form.required}
        kept = {name: value for name, value in resource.get("status", {}).items() if name != "operation"}
        stored = await self._cluster.swap_status(resource, {**kept, "operation": operation})
        if stored is None:
            return
        answer = await self._provider.call("PUT", path, self._form.update(resource["spec"]))
        state = "Applied" if _is_ok(answer) else f"HTTP {answer.status}"
        await self._cluster.swap_status(stored, {"observedGeneration": generation, "state": state})


async def main() -> None:
    """Run until killed."""
    async with Cluster() as cluster:
        provider = Provider(os.environ["PROVIDER_ORIGIN"])
        await Safe(cluster, provider, TYPED if "--typed" in sys.argv else PLAIN).run()


if __name__ == "__main__":
    asyncio.run(main())
