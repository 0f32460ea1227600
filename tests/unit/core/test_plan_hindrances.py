"""Whether a write that is needed may be sent now."""

from __future__ import annotations

from typing import Any

import pytest

from inference_operator.core.compare import Difference
from inference_operator.core.model import (
    Desired,
    State,
)
from inference_operator.core.plan import (
    Action,
    LookDeeper,
    Nothing,
    OnlyReport,
    Pause,
    Refuse,
    Send,
    Wait,
)
from inference_operator.core.situation import Policies, Refusal
from inference_operator.errors import InvalidSpec
from situations import (
    A1,
    A2,
    INPUTS,
    NOW,
    PACE,
    SECRET,
    ago,
    applied,
    decide,
    known,
    open_write,
    remembered,
    replicas,
    seen,
)


def test_observing_only_reports() -> None:
    memory = remembered(applied(A1))
    decided = decide(A2, seen({"a": 1}), memory, policies=Policies(observe=True))
    assert (decided.action, decided.drift) == (OnlyReport(), (Difference("a", 2, 1),))


def test_whoever_does_not_own_the_endpoint_sends_nothing() -> None:
    for memory in (remembered(), remembered(applied(A1))):
        action = decide(A2, seen({"a": 1}), memory, rival="somebody").action
        assert action == Refuse("Conflict", "somebody")


@pytest.mark.parametrize(
    ("inputs", "until", "action"),
    [
        pytest.param(INPUTS, NOW + 7, Pause, id="too early"),
        pytest.param(INPUTS, NOW, Send, id="late enough"),
        pytest.param((1,), NOW + 7, Send, id="other inputs"),
    ],
)
def test_a_refused_write_pauses_until_its_time_or_other_inputs(
    inputs: tuple[object, ...], until: float, action: type[Action]
) -> None:
    memory = remembered(applied(A1))
    error = InvalidSpec("no")
    recollection = known(memory, refusal=Refusal(error, inputs, until))
    decided = decide(A2, seen({"a": 1}), memory, recollection)
    assert isinstance(decided.action, action)
    if isinstance(decided.action, Pause):
        assert (decided.action.error, decided.action.seconds) == (error, 7)


@pytest.mark.parametrize("state", [State.UPDATING, State.RUNNING])
@pytest.mark.parametrize("busy", [True, False])
def test_a_provider_that_said_it_is_busy_is_left_alone_while_it_is_at_work(state: State, *, busy: bool) -> None:
    memory = remembered(applied(A1))
    decided = decide(A2, seen({"a": 1}, state=state), memory, known(memory, busy=busy))
    assert isinstance(decided.action, Wait) == (busy and state is State.UPDATING)
    if isinstance(decided.action, Wait):
        assert decided.action.seconds == PACE.transition_poll


@pytest.mark.parametrize(
    ("lost", "since", "waits"),
    [(3, PACE.slow - 1, True), (3, PACE.slow, False), (2, 1, False)],
    ids=["three", "three, long ago", "two"],
)
def test_a_provider_that_keeps_losing_updates_is_asked_slowly(lost: int, since: float, *, waits: bool) -> None:
    memory = remembered(applied(A1))
    recollection = known(memory, uncommitted=tuple("abc"[:lost]), uncommitted_at=NOW - since)
    action = decide(A2, seen({"a": 1}), memory, recollection).action
    assert isinstance(action, Wait) == waits
    if isinstance(action, Wait):
        assert action.seconds == 1
        assert "three" in action.message


@pytest.mark.parametrize(("until", "waits"), [(NOW + 3, True), (NOW, False)])
@pytest.mark.parametrize("first", [True, False])
def test_a_first_write_waits_until_a_predecessors_must_have_landed(until: float, *, waits: bool, first: bool) -> None:
    memory = remembered(None if first else applied(A1))
    action = decide(A2, seen({"a": 1}), memory, first_write_at=until).action
    assert isinstance(action, Wait) == (waits and first)
    if isinstance(action, Wait):
        assert action.seconds == 3


@pytest.mark.parametrize("state", [State.UPDATING, State.RUNNING])
@pytest.mark.parametrize("first", [True, False])
def test_the_brake_holds_back_what_is_not_rolling_out_already(state: State, *, first: bool) -> None:
    memory = remembered(None if first else applied(A1))
    action = decide(A2, seen({"a": 1}, state=state), memory, brake="too many").action
    if state is State.RUNNING:
        assert action == Wait("too many", PACE.transition_poll)
    else:
        assert isinstance(action, Send)


