"""A process that dies in the middle of many rollouts: its successor begins none beyond the brake."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fleet import wait_for_all
from inference_operator.playground.emulators.accounts import fingerprint
from rig import QUICK, Rig, spec_of, wait_for
from tally import show

EDITED = 60
BRAKE = 25
"""The default of --max-rollouts."""

ENDLESS, SHORT = 3600.0, 1.0
"""Seconds that rollouts take: before the test ends them, and after."""

FLAGS: Mapping[str, Any] = {
    **QUICK,
    "claim-seconds": 5,
    "request-timeout-seconds": 8,
    "settle-seconds": 8,
    "poll-seconds": 10,
}
PATIENCE_SECONDS = 120.0
READS = 3
"""Requests of a whole look."""


def test_a_restart_in_the_middle_of_sixty_edits_keeps_the_brake(rig: Rig) -> None:
    process = rig.start(**FLAGS)
    names = {f"r-{number:03d}": rig.endpoint("friendli") for number in range(EDITED)}
    edit(rig, names, 1)
    wait_for_all(rig, names, seconds=PATIENCE_SECONDS)
    pace(rig, names, ENDLESS)
    edit(rig, names, 4)
    wait_for(lambda: committed(rig, names) >= BRAKE, what="as many rollouts as the brake allows", seconds=90)
    process.kill()
    killed, before = time.monotonic(), committed(rig, names)
    rig.start(**FLAGS)
    wait_for(lambda: all_seen(rig, names, killed), what="two looks at every endpoint", seconds=PATIENCE_SECONDS)
    held = committed(rig, names)
    pace(rig, names, SHORT)
    for endpoint_id in rolling(rig, names).values():
        rig.emulators.set_endpoint("friendli", endpoint_id, state="RUNNING")
    wait_for_all(rig, names, "Ready", seconds=PATIENCE_SECONDS)
    peak = rig.emulators.peak_transitions()[fingerprint(rig.token)]
    rows = [
        ("resources edited", EDITED),
        ("updates before the process was killed", before),
        ("updates while these were under way", held),
        ("endpoints in transition at once", peak),
        ("the brake", BRAKE),
        ("seconds from the kill until all were in sync", f"{time.monotonic() - killed:.1f}"),
    ]
    show(f"{EDITED} edits, kill -9 in the middle", ("", "figure"), rows)
    assert (held, peak) == (BRAKE, BRAKE)
    assert [len(rig.mutations(endpoint_id)) for endpoint_id in names.values()] == [1] * EDITED


def all_seen(rig: Rig, names: Mapping[str, str], since: float) -> bool:
    """Whether each has been looked at twice since then, so that whoever would write has written."""
    time.sleep(0.5)
    looks = Counter(each.endpoint_id for each in rig.emulators.reads() if each.at > since)
    return all(looks[endpoint_id] >= 2 * READS for endpoint_id in names.values())


def pace(rig: Rig, names: Mapping[str, str], seconds: float) -> None:
    for endpoint_id in names.values():
        rig.emulators.set_knobs("friendli", endpoint_id, rollout_seconds=seconds)


def rolling(rig: Rig, names: Mapping[str, str]) -> dict[str, str]:
    """Those that have been updated."""
    return {name: endpoint_id for name, endpoint_id in names.items() if rig.committed(endpoint_id)}


def edit(rig: Rig, names: dict[str, str], most: int) -> None:
    """All at once, as far as the API server goes along."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: rig.apply(item[0], spec_of("friendli", item[1], most)), names.items()))


def committed(rig: Rig, names: dict[str, str]) -> int:
    ours = set(names.values())
    return sum(entry.committed for entry in rig.emulators.mutations() if entry.endpoint_id in ours)
