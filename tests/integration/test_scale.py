"""Many resources at once: exactly one update each, no more rollouts than the brake allows, and no key slows another."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from fleet import wait_for_all
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.accounts import fingerprint
from inference_operator.playground.emulators.control import EmulatorControl
from rig import UNHURRIED, Rig, condition, rigged, spec_of, wait_for
from tally import Meter, show

MANY = 300
BRAKE = 25
"""The default of --max-rollouts."""

BRAKED = 60
ROLLOUT_SECONDS = 1.0
THROTTLED = 10

STEADY = {**UNHURRIED, "poll-seconds": 60, "drift-seconds": 600}
FLAGS: Mapping[str, Mapping[str, Any]] = {
    "unbraked": {**STEADY, "max-rollouts": 0, "log-level": "info"},
    "braked": STEADY,
    "reading": {},
    "keys": {**STEADY, "poll-seconds": 10},
}


@pytest.fixture(scope="module")
def rigs(
    control_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Rig]]:
    """A rig with an operator of its own for each test, and `other`, on which that of `keys` works, too."""
    with ExitStack() as stack:
        made = {
            name: stack.enter_context(rigged(control_plane, emulators, tmp_path_factory.mktemp(name)))
            for name in (*FLAGS, "other")
        }
        arguments = {"reading": ["--read-only"], "keys": ["--namespace", made["other"].namespace]}
        for name, flags in FLAGS.items():
            made[name].start(*arguments.get(name, []), wait=False, **flags)
        working = [made[name] for name in FLAGS]
        wait_for(lambda: all(rig.is_working(rig.processes[-1]) for rig in working), what="the operators to work")
        yield made


def place(rig: Rig, count: int, number: int, **members: Any) -> dict[str, dict[str, Any]]:
    """So many endpoints at Friendli that hold what their resources declare; in sync without an update."""
    specs = {f"r-{each:03d}": spec_of("friendli", rig.endpoint("friendli"), number, **members) for each in range(count)}
    apply(rig, specs)
    return specs


def apply(rig: Rig, specs: Mapping[str, Mapping[str, Any]]) -> None:
    """All at once, as far as the API server goes along."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: rig.apply(*item), specs.items()))


def scaled(specs: Mapping[str, Mapping[str, Any]], most: int) -> dict[str, dict[str, Any]]:
    scaling = {"minReplicas": 0, "maxReplicas": most, "cooldownSeconds": 300}
    return {name: {**spec, "scaling": scaling} for name, spec in specs.items()}


