"""The transitions of the memory that the status keeps of writes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from inference_operator.api.status import (
    Applied,
    Corrections,
    Drift,
    HistoryEntry,
    InferenceEndpointStatus,
    Operation,
    Settling,
)
from inference_operator.core.memory import AppliedAs, Memory
from inference_operator.core.model import Desired, EndpointRef, Field
from inference_operator.core.write import Committed

WALL = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON = "2026-01-01T12:00:00Z"
DESIRED = Desired(EndpointRef("p", "ep"), {"a": Field(1)}, secrets={"s": "7"})
OPERATION = Operation(
    uid="u",
    id="op",
    hash="h",
    generation=4,
    base_version=16,
    started_at=NOON,
    comment="roll out",
    secrets={"s": "7"},
    reapply="again",
    corrections=Corrections(count=1, time=NOON),
    base={"a": "1"},
    sent={"a": "2"},
)
APPLIED = Applied(uid="u", hash="h", generation=3, time=NOON, base_version=15)
BEFORE = HistoryEntry(version=16, comment="before", generation=3, time=NOON, result="Applied")
OPEN = Memory(applied=APPLIED, operation=OPERATION, version=16, comment="before", history=(BEFORE,), foreign_version=17)


@pytest.mark.parametrize(("uid", "kept"), [("u", True), ("other", False)])
def test_only_what_the_same_uid_left_counts(uid: str, *, kept: bool) -> None:
    status = InferenceEndpointStatus(
        applied=APPLIED, operation=OPERATION, version=16, version_comment="before", history=[BEFORE]
    )
    memory = Memory.of(status, uid)
    assert (memory.applied, memory.operation) == ((APPLIED, OPERATION) if kept else (None, None))
    assert (memory.version, memory.comment, memory.history) == (16, "before", (BEFORE,))


def test_a_foreign_version_is_remembered_by_the_drift_that_was_reported() -> None:
    drift = [Drift(field="a", desired=1, observed=2), Drift(field="version", desired=16, observed=17)]
    assert Memory.of(InferenceEndpointStatus(drift=drift), "u").foreign_version == 17
    assert Memory.of(InferenceEndpointStatus(drift=drift[:1]), "u").foreign_version is None


def test_the_write_in_question_is_the_open_one_or_the_one_that_settles() -> None:
    settling = Memory(applied=APPLIED.model_copy(update={"settling": Settling(id="old")}))
    assert (OPEN.write_id, OPEN.base_version) == ("op", 16)
    assert (settling.write_id, settling.base_version) == ("old", 15)
    assert (Memory(applied=APPLIED).write_id, Memory(applied=APPLIED).base_version) == (None, None)
    assert (Memory().write_id, Memory().base_version) == (None, None)


def test_a_confirmed_write_is_applied_and_settles() -> None:
    memory = OPEN.confirmed(time=WALL)
    assert memory.operation is None
    assert memory.applied == Applied(
        uid="u",
        hash="h",
        generation=4,
        time=NOON,
        base_version=16,
        secrets={"s": "7"},
        reapply="again",
        corrections=Corrections(count=1, time=NOON),
        settling=Settling(id="op", base={"a": "1"}, sent={"a": "2"}),
    )
    first = HistoryEntry(version=None, comment="roll out", generation=4, time=NOON, result="Applied")
    assert memory.history == (first, BEFORE)
    assert (memory.version, memory.comment, memory.foreign_version) == (16, "before", 17)
    assert Memory(applied=APPLIED).confirmed(time=WALL) == Memory(applied=APPLIED)


@pytest.mark.parametrize(
    ("committed", "result", "version", "observed"),
    [
        (Committed(17), "Applied", 17, {}),
        (Committed(17, unverified=True), "AppliedUnverified", 17, {}),
        (Committed(17, differing={"a": "3"}), "NotConverging", 17, {"a": "3"}),
        (Committed(17, unverified=True, differing={"a": "3"}), "NotConverging", 17, {"a": "3"}),
        (Committed(), "Applied", 16, {}),
    ],
)
@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_settled_write_is_in_the_books(
    committed: Committed, result: str, version: int, observed: dict[str, str], *, acknowledged: bool
) -> None:
    memory = (OPEN.confirmed(time=WALL) if acknowledged else OPEN).settled(committed, time=WALL)
    assert memory.applied is not None
    assert (memory.operation, memory.applied.settling, memory.applied.observed) == (None, None, observed)
    assert (memory.version, memory.comment, memory.foreign_version) == (version, "roll out", None)
    assert memory.result == result
    newest = HistoryEntry(version=committed.version, comment="roll out", generation=4, time=NOON, result=result)
    assert memory.history == (newest, BEFORE)


def test_nothing_is_settled_where_nothing_is_known() -> None:
    assert Memory().settled(Committed(17), time=WALL) == Memory()
    assert Memory(applied=APPLIED).settled(Committed(17), time=WALL) == Memory(applied=APPLIED)


def test_an_adopted_endpoint_is_remembered_as_it_was_found() -> None:
    memory = OPEN.adopted(DESIRED, AppliedAs("u", 5, 20, WALL, "again"))
    assert memory.applied == Applied(
        uid="u", hash=DESIRED.hash, generation=5, time=NOON, base_version=20, secrets={"s": "7"}, reapply="again"
    )
    assert (memory.operation, memory.version, memory.comment) == (None, 20, None)
    entry = HistoryEntry(version=20, comment="", generation=5, time=NOON, result="Matched")
    assert (memory.history, memory.result) == ((entry, BEFORE), "Matched")
    plain = Memory().adopted(DESIRED, AppliedAs("u", 5, None, WALL))
    assert plain.applied is not None
    assert plain.applied.reapply is None


def test_the_history_holds_the_newest_ten() -> None:
    memory = OPEN
    for number in range(12):
        memory = memory.adopted(DESIRED, AppliedAs("u", number, None, WALL))
    assert [entry.generation for entry in memory.history] == list(range(11, 1, -1))


def test_only_a_newer_version_takes_the_place_of_the_known_one() -> None:
    known = Memory(version=16, comment="ours")
    for newest in (None, 15, 16):
        assert known.seen_version(newest) == known
    newer = known.seen_version(17)
    assert (newer.version, newer.comment) == (17, None)
    assert Memory().seen_version(0).version == 0


def test_the_same_payload_under_another_name_is_noted() -> None:
    noted = Memory(applied=APPLIED).noted(DESIRED)
    assert noted.applied == APPLIED.model_copy(update={"hash": DESIRED.hash, "secrets": {"s": "7"}})
    assert Memory().noted(DESIRED) == Memory()


def test_a_clamped_field_is_forgotten_once_it_reads_as_wished() -> None:
    clamped = APPLIED.model_copy(update={"observed": {"a": "3", "b": "4"}})
    entry = BEFORE.model_copy(update={"result": "NotConverging"})
    memory = Memory(applied=clamped, history=(entry, BEFORE))
    half = memory.converged({"b": "4"})
    assert half.applied is not None
    assert (half.applied.observed, half.result) == ({"b": "4"}, "NotConverging")
    whole = half.converged({})
    assert whole.applied is not None
    assert (whole.applied.observed, whole.result, whole.history[1:]) == ({}, "Applied", (BEFORE,))
    assert Memory().converged({"a": "3"}) == Memory()
    assert Memory(applied=clamped, history=(BEFORE,)).converged({}).history == (BEFORE,)
    assert Memory(applied=clamped).converged({}).history == ()


def test_corrections_are_counted_on_and_forgotten() -> None:
    counted = Memory(applied=APPLIED.model_copy(update={"corrections": Corrections(count=1, time="then")}))
    assert counted.next_correction(time=WALL) == Corrections(count=2, time=NOON)
    for memory in (Memory(), Memory(applied=APPLIED)):
        assert memory.next_correction(time=WALL) == Corrections(count=1, time=NOON)
        assert memory.calm() == memory
    assert counted.calm() == Memory(applied=APPLIED)


def test_an_open_write_that_did_not_happen_leaves_no_trace() -> None:
    before = Memory(applied=APPLIED, version=16, history=(BEFORE,))
    assert before.opened(OPERATION).operation == OPERATION
    assert before.opened(OPERATION).cleared() == before.counted(before.updates + 1)


def test_a_result_is_that_of_the_newest_write_and_of_our_own() -> None:
    entry = BEFORE.model_copy(update={"result": "Matched"})
    assert Memory(applied=APPLIED, history=(entry, BEFORE)).result == "Matched"
    assert Memory(history=(entry,)).result == "Applied"
    assert Memory(applied=APPLIED).result == "Applied"
