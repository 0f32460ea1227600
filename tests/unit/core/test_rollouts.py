"""What a process takes over of the rollouts that an earlier one began."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from inference_operator.api.status import Applied, HistoryEntry, Operation
from inference_operator.core.memory import Memory
from inference_operator.core.model import Resource
from inference_operator.core.rollouts import Rollouts, may_be_rolling, write_age

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIME = "2025-12-31T23:59:00Z"
OPERATION = Operation(uid="u", id="o", hash="v1:x:-", generation=1, started_at="2025-12-31T23:59:50Z")
APPLIED = Applied(uid="u", hash="v1:x:-", generation=1, time=TIME)


def left(uid: str, **status: Any) -> Resource:
    return Resource("n", uid, uid, 1, "1", NOW, False, {}, {}, status)


def reconciling(reason: str) -> dict[str, Any]:
    return {"conditions": [{"type": "Reconciling", "reason": reason}]}


@pytest.mark.parametrize(
    ("status", "rolling"),
    [
        ({}, False),
        ({"state": "Running"}, False),
        ({"state": "Updating"}, True),
        ({"state": "Waking"}, False),
        ({"operation": {"id": "o"}}, True),
        (reconciling("Updating"), True),
        (reconciling("Waking"), True),
        (reconciling("WriteUndecided"), True),
        (reconciling("Waiting"), False),
        (reconciling("DeadlineExceeded"), False),
        ({"state": "Updating", **reconciling("Waiting")}, True),
    ],
)
def test_a_status_tells_of_what_may_be_under_way(status: dict[str, Any], *, rolling: bool) -> None:
    assert may_be_rolling(left("a", **status)) == rolling


@pytest.mark.parametrize(
    ("memory", "age"),
    [
        (Memory(), None),
        (Memory(applied=APPLIED), 60),
        (Memory(applied=APPLIED, operation=OPERATION), 10),
        (Memory(operation=OPERATION), 10),
        (Memory(applied=APPLIED, history=(HistoryEntry(generation=1, time=TIME, result="Matched"),)), None),
        (Memory(applied=APPLIED.model_copy(update={"time": "2030-01-01T00:00:00Z"})), 0),
    ],
    ids=["nothing", "applied", "open after applied", "open", "adopted", "a wrong clock"],
)
def test_the_age_of_the_last_write(memory: Memory, age: float | None) -> None:
    assert write_age(memory, NOW) == age


def test_what_nobody_has_looked_at_counts_for_every_account() -> None:
    woken: list[str] = []
    brake = Rollouts(2, woken.append, lambda: [left("a", state="Updating"), left("b", state="Updating"), left("c")])
    brake.inherit()
    assert brake.brake("c", "x", 0) is not None
    brake.wait("c", "x")
    brake.resume("a", "y", begun=-10, deadline=100)
    brake.meet("a")
    assert (brake.brake("c", "x", 0), brake.is_ours("a")) == (None, True)
    assert (brake.is_overdue("a", 90), brake.is_overdue("a", 91)) == (False, True)
    brake.meet("b")  # nothing is known of it: not ours, or its key cannot be read
    assert (woken, brake.is_ours("b")) == (["c"], False)


def test_only_what_was_there_at_the_beginning_is_taken_over() -> None:
    seen = [left("a", state="Updating")]
    brake = Rollouts(1, lambda _: None, lambda: seen)
    brake.inherit()
    brake.forget("a")
    seen.append(left("b", state="Updating"))
    brake.inherit()
    assert brake.brake("c", "x", 0) is None


def test_a_rollout_that_is_resumed_counts_until_its_deadline_and_a_later_one_from_its_beginning() -> None:
    brake = Rollouts(1, lambda _: None)
    brake.resume("a", "x", begun=-40, deadline=100)
    brake.resume("a", "x", begun=0, deadline=100)
    assert (brake.brake("b", "x", 60) is None, brake.brake("b", "x", 61) is None) == (False, True)
    brake.begin("a", "x", now=70, deadline=100)
    assert brake.brake("b", "x", 160) is not None


def test_whoever_begins_or_goes_waits_no_longer_and_gives_the_place_away() -> None:
    woken: list[str] = []
    brake = Rollouts(2, woken.append)
    brake.begin("a", "key", now=0, deadline=10)
    for uid in ("begins", "goes", "waits"):
        brake.wait(uid, "key")
    brake.begin("begins", "key", now=0, deadline=10)
    brake.forget("goes")
    assert woken == []
    brake.forget("a")
    assert woken == ["waits"]
    assert not brake.is_ours("a")


def test_a_rollout_that_is_taken_over_counts_for_its_own_key_only() -> None:
    brake = Rollouts(1, list[str]().append, lambda: [left("a", state="Updating")])
    brake.inherit()
    assert brake.brake("b", "another", 0) is not None, "nobody knows yet whose it is"
    brake.resume("a", "key", begun=0, deadline=10)
    assert brake.brake("b", "another", 0) is None
    assert brake.brake("c", "key", 0) is not None
