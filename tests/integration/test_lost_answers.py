"""A change whose answer is lost makes one version, whatever became of it, and is then reported as it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from fleet import wait_for_all
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.ledger import Entry
from rig import QUICK, Rig, condition, wait_for
from tally import show
from trials import (
    ANSWERED,
    APPLIED,
    CHANGES,
    HEADER,
    LOST,
    REST,
    Trial,
    Trouble,
    assert_holds,
    change,
    expected,
    settled_trials,
    took,
    verdicts,
)

SETTLE = float(QUICK["settle-seconds"])


@pytest.mark.covers("B1", "B2", "B3", "B9", "C2", "C10")
def test_every_lost_answer_leads_to_one_version_and_to_synced_without_help(rig: Rig) -> None:
    rig.start()
    trials = settled_trials(rig, LOST + ANSWERED)
    for trial in trials:
        if trial.trouble.knobs:
            rig.emulators.set_knobs(trial.provider, trial.endpoint_id, **trial.trouble.knobs)
        if trial.trouble.fault:
            rig.emulators.add_fault(trial.fault())
    change(rig, trials)
    seen = wait_for_all(rig, [trial.name for trial in trials])
    assert verdicts(rig, trials, seen) == {trial.case: expected(trial) for trial in trials}
    for trial in trials:
        assert_holds(rig, trial)


DEATHS = [
    Trouble("killed after the commit", Fault(gate_after="after")),
    Trouble("killed, lands after the restart", Fault(gate_before="before")),
    Trouble("killed, never lands", Fault(gate_before="lost", commit="never"), sent=2),
]


@pytest.mark.covers("A3", "B3")
def test_an_operator_that_is_killed_at_the_commit_goes_on_where_it_was(rig: Rig) -> None:
    process = rig.start()
    trials = settled_trials(rig, DEATHS)
    for trial in trials:
        rig.emulators.add_fault(trial.fault())
    change(rig, trials)
    for gate in ("after", "before", "lost"):
        rig.emulators.wait_for_gate(gate, requests=len(CHANGES))
    process.kill()
    rig.emulators.release_gate("after")
    rig.emulators.release_gate("lost")
    rig.start()
    time.sleep(1)
    undecided = [trial for trial in trials if not trial.trouble.name.startswith("killed after")]
    assert {rig.condition(trial.name, "Synced") for trial in undecided} == {("Unknown", "WriteUndecided")}
    rig.emulators.release_gate("before")
    seen = wait_for_all(rig, [trial.name for trial in trials])
    assert verdicts(rig, trials, seen) == {trial.case: expected(trial) for trial in trials}


UNREADABLE = {
    "502": (Fault(status=502), None, ("True", "Retrying")),
    "401": (Fault(status=401), ("True", "CredentialsRejected"), None),
    "404": (Fault(status=404), ("True", "EndpointNotFound"), None),
}
"""How reads fail, and what is Stalled and Reconciling meanwhile."""


@pytest.mark.covers("B1", "C2", "C4", "C5")
def test_an_undecided_write_stays_so_while_nothing_can_be_read(rig: Rig) -> None:
    fates = {"after": Fault(gate_after="undecided", delivery="reset")}
    fates["before"] = replace(fates["after"], commit="never")
    troubles = {
        Trouble(f"reset {fate} the commit, then {failure}", fault, sent=1 if fate == "after" else 2): failure
        for fate, fault in fates.items()
        for failure in UNREADABLE
    }
    rig.start()
    trials = settled_trials(rig, list(troubles))
    for trial in trials:
        rig.emulators.add_fault(trial.fault())
    change(rig, trials)
    rig.emulators.wait_for_gate("undecided", requests=len(trials))
    for trial in trials:
        failure = UNREADABLE[troubles[trial.trouble]][0]
        rig.emulators.add_fault(replace(failure, method="GET", endpoint_id=trial.endpoint_id, count=None))
    rig.emulators.release_gate("undecided")
    time.sleep(SETTLE + REST)
    for trial in trials:
        resource, (_, stalled, reconciling) = rig.get(trial.name), UNREADABLE[troubles[trial.trouble]]
        assert len(rig.mutations(trial.endpoint_id)) == 2
        assert condition(resource, "Synced") == ("Unknown", "WriteUndecided")
        assert (condition(resource, "Stalled"), condition(resource, "Reconciling")) == (stalled, reconciling)
    rig.emulators.clear_faults()
    seen = wait_for_all(rig, [trial.name for trial in trials])
    assert verdicts(rig, trials, seen) == {trial.case: expected(trial) for trial in trials}


ON, BACK = 2, 0
MINDS = {
    Trouble("reset after the commit, then on", Fault(delivery="reset")): (ON, 2, 2),
    Trouble("reset after the commit, then back", Fault(delivery="reset")): (BACK, 2, 2),
    Trouble("reset before the commit, then on", Fault(commit="never", delivery="reset")): (ON, 2, 1),
    Trouble("reset before the commit, then back", Fault(commit="never", delivery="reset")): (BACK, 1, 0),
    Trouble("lands late, then on", Fault(commit="late", late_seconds=1.5, delivery="reset")): (ON, 2, 2),
    Trouble("lands late, then back", Fault(commit="late", late_seconds=1.5, delivery="reset")): (BACK, 2, 2),
}
"""What befalls a write, which step of the spec follows while it is undecided, and the updates sent and committed."""


def is_sent(rig: Rig, trial: Trial) -> bool:
    return len(rig.mutations(trial.endpoint_id)) == 2


@pytest.mark.covers("E5", "B3")
def test_a_change_of_mind_waits_for_the_undecided_write_and_wins(rig: Rig) -> None:
    rig.start()
    trials = settled_trials(rig, list(MINDS))
    for trial in trials:
        rig.emulators.add_fault(trial.fault())
    change(rig, trials)
    for trial in trials:
        wait_for(partial(is_sent, rig, trial), what="the first change to be sent")
        trial.step = MINDS[trial.trouble][0]
    change(rig, trials)
    seen = wait_for_all(rig, [trial.name for trial in trials])
    assert verdicts(rig, trials, seen) == {trial.case: (*MINDS[trial.trouble][1:], APPLIED) for trial in trials}
    for trial in trials:
        assert_holds(rig, trial, changes=MINDS[trial.trouble][2])


@pytest.mark.covers("C10")
def test_a_change_waits_while_reads_fall_back_behind_the_last_one(rig: Rig) -> None:
    rig.start()
    trials = settled_trials(rig, [Trouble("reads fall back", knobs={"read_lag_seconds": SETTLE - 0.5})])
    for trial in trials:
        rig.emulators.set_knobs(trial.provider, trial.endpoint_id, **trial.trouble.knobs)
    change(rig, trials)
    seen = wait_for_all(rig, [trial.name for trial in trials])
    assert verdicts(rig, trials, seen) == {trial.case: expected(trial) for trial in trials}
    for trial in trials:
        first, second = rig.mutations(trial.endpoint_id)
        assert second.at - first.at > SETTLE - 0.5
        assert_holds(rig, trial)


CLAMP = 4
CLAMPED = [Trouble("answered"), Trouble("reset", Fault(delivery="reset"))]


@pytest.mark.covers("C16")
def test_a_clamped_value_is_sent_once_and_then_needs_a_human(rig: Rig) -> None:
    rig.start()
    trials = [trial for trial in settled_trials(rig, CLAMPED) if trial.kind != "write-only"]
    for trial in trials:
        rig.emulators.set_knobs(trial.provider, trial.endpoint_id, clamp_replicas=CLAMP)
        if trial.trouble.fault:
            rig.emulators.add_fault(trial.fault())
        rig.apply(trial.name, trial.spec(CLAMP))
    wait_for_all(rig, [trial.name for trial in trials], "Stalled", "True", "NotConverging")
    time.sleep(REST)
    for trial in trials:
        resource = rig.get(trial.name)
        assert condition(resource, "Synced") == condition(resource, "Ready") == ("False", "NotConverging")
        assert resource["status"]["applied"]["observed"] == {"scaling.maxReplicas": str(CLAMP)}
        assert_all_different(rig.mutations(trial.endpoint_id), 2)
        rig.apply(trial.name, trial.spec(1))
    wait_for_all(rig, [trial.name for trial in trials])
    for trial in trials:
        assert_all_different(rig.mutations(trial.endpoint_id), 3)


ONE_BY_ONE = [
    Trouble("nothing"),
    Trouble("reset after the commit", Fault(delivery="reset")),
    Trouble("reset before the commit", Fault(commit="never", delivery="reset"), sent=2),
]
BURST = 4


@pytest.mark.covers("E1", "E6")
def test_two_operators_at_once_make_one_version_for_each_change(rig: Rig) -> None:
    for process in [rig.start(wait=False), rig.start(wait=False)]:
        wait_for(partial(rig.is_working, process), what="both to work", log=process.log)
    trials, rows = settled_trials(rig, [Trouble("two operators")]), list[tuple[object, ...]]()
    for step, trouble in enumerate(ONE_BY_ONE, start=1):
        for trial in trials:
            trial.trouble, trial.step = trouble, step
            if trouble.fault:
                rig.emulators.add_fault(trial.fault())
        change(rig, trials)
        seen = wait_for_all(rig, [trial.name for trial in trials])
        for trial in trials:
            updates = [update for update in rig.mutations(trial.endpoint_id) if update.at > trial.began]
            committed = sum(update.committed for update in updates)
            rows.append((" ".join(trial.case), len(updates), committed, took(trial, seen), ""))
            assert (len(updates), committed) == (trouble.sent, 1)
    show("Two operators, one change after the other", HEADER, rows)
    changes_faster_than_they_can_follow_end_in_the_last(rig, trials)


def changes_faster_than_they_can_follow_end_in_the_last(rig: Rig, trials: list[Trial]) -> None:
    before = {trial.name: rig.committed(trial.endpoint_id) for trial in trials}
    for _ in range(BURST):
        for trial in trials:
            trial.step += 1
        change(rig, trials)
    wait_for_all(rig, [trial.name for trial in trials])
    time.sleep(SETTLE + REST)
    for trial in trials:
        updates = [update for update in rig.mutations(trial.endpoint_id) if update.committed]
        assert 1 <= len(updates) - before[trial.name] <= BURST
        assert_all_different(updates, len(updates))
        resource = rig.get(trial.name)
        assert resource["status"]["applied"]["generation"] == resource["metadata"]["generation"]


def assert_all_different(updates: Sequence[Entry], count: int) -> None:
    """So many updates, all committed, no two of which carry the same change."""
    assert [update.committed for update in updates] == [True] * count
    changes = {repr({key: value for key, value in each.body.items() if key != "newVersionComment"}) for each in updates}
    assert len(changes) == count
