"""Edits at planned times: an open loop, so that a slow subject cannot hold up the next edit and hide behind it."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp

from faults.peers.subject import Subject
from faults.peers.wish import Wish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARALLEL: Final = 32
"""Requests of the editor that may be under way at once."""

_LEAD_SECONDS: Final = 0.2
"""Between the plan and its first edit, so that connections are there and bodies are encoded."""

_MODEL = "org/model-"
_REPLICAS = 8
_BODY = {"Content-Type": "application/json"}
_MERGE = {"Content-Type": "application/merge-patch+json"}


@dataclass(frozen=True)
class Edit:
    """One edit to be made.

    Attributes:
        offset: Seconds after the beginning.
        name: The resource.
        wish: What it asks for from then on.
    """

    offset: float
    name: str
    wish: Wish


class Made(NamedTuple):
    """One edit that was made; times are monotonic.

    Attributes:
        edit: Which one.
        planned: When it was due; what is late counts from here.
        sent: When its request left.
        answered: When the API server had answered it.
        generation: Which generation of the resource it made.
    """

    edit: Edit
    planned: float
    sent: float
    answered: float
    generation: int


class Ramp(NamedTuple):
    """A rate of edits that grows evenly.

    Attributes:
        slowest: Edits per second at the beginning.
        fastest: Edits per second at the end.
        seconds: Between the two.
    """

    slowest: float
    fastest: float
    seconds: float

    def rate_at(self, moment: float) -> float:
        """Edits per second, so many seconds after the beginning."""
        return self.slowest + (self.fastest - self.slowest) * moment / self.seconds


class Kind(StrEnum):
    """What can happen to the number of an endpoint's replicas by itself."""

    FIXED = "fixed"
    """Nothing: the least is the most."""
    ASLEEP = "asleep"
    """It has none and sleeps; a request would wake it."""
    AUTOSCALED = "autoscaled"
    """The provider moves it at any time."""


_BOUNDS: Final = {Kind.FIXED: (2, 2), Kind.ASLEEP: (0, 2), Kind.AUTOSCALED: (1, 2)}


def first(endpoint_id: str, kind: Kind | None = None) -> Wish:
    """What a resource asks for before any edit."""
    least, replicas = _BOUNDS[kind] if kind else (0, 2)
    return Wish(endpoint_id, model=f"{_MODEL}0", least=least, replicas=replicas)


def changed(wish: Wish) -> Wish:
    """The next change: the model, which is write-only and tells updates apart, and the replicas, which can be read."""
    number = int(wish.model.removeprefix(_MODEL)) + 1
    return replace(wish, model=f"{_MODEL}{number}", replicas=2 + number % _REPLICAS)


def evenly(wishes: Mapping[str, Wish], count: int, gap: float, draw: random.Random) -> list[Edit]:
    """Single edits of different resources, each a gap and up to half of another after the one before."""
    names = draw.sample(sorted(wishes), count)
    return _planned(wishes, names, _sums(gap * draw.uniform(1, 1.5) for _ in names))


def together(wishes: Mapping[str, Wish], count: int, draw: random.Random) -> list[Edit]:
    """Many resources at the same moment."""
    return _planned(wishes, draw.sample(sorted(wishes), count), [0.0] * count)


def climbing(wishes: Mapping[str, Wish], ramp: Ramp, draw: random.Random) -> list[Edit]:
    """Edits at a rate that grows evenly, each resource in its turn."""
    moments, at = [], 0.0
    while at < ramp.seconds:
        moments.append(at)
        at += 1 / ramp.rate_at(at)
    order = draw.sample(sorted(wishes), len(wishes))
    return _planned(wishes, [order[number % len(order)] for number in range(len(moments))], moments)


def _sums(steps: Iterable[float]) -> Iterator[float]:
    at = 0.0
    for step in steps:
        at += step
        yield at


