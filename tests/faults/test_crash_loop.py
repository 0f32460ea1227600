"""A process that is killed again and again while people edit: never a version too many, never an older one later."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from fleet import wait_for_all
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.ledger import Entry
from rig import Rig, spec_of
from tally import show

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

PROVIDERS = ("friendli", "novita")
SECONDS = 45.0
ALIVE = (0.2, 5.0)
"""Seconds of work between a start and a kill; what a predecessor left undecided takes Q to decide."""

HASTY: dict[str, Any] = {"claim-seconds": 0.5, "request-timeout-seconds": 1, "settle-seconds": 1.5}

EDIT_EVERY = 0.7
SEED = 20260102


def step_of(entry: Entry) -> tuple[int, int]:
    """The step that an update carries, from each of two fields of it."""
    if entry.provider == "friendli":
        policy = entry.body["autoscalingPolicy"]
        return policy["maxReplica"], policy["cooldownPeriod"] - 300
    workers = entry.body["workerConfig"]
    return int(workers["maxNum"]), int(workers["freeTimeout"]) - 300


def spec(provider: str, endpoint_id: str, step: int) -> dict[str, Any]:
    scaling = {"minReplicas": 0, "maxReplicas": step % 9 + 1, "cooldownSeconds": 300 + step % 9 + 1 + 100 * (step // 9)}
    return spec_of(provider, endpoint_id, scaling=scaling)


@pytest.mark.covers("A8", "E6")
def test_a_crash_loop_makes_no_version_too_many_and_none_out_of_order(rig: Rig) -> None:
    # One for each thread: how two threads take turns at one generator repeats with no seed.
    trouble_chance, kill_chance = random.Random(SEED), random.Random(SEED + 1)  # noqa: S311 - schedules, no secrets
    ids = {f"{provider}-{number}": rig.endpoint(provider) for provider in PROVIDERS for number in range(3)}
    steps = dict.fromkeys(ids, 0)
    over = threading.Event()

    def edit() -> None:
        while not over.wait(EDIT_EVERY):
            for name, endpoint_id in ids.items():
                steps[name] += 1
                rig.apply(name, spec(name.split("-")[0], endpoint_id, steps[name]))
                if trouble_chance.random() < 1 / 3:
                    trouble = trouble_chance.choice([Fault(delivery="reset"), Fault(commit="never", delivery="reset")])
                    rig.emulators.add_fault(
                        Fault(**{**trouble.as_json(), "operation": "update", "endpoint_id": endpoint_id})
                    )

    for name, endpoint_id in ids.items():
        rig.apply(name, spec(name.split("-")[0], endpoint_id, 1))
        steps[name] = 1
    process = rig.start(**HASTY)
    wait_for_all(rig, list(ids))
    people = threading.Thread(target=edit)
    people.start()
    began, kills = time.monotonic(), 0
    while time.monotonic() - began < SECONDS:
        time.sleep(kill_chance.uniform(*ALIVE))
        process.kill()
        kills += 1
        process = rig.start(**HASTY)
    over.set()
    people.join()
    rig.emulators.clear_faults()
    wait_for_all(rig, list(ids), seconds=90)
    rows = []
    for name, endpoint_id in ids.items():
        updates = rig.mutations(endpoint_id)
        committed = [update for update in updates if update.committed]
        carried = [step_of(update) for update in committed]
        rows.append((name, steps[name], len(updates), len(committed)))
        assert len(committed) <= steps[name]
        order = [cooldown for _, cooldown in carried]
        assert order == sorted(set(order)), "each later update carries a later spec"
        assert all(cooldown % 100 == most for most, cooldown in carried), "no update mixes two specs"
        assert carried[-1][1] == spec(name.split("-")[0], endpoint_id, steps[name])["scaling"]["cooldownSeconds"] - 300
    assert sum(int(str(row[3])) for row in rows) > 3 * len(rows), "something happened between the kills"
    show(f"{kills} kills in {SECONDS:g} s", ("resource", "edits", "sent", "committed"), rows)
