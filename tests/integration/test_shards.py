"""Shards: each resource is handled by the one of its label, while shards come, go and stop and resources move.

Run the same with ten thousand resources by `uv run pytest -n0 -s -m nightly tests/integration/test_shards.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from inference_operator.kube.scopes import lease_name
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from integration.sharding import (
    DEFAULT,
    USERS,
    Shards,
    at_once,
    in_turns,
    is_part,
    overlapping,
    replicas,
    selector,
)
from rig import condition, rigged, wait_for
from tally import show

NAMED = ("a", "b")
THREE = (DEFAULT, *NAMED)
FEW, MANY = 150, 10_000
STEADY: Mapping[str, Any] = {
    "drift-seconds": 600,
    "claim-seconds": 3,
    "request-timeout-seconds": 5,
    "settle-seconds": 5,
    "max-rollouts": 0,
    "calls-per-second": 100_000,
    "calls-burst": 100_000,
    "workers": 16,
    "log-level": "info",
}
BRISK: Mapping[str, Any] = {"poll-seconds": 1, "claim-seconds": 2, "request-timeout-seconds": 2, "settle-seconds": 2}
QUIET_SECONDS = 6.0
"""Q of `BRISK`."""

PATIENT: Mapping[str, Any] = {**BRISK, "request-timeout-seconds": 10, "settle-seconds": 10}
"""For an update that is held while others do something."""

ALL_HAS_PASSED = QUIET_SECONDS + 2 * BRISK["poll-seconds"]
"""Whoever waits for something before a write has written after so many seconds."""

UPDATE_SECONDS = 0.15
"""What an update takes, so that some are under way whenever resources move."""

POLLS_PER_SECOND = 20
"""What all shards together may spend on endpoints that an autoscaler may move."""

EDITS_EACH_WAY = 20
"""While everything is in one place."""


@pytest.fixture(scope="module")
def plane(programs: Mapping[str, Path]) -> Iterator[ControlPlane]:
    """A control plane that knows each shard by a name of its own."""
    assert programs
    with ControlPlane(users=USERS) as plane:
        yield plane


@pytest.fixture(
    scope="module",
    params=[FEW, pytest.param(MANY, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])],
    ids="{} resources".format,
)
def fleet(
    request: pytest.FixtureRequest,
    plane: ControlPlane,
    emulators: EmulatorControl,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shards]:
    """Three shards with a third of the resources each, in sync and at rest."""
    with rigged(plane, emulators, tmp_path_factory.mktemp("shards")) as rig:
        fleet = Shards(rig, {**STEADY, "poll-seconds": request.param / POLLS_PER_SECOND})
        fleet.create({f"r-{number:05d}": THREE[number % 3] for number in range(request.param)})
        fleet.start(*THREE, named=NAMED)
        fleet.await_synced()
        fleet.await_division()
        yield fleet


@pytest.fixture
def few(plane: ControlPlane, emulators: EmulatorControl, tmp_path: Path) -> Iterator[Shards]:
    """Shards without resources so far."""
    with rigged(plane, emulators, tmp_path) as rig:
        yield Shards(rig, BRISK)


def test_each_change_is_one_version_written_by_the_shard_of_its_label(fleet: Shards) -> None:
    newest = max((entry.seq for entry in fleet.rig.emulators.ledger()), default=0)
    before = {shard: fleet.updates(shard) for shard in THREE}
    began = time.monotonic()
    at_once(fleet.edit, fleet.places)
    fleet.await_synced()
    seconds = time.monotonic() - began
    sent, writers = fleet.sent(after=newest), fleet.writers()
    by_shard = {shard: fleet.updates(shard) - before[shard] for shard in THREE}
    rows = [
        (shard, len(fleet.handled(shard)), by_shard[shard], f"{fleet.working[shard].resident_mib:.0f}")
        for shard in THREE
    ]
    show(f"{len(sent)} changes in {seconds:.0f} s", ("", "handled", "updates sent", "resident MiB"), rows)
    assert {name: [replicas(entry) for entry in entries] for name, entries in sent.items()} == {
        name: wished[-1:] for name, wished in fleet.wishes.items()
    }
    assert by_shard == {shard: len(fleet.members(shard)) for shard in THREE}
    assert writers == {name: [places[-1]] for name, places in fleet.places.items()}
    fleet.await_division()
    holders = {lease: holder for lease, holder in fleet.leases().items() if lease in leases_of(fleet, NAMED).values()}
    assert len(set(holders.values())) == len(THREE)


def leases_of(fleet: Shards, named: tuple[str, ...]) -> dict[str, str]:
    return {shard: lease_name([fleet.rig.namespace], selector(shard, named)) for shard in (DEFAULT, *named)}


def test_nothing_is_written_twice_while_shards_stop_come_and_go_and_resources_move(fleet: Shards) -> None:
    """As the chart's page says: the default shard is stopped while the shards that it leaves the rest to change."""
    newest = max((entry.seq for entry in fleet.rig.emulators.ledger()), default=0)
    before, four = {name: len(wished) for name, wished in fleet.wishes.items()}, (*NAMED, "c")
    moving = {name: places[-1] for number, (name, places) in enumerate(sorted(fleet.places.items())) if number % 7 < 2}
    moving |= {
        name: places[-1] for number, (name, places) in enumerate(sorted(fleet.places.items())) if number % 21 == 2
    }
    fleet.rig.emulators.add_fault(Fault(operation="update", delay_before=UPDATE_SECONDS, count=None))
    began = time.monotonic()
    with fleet.edits(gap=0.02):
        await_edits(fleet, EDITS_EACH_WAY)
        fleet.stop("b")
        await_edits(fleet, 5, fleet.members("b"))
        fleet.stop(DEFAULT)
        fleet.start(DEFAULT, "b", "c", named=four)
        await_edits(fleet, EDITS_EACH_WAY)
        at_once(lambda name: fleet.move(name, "c"), moving)
        fleet.await_division()
        await_edits(fleet, EDITS_EACH_WAY)
        at_once(lambda name: fleet.move(name, moving[name]), moving)
        fleet.await_division()
        fleet.stop("c")
        fleet.stop(DEFAULT)
        fleet.start(DEFAULT, named=NAMED)
        await_edits(fleet, EDITS_EACH_WAY)
    fleet.rig.emulators.clear_faults()
    fleet.await_synced()
    seconds = time.monotonic() - began
    sent, wished = fleet.sent(after=newest), {name: made[before[name] :] for name, made in fleet.wishes.items()}
    rows = [
        ("resources", len(fleet.places)),
        ("moved to the fourth shard and back", len(moving)),
        ("edits", sum(map(len, wished.values()))),
        ("updates at the provider", sum(map(len, sent.values()))),
        ("resources whose status the fourth shard wrote", sum("c" in turns for turns in fleet.writers().values())),
        ("seconds", f"{seconds:.0f}"),
    ]
    show("Edits while shards stop, come and go", ("", "figure"), rows)
    assert len(moving) == pytest.approx(len(fleet.places) / 3, abs=2)
    assert {name: [replicas(entry) for entry in entries] for name, entries in sent.items()} == wished
    assert {name: count for name, entries in sent.items() if (count := overlapping(entries))} == {}
    histories = {name: in_turns(places) for name, places in fleet.places.items()}
    assert [turns for name, turns in fleet.writers().items() if not is_part(turns, histories[name])] == []
    assert any(turns[1:2] == ["c"] for turns in fleet.writers().values())
    fleet.await_division()