def _planned(wishes: Mapping[str, Wish], names: Sequence[str], moments: Iterable[float]) -> list[Edit]:
    now, found = dict(wishes), []
    for name, moment in zip(names, moments, strict=True):
        now[name] = changed(now[name])
        found.append(Edit(moment, name, now[name]))
    return found


def carry_out(subject: Subject, edits: Sequence[Edit]) -> list[Made]:
    """Make the edits at their times, whatever becomes of them."""
    bodies = [json.dumps({"spec": subject.spec(edit.wish)}) for edit in edits]
    return asyncio.run(_carry_out(subject, edits, bodies))


async def _carry_out(subject: Subject, edits: Sequence[Edit], bodies: Sequence[str]) -> list[Made]:
    async with _editor(subject) as session:
        async with session.get(f"{subject.path}?limit=1") as answer:
            await answer.read()
        begin = time.monotonic() + _LEAD_SECONDS
        order = {edit.name: asyncio.Lock() for edit in edits}  # no edit overtakes another of the same resource
        free = asyncio.Semaphore(PARALLEL)  # an edit that waits for a connection has not been sent

        async def make(edit: Edit, body: str) -> Made:
            planned = begin + edit.offset
            await asyncio.sleep(planned - time.monotonic())
            async with order[edit.name], free:
                return await send(edit, body, planned)

        async def send(edit: Edit, body: str, planned: float) -> Made:
            sent = time.monotonic()
            while True:
                async with session.patch(f"{subject.path}/{edit.name}", data=body, headers=_MERGE) as answer:
                    if answer.status == HTTPStatus.CONFLICT:
                        continue  # the API server gives up after some collisions with other writers
                    _require(answer.ok, await answer.text())
                    generation = (await answer.json())["metadata"]["generation"]
                    return Made(edit, planned, sent, time.monotonic(), generation)

        return await asyncio.gather(*(make(edit, body) for edit, body in zip(edits, bodies, strict=True)))


def _require(ok: bool, said: str) -> None:  # noqa: FBT001 - what a check found
    if not ok:
        raise RuntimeError(f"the API server refused an edit: {said[:500]}")


def create(subject: Subject, wishes: Mapping[str, Wish], labels: Mapping[str, Mapping[str, str]]) -> None:
    """Create a resource for every wish."""
    documents = [
        {
            "apiVersion": subject.version,
            "kind": subject.kind,
            "metadata": {"name": name, "labels": dict(labels[name])},
            "spec": subject.spec(wish),
        }
        for name, wish in wishes.items()
    ]
    asyncio.run(_send(subject, [("POST", subject.path, document, _BODY) for document in documents]))


def remove(subject: Subject) -> None:
    """Remove every resource, once nobody works on them."""
    kept = [name for name, found in subject.resources().items() if found["metadata"].get("finalizers")]
    free = {"metadata": {"finalizers": None}}
    asyncio.run(_send(subject, [("PATCH", f"{subject.path}/{name}", free, _MERGE) for name in kept]))
    asyncio.run(_send(subject, [("DELETE", subject.path, {}, _BODY)]))


async def _send(subject: Subject, requests: Sequence[tuple[str, str, Any, Mapping[str, str]]]) -> None:
    async with _editor(subject) as session:

        async def send(method: str, path: str, body: Any, headers: Mapping[str, str]) -> None:
            async with session.request(method, path, json=body, headers=headers) as answer:
                answer.raise_for_status()

        await asyncio.gather(*(send(*request) for request in requests))


@asynccontextmanager
async def _editor(subject: Subject) -> AsyncIterator[aiohttp.ClientSession]:
    plane = subject.rig.plane
    connector = aiohttp.TCPConnector(limit=PARALLEL, ssl=ssl.create_default_context(cafile=str(plane.ca_file)))
    headers = {"Authorization": f"Bearer {plane.token_of('editor')}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with aiohttp.ClientSession(plane.url, headers=headers, connector=connector, timeout=timeout) as session:
        yield session
