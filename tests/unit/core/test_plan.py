"""Whether a write is needed, and what it carries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inference_operator.api.status import Corrections, Effect
from inference_operator.core.memory import Memory, rfc3339
from inference_operator.core.model import (
    Desired,
    Field,
    canonical_json,
)
from inference_operator.core.plan import (
    Action,
    LookDeeper,
    Nothing,
    Send,
)
from inference_operator.core.situation import Policies
from inference_operator.core.write import NotCommitted
from situations import (
    A1,
    A2,
    NOW,
    PACE,
    SECRET,
    WALL,
    ago,
    applied,
    decide,
    known,
    lenient,
    open_write,
    remembered,
    seen,
    wish,
)


@pytest.mark.parametrize(
    ("wanted", "memory", "changes", "reason"),
    [
        pytest.param(A2, remembered(), {}, "first write", id="nothing applied yet"),
        pytest.param(A2, remembered(applied(A1)), {}, "the spec changed", id="another hash"),
        pytest.param(A1, remembered(applied(A1)), {"reapply": "x"}, "reapply was requested", id="reapply"),
        pytest.param(A1, remembered(applied(A1, reapply="w")), {"reapply": "x"}, "reapply was requested", id="another"),
        pytest.param(A1, remembered(applied(A1, reapply="x")), {"reapply": "x"}, None, id="the same reapply"),
        pytest.param(A1, remembered(applied(A1, reapply="x")), {}, None, id="reapply taken away"),
        pytest.param(A1, remembered(applied(A1)), {"generation": 9}, None, id="another generation alone"),
    ],
)
def test_a_write_has_a_reason(wanted: Desired, memory: Memory, changes: dict[str, Any], reason: str | None) -> None:
    action = decide(wanted, seen({"a": 1}), memory, **changes).action
    assert (action.reason if isinstance(action, Send) else None) == reason
    assert isinstance(action, Send | Nothing)


@pytest.mark.parametrize(
    ("live", "action"),
    [
        pytest.param("new", Nothing(), id="the value is there already"),
        pytest.param(
            "old", Send("a Secret changed", Effect(base={SECRET: ""}, sent={SECRET: ""}), None), id="it is not"
        ),
    ],
)
def test_a_rotated_secret_is_sent_only_if_its_value_changed(live: str, action: Action) -> None:
    declared = {SECRET: Field("new", identity="ref")}
    before, after = (replace(wish(secrets={"s": version}), fields=declared) for version in "12")
    decided = decide(after, seen({SECRET: live}), remembered(applied(before)))
    assert decided.action == action
    assert decided.memory.applied is not None
    if action == Nothing():
        assert decided.memory.applied.secrets == {"s": "2"}


def test_a_payload_that_an_older_scheme_has_hashed_is_not_sent_again() -> None:
    wanted, changed = (wish(a=value, unreadable={"m": "x"}) for value in (1, 2))
    memory = remembered(applied(wanted, hash="v0:whatever:-", generation=2))
    decided = decide(wanted, seen({"a": 1}), memory)
    assert decided.action == Nothing()
    assert decided.memory.applied is not None
    assert decided.memory.applied.hash == wanted.hash
    assert isinstance(decide(changed, seen({"a": 1}), memory, generation=3).action, Send)


@pytest.mark.parametrize(
    ("live", "changes", "sends"),
    [
        pytest.param({"a": "X"}, {}, False, id="the very value"),
        pytest.param({"a": "x"}, {}, True, id="a value that only agrees"),
        pytest.param({"a": "X"}, {"whole": False}, True, id="a light look"),
    ],
)
def test_only_the_very_value_stands_in_for_a_write(
    live: dict[str, Any], changes: dict[str, Any], *, sends: bool
) -> None:
    decided = decide(wish(a="X"), seen(live), remembered(applied(A1)), agrees=lenient, **changes)
    assert isinstance(decided.action, Send | LookDeeper) == sends


@pytest.mark.parametrize(
    ("before", "live", "adopted"),
    [
        pytest.param({"a": 1}, {"a": 1}, True, id="both hold it"),
        pytest.param({"a": 2}, {"a": 1}, False, id="the newest version does not"),
        pytest.param({"a": 1}, {"a": 2}, False, id="the live read does not"),
    ],
)
def test_an_endpoint_is_adopted_if_its_newest_version_and_its_live_read_hold_the_spec(
    before: dict[str, Any], live: dict[str, Any], *, adopted: bool
) -> None:
    decided = decide(A1, seen(live, before), remembered())
    assert isinstance(decided.action, Nothing) == adopted
    if adopted:
        found = decided.memory.applied
        assert found == applied(A1, generation=2, time=rfc3339(WALL), base_version=5)
        assert (decided.memory.version, decided.memory.result) == (5, "Matched")


@pytest.mark.parametrize(
    ("policies", "changes", "adopted"),
    [
        pytest.param(Policies(), {}, False, id="Apply"),
        pytest.param(Policies(match=True), {}, True, id="Match"),
        pytest.param(Policies(match=True), {"reapply": "x"}, True, id="Match with an old reapply"),
    ],
)
def test_what_cannot_be_read_back_is_adopted_only_by_policy(
    policies: Policies, changes: dict[str, Any], *, adopted: bool
) -> None:
    wanted = wish(a=1, unreadable={"m": "new"})
    decided = decide(wanted, seen({"a": 1}), remembered(), policies=policies, **changes)
    assert isinstance(decided.action, Nothing) == adopted
    if adopted:
        assert decided.memory.applied is not None
        assert decided.memory.applied.reapply == changes.get("reapply")


def test_a_reapply_request_is_no_reason_to_adopt() -> None:
    assert isinstance(decide(A1, seen({"a": 1}), remembered(), reapply="x").action, Send)


# ── what is sent ──────────────────────────────────────────────────────────────────────────────────────


def test_a_write_remembers_what_it_changes_from_the_newest_version_on() -> None:
    look = seen({"a": 1, "b": 9}, {"a": 1, "b": 1}, {"a": 3, "b": 1})
    action = decide(wish(a=2, b=1), look, remembered(applied(A1), version=6)).action
    assert action == Send("the spec changed", Effect(base={"a": "3"}, sent={"a": "2"}), 6)


def test_a_second_try_begins_with_what_is_there_now() -> None:
    """What others have made since the first one is none of its doing, and what may still come will be above that."""
    wanted = wish(a=2, b=1)
    first = open_write(wanted, base_version=5, base={"a": "1"}, sent={"a": "2"})
    look = seen({"a": 1, "b": 7}, {"a": 1, "b": 1}, {"a": 1, "b": 7})
    memory = remembered(applied(A1), version=5, operation=first)
    decided = decide(wanted, look, memory, known(memory, gave_up={"op": NOW - PACE.settle}))
    assert decided.verdict == NotCommitted()
    assert decided.action == Send(
        "the spec changed", Effect(base={"a": "1", "b": "7"}, sent={"a": "2", "b": "1"}), base_version=6
    )


def test_a_second_try_is_still_the_correction_that_the_first_was() -> None:
    counted = Corrections(count=1, time=ago(100))
    first = open_write(A1, base_version=5, base={"a": "7"}, sent={"a": "1"}, corrections=counted)
    memory = remembered(applied(A1, reapply=None), version=5, operation=first)
    look = seen({"a": 7}, {"a": 7})
    recollection = known(memory, gave_up={"op": NOW - PACE.settle})
    action = decide(A1, look, memory, recollection, reapply="x").action
    assert isinstance(action, Send)
    assert action.corrections == counted


def test_effects_are_stored_as_canonical_json() -> None:
    assert canonical_json({"b": [1, "ü"], "a": None}) == '{"a":null,"b":[1,"ü"]}'


def test_another_rendering_of_the_same_generation_is_a_change() -> None:
    """Only a hash of an older scheme is known to be another name of the same payload."""
    memory = remembered(applied(A1, hash="v1:another:-", generation=2))
    assert isinstance(decide(A1, seen({"a": 7}), memory).action, Send)
