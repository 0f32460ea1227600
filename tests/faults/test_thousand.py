"""A thousand resources: a provider that goes and comes back, and a restart beside a fleet that is in sync."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fleet import wait_for_all
from inference_operator.playground.emulators.faults import Fault
from rig import Rig, spec_of, wait_for
from tally import Meter, show

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

MANY = {"friendli": 1000}
RATE = 80.0
"""Calls per second."""

BURST = 20
CALLS = {"friendli": 7}
"""Calls for one change: a look of three reads, the update, and the look that settles it."""

AWAY_SECONDS = 10.0
SLACK = 1.5
WINDOW_SECONDS = 10.0
TRANSIT_SECONDS = 1.0
"""How much longer one call may be on its way than another; their arrival is what is measured."""

AS_IT_IS = {"friendli": {"autoscalingPolicy": {"minReplica": 0, "maxReplica": 2, "cooldownPeriod": 300}}}
"""What the endpoints hold before anybody declares them, so that they are adopted without an update."""

FLAGS: dict[str, Any] = {
    "poll-seconds": 60,
    "drift-seconds": 3600,
    "transition-poll-seconds": 5,
    "settle-seconds": 15,
    "request-timeout-seconds": 15,
    "claim-seconds": 15,
    "calls-per-second": RATE,
    "calls-burst": BURST,
    "max-rollouts": 0,
}


def name(provider: str, number: int) -> str:
    return f"{provider}-{number}"


def endpoint(rig: Rig, number: int) -> str:
    return f"ep-{rig.namespace}-{number}"


def apply_all(rig: Rig, most: int) -> None:
    cases = [(provider, number) for provider, many in MANY.items() for number in range(many)]

    def apply(case: tuple[str, int]) -> None:
        provider, number = case
        rig.apply(name(*case), spec_of(provider, endpoint(rig, number), most))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(apply, cases))


def arrivals(rig: Rig, provider: str, after: float) -> list[float]:
    return [entry.at for entry in rig.emulators.ledger(provider=provider) if entry.at > after and not entry.foreign]


def peak(moments: Sequence[float], seconds: float) -> int:
    """The most that fell into any window of this length."""
    most, start = 0, 0
    for end, moment in enumerate(moments):
        while moment - moments[start] > seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


def seconds_until_all_are_synced(rig: Rig, since: float, limit: float) -> dict[str, float]:
    names = [name(provider, number) for provider, many in MANY.items() for number in range(many)]
    seen = wait_for_all(rig, names, seconds=limit)
    return {provider: max(seen[each] for each in names if each.startswith(provider)) - since for provider in MANY}


@pytest.mark.covers("C14", "A12")
def test_a_provider_that_comes_back_is_not_overrun_and_a_restart_costs_nothing(rig: Rig) -> None:
    for provider, many in MANY.items():
        for number in range(many):
            rig.emulators.create_endpoint(provider, endpoint(rig, number), rig.namespace, spec=AS_IT_IS[provider])
    apply_all(rig, 2)
    process = rig.start(**FLAGS)
    seconds_until_all_are_synced(rig, time.monotonic(), 300)
    ids = [endpoint(rig, number) for number in range(max(MANY.values()))]
    meter = Meter(rig, ids)

    process.pause()  # while the changes are made, so that the provider is away for a time that is known
    apply_all(rig, 3)
    for provider in MANY:
        rig.emulators.add_fault(Fault(provider=provider, status=503, commit="never", count=None))
    process.resume()
    time.sleep(AWAY_SECONDS)
    rig.emulators.clear_faults()
    back = time.monotonic()
    bounds = {provider: SLACK * many * CALLS[provider] / RATE for provider, many in MANY.items()}
    took = seconds_until_all_are_synced(rig, back, 2 * max(bounds.values()))
    rows = []
    for provider, many in MANY.items():
        moments = arrivals(rig, provider, back)
        peaks = [peak(moments, seconds) for seconds in (1.0, WINDOW_SECONDS)]
        rows.append((provider, many, *peaks, f"{took[provider]:.1f} s", f"{bounds[provider]:.1f} s"))
        assert peaks[1] <= RATE * (WINDOW_SECONDS + TRANSIT_SECONDS) + BURST
    header = ("provider", "changes", "peak in 1 s", f"in {WINDOW_SECONDS:g} s", "converged in", "bound")
    show("A provider comes back", header, rows)
    assert meter.spent().mutations == sum(MANY.values()) + refused(rig, ids)
    assert {provider: took[provider] <= bounds[provider] for provider in MANY} == dict.fromkeys(MANY, True)

    assert process.terminate() == 0
    meter.spent()
    since = time.monotonic()
    rig.start(**FLAGS)
    wait_for(lambda: all_are_looked_at(rig, since), what="all to be looked at", seconds=300)
    time.sleep(5)
    cost = meter.spent()
    show(
        "A restart", ("resources", "updates", "Kubernetes writes"), [(sum(MANY.values()), cost.mutations, cost.writes)]
    )
    assert (cost.mutations, cost.writes, cost.events, cost.others) == (0, 0, 0, 0)


def refused(rig: Rig, ids: Sequence[str]) -> int:
    """Updates that met the provider while it was away."""
    wanted = set(ids)
    return sum(not entry.committed for entry in rig.emulators.mutations() if entry.endpoint_id in wanted)


def all_are_looked_at(rig: Rig, since: float) -> bool:
    looks = itertools.chain.from_iterable(rig.emulators.ledger(provider=provider) for provider in MANY)
    seen = {(entry.provider, entry.endpoint_id) for entry in looks if entry.at > since and entry.endpoint_id}
    return len(seen) == sum(MANY.values())
