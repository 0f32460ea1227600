"""Two hundred answers lost in all ways at once, and the process killed among them: one version each, all settled."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from fleet import wait_for_all
from rig import QUICK, Rig, wait_for
from tally import show
from trials import ANSWERED, APPLIED, CHANGES, LOST, UNVERIFIED, Trial, assert_holds, change, settled

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

MANY = 200
KILLED_AFTER = MANY // 3
SEED = 20260101
SECONDS = 180.0
READS_LAG = 1.0


def sent(rig: Rig, trials: list[Trial]) -> dict[str, list[bool]]:
    """For each trial, which of the updates for its change took effect."""
    first = {trial.endpoint_id: True for trial in trials}
    found: dict[str, list[bool]] = {trial.endpoint_id: [] for trial in trials}
    for entry in rig.emulators.mutations():
        if entry.endpoint_id in found:
            if not first[entry.endpoint_id]:
                found[entry.endpoint_id].append(entry.committed)
            first[entry.endpoint_id] = False
    return {trial.name: found[trial.endpoint_id] for trial in trials}


@pytest.mark.covers("A3", "B1", "B2", "B3", "B9", "C2", "C10")
def test_two_hundred_lost_answers_and_a_kill_make_one_version_each(rig: Rig) -> None:
    chance = random.Random(SEED)  # noqa: S311 - a schedule, not a secret
    process = rig.start("--max-rollouts", "0")
    trials = settled(rig, [(chance.choice(list(CHANGES)), chance.choice(LOST + ANSWERED)) for _ in range(MANY)])
    for trial in trials:
        lag = trial.trouble.knobs or ({"read_lag_seconds": READS_LAG} if chance.random() < 1 / 3 else {})
        rig.emulators.set_knobs(trial.provider, trial.endpoint_id, **lag)
        if trial.trouble.fault:
            rig.emulators.add_fault(trial.fault())
    change(rig, trials)
    wait_for(lambda: sum(map(bool, sent(rig, trials).values())) >= KILLED_AFTER, what="updates to be under way")
    process.kill()
    rig.start("--max-rollouts", "0")
    seen = wait_for_all(rig, [trial.name for trial in trials], seconds=SECONDS)
    time.sleep(QUICK["settle-seconds"])
    updates, synced = sent(rig, trials), {trial.name: rig.condition(trial.name, "Synced") for trial in trials}
    tell(trials, updates, seen)
    assert Counter(sum(each) for each in updates.values()) == {1: MANY}
    assert max(map(len, updates.values())) <= 2
    for trial in trials:
        assert synced[trial.name] in ((APPLIED, UNVERIFIED) if trial.kind == "write-only" else (APPLIED,))
        assert_holds(rig, trial)


def tell(trials: list[Trial], updates: dict[str, list[bool]], seen: dict[str, float]) -> None:
    rows, whole = list[tuple[object, ...]](), [outcome for each in updates.values() for outcome in each]
    for name in dict.fromkeys(trial.trouble.name for trial in trials):
        group = [trial for trial in trials if trial.trouble.name == name]
        outcomes = [outcome for trial in group for outcome in updates[trial.name]]
        slowest = max(seen[trial.name] - trial.began for trial in group)
        rows.append((name, len(group), len(outcomes), sum(outcomes), f"{slowest:.1f} s"))
    rows.append(("all", len(trials), len(whole), sum(whole), ""))
    show(f"{MANY} changes, and one kill among them", ("trouble", "changes", "sent", "committed", "slowest"), rows)