def endpoints(specs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [spec["endpointId"] for spec in specs.values()]


def updates(rig: Rig, ids: Iterable[str]) -> list[int]:
    wanted = dict.fromkeys(ids, 0)
    for entry in rig.emulators.mutations():
        if entry.endpoint_id in wanted:
            wanted[entry.endpoint_id] += 1
    return list(wanted.values())


def await_updates(rig: Rig, count: int) -> None:
    """Wait without asking the API server, which has enough to do."""
    deadline = time.monotonic() + 90
    while rig.emulators.ledger_counts()["committed"] < count and time.monotonic() < deadline:
        time.sleep(0.2)


def test_three_hundred_edits_at_once_are_three_hundred_updates(rigs: dict[str, Rig]) -> None:
    rig = rigs["unbraked"]
    process = rig.processes[-1]
    idle = process.resident_mib
    specs = place(rig, MANY, 1)
    wait_for_all(rig, specs, seconds=90)
    assert sum(updates(rig, endpoints(specs))) == 0
    rig.emulators.reset_ledger()
    meter, cpu, began = Meter(rig, endpoints(specs)), process.cpu_seconds, time.monotonic()
    apply(rig, scaled(specs, 4))
    edited = time.monotonic() - began
    await_updates(rig, MANY)
    wait_for_all(rig, specs, "Ready", seconds=90)
    seconds, cpu = time.monotonic() - began, process.cpu_seconds - cpu
    cost = meter.spent()
    rows = [
        ("resources edited", MANY),
        ("updates at the provider", cost.mutations),
        ("Kubernetes writes per change", f"{cost.writes / MANY:.3f}"),
        ("seconds until all edits were made", f"{edited:.1f}"),
        ("seconds until all were in sync", f"{seconds:.1f}"),
        ("CPU milliseconds of the operator per change", f"{1000 * cpu / MANY:.1f}"),
        ("resident MiB, idle", f"{idle:.0f}"),
        (f"resident MiB, with {MANY} resources", f"{process.resident_mib:.0f}"),
    ]
    show(f"{MANY} edits at once, without a brake", ("", "figure"), rows)
    assert set(updates(rig, endpoints(specs))) == {1}
    assert cost.mutations == MANY
    assert cost.writes <= 2 * MANY


def test_no_more_rollouts_at_once_than_the_brake_allows(rigs: dict[str, Rig]) -> None:
    rig = rigs["braked"]
    specs = place(rig, BRAKED, 1)
    wait_for_all(rig, specs)
    for endpoint_id in endpoints(specs):
        rig.emulators.set_knobs("friendli", endpoint_id, rollout_seconds=ROLLOUT_SECONDS)
    began = time.monotonic()
    apply(rig, scaled(specs, 4))
    wait_for_all(rig, specs, "Ready", seconds=90)
    peak = rig.emulators.peak_transitions()[fingerprint(rig.token)]
    rows = [
        ("resources edited", BRAKED),
        ("endpoints in transition at once", peak),
        ("the brake", BRAKE),
        ("seconds until all were in sync", f"{time.monotonic() - began:.1f}"),
        ("seconds that the rollouts need at least", f"{ROLLOUT_SECONDS * -(-BRAKED // BRAKE):.1f}"),
    ]
    show(f"{BRAKED} edits at once, rollouts of {ROLLOUT_SECONDS:g} s", ("", "figure"), rows)
    assert 1 < peak <= BRAKE
    assert set(updates(rig, endpoints(specs))) == {1}


def test_reading_writes_nothing_and_reports_what_differs(rigs: dict[str, Rig]) -> None:
    reading, managing = rigs["reading"], rigs["keys"]
    cases = {"--read-only": (reading, {}), "Observe": (managing, {"managementPolicy": "Observe"})}
    rows = []
    for case, (rig, members) in cases.items():
        for provider in ("friendli", "novita"):
            name, endpoint_id = f"reading-{provider}", rig.endpoint(provider)
            rig.apply(name, spec_of(provider, endpoint_id, 5, **members))
            resource = rig.wait(name, "Synced", "False", "Drifted")
            drift = [(each["field"], each["desired"], each["observed"]) for each in resource["status"]["drift"]]
            rows.append((f"{case}, {provider}", sum(updates(rig, [endpoint_id])), drift))
            assert [field for field, _, _ in drift] == ["scaling.maxReplicas"]
            assert drift[0][1] == 5
            assert is_ready(rig, name)
    show("looking only", ("", "updates", "status.drift"), rows)
    assert {count for _, count, _ in rows} == {0}


def is_ready(rig: Rig, name: str) -> bool:
    """The endpoint serves, or sleeps as it may, whatever differs."""
    found = rig.condition(name, "Ready")
    return found is not None and found[0] == "True"


@pytest.mark.covers("C15")
def test_a_throttled_key_does_not_slow_another(rigs: dict[str, Rig]) -> None:
    free, throttled = rigs["keys"], rigs["other"]
    fleets = {rig.namespace: place(rig, THROTTLED, 1) for rig in (free, throttled)}
    mine, theirs = fleets[free.namespace], fleets[throttled.namespace]
    wait_for_all(free, mine)
    wait_for(lambda: _are_synced(throttled), what="the others to be in sync")
    alone = _seconds_to_scale(free, mine, 2)
    throttled.emulators.set_rate(throttled.namespace, 1)
    apply(throttled, scaled(theirs, 3))
    beside = _seconds_to_scale(free, mine, 3)
    held = sum(updates(free, endpoints(theirs)))
    refused = sum(
        entry.status == 429 for entry in free.emulators.ledger() if entry.endpoint_id in set(endpoints(theirs))
    )
    throttled.emulators.set_rate(throttled.namespace, 0)
    wait_for(lambda: _are_synced(throttled), what="the others to be in sync, now that they may")
    rows = [
        ("seconds alone", f"{alone:.2f}"),
        ("seconds beside the throttled key", f"{beside:.2f}"),
        ("requests of the throttled key that were refused", refused),
        ("its updates meanwhile", held),
    ]
    show(f"{THROTTLED} edits under one key", ("", "figure"), rows)
    assert refused > 0
    assert held < THROTTLED
    assert beside < 3 * alone + 2
    assert set(updates(free, endpoints(mine))) == {2}
    assert set(updates(free, endpoints(theirs))) == {1}


def _are_synced(rig: Rig) -> bool:
    """For a rig on which the operator of another one works."""
    return all(
        condition(each, "Synced") in {("True", "Applied"), ("True", "Matched")}
        and each["status"]["observedGeneration"] == each["metadata"]["generation"]
        for each in rig.list()
    )


def _seconds_to_scale(rig: Rig, specs: Mapping[str, Mapping[str, Any]], most: int) -> float:
    began = time.monotonic()
    apply(rig, scaled(specs, most))
    wait_for_all(rig, specs)
    return time.monotonic() - began
