"""What is decided while a write is open, or acknowledged and not yet visible."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inference_operator.api.status import HistoryEntry, Settling
from inference_operator.core.compare import Difference
from inference_operator.core.memory import Memory
from inference_operator.core.model import (
    Field,
)
from inference_operator.core.plan import (
    Hold,
    LookDeeper,
    Nothing,
    Refuse,
)
from inference_operator.core.situation import NEVER, Policies
from inference_operator.core.write import Committed, NotCommitted, Undecided, Verdict
from situations import A1, A2, NOW, SECRET, ago, applied, decide, known, open_write, remembered, seen, wish

OPEN = remembered(applied(A1), version=5, operation=open_write(A2, base_version=5, base={"a": "1"}, sent={"a": "2"}))
ACKNOWLEDGED = remembered(
    applied(A2, base_version=5, settling=Settling(id="op", base={"a": "1"}, sent={"a": "2"})), version=5
)


@pytest.mark.parametrize(
    ("recollection", "expired"),
    [
        pytest.param({"gave_up": {"op": NOW - 60}}, True, id="given up a settle time ago"),
        pytest.param({"gave_up": {"op": NOW - 59}}, False, id="given up more recently"),
        pytest.param({"seen": {"op": NOW - 95}}, True, id="another's, seen for Q"),
        pytest.param({"seen": {"op": NOW - 94}}, False, id="another's, seen more recently"),
        pytest.param({}, False, id="another's, never seen before"),
        pytest.param({"gave_up": {"other": 0.0}, "seen": {"op": NOW - 94}}, False, id="not ours"),
        pytest.param({"gave_up": {"op": NOW - 59}, "seen": {"op": 0.0}}, False, id="ours, whenever it was seen"),
        pytest.param({"gave_up": {"op": NEVER}}, True, id="never sent"),
    ],
)
@pytest.mark.parametrize("memory", [OPEN, ACKNOWLEDGED], ids=["open", "acknowledged"])
def test_a_write_that_no_look_shows_is_held_until_its_deadline(
    memory: Memory, recollection: dict[str, Any], *, expired: bool
) -> None:
    decided = decide(A2, seen({"a": 1}, {"a": 1}), memory, known(memory, **recollection))
    held = decided.action == Hold(acknowledged=memory.operation is None)
    assert held == (not expired)
    if held:
        assert (decided.memory, decided.drift, decided.verdict) == (memory, (), Undecided())


def test_a_look_that_began_before_the_deadline_does_not_decide_after_it() -> None:
    recollection = known(OPEN, gave_up={"op": NOW - 60})
    decided = decide(A2, seen({"a": 1}, {"a": 1}), OPEN, recollection, look_begun=NOW - 1)
    assert decided.action == Hold(acknowledged=False)


def test_what_certainly_was_not_sent_is_not_found_by_any_look() -> None:
    decided = decide(A2, seen({"a": 2}, {"a": 1}, {"a": 2}), OPEN, known(OPEN, gave_up={"op": NEVER}))
    assert decided.verdict == NotCommitted()


@pytest.mark.parametrize("memory", [OPEN, ACKNOWLEDGED], ids=["open", "acknowledged"])
def test_a_light_look_decides_on_no_write(memory: Memory) -> None:
    decided = decide(A2, seen({"a": 2}), memory, whole=False)
    assert (decided.action, decided.memory) == (LookDeeper(), memory)


@pytest.mark.parametrize("memory", [OPEN, ACKNOWLEDGED], ids=["open", "acknowledged"])
def test_a_write_that_a_look_shows_is_settled(memory: Memory) -> None:
    decided = decide(A2, seen({"a": 2}, {"a": 1}, {"a": 2}), memory)
    assert (decided.action, decided.verdict) == (Nothing(), Committed(6))
    assert decided.memory.operation is None
    assert decided.memory.applied is not None
    assert (decided.memory.applied.settling, decided.memory.version) == (None, 6)
    assert decided.memory.history[0].version == 6


@pytest.mark.parametrize("entry", [{"a": 2, "b": 7}, {"a": 3, "b": 7}], ids=["as sent", "clamped"])
def test_a_version_that_moves_our_fields_and_others_is_ours(entry: dict[str, Any]) -> None:
    """The provider may have derived one value from another; a foreign one leaves our fields alone."""
    look = seen({"a": 1, "b": 1}, {"a": 1, "b": 1}, entry)
    assert isinstance(decide(wish(a=2, b=1), look, OPEN).verdict, Committed)


@pytest.mark.parametrize("secrets", [{"s": "1"}, {"s": "2"}], ids=["as sent", "rotated since"])
@pytest.mark.parametrize("acknowledged", [True, False])
def test_the_value_of_a_secret_is_judged_by_the_rendering_that_was_sent(
    secrets: dict[str, str], *, acknowledged: bool
) -> None:
    """A rendering with another version of the Secret tells nothing about the write."""
    declared = {SECRET: Field("new", identity="ref")}
    wanted = replace(wish(secrets=secrets), fields=declared)
    sent = replace(wish(secrets={"s": "1"}), fields=declared)
    effect = {"base": {SECRET: ""}, "sent": {SECRET: ""}}
    if acknowledged:
        memory = remembered(applied(sent, settling=Settling(id="op", **effect)))
    else:
        memory = remembered(applied(A1), operation=open_write(sent, **effect))
    decided = decide(wanted, seen({SECRET: "new"}), memory)
    assert (decided.verdict == Committed()) == (secrets == {"s": "1"})


def test_a_clamped_value_needs_a_human_and_is_not_sent_again() -> None:
    memory = remembered(applied(A2, observed={"a": "1"}))
    for policies in (Policies(), Policies(correct_drift=True)):
        decided = decide(A2, seen({"a": 1}), memory, policies=policies)
        assert isinstance(decided.action, Refuse)
        assert (decided.action.reason, decided.drift) == ("NotConverging", ())
        assert "a" in decided.action.message


def test_a_clamped_value_that_changes_again_is_drift() -> None:
    decided = decide(A2, seen({"a": 7}), remembered(applied(A2, observed={"a": "1"})))
    assert decided.drift == (Difference("a", 2, 7),)


def test_a_clamped_value_that_reads_as_wished_at_last_is_settled() -> None:
    clamped = HistoryEntry(version=5, generation=1, time=ago(5000), result="NotConverging")
    memory = replace(remembered(applied(A2, observed={"a": "1"})), history=(clamped,))
    decided = decide(A2, seen({"a": 2}), memory)
    assert (decided.action, decided.memory.result) == (Nothing(), "Applied")
    young = replace(memory, applied=applied(A2, observed={"a": "1"}, time=ago(10)))
    assert isinstance(decide(A2, seen({"a": 2}), young, known(young, first_look_at=NOW - 5)).action, Refuse)


def test_an_open_write_that_is_wished_no_more_is_closed() -> None:
    """A change of mind back to what is applied, once it is certain that the write has not arrived."""
    decided = decide(A1, seen({"a": 1}, {"a": 1}), OPEN, known(OPEN, gave_up={"op": NOW - 60}))
    assert (decided.action, decided.memory.operation) == (Nothing(), None)


def test_a_value_that_was_not_stored_was_absent() -> None:
    memory = remembered(applied(A1), operation=open_write(A2, sent={"a": "2"}))
    decided = decide(A2, seen({}), memory, known(memory, gave_up={"op": NOW - 60}))
    assert decided.verdict == NotCommitted()


def test_what_was_settled_otherwise_is_named() -> None:
    wanted = wish(a=2, b=2)
    action = decide(wanted, seen({"a": 1, "b": 1}), remembered(applied(wanted, observed={"b": "1", "a": "1"}))).action
    assert isinstance(action, Refuse)
    assert "a, b" in action.message


@pytest.mark.parametrize(("live", "verdict"), [({}, Committed()), ({SECRET: "x"}, Undecided())])
def test_a_variable_that_was_taken_away_is_judged_by_its_absence(live: dict[str, Any], verdict: Verdict) -> None:
    wanted = replace(wish(), owned=frozenset({"p.envs"}))
    memory = remembered(applied(A1), operation=open_write(wanted, base={SECRET: ""}, sent={SECRET: "null"}))
    decided = decide(wanted, seen(live), memory)
    assert decided.verdict == verdict


def test_a_value_that_may_be_secret_is_not_stored_either_when_it_was_settled_otherwise() -> None:
    wanted = replace(wish(), fields={SECRET: Field("new", identity="ref")})
    settling = Settling(id="op", base={SECRET: ""}, sent={SECRET: ""})
    memory = remembered(applied(wanted, settling=settling))
    decided = decide(wanted, seen({SECRET: "other"}), memory, known(memory, gave_up={"op": NOW - 60}))
    assert decided.verdict == Committed(differing={SECRET: ""})


def test_a_write_that_knows_no_version_before_it_is_judged_by_reading() -> None:
    memory = remembered(applied(A1), operation=open_write(A2, base={"a": "1"}, sent={"a": "2"}))
    assert decide(A2, seen({"a": 2}, {"a": 1}, {"a": 2}), memory).verdict == Committed()
    assert decide(A2, seen({"a": 1}, {"a": 1}, {"a": 2}), memory).verdict == Undecided()
    versioned = remembered(applied(A1), operation=open_write(A2, base_version=5, base={"a": "1"}, sent={"a": "2"}))
    assert decide(A2, seen({"a": 2}), versioned).verdict == Committed()