@pytest.mark.parametrize(
    ("wanted", "wrote", "stored", "seconds"),
    [
        pytest.param(replicas(3), 20.0, 9999.0, 40, id="by the own clock"),
        pytest.param(replicas(3), 60.0, 0.0, None, id="by the own clock, over"),
        pytest.param(replicas(3), None, 20.0, 40, id="by the stored time"),
        pytest.param(replicas(3), None, 60.0, None, id="by the stored time, over"),
        pytest.param(replicas(3, a=1), 20.0, 20.0, None, id="not replicas alone"),
    ],
)
def test_replicas_alone_keep_the_interval(
    wanted: Desired, wrote: float | None, stored: float, seconds: float | None
) -> None:
    memory = remembered(applied(replicas(2), time=ago(stored)), version=5)  # a look that shows it is not behind
    recollection = known(memory, wrote_at=None if wrote is None else NOW - wrote, first_look_at=NOW - 1)
    live = {"scaling.replicas": 2, "a": 2}
    action = decide(wanted, seen(live, live), memory, recollection).action
    assert (action.seconds if isinstance(action, Wait) else None) == seconds
    assert isinstance(action, Wait | Send)


def test_a_wrong_calendar_does_not_stretch_a_waiting_time() -> None:
    memory = remembered(applied(replicas(2), time=ago(-1_000_000)))
    look = seen({"scaling.replicas": 2})
    for first_look_at, waits in ((NOW - 59, True), (NOW - 60, False)):
        recollection = known(memory, first_look_at=first_look_at)
        assert isinstance(decide(replicas(3), look, memory, recollection).action, Wait) == waits


def test_before_the_first_look_the_stored_time_alone_tells() -> None:
    memory = remembered(applied(replicas(2), time=ago(0)), version=5)
    live = {"scaling.replicas": 2}
    action = decide(replicas(3), seen(live, live), memory, known(memory, first_look_at=None)).action
    assert isinstance(action, Wait)
    assert action.seconds == PACE.scale_interval


def test_a_light_look_leads_to_no_write() -> None:
    for memory in (remembered(), remembered(applied(A1))):
        assert decide(A2, seen({"a": 1}), memory, whole=False).action == LookDeeper()


@pytest.mark.parametrize(("live", "waits"), [({"a": 1, SECRET: "x"}, False), ({"a": 0, SECRET: "x"}, True)])
def test_without_versions_a_look_is_behind_if_it_lacks_what_was_sent(live: dict[str, Any], *, waits: bool) -> None:
    """Of a value that may be secret nothing is known."""
    memory = remembered(applied(A1, time=ago(10)))
    wrote = open_write(A1, sent={"a": "1", SECRET: ""})
    recollection = known(memory, wrote=wrote, wrote_at=NOW - 10, first_look_at=NOW - 20)
    action = decide(A2, seen(live), memory, recollection).action
    assert isinstance(action, Wait) == waits
    if isinstance(action, Wait):
        assert action.seconds == PACE.transition_poll


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("remaining", "waits"), [(90, True), (0, False), (-1, False)])
def test_what_an_older_status_hides_is_let_pass_before_anything_else(
    remaining: float, *, waits: bool, first: bool
) -> None:
    memory = remembered(None if first else applied(A1))
    action = decide(A2, seen({"a": 1}), memory, lapse_over_at=NOW + remaining, turn_at=NOW + 1).action
    assert isinstance(action, Wait)
    assert (action.seconds, "older status" in action.message) == ((remaining, True) if waits else (1, False))


@pytest.mark.parametrize("hindrance", [{"brake": "too many"}, {"turn_at": NOW + 5}])
def test_drift_is_told_while_a_write_waits(hindrance: dict[str, Any]) -> None:
    memory = remembered(applied(A1))
    decided = decide(A1, seen({"a": 7}), memory, reapply="x", **hindrance)
    assert isinstance(decided.action, Wait)
    assert (decided.drift, decided.memory) == ((Difference("a", 1, 7),), memory)


def test_another_resource_that_is_not_settled_is_waited_for_even_by_what_could_be_adopted() -> None:
    for memory in (remembered(), remembered(applied(A2))):
        for remaining, seconds in ((5, 5), (500, PACE.transition_poll)):
            action = decide(A1, seen({"a": 1}, {"a": 1}), memory, turn_at=NOW + remaining).action
            assert isinstance(action, Wait) or memory.applied is not None
            if isinstance(action, Wait):
                assert action.seconds == seconds
    assert isinstance(decide(A1, seen({"a": 1}), remembered(), turn_at=NOW).action, Nothing)


@pytest.mark.parametrize(("first", "action"), [(True, LookDeeper), (False, Wait)])
def test_a_light_look_is_enough_to_be_held_back(action: type[Action], *, first: bool) -> None:
    memory = remembered(None if first else applied(A1))
    decided = decide(A2, seen({"a": 1}), memory, whole=False, brake="too many")
    assert isinstance(decided.action, action)
    assert decided.memory == memory


def test_the_last_half_second_of_an_interval_counts() -> None:
    memory = remembered(applied(replicas(2)), version=5)
    live = {"scaling.replicas": 2}
    action = decide(replicas(3), seen(live, live), memory, known(memory, wrote_at=NOW - 59.5)).action
    assert isinstance(action, Wait)
    assert action.seconds == 0.5


def test_the_last_half_second_of_anothers_turn_counts() -> None:
    action = decide(A2, seen({"a": 1}), remembered(applied(A1)), turn_at=NOW + 0.5).action
    assert isinstance(action, Wait)
    assert action.seconds == 0.5
