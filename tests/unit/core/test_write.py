"""What a look makes of an open or acknowledged write: the table of `core/write.py`, value by value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from inference_operator.api.status import Effect
from inference_operator.core.model import (
    Desired,
    EndpointRef,
    Field,
    History,
    Observed,
    Snapshot,
    State,
    Version,
    canonical_json,
)
from inference_operator.core.write import Committed, Judge, NotCommitted, Undecided, Verdict, Write, effect

REF = EndpointRef("p", "ep")
SECRET = "novita.envs[TOKEN]"


def equal(path: str, wanted: Any, seen: Any) -> bool:
    del path
    return bool(wanted == seen)


def confidential(path: str) -> bool:
    return path.startswith("novita.envs[")


def desired(*, unreadable: tuple[str, ...] = (), **fields: Any) -> Desired:
    return Desired(REF, {path: Field(value, readable=path not in unreadable) for path, value in fields.items()})


def observed(live: Mapping[str, Any], versions: Mapping[int, Mapping[str, Any]] | None = None) -> Observed:
    history = None
    if versions is not None:
        entries = tuple(Version(number, Snapshot(values)) for number, values in sorted(versions.items()))
        history = History(max(versions, default=-1), entries)
    return Observed(Snapshot(live), State.RUNNING, "RUNNING", history=history)


def write(base: Mapping[str, Any], sent: Mapping[str, Any], **flags: Any) -> Write:
    stored = Effect(
        base={path: canonical_json(value) for path, value in base.items()},
        sent={path: canonical_json(value) for path, value in sent.items()},
    )
    defaults = {"base_version": 9, "same_rendering": True, "acknowledged": False, "expired": False}
    return Write(effect=stored, **(defaults | flags))


def judge(wanted: Desired, seen: Observed, question: Write) -> Verdict:
    return Judge(wanted, seen, equal, confidential).verdict(question)


A2 = desired(a=2, b=1)
BEFORE, AFTER, CLAMPED, FOREIGN = {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 1}, {"a": 1, "b": 7}
CHANGE = {"base": {"a": 1}, "sent": {"a": 2}}


@pytest.mark.parametrize(
    ("versions", "flags", "verdict"),
    [
        pytest.param({9: BEFORE}, {}, Undecided(), id="no entry yet"),
        pytest.param({9: BEFORE}, {"expired": True}, NotCommitted(), id="no entry at the deadline"),
        pytest.param({9: BEFORE, 10: AFTER}, {}, Committed(10), id="an entry that moves M as sent"),
        pytest.param({9: BEFORE, 10: CLAMPED}, {}, Committed(10, differing={"a": "3"}), id="an entry that clamps M"),
        pytest.param(
            {9: BEFORE, 10: BEFORE}, {}, Committed(10, differing={"a": "1"}), id="an entry that moves nothing"
        ),
        pytest.param({9: BEFORE, 10: FOREIGN}, {}, Undecided(), id="an entry that moves others only is foreign"),
        pytest.param({9: BEFORE, 10: FOREIGN}, {"expired": True}, NotCommitted(), id="foreign alone at the deadline"),
        pytest.param({9: BEFORE, 10: FOREIGN, 11: AFTER}, {}, Committed(11), id="ours above a foreign one"),
        pytest.param({9: BEFORE, 10: BEFORE, 11: AFTER}, {}, Committed(11), id="the entry that shows M counts"),
        pytest.param({10: AFTER}, {}, Committed(10), id="the base has left the history"),
        pytest.param({10: FOREIGN}, {}, Committed(10, differing={"a": "1", "b": "7"}), id="no base to tell foreign by"),
        pytest.param({9: BEFORE}, {"acknowledged": True}, Undecided(), id="acknowledged, not visible"),
        pytest.param(
            {9: BEFORE}, {"acknowledged": True, "expired": True}, Committed(9, differing={"a": "1"}), id="never visible"
        ),
    ],
)
def test_a_history_decides(versions: dict[int, dict[str, Any]], flags: dict[str, Any], verdict: Verdict) -> None:
    live = versions[min(versions)]
    assert judge(A2, observed(live, versions), write(**CHANGE, **flags)) == verdict


MODEL = desired(unreadable=("m",), a=1, b=1, m="new")


@pytest.mark.parametrize(
    ("versions", "flags", "verdict"),
    [
        pytest.param({9: BEFORE, 10: BEFORE}, {}, Committed(10, unverified=True), id="the count alone"),
        pytest.param({9: BEFORE, 10: FOREIGN}, {}, Undecided(), id="a foreign one"),
        pytest.param({9: BEFORE, 10: FOREIGN, 11: BEFORE}, {}, Committed(11, unverified=True), id="behind it"),
        pytest.param({9: BEFORE}, {"expired": True}, NotCommitted(), id="nothing came"),
        pytest.param({9: BEFORE, 10: BEFORE}, {"acknowledged": True}, Committed(10), id="confirmed by the provider"),
    ],
)
def test_a_write_of_what_cannot_be_read_is_decided_by_the_count(
    versions: dict[int, dict[str, Any]], flags: dict[str, Any], verdict: Verdict
) -> None:
    assert judge(MODEL, observed(BEFORE, versions), write({}, {}, **flags)) == verdict


@pytest.mark.parametrize(
    ("live", "flags", "verdict"),
    [
        pytest.param(AFTER, {}, Committed(), id="all of M as sent"),
        pytest.param(BEFORE, {}, Undecided(), id="as before, too early"),
        pytest.param(BEFORE, {"expired": True}, NotCommitted(), id="as before at the deadline"),
        pytest.param(CLAMPED, {}, Undecided(), id="something else, too early"),
        pytest.param(CLAMPED, {"expired": True}, Committed(differing={"a": "3"}), id="something else at the deadline"),
        pytest.param(
            BEFORE,
            {"expired": True, "acknowledged": True},
            Committed(differing={"a": "1"}),
            id="confirmed and never seen is settled, not sent again",
        ),
    ],
)
def test_without_a_history_reading_back_decides(live: dict[str, Any], flags: dict[str, Any], verdict: Verdict) -> None:
    assert judge(A2, observed(live), write(**CHANGE, base_version=None, **flags)) == verdict


def test_a_write_that_differs_in_nothing_is_taken_as_done_when_it_can_land_no_more() -> None:
    assert judge(A2, observed(AFTER), write({}, {}, base_version=None)) == Undecided()
    unverified = judge(A2, observed(AFTER), write({}, {}, base_version=None, expired=True))
    assert unverified == Committed(unverified=True), "nobody can tell whether it arrived, and it is not sent again"
    assert judge(A2, observed(AFTER), write({}, {}, base_version=None, acknowledged=True)) == Committed()


def test_secret_values_are_neither_stored_nor_shown() -> None:
    wanted = Desired(REF, {SECRET: Field("s3cret", identity="ref"), "a": Field(2)})
    change = effect(wanted, Snapshot({SECRET: "old", "a": 1}), equal, confidential)
    assert (change.base, change.sent) == ({"a": "1", SECRET: ""}, {"a": "2", SECRET: ""})
    assert "s3cret" not in repr(wanted)


@pytest.mark.parametrize(
    ("live", "flags", "verdict"),
    [
        pytest.param("new", {}, Committed(), id="the present rendering shows"),
        pytest.param("old", {}, Undecided(), id="it does not, too early"),
        pytest.param("old", {"expired": True}, NotCommitted(), id="it does not at the deadline"),
        pytest.param("new", {"same_rendering": False}, Undecided(), id="another rendering tells nothing"),
        pytest.param("new", {"same_rendering": False, "expired": True}, NotCommitted(), id="nor at the deadline"),
    ],
)
def test_a_secret_value_is_judged_by_the_present_rendering(live: str, flags: dict[str, Any], verdict: Verdict) -> None:
    wanted = Desired(REF, {SECRET: Field("new", identity="ref")})
    question = Write(
        effect=Effect(base={SECRET: ""}, sent={SECRET: ""}),
        **({"base_version": None, "same_rendering": True, "acknowledged": False, "expired": False} | flags),
    )
    assert judge(wanted, observed({SECRET: live}), question) == verdict


def test_an_item_too_many_in_an_owned_list_is_part_of_the_change() -> None:
    wanted = Desired(REF, {}, owned=frozenset({"novita.volumeMounts"}))
    live = Snapshot({"novita.volumeMounts[/x]": {"size": 30}, "novita.volumes": 1})
    change = effect(wanted, live, equal, confidential)
    assert change.sent == {"novita.volumeMounts[/x]": "null"}
    assert judge(wanted, observed({}), Write(change, None, True, False, False)) == Committed()
