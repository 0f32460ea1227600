"""An API server in memory: objects with versions, conditional writes, and answers that go missing when told to."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, NamedTuple

from inference_operator.kube.api import Api, JsonObject


class Late(NamedTuple):
    """The request is carried out at once, and its answer comes later."""

    seconds: float


Fault = int | float | Exception | Late
"""What becomes of one request: a status instead of it, seconds before it, or an error or seconds after it."""


class MemoryApi(Api):
    """Stands in for `Api`, error handling included; only the exchange of bytes is replaced.

    Attributes:
        objects: What is stored, by path.
        requests: Method and path of every request, in order.
        queries: The query of each of them.
        faults: What becomes of the next requests, in order; None for nothing special.
    """

    def __init__(self) -> None:  # without a connection, which is all that the base class has
        self.objects: dict[str, JsonObject] = {}
        self.requests: list[tuple[str, str]] = []
        self.queries: list[dict[str, str]] = []
        self.faults: deque[Fault | None] = deque()
        self._versions = itertools.count(100)
        self._clock = time.monotonic
        self._silent_until = {}

    def put(self, path: str, document: JsonObject) -> JsonObject:
        """Store an object under a new version, whatever was there."""
        stored = deepcopy(document)
        metadata = stored.setdefault("metadata", {})
        metadata.setdefault("uid", f"uid of {path}")
        metadata["resourceVersion"] = str(next(self._versions))
        self.objects[path] = stored
        return stored

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Any, timeout_seconds: float
    ) -> tuple[int, bytes]:
        self.requests.append((method, path))
        self.queries.append(dict(query or {}))
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, float):
            async with asyncio.timeout(timeout_seconds):
                await asyncio.sleep(fault)
        if isinstance(fault, int):
            return fault, b'{"message": "told to"}'
        status, document = self._answer(method, path, body)
        if isinstance(fault, Exception):
            raise fault
        if isinstance(fault, Late):
            await asyncio.sleep(fault.seconds)
        return status, json.dumps(document).encode()

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, JsonObject]:
        name = path.removesuffix("/status")
        match method:
            case "GET" if path in self.objects:
                return 200, self.objects[path]
            case "POST":
                created = f"{path}/{body['metadata']['name']}"
                if created in self.objects:
                    return 409, {"message": "exists"}
                return 201, self.put(created, body)
            case "PATCH" if name in self.objects:
                return self._patch(name, body)
            case _:
                return 404, {"message": f"{path} not found"}

    def _patch(self, name: str, patch: Any) -> tuple[int, JsonObject]:
        identity, version, field = patch
        known = self.objects[name]
        if identity["value"] != known["metadata"]["uid"]:
            return 422, {"message": "the server rejected our request due to an error in our request", "details": {}}
        if version["value"] != known["metadata"]["resourceVersion"]:
            return 409, {"message": "the object has been modified"}
        return 200, self.put(name, {**known, field["path"].removeprefix("/"): field["value"]})
