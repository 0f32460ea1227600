"""Who owns an endpoint that several resources name, and what a write has to let pass: tables."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from inference_operator.core.claims import Rivalry, owner_besides, unsettled
from inference_operator.core.model import Resource

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTLE = 60.0
QUIET = 95.0
READ = {"endpointId": "ep"}
LONG_AGO = "2025-12-31T00:00:00Z"
JUST_NOW = "2025-12-31T23:59:30Z"


def resource(
    name: str, status: dict[str, Any] | None = None, *, age: int = 0, namespace: str = "n", **spec: object
) -> Resource:
    created = NOW - timedelta(seconds=age)
    return Resource(namespace, name, name, 1, "1", created, False, {}, {"endpointId": "ep", **spec}, status or {})


def applied(uid: str, time: str = LONG_AGO, result: str = "Applied", **members: object) -> dict[str, Any]:
    memory = {"uid": uid, "hash": "v1:x:-", "generation": 1, "time": time, **members}
    return READ | {"applied": memory, "history": [{"result": result}]}


def operating(uid: str, **members: Any) -> dict[str, Any]:
    return READ | {"operation": {"uid": uid, "id": f"op-{uid}"}} | members


def judged(reason: str, **members: object) -> dict[str, Any]:
    return {"conditions": [{"type": "Synced", "status": "False", "reason": reason}], **members}


OLDER: dict[str, Any] = {"age": 9}


@pytest.mark.covers("E4")
@pytest.mark.parametrize(
    ("mine", "other", "owned_by_us"),
    [
        ({}, resource("b", READ, **OLDER), False),
        ({}, resource("b", READ, age=-9), True),
        ({}, resource("b", READ), True),
        ({}, resource("A", READ), False),
        ({}, resource("b", **OLDER), True),
        ({}, resource("b", {"endpointId": "another"}, **OLDER), True),
        ({}, resource("b", READ, managementPolicy="Observe", **OLDER), True),
        ({}, replace(resource("b", READ, **OLDER), deleting=True), True),
        (applied("a"), resource("A", READ), True),
        ({}, resource("b", applied("b")), False),
        (applied("a"), resource("A", applied("A")), False),
        ({}, resource("b", applied("b", result="Matched")), True),
        ({}, resource("b", applied("somebody else")), True),
        (applied("a"), resource("b", READ, age=1), False),
        (operating("a"), resource("A", operating("A")), False),
    ],
    ids=[
        "older",
        "younger",
        "higher uid",
        "lower uid",
        "never read it",
        "read another one",
        "observes only",
        "is being deleted",
        "as old, and we have written",
        "as old, and it has written",
        "as old, and both have written",
        "as old, and it has only adopted",
        "as old, with a predecessor's memory",
        "older, although we have written",
        "as old, and both are about to write",
    ],
)
def test_the_oldest_whose_key_has_read_the_endpoint_owns_it(
    mine: dict[str, Any], other: Resource, *, owned_by_us: bool
) -> None:
    assert (owner_besides(resource("a", mine), [other], "ep") is None) == owned_by_us


def test_of_any_number_exactly_one_owns_whatever_the_order() -> None:
    claimants = [
        resource("a", READ, age=3),
        resource("b", READ, age=3),
        resource("c", applied("c"), age=3),
        resource("d", applied("d"), age=2),
        resource("e", age=9),
    ]
    for some in itertools.chain.from_iterable(itertools.combinations(claimants[:4], size) for size in range(1, 5)):
        for order in itertools.permutations([*some, claimants[4]]):
            owners = [
                each.name
                for each in some
                if owner_besides(each, [other for other in order if other is not each], "ep") is None
            ]
            assert len(owners) == 1


@pytest.mark.covers("E4")
def test_the_message_names_the_owner_only_within_the_namespace() -> None:
    mine = resource("a")
    near, far = resource("near", READ, age=5), resource("secret-project", READ, namespace="secret-team", **OLDER)
    told = owner_besides(mine, [near], "ep")
    assert told is not None
    assert '"near"' in told
    told = owner_besides(mine, [near, far], "ep")
    assert told is not None
    assert "near" not in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("other", "keys"),
    [
        (resource("b", **OLDER), {"claim b"}),
        (resource("b", {"observedGeneration": -1}, **OLDER), {"claim b"}),
        (resource("b", judged("ProviderUnavailable"), **OLDER), {"claim b"}),
        (resource("b", judged("Throttled"), **OLDER), {"claim b"}),
        (resource("b", judged("CredentialsRejected"), **OLDER), set()),
        (resource("b", judged("Waiting"), **OLDER), set()),
        (resource("b", judged("EndpointNotFound"), **OLDER), set()),
        (resource("b", judged("Suspended"), **OLDER), set()),
        (resource("b", managementPolicy="Observe", **OLDER), set()),
        (replace(resource("b", **OLDER), deleting=True), set()),
        (resource("b"), set()),
        (resource("A"), {"claim A"}),
        (resource("b", READ, **OLDER), set()),
        (resource("b", operating("b")), {"write op-b"}),
        (resource("b", operating("b"), managementPolicy="Observe"), {"write op-b"}),
        (replace(resource("b", operating("b")), deleting=True), {"write op-b"}),
        (resource("b", operating("somebody else")), set()),
        (resource("b", applied("b")), set()),
        (resource("b", applied("b", JUST_NOW)), {f"change b {JUST_NOW} v1:x:-"}),
        (resource("b", applied("b", JUST_NOW, "Matched")), set()),
        (resource("b", applied("b", settling={"id": "x"})), {f"change b {LONG_AGO} v1:x:-"}),
    ],
)
def test_a_write_lets_pass_what_others_have_under_way_and_older_ones_that_nobody_has_looked_at(
    other: Resource, keys: set[str]
) -> None:
    assert unsettled(resource("a"), [other], "ep", wall=NOW, settle=SETTLE) == keys


def test_whoever_has_written_waits_for_no_equal_that_has_not() -> None:
    mine = resource("a", applied("a"))
    assert unsettled(mine, [resource("A")], "ep", wall=NOW, settle=SETTLE) == set()


def test_everything_is_waited_for_from_when_it_was_first_seen_and_no_longer_than_q() -> None:
    first = Rivalry().meets(None, ["claim b"], lost=False, now=100)
    second = first.meets(None, ["claim b", "write x"], lost=False, now=150)
    assert (first.turn_at(QUIET), second.turn_at(QUIET)) == (100 + QUIET, 150 + QUIET)
    assert second.meets(None, ["claim b"], lost=False, now=500).turn_at(QUIET) == 100 + QUIET
    assert second.meets(None, [], lost=False, now=160).turn_at(QUIET) == 0


def test_an_endpoint_is_taken_over_q_after_its_owner_was_first_missed() -> None:
    lost = Rivalry().meets("b owns it", [], lost=False, now=100)
    freed = lost.meets(None, [], lost=True, now=300)
    assert freed.turn_at(QUIET) == 300 + QUIET
    assert freed.meets(None, [], lost=True, now=310).turn_at(QUIET) == 300 + QUIET
    again = freed.meets("b owns it", [], lost=False, now=320)
    assert (again.owner, again.freed_at) == ("b owns it", None)
    assert again.meets(None, [], lost=True, now=400).turn_at(QUIET) == 400 + QUIET
