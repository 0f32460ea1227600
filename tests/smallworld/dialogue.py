"""What a pass asks of the world outside, what it is told, and how that looks a tick later.

Times are relative to the present moment, so that what will go on alike is alike, whenever it came about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NoReturn

from inference_operator.core.memory import rfc3339
from inference_operator.core.port import StatusConflict
from inference_operator.errors import Ambiguous, Unavailable
from world import EPOCH

NOW = 1_000_000.0
"""The present moment of every run, monotonic and by the calendar."""

EARLIEST = NOW - 100
"""Stands in the status for every time that nothing reads."""

OLDEST = 2
"""Ticks after which it no longer matters when a write was applied: SETTLE and the length of a pass."""

NAMES = tuple(f"op-{letter}" for letter in "abcdefghij")
"""Ids of operations: a new one gets the first that nobody remembers."""


class Violation(BaseException):
    """An invariant does not hold; not an `Exception`, so that the code under test cannot swallow it."""


# ── what a pass asks ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Looking:
    """Wants to see the endpoint."""


@dataclass(frozen=True, slots=True)
class Writing:
    """Wants to store a status; `current` tells whether it knows the object as it is."""

    status: str
    current: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """Wants the object as the API server has it."""


@dataclass(frozen=True, slots=True)
class Updating:
    """Has sent an update with the payload of a generation."""

    generation: int


Question = Looking | Writing | Reading | Updating

# ── what it is told ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Held:
    """The object as somebody holds it; `current` while it is what the API server has."""

    generation: int
    status: str
    current: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """The versions that a look shows, by the generations that made them."""

    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """The status was stored as sent."""

    current: bool = True


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The update was carried out."""


@dataclass(frozen=True, slots=True)
class Failed:
    """`conflict`, `unavailable` or `ambiguous`."""

    kind: str

    def throw(self) -> NoReturn:
        errors = {"conflict": StatusConflict(), "ambiguous": Ambiguous("lost")}
        raise errors.get(self.kind, Unavailable("lost"))


Answer = Held | Seen | Stored | Acknowledged | Failed


@dataclass(frozen=True, slots=True)
class Told:
    """One answer, or the object that the pass began with; how long ago; and the id that was drawn thereupon."""

    answer: Answer
    age: int = 0
    name: str = ""


def aged(told: Told) -> Told:
    """An answer a tick later."""
    answer = told.answer
    if isinstance(answer, Held):
        answer = replace(answer, status=aged_status(answer.status))
    return replace(told, answer=answer, age=told.age + 1)


def outdated(told: Told) -> Told:
    """An answer after the object has changed."""
    if isinstance(told.answer, Held | Stored):
        return replace(told, answer=replace(told.answer, current=False))
    return told


@cache
def names_in(text: str) -> frozenset[str]:
    """The operations that a text names."""
    return frozenset(re.findall(r"op-[a-z]", text))


# ── times in the status ───────────────────────────────────────────────────────────────────────────────


def _text(moment: float) -> str:
    return rfc3339(EPOCH + timedelta(seconds=moment))


def _earlier(text: str) -> str:
    return rfc3339(datetime.fromisoformat(text) - timedelta(seconds=1))


def stored_form(status: Mapping[str, Any]) -> str:
    """A status as text, without the times that nothing reads, and the count that only tells of backups."""
    document = json.loads(json.dumps(status))
    document.pop("updates", None)
    for each in document.get("conditions", ()):
        each["lastTransitionTime"] = _text(EARLIEST)
    for each in document.get("history", ()):
        each["time"] = _text(EARLIEST)
    if "operation" in document:
        document["operation"]["startedAt"] = _text(EARLIEST)
    return json.dumps(document, sort_keys=True)


@cache
def aged_status(status: str) -> str:
    """A status a tick later."""
    document = json.loads(status)
    if "applied" not in document:
        return status
    document["applied"]["time"] = _aged_time(document["applied"]["time"])
    return json.dumps(document, sort_keys=True)


def _aged_time(text: str) -> str:
    return max(_earlier(text), _text(NOW - OLDEST))


def aged_identity(identity: str) -> str:
    time, rest = identity.split(" ", 1)
    return f"{_aged_time(time)} {rest}"
