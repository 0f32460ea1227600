"""Foreign changes: when they count, and when they are corrected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inference_operator.api.status import Corrections, Effect
from inference_operator.core.compare import Difference
from inference_operator.core.memory import rfc3339
from inference_operator.core.model import (
    Field,
    State,
)
from inference_operator.core.plan import (
    Nothing,
    Refuse,
    Send,
    Wait,
)
from inference_operator.core.situation import Policies
from situations import A1, NOW, PACE, SECRET, WALL, ago, applied, decide, known, remembered, seen, wish

DRIFT = (Difference("a", 1, 7),)
CORRECT = Policies(correct_drift=True)


@pytest.mark.parametrize(
    ("state", "age", "found"),
    [
        pytest.param(State.RUNNING, 5000, DRIFT, id="at rest"),
        pytest.param(State.UPDATING, 5000, (), id="while rolling out"),
        pytest.param(State.RUNNING, 10, (), id="while reads may lag"),
    ],
)
def test_drift_is_judged_at_rest_alone(state: State, age: float, found: tuple[Difference, ...]) -> None:
    memory = remembered(applied(A1, time=ago(age)))
    recollection = known(memory, first_look_at=NOW - 5 if age < PACE.settle else 0.0)
    decided = decide(A1, seen({"a": 7}, state=state), memory, recollection)
    assert (decided.action, decided.drift) == (Nothing(), found)


@pytest.mark.parametrize(
    ("live", "versions", "found"),
    [
        pytest.param(1, (1, 7), DRIFT, id="a version after ours differs, and the read lags"),
        pytest.param(7, (1, 7), DRIFT, id="a version after ours differs"),
        pytest.param(7, (1, 1), (), id="a version after ours does not differ, so the read is of before"),
        pytest.param(7, (1,), (), id="ours is the newest, so the read is of before"),
        pytest.param(7, (), (), id="without versions nobody can tell"),
    ],
)
def test_a_version_after_ours_is_judged_at_once(live: int, versions: tuple[int, ...], found: Any) -> None:
    memory = remembered(applied(A1, time=ago(10)), version=5)
    look = seen({"a": live}, *({"a": value} for value in versions))
    assert decide(A1, look, memory, known(memory, first_look_at=NOW - 5)).drift == found


@pytest.mark.parametrize(
    ("unreadable", "drift"),
    [
        pytest.param({"m": "x"}, (Difference("version", 5, 6),), id="it may have changed what cannot be read"),
        pytest.param({}, (), id="it cannot"),
    ],
)
def test_a_version_made_by_others_is_drift_where_it_may_hide_something(
    unreadable: dict[str, Any], drift: tuple[Difference, ...]
) -> None:
    wanted = wish(a=1, unreadable=unreadable)
    decided = decide(wanted, seen({"a": 1}, {"a": 1}, {"a": 1}), remembered(applied(wanted), version=5))
    assert decided.drift == drift
    assert decided.memory.version == (5 if unreadable else 6)


def test_a_foreign_version_stays_drift_between_the_looks_that_read_the_history() -> None:
    wanted = wish(a=1, unreadable={"m": "x"})
    memory = remembered(applied(wanted), version=5, foreign_version=6)
    assert decide(wanted, seen({"a": 1}), memory).drift == (Difference("version", 5, 6),)


@pytest.mark.parametrize(
    ("recollection", "done", "seconds"),
    [
        pytest.param({"drift": ()}, None, PACE.transition_poll, id="a first look"),
        pytest.param({"drift": DRIFT, "drift_since": NOW - 10}, None, None, id="a second look"),
        pytest.param({"drift": (Difference("a", 1, 8),)}, None, PACE.transition_poll, id="another difference"),
        pytest.param(
            {"drift": DRIFT, "first_look_at": NOW - 590, "drift_since": NOW - 590}, None, 10, id="from the start"
        ),
        pytest.param(
            {"drift": DRIFT, "first_look_at": NOW - 600, "drift_since": NOW - 600}, None, None, id="long since"
        ),
        pytest.param({"drift": DRIFT, "drift_since": NOW - 10, "corrected_at": NOW - 590}, 1, 10, id="cooling down"),
        pytest.param({"drift": DRIFT, "drift_since": NOW - 10, "corrected_at": NOW - 600}, 1, None, id="cooled down"),
        pytest.param({"drift": DRIFT, "drift_since": NOW - 10, "corrected_at": NOW - 100}, 1, 60, id="at most a poll"),
        pytest.param(
            {"drift": DRIFT, "drift_since": NOW - 10, "first_look_at": NOW - 20}, 1, 10, id="by the stored time"
        ),
    ],
)
def test_a_correction_waits_for_a_second_look_and_the_cooldown(
    recollection: dict[str, Any], done: int | None, seconds: float | None
) -> None:
    corrections = None if done is None else Corrections(count=done, time=ago(590))
    memory = remembered(applied(A1, corrections=corrections), version=5)
    decided = decide(A1, seen({"a": 7}, {"a": 7}), memory, known(memory, **recollection), policies=CORRECT)
    assert decided.drift == DRIFT
    if seconds is None:
        counted = Corrections(count=(done or 0) + 1, time=rfc3339(WALL))
        effect = Effect(base={"a": "7"}, sent={"a": "1"})
        assert decided.action == Send("correct a foreign change", effect, 5, counted)
    else:
        assert isinstance(decided.action, Wait)
        assert decided.action.seconds == seconds


def test_the_third_correction_in_a_row_is_contested() -> None:
    memory = remembered(applied(A1, corrections=Corrections(count=2, time=ago(5000))))
    recollection = known(memory, drift=DRIFT, drift_since=NOW - 10)
    action = decide(A1, seen({"a": 7}), memory, recollection, policies=CORRECT).action
    assert isinstance(action, Refuse)
    assert action.reason == "Contested"
    assert "a" in action.message


@pytest.mark.parametrize(
    ("live", "age", "kept"), [({"a": 1}, 86_400, False), ({"a": 1}, 86_399, True), ({"a": 7}, 90_000, True)]
)
def test_corrections_are_forgotten_after_a_day_in_sync(live: dict[str, Any], age: float, *, kept: bool) -> None:
    memory = remembered(applied(A1, corrections=Corrections(count=2, time=ago(age))))
    recollection = known(memory, first_look_at=NOW - 10)
    decided = decide(A1, seen(live), memory, recollection)
    assert decided.memory.applied is not None
    assert (decided.memory.applied.corrections is not None) == kept


def test_nothing_is_corrected_where_drift_is_only_reported() -> None:
    memory = remembered(applied(A1))
    recollection = known(memory, drift=DRIFT, drift_since=NOW - 10)
    assert decide(A1, seen({"a": 7}), memory, recollection).action == Nothing()


def test_the_fields_of_a_contest_are_named() -> None:
    wanted = wish(a=1, b=1)
    memory = remembered(applied(wanted, corrections=Corrections(count=2, time=ago(5000))))
    action = decide(wanted, seen({"a": 7, "b": 7}), memory, policies=CORRECT).action
    assert isinstance(action, Refuse)
    assert "a, b" in action.message


def test_a_cooldown_is_over_when_it_is_over() -> None:
    memory = remembered(applied(A1, corrections=Corrections(count=1, time=ago(5000))))
    recollection = known(memory, drift=DRIFT, drift_since=NOW - 10, corrected_at=NOW - 599.5)
    action = decide(A1, seen({"a": 7}), memory, recollection, policies=CORRECT).action
    assert isinstance(action, Wait)
    assert action.seconds == 0.5
    assert "cooldown" in action.message


def test_a_secret_that_was_settled_otherwise_is_known_by_its_name_alone() -> None:
    wanted = replace(wish(), fields={SECRET: Field("new", identity="ref")})
    decided = decide(wanted, seen({SECRET: "other"}), remembered(applied(wanted, observed={SECRET: ""})))
    assert isinstance(decided.action, Refuse)
    assert (decided.action.reason, decided.drift) == ("NotConverging", ())


@pytest.mark.parametrize(("known_before", "told"), [(frozenset({"a"}), DRIFT), (frozenset(), ())])
def test_a_rollout_neither_makes_drift_nor_mends_it_and_nothing_is_corrected_meanwhile(
    known_before: frozenset[str], told: tuple[Difference, ...]
) -> None:
    memory = replace(remembered(applied(A1)), drifted=known_before)
    recollection = known(memory, drift=DRIFT, drift_since=NOW - 10)
    decided = decide(A1, seen({"a": 7}, state=State.UPDATING), memory, recollection, policies=CORRECT)
    assert (decided.action, decided.drift) == (Nothing(), told)