def await_edits(fleet: Shards, number: int, names: frozenset[str] | None = None) -> None:
    enough = fleet.made(names) + number
    wait_for(lambda: fleet.made(names) >= enough, what=f"{number} edits", seconds=fleet.patience)


def test_a_write_under_way_is_finished_by_its_shard_and_the_next_is_the_other_ones(few: Shards) -> None:
    few.flags = PATIENT
    few.create({f"r-{number}": "a" for number in range(3)})
    few.start(DEFAULT, "a", named=("a",))
    few.await_synced()
    emulators = few.rig.emulators
    emulators.add_fault(Fault(operation="update", gate_after="answer", count=3))
    at_once(few.edit, few.places)
    emulators.wait_for_gate("answer", requests=3)
    at_once(lambda name: few.move(name, DEFAULT), few.places)
    wait_for(lambda: few.handled(DEFAULT) == few.places.keys(), what="the other shard to look")
    emulators.release_gate("answer")
    few.await_synced()
    at_once(few.edit, few.places)
    few.await_synced()
    few.await_division()
    assert {name: [replicas(entry) for entry in entries] for name, entries in few.sent().items()} == few.wishes
    assert {few.updates("a"), few.updates(DEFAULT)} == {3}
    assert [few.handled("a"), few.handled(DEFAULT)] == [set(), few.places.keys()]


