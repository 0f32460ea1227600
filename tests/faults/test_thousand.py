"""A thousand resources: a provider that goes and comes back, and a restart beside a fleet that is in sync."""

from __future__ import annotations

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

PROVIDER = "friendli"
MANY = 1000
RATE = 80.0
"""Calls per second."""

BURST = 20
CALLS = 7
"""Calls for one change: a look of three reads, the update, and the look that settles it."""

AWAY_SECONDS = 10.0
SLACK = 1.5
WINDOW_SECONDS = 10.0
TRANSIT_SECONDS = 1.0
"""How much longer one call may be on its way than another; their arrival is what is measured."""

AS_IT_IS = {"autoscalingPolicy": {"minReplica": 0, "maxReplica": 2, "cooldownPeriod": 300}}
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


def name(number: int) -> str:
    return f"{PROVIDER}-{number}"


def endpoint(rig: Rig, number: int) -> str:
    return f"ep-{rig.namespace}-{number}"


def apply_all(rig: Rig, most: int) -> None:
    def apply(number: int) -> None:
        rig.apply(name(number), spec_of(PROVIDER, endpoint(rig, number), most))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(apply, range(MANY)))


def arrivals(rig: Rig, after: float) -> list[float]:
    return [entry.at for entry in rig.emulators.ledger(provider=PROVIDER) if entry.at > after and not entry.foreign]


def peak(moments: Sequence[float], seconds: float) -> int:
    """The most that fell into any window of this length."""
    most, start = 0, 0
    for end, moment in enumerate(moments):
        while moment - moments[start] > seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


def peaks_within_budget(rig: Rig, since: float) -> list[int]:
    """The most calls in a second and in a window that is long enough to be held against the budget, which it keeps."""
    moments = arrivals(rig, since)
    peaks = [peak(moments, seconds) for seconds in (1.0, WINDOW_SECONDS)]
    assert peaks[1] <= RATE * (WINDOW_SECONDS + TRANSIT_SECONDS) + BURST
    return peaks


def seconds_until_all_are_synced(rig: Rig, since: float, limit: float) -> float:
    return max(wait_for_all(rig, [name(number) for number in range(MANY)], seconds=limit).values()) - since


@pytest.mark.covers("C14", "A12")
def test_a_provider_that_comes_back_is_not_overrun_and_a_restart_costs_nothing(rig: Rig) -> None:
    ids = [endpoint(rig, number) for number in range(MANY)]
    for endpoint_id in ids:
        rig.emulators.create_endpoint(PROVIDER, endpoint_id, rig.namespace, spec=AS_IT_IS)
    apply_all(rig, 2)
    process = rig.start(**FLAGS)
    seconds_until_all_are_synced(rig, time.monotonic(), 300)
    meter = Meter(rig, ids)

    process.pause()  # while the changes are made, so that the provider is away for a time that is known
    apply_all(rig, 3)
    rig.emulators.add_fault(Fault(provider=PROVIDER, status=503, commit="never", count=None))
    process.resume()
    time.sleep(AWAY_SECONDS)
    rig.emulators.clear_faults()
    back = time.monotonic()
    bound = SLACK * MANY * CALLS / RATE
    took = seconds_until_all_are_synced(rig, back, 2 * bound)
    header = ("provider", "changes", "peak in 1 s", f"in {WINDOW_SECONDS:g} s", "converged in", "bound")
    show(
        "A provider comes back",
        header,
        [(PROVIDER, MANY, *peaks_within_budget(rig, back), f"{took:.1f} s", f"{bound:.1f} s")],
    )
    assert meter.spent().mutations == MANY + refused(rig, ids)
    assert took <= bound

    assert process.terminate() == 0
    meter.spent()
    since = time.monotonic()
    rig.start(**FLAGS)
    wait_for(lambda: all_are_looked_at(rig, since), what="all to be looked at", seconds=300)
    time.sleep(5)
    cost = meter.spent()
    row = (MANY, cost.mutations, cost.writes, *peaks_within_budget(rig, since))
    show("A restart", ("resources", "updates", "Kubernetes writes", "peak in 1 s", f"in {WINDOW_SECONDS:g} s"), [row])
    assert (cost.mutations, cost.writes, cost.events, cost.others) == (0, 0, 0, 0)


def refused(rig: Rig, ids: Sequence[str]) -> int:
    """Updates that met the provider while it was away."""
    wanted = set(ids)
    return sum(not entry.committed for entry in rig.emulators.mutations() if entry.endpoint_id in wanted)


def all_are_looked_at(rig: Rig, since: float) -> bool:
    looks = rig.emulators.ledger(provider=PROVIDER)
    return len({entry.endpoint_id for entry in looks if entry.at > since and entry.endpoint_id}) == MANY
