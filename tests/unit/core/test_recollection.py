"""What a process remembers from pass to pass, and how long it holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from inference_operator.api.status import Applied, Corrections, Operation
from inference_operator.core.compare import Difference
from inference_operator.core.memory import Memory
from inference_operator.core.model import Observed, Snapshot, State
from inference_operator.core.schedule import Pace
from inference_operator.core.situation import NEVER, Recollection, Refusal
from inference_operator.errors import CapacityUnavailable, EndpointError, InvalidSpec

PACE = Pace(poll=60, settle=60, request_timeout=30)
OPERATION = Operation(uid="u", id="op", hash="h", generation=1, started_at="2026-01-01T00:00:00Z")
APPLIED = Applied(uid="u", hash="h", generation=1, time="2026-01-01T00:00:00Z")
SEEN = Observed(live=Snapshot({}), state=State.RUNNING, provider_state="RUNNING")
DRIFT, OTHER = (Difference("a", 1, 2),), (Difference("b", 1, 2),)


def test_another_process_write_is_remembered_since_it_was_first_seen() -> None:
    open_write = Memory(operation=OPERATION)
    first = Recollection().meets(open_write, 10)
    assert first.seen == {"op": 10}
    assert first.meets(open_write, 20).seen == {"op": 10}
    other = Memory(operation=OPERATION.model_copy(update={"id": "other"}))
    assert first.meets(other, 30).seen == {"other": 30}


def test_of_a_write_that_was_never_met_nobody_knows_when_it_has_landed() -> None:
    assert Recollection().settled_at("op", PACE) is None
    assert Recollection().meets(Memory(operation=OPERATION), 10).settled_at("op", PACE) == 10 + PACE.quiet


def test_a_status_without_an_open_write_ends_the_count() -> None:
    held = Recollection(holds=3).meets(Memory(operation=OPERATION), 10)
    assert held.holds == 3
    over = held.meets(Memory(applied=APPLIED), 20)
    assert (over.seen, over.holds) == ({}, 0)


def test_a_newly_applied_write_is_young_and_one_found_at_the_start_is_not() -> None:
    found = Recollection().meets(Memory(applied=APPLIED), 10)
    assert found.applied_since == float("-inf")
    again = found.meets(Memory(applied=APPLIED), 20)
    assert again.applied_since == float("-inf")
    for change in ({"time": "2026-01-02T00:00:00Z"}, {"generation": 2}, {"hash": "i"}):
        newer = again.meets(Memory(applied=APPLIED.model_copy(update=change)), 30)
        assert newer.applied_since == 30
    assert again.meets(Memory(), 40).applied_since == 40


def test_fewer_updates_than_were_known_are_an_older_status() -> None:
    found = Recollection().meets(Memory(updates=2), 10)
    assert (found.updates, found.lapsed_at) == (2, None)
    assert (found.meets(Memory(updates=2), 20).lapsed_at, found.meets(Memory(updates=3), 20).updates) == (None, 3)
    lapsed = found.meets(Memory(updates=1), 30)
    assert (lapsed.updates, lapsed.lapsed_at) == (2, 30)
    assert lapsed.meets(Memory(updates=2), 40).lapsed_at == 30
    assert (found.counted(5).updates, found.counted(1).updates) == (5, 2)


def test_a_look_is_remembered_with_what_it_found() -> None:
    refusal = Refusal(InvalidSpec("x"), (), 5)
    first = Recollection(parked=refusal, missing_since=1.0).looked(SEEN, begun=10, whole=False, fresh=True, drift=DRIFT)
    assert (first.parked, first.missing_since) == (None, None)
    assert (first.first_look_at, first.looked_at, first.whole_at) == (10, 10, None)
    assert (first.drift, first.drift_since) == (DRIFT, 10)
    second = first.looked(SEEN, begun=20, whole=True, fresh=True, drift=DRIFT)
    assert (second.first_look_at, second.looked_at, second.whole_at) == (10, 20, 20)
    assert (second.drift, second.drift_since) == (DRIFT, 10)
    third = second.looked(SEEN, begun=30, whole=False, fresh=True, drift=OTHER)
    assert (third.whole_at, third.drift, third.drift_since) == (20, OTHER, 30)
    calm = third.looked(SEEN, begun=40, whole=False, fresh=True, drift=())
    assert calm.looked(SEEN, begun=50, whole=False, fresh=True, drift=DRIFT).drift_since == 50


def test_writes_that_were_not_committed_are_counted_in_a_row_and_once_each() -> None:
    lost = Recollection(holds=2).judged("a", committed=False, now=10)
    assert (lost.uncommitted, lost.uncommitted_at, lost.holds) == (("a",), 10, 0)
    assert lost.judged("a", committed=False, now=20) == lost
    twice = lost.judged("b", committed=False, now=30)
    assert (twice.uncommitted, twice.uncommitted_at) == (("a", "b"), 30)
    held = replace(twice, holds=3)
    for after in (held.judged("c", committed=True, now=40), held.judged(None, committed=False, now=40)):
        assert (after.uncommitted, after.holds) == ((), 0)


def test_failures_are_counted_for_the_same_inputs() -> None:
    once = Recollection().failed((1,))
    twice = once.failed((1,))
    assert (once.failures, twice.failures, twice.failed((2,)).failures) == (1, 2, 1)
    assert twice.calm().failures == 0


@pytest.mark.parametrize(("corrections", "corrected_at"), [(None, 3.0), (Corrections(count=1), 10)])
def test_a_write_that_was_sent_ends_what_was_refused_before(
    corrections: Corrections | None, corrected_at: float
) -> None:
    refusal = Refusal(InvalidSpec("x"), (), 5)
    before = Recollection(gave_up={"older": 1.0}, refusal=refusal, busy=True, corrected_at=3.0)
    operation = OPERATION.model_copy(update={"corrections": corrections})
    sent = before.sent(operation, begun=7, now=10)
    assert (sent.gave_up, sent.wrote, sent.wrote_at) == ({"op": 10}, operation, 10)
    assert (sent.took("op"), sent.took("older"), before.took("op")) == (3, 0, 0)
    assert (sent.refusal, sent.busy, sent.corrected_at) == (None, False, corrected_at)


def test_a_write_that_was_never_sent_is_certain_from_the_beginning_of_time() -> None:
    assert Recollection(gave_up={"a": 1.0}).never_sent("b").gave_up == {"a": 1.0, "b": NEVER}
    assert float("-inf") == NEVER


def test_refused_again_for_the_same_inputs_waits_twice_as_long() -> None:
    error: EndpointError = InvalidSpec("x")
    first = Recollection(busy=True).refused(error, (1,), now=10, pace=PACE)
    assert first.refusal == Refusal(error, (1,), 10 + 300, 0)
    assert first.busy is False
    second = first.refused(error, (1,), now=20, pace=PACE)
    assert second.refusal == Refusal(error, (1,), 20 + 600, 1)
    third = second.refused(error, (1,), now=30, pace=PACE)
    assert third.refusal == Refusal(error, (1,), 30 + 1200, 2)
    assert third.refused(error, (2,), now=40, pace=PACE).refusal == Refusal(error, (2,), 40 + 300, 0)


def test_what_time_mends_is_tried_at_one_slow_pace() -> None:
    error = CapacityUnavailable("x")
    once = Recollection().refused(error, (1,), now=10, pace=PACE)
    twice = once.refused(error, (1,), now=20, pace=PACE)
    assert twice.refusal == Refusal(error, (1,), 20 + 300, 1)


def test_stored_times_are_those_of_utc() -> None:
    memory = Memory(operation=OPERATION).confirmed(time=datetime(2026, 1, 1, 12, 30, 15, tzinfo=UTC))
    assert memory.applied is not None
    assert memory.applied.time == "2026-01-01T12:30:15Z"