def test_a_write_that_a_dead_shard_has_lost_is_sent_again_only_when_it_cannot_arrive_any_more(few: Shards) -> None:
    few.create({"landed": "a", "lost": "a"})
    few.start(DEFAULT, "a", named=("a",))
    few.await_synced()
    emulators = few.rig.emulators
    for name, fault in {
        "landed": Fault(gate_before="request"),
        "lost": Fault(gate_before="request", commit="never"),
    }.items():
        emulators.add_fault(Fault(**{**fault.as_json(), "operation": "update", "endpoint_id": few.endpoints[name]}))
    at_once(few.edit, few.places)
    emulators.wait_for_gate("request", requests=2)
    few.working.pop("a").kill()
    moved = time.monotonic()
    at_once(lambda name: few.move(name, DEFAULT), few.places)
    wait_for(lambda: few.handled(DEFAULT) == few.places.keys(), what="the other shard to look")
    emulators.release_gate("request")
    few.await_synced()
    sent = few.sent()
    waited = sent["lost"][-1].at - moved
    show("A dead shard's update", ("", "seconds"), [("Q", QUIET_SECONDS), ("until it was sent again", f"{waited:.1f}")])
    assert [entry.committed for entry in sent["landed"]] == [True]
    assert [entry.committed for entry in sent["lost"]] == [False, True]
    assert waited >= QUIET_SECONDS
    assert few.updates(DEFAULT) == 1


def test_the_younger_claim_stays_in_conflict_wherever_both_are_and_whoever_is_away(few: Shards) -> None:
    """Whatever leaves a shard looks to it as if it were deleted, which would let the other one take over."""
    few.create({"older": "a"})
    endpoint_id = few.endpoints["older"]
    few.start(DEFAULT, "a", named=("a",))
    few.edit("older")
    few.await_synced()
    time.sleep(1.1)  # times of creation are in seconds
    younger = {**few.rig.get("older")["spec"], "scaling": {"minReplicas": 0, "maxReplicas": 9, "cooldownSeconds": 300}}
    few.rig.apply("younger", younger, labels={})
    few.places["younger"] = [DEFAULT]
    few.rig.wait("younger", "Stalled", reason="Conflict")
    steps: list[tuple[str, float, Callable[[], None]]] = [
        ("the younger one joins the older one's shard", 0, lambda: few.move("younger", "a")),
        ("the older one leaves that shard", 0, lambda: few.move("older", DEFAULT)),
        ("nobody works on the older one", ALL_HAS_PASSED, lambda: few.stop(DEFAULT)),
        ("another process works on the younger one", 0, lambda: restart(few, "a")),
    ]
    for number, (title, seconds, step) in enumerate(steps):
        step()
        few.rig.merge("younger", {"spec": {"scaling": {"cooldownSeconds": 301 + number}}})
        time.sleep(seconds)
        found = few.rig.wait("younger", "Stalled", reason="Conflict")
        newest = found["metadata"]["generation"]
        wait_for(partial(is_refused, few, newest), what=title, state=partial(few.rig.get, "younger"))
    sent = few.rig.mutations(endpoint_id)
    assert [replicas(entry) for entry in sent] == few.wishes["older"]


def is_refused(few: Shards, generation: int) -> bool:
    """Whether the younger one is in conflict, as at every moment, and says so of this generation."""
    found = few.rig.get("younger")
    assert condition(found, "Stalled") == ("True", "Conflict")
    return bool(found["status"]["observedGeneration"] == generation)


def restart(few: Shards, shard: str) -> None:
    few.stop(shard)
    few.start(shard, named=("a",))
