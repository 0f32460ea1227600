"""Everything outside of one pass of the real reconciler."""

from __future__ import annotations

import json
from collections.abc import Container, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from inference_operator.core.connection import ConnectionMap
from inference_operator.core.model import Credentials, EndpointRef, Json, Look, Observed, Resource
from inference_operator.core.port import Connection, Page
from inference_operator.providers.memory.account import MemoryAccount
from inference_operator.providers.memory.driver import MemoryConnection
from smallworld.dialogue import (
    NOW,
    Answer,
    Failed,
    Held,
    Looking,
    Question,
    Reading,
    Seen,
    Stored,
    Told,
    Updating,
    Violation,
    Writing,
    stored_form,
)
from world import EPOCH, WithoutHistory, spec

UID = "uid-a"
CURRENT, OUTDATED = "2", "1"
"""The only resourceVersions: of the object as it is, and of any older one."""

Blocks = Mapping[int, Mapping[str, Json]]
"""The provider's block of the spec by generation; that of 0 is what the endpoint holds at first."""


class Outside:
    """Everything outside of a pass: what others can see is asked of whoever drives it, the rest is answered at once."""

    def __init__(self, blocks: Blocks, beginning: Told, *, history: bool) -> None:
        assert isinstance(beginning.answer, Held)
        self.moment = beginning
        self.drawn = False
        self._blocks, self._history = blocks, history
        self._began_with = self._resource(beginning.answer)

    def now(self) -> float:
        return NOW - self.moment.age

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now())

    def draw(self) -> SimpleNamespace:
        self.drawn = True
        return SimpleNamespace(hex=self.moment.name)

    async def ask(self, question: Question) -> Any:
        answer = await _Ask(question)
        if isinstance(answer, Failed):
            answer.throw()
        return answer

    # Cluster

    def current(self, uid: str) -> Resource | None:
        del uid
        return self._began_with

    async def read(self, resource: Resource) -> Resource | None:
        del resource
        return self._resource(await self.ask(Reading()))

    async def write_connection(self, resource: Resource, connection: ConnectionMap) -> None:
        raise AssertionError(f"{resource.name} is in a small world, where no one asks for {connection.name}")

    async def write_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource:
        stored: Stored = await self.ask(Writing(stored_form(status), resource.resource_version == CURRENT))
        version = CURRENT if stored.current else OUTDATED
        return replace(resource, status=json.loads(json.dumps(status)), resource_version=version)

    def rivals(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        del resource, provider, endpoint_id
        return ()

    def claim_removed_at(self, provider: str, endpoint_id: str) -> float | None:
        del provider, endpoint_id
        return None

    async def claims(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        del resource, provider, endpoint_id
        return ()

    def event(self, resource: Resource, *, warning: bool, reason: str, message: str) -> None:
        pass

    # Connector and Connection

    def connect(self, provider: str, credentials: Credentials, team: str | None) -> Connection:
        del provider, credentials, team
        return self

    async def reserve(self) -> None:
        pass

    async def observe(self, ref: EndpointRef, look: Look) -> Observed:
        seen: Seen = await self.ask(Looking())
        account = MemoryAccount()
        first, *others = [values_of(self._blocks[generation]) for generation in seen.versions]
        endpoint = account.add(ref.endpoint_id, first)
        for values in others:
            account.change(ref.endpoint_id, values)
        endpoint.visible = len(endpoint.versions)
        kind = MemoryConnection if self._history else WithoutHistory
        return await kind(account).observe(ref, look)

    async def page(self, cursor: str | None, wanted: Container[str]) -> Page:
        del cursor, wanted
        raise AssertionError("nobody asks an account without a list for one")

    async def update(self, ref: EndpointRef, body: Json) -> None:
        del ref
        generation = int(body["comment"].rpartition(" ")[2])
        if body["values"] != values_of(self._blocks[generation]):
            raise Violation("S2: an update does not carry what its generation asks for")
        await self.ask(Updating(generation))

    def _resource(self, held: Held) -> Resource:
        return Resource(
            namespace="team",
            name="a",
            uid=UID,
            generation=held.generation,
            resource_version=CURRENT if held.current else OUTDATED,
            created_at=EPOCH,
            deleting=False,
            annotations={},
            spec=spec(memory=dict(self._blocks[held.generation])),
            status=json.loads(held.status),
        )


@dataclass(frozen=True, slots=True)
class _Ask:
    """Suspends the pass until it is told the answer."""

    question: Question

    def __await__(self) -> Generator[Question, Answer, Answer]:
        return (yield self.question)


def values_of(block: Mapping[str, Json]) -> dict[str, Json]:
    """A block of the spec as the provider's fields."""
    return {f"memory.{name}": value for name, value in block.items()}
