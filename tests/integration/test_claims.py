"""Two resources on one endpoint: one writer, the right one, whoever watches them; and how it changes hands."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

import audit
from fleet import message
from inference_operator.api.names import PLURAL
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from rig import QUICK, Rig, condition, rigged, spec_of, wait_for
from tally import show

PAIRS = 20
FLAGS: Mapping[str, Any] = {**QUICK, "claim-seconds": 3, "request-timeout-seconds": 3, "settle-seconds": 3}
QUIET_SECONDS = 9.0
SLACK_SECONDS = 15.0
"""What a busy machine may add."""

START_SECONDS = 90.0

CONFLICT = ("True", "Conflict")
SENIOR_SIZE, JUNIOR_SIZE = 4, 6


@dataclass(frozen=True)
class Place:
    """Where the two of a pair live, who works on them, and whether anybody does when they are created."""

    rigs: tuple[Rig, Rig]
    labels: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})
    operators: Sequence[Sequence[str]] = ((),)

    def start(self) -> None:
        first, second = self.rigs
        scope = [] if first is second else ["--namespace", second.namespace]
        for arguments in self.operators:
            first.start(*arguments, *scope, wait=False, **FLAGS)
        wait_for(self._is_working, what="the operators to work", seconds=START_SECONDS)

    def _is_working(self) -> bool:
        return all(self.rigs[0].is_working(each) for each in self.rigs[0].processes)

    def create(self, side: int, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        return self.rigs[side].apply(name, spec, labels=dict(self.labels[side]))


@pytest.fixture
def place(
    control_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Place]]:
    """Makes a place of a kind."""
    with ExitStack() as stack:

        def made(kind: str) -> Place:
            rig = stack.enter_context(rigged(control_plane, emulators, tmp_path_factory.mktemp("one")))
            if kind == "two namespaces":
                other = stack.enter_context(rigged(control_plane, emulators, tmp_path_factory.mktemp("other")))
                other.secret("key", token=rig.token)
                return Place((rig, other))
            if kind == "two shards":
                labels = ({"shard": "a"}, {"shard": "b"})
                return Place((rig, rig), labels, [["--label-selector", f"shard={name}"] for name in "ab"])
            return Place((rig, rig))

        yield made


def seniority(resource: Mapping[str, Any]) -> tuple[str, str]:
    return resource["metadata"]["creationTimestamp"], resource["metadata"]["uid"]


@pytest.mark.covers("E4")
@pytest.mark.parametrize(
    ("kind", "working"),
    [("one namespace", True), ("two namespaces", False), ("two shards", True), ("two shards", False)],
    ids=["one namespace", "two namespaces, before the start", "two shards", "two shards, before the start"],
)
def test_twenty_pairs_created_at_once_have_twenty_writers(
    place: Callable[[str], Place],
    kind: str,
    working: bool,  # noqa: FBT001 - both sides of the table
) -> None:
    found = place(kind)
    rig = found.rigs[0]
    endpoints = {f"p-{number:02d}": rig.endpoint("friendli") for number in range(PAIRS)}
    if working:
        found.start()
    with ThreadPoolExecutor(8) as pool:
        created = [
            pool.submit(found.create, side, f"{pair}-{side}", spec_of("friendli", endpoint_id, 4 + side))
            for pair, endpoint_id in endpoints.items()
            for side in (0, 1)
        ]
    for future in created:
        future.result()  # raises what went wrong in its thread
    if not working:
        found.start()
    wait_for(
        lambda: stalled(found) == PAIRS, what="one conflict in every pair", seconds=90, state=lambda: stalled(found)
    )
    wait_for(lambda: synced(found) == PAIRS, what="one in every pair to be in sync", seconds=90)
    time.sleep(2.2 * FLAGS["poll-seconds"])
    ties, by_uid = 0, 0
    for pair, endpoint_id in endpoints.items():
        both = [found.rigs[side].get(f"{pair}-{side}") for side in (0, 1)]
        updates = rig.mutations(endpoint_id)
        assert len(updates) == 1, (pair, [update.body for update in updates])
        writer = updates[0].body["autoscalingPolicy"]["maxReplica"] - 4
        assert condition(both[writer], "Synced") == ("True", "Applied")
        assert condition(both[1 - writer], "Stalled") == CONFLICT
        tie = both[0]["metadata"]["creationTimestamp"] == both[1]["metadata"]["creationTimestamp"]
        first = both.index(min(both, key=seniority))
        ties, by_uid = ties + tie, by_uid + (tie and writer == first)
        if not (tie and working):  # of two of one second, one may have written before the other was there
            assert writer == first
        told = message(both[1 - writer], "Stalled")
        assert (f'"{pair}-{writer}"' in told) == (found.rigs[0] is found.rigs[1])
        assert found.rigs[writer].namespace not in told
    rows = [
        ("pairs", PAIRS),
        ("updates", PAIRS),
        ("created within one second", ties),
        ("of these the lower uid", by_uid),
    ]
    show(f"{PAIRS} pairs, {kind}, {'running' if working else 'started later'}", ("", "figure"), rows)
    assert verbs(rig) <= {"get", "list", "watch", "patch"}
    for each in set(map(id, found.rigs)):
        shown = next(one for one in found.rigs if id(one) == each)
        assert shown.secrets_shown() == []


def all_of(found: Place) -> list[dict[str, Any]]:
    one, other = found.rigs
    return [*one.list(), *([] if one is other else other.list())]


def stalled(found: Place) -> int:
    return sum(condition(each, "Stalled") == CONFLICT for each in all_of(found))


def synced(found: Place) -> int:
    return sum(condition(each, "Synced") == ("True", "Applied") for each in all_of(found))


def verbs(rig: Rig) -> set[str]:
    """What the operator has done with resources: nothing that its role would not allow."""
    audit.settle(rig.plane)
    return {
        str(event["verb"])
        for event in audit.audit_events(rig.plane.audit_log)
        if event["user"]["username"] == "operator" and event.get("objectRef", {}).get("resource") == PLURAL
    }


@pytest.mark.covers("E4")
@pytest.mark.parametrize("how", ["deleted", "only observing"])
@pytest.mark.parametrize("kind", ["one namespace", "two shards"])
def test_the_loser_takes_over_when_nothing_of_the_winner_can_arrive_any_more(
    place: Callable[[str], Place], kind: str, how: str
) -> None:
    found = place(kind)
    rig, endpoint_id = found.rigs[0], found.rigs[0].endpoint("friendli")
    found.start()
    found.create(0, "winner", spec_of("friendli", endpoint_id, SENIOR_SIZE))
    rig.wait("winner")
    time.sleep(1.1)  # creation times are in seconds
    found.create(1, "loser", spec_of("friendli", endpoint_id, JUNIOR_SIZE))
    rig.wait("loser", "Stalled", reason="Conflict")
    left = time.monotonic()
    if how == "deleted":
        rig.delete("winner")
    else:
        rig.merge("winner", {"spec": {"managementPolicy": "Observe"}})
    rig.wait("loser", "Synced", "False", "Waiting")
    rig.wait("loser")
    time.sleep(2.2 * FLAGS["poll-seconds"])
    updates = rig.mutations(endpoint_id)
    waited = updates[-1].at - left
    show(
        f"handover, {kind}, {how}", ("", "seconds"), [("Q", QUIET_SECONDS), ("until the loser wrote", f"{waited:.2f}")]
    )
    assert [update.body["autoscalingPolicy"]["maxReplica"] for update in updates] == [SENIOR_SIZE, JUNIOR_SIZE]
    assert QUIET_SECONDS <= waited < QUIET_SECONDS + SLACK_SECONDS


@pytest.mark.covers("G6")
def test_a_resource_created_anew_writes_when_nothing_of_its_predecessor_can_arrive_any_more(rig: Rig) -> None:
    endpoint_id = rig.endpoint("friendli")
    rig.start(**FLAGS)
    rig.apply("again", spec_of("friendli", endpoint_id, SENIOR_SIZE))
    before = rig.wait("again")
    deleted = time.monotonic()  # the operator may know of it before the request is answered
    rig.delete("again")
    rig.apply("again", spec_of("friendli", endpoint_id, JUNIOR_SIZE))
    after = rig.wait("again")
    updates = rig.mutations(endpoint_id)
    assert before["metadata"]["uid"] != after["metadata"]["uid"]
    assert after["status"]["applied"]["uid"] == after["metadata"]["uid"]
    assert [update.body["autoscalingPolicy"]["maxReplica"] for update in updates] == [SENIOR_SIZE, JUNIOR_SIZE]
    assert updates[-1].at - deleted >= QUIET_SECONDS


@pytest.mark.covers("E4", "F10")
def test_a_key_of_another_account_claims_nothing_and_its_not_found_is_not_a_deletion(rig: Rig) -> None:
    strange = f"{rig.token}-of-another-account"
    rig.emulators.add_account(f"other-{uuid.uuid4().hex[:8]}", [strange])
    endpoint_id = rig.endpoint("friendli")
    rig.secret("another", token=strange)
    rig.start(**FLAGS)
    rig.apply("stranger", spec_of("friendli", endpoint_id, 9, credentialsSecretRef={"name": "another"}))
    rig.wait("stranger", "Stalled", reason="EndpointNotFound")
    time.sleep(1.1)
    rig.apply("owner", spec_of("friendli", endpoint_id, SENIOR_SIZE))
    rig.wait("owner")
    rig.secret("key", token=strange)
    lost = rig.wait("owner", "Stalled", reason="EndpointNotFound")
    assert condition(lost, "Synced") == ("False", "EndpointNotFound")
    assert lost["status"]["applied"]["uid"] == lost["metadata"]["uid"]
    rig.secret("key", token=rig.token)
    rig.wait("owner")
    time.sleep(2.2 * FLAGS["poll-seconds"])
    assert [update.body["autoscalingPolicy"]["maxReplica"] for update in rig.mutations(endpoint_id)] == [SENIOR_SIZE]
    assert rig.emulators.get_endpoint("friendli", endpoint_id)["deleted"] is False
