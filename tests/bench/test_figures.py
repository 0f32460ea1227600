from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench.contestants import SUBJECTS
from bench.editing import Edit, Made, changed, evenly, first, ramp, together
from bench.figures import BY_NAME, GOALS, compared, control, judged, objections_to
from bench.observer import AuditLog
from bench.page import plots, render, table
from bench.phases import PHASES, measured
from bench.record import Machine, Result, Run, load, save
from bench.statistics import Verdict
from inference_operator.playground.emulators.ledger import Entry

BLOCKS = 6
SEED = 6
MEDIANS = {"floor": 0.010, "floor2": 0.010, "yardstick": 0.020, "safe": 0.022, "ours": 0.024}
COUNTS = {"mutations": 4, "reads": 8, "reads_before": 8, "writes": 8, "events": 4, "other_writes": 0, "unserved": 0}


def result(block: int, subject: str, seconds: float, **changes: Any) -> Result:
    jitter = 1 + block / 100
    known: dict[str, Any] = {
        "block": block,
        "place": 0,
        "subject": subject,
        "phase": "edit",
        "resources": 300,
        "changes": 4,
        "seconds": 5.0,
        "cpu": 0.04,
        "resident": 90.0,
        "descriptors": 20,
        "others": 0.0,
        "samples": {"request": [seconds * jitter] * 4, "planned": [0.0, 1.0, 2.0, 3.0], "synced": [], "late": []},
        "counts": COUNTS,
    }
    return Result(**known | changes)


def run_of(medians: Mapping[str, float], **changes: Any) -> Run:
    return Run(
        date="2026-01-01T00:00:00+00:00",
        commit="abc",
        command="bench",
        seed=SEED,
        blocks=BLOCKS,
        machine=Machine(cores=4, model="some processor", kernel="Linux 6", memory_gib=8),
        versions={"kube-apiserver": "v1.36.3"},
        subjects=[SUBJECTS[name].profile for name in medians],
        results=[result(block, name, took, **changes) for block in range(BLOCKS) for name, took in medians.items()],
    )


def verdicts(run: Run) -> dict[tuple[str, str | None], Verdict]:
    return {(goal.figure, goal.beside): word for goal, _, word in judged(run)}


def test_ratios_are_taken_inside_each_block() -> None:
    found = compared(run_of(MEDIANS), BY_NAME["request"], ("ours", "edit"), ("safe", "edit"))
    assert found is not None
    assert found.low == pytest.approx(found.high) == pytest.approx(24 / 22)


def test_a_run_is_valid_with_a_control_that_agrees_and_a_safe_near_its_yardstick() -> None:
    assert objections_to(run_of(MEDIANS)) == []
    assert control(run_of(MEDIANS))["edit"].middle == pytest.approx(1)


@pytest.mark.parametrize(
    ("subject", "median", "words"), [("floor2", 0.012, "disagrees"), ("safe", 0.031, "SAFE takes more")]
)
def test_a_run_that_cannot_be_believed_is_void(subject: str, median: float, words: str) -> None:
    run = run_of({**MEDIANS, subject: median})
    assert words in " ".join(objections_to(run))
    assert table(run).startswith("**Void**")


def test_goals_are_judged_by_the_whole_interval_and_counts_by_the_worst_block() -> None:
    found = verdicts(run_of(MEDIANS))
    assert found["request", "safe"] is Verdict.MET
    assert found["mutations", None] is Verdict.MET
    slow = run_of({**MEDIANS, "ours": 0.050})
    assert verdicts(slow)["request", "safe"] is Verdict.MISSED
    more = {"counts": {**COUNTS, "mutations": 5}}
    twice = [each if each.block else each.model_copy(update=more) for each in slow.results]
    assert verdicts(slow.model_copy(update={"results": twice}))["mutations", None] is Verdict.MISSED


def test_every_goal_names_what_there_is() -> None:
    for goal in GOALS:
        assert goal.figure in BY_NAME
        assert {goal.phase, goal.beside_phase or goal.phase} <= PHASES.keys()
        assert {goal.subject, goal.beside or goal.subject} <= SUBJECTS.keys()


def test_what_is_kept_is_what_was_seen(tmp_path: Path) -> None:
    save(run_of(MEDIANS), tmp_path / "run.json")
    assert load(tmp_path / "run.json") == run_of(MEDIANS)


def test_the_page_has_a_row_for_everybody_and_well_formed_plots() -> None:
    run = run_of(MEDIANS)
    page = render(run)
    for profile in run.subjects:
        assert page.count(f"| {profile.title} |") == 2, "among those who took part, and in the table of the phase"
    drawn = plots(run)
    assert set(drawn) == {"edit-request.svg"}
    assert f"performance/{next(iter(drawn))}" in page
    texts = [element.text for element in ET.fromstring(drawn["edit-request.svg"]).iter() if element.text]  # noqa: S314 - our own
    assert {profile.title for profile in run.subjects} <= set(texts)


def test_the_rate_that_was_kept_up_with_is_that_of_the_ramp_when_the_first_edit_was_late() -> None:
    planned = [number / 10 for number in range(20)] + [2 + number / 20 for number in range(40)]
    took = [0.1] * 16 + [5.0] * 44
    samples = {"planned": planned, "request": took}
    seen = BY_NAME["sustained"].of(result(0, "ours", 0.0, phase="sustained", samples=samples))
    assert seen == pytest.approx(10, abs=1)


def test_an_edit_changes_a_readable_and_a_write_only_field() -> None:
    wish = first("ep-1")
    seen = [wish := changed(wish) for _ in range(30)]
    assert len({each.model for each in seen}) == 30
    assert {each.replicas for each in seen} <= set(range(1, 11))
    assert all(before.replicas != after.replicas for before, after in pairwise(seen))


def test_plans_are_the_same_for_everybody_and_name_each_change_once() -> None:
    wishes = {f"r{number}": first(f"ep-{number}") for number in range(20)}
    plans: Sequence[Callable[[random.Random], Sequence[Edit]]] = (
        lambda draw: evenly(wishes, 5, 0.3, draw),
        lambda draw: together(wishes, 20, draw),
        lambda draw: ramp(wishes, 5, 50, 4, draw),
    )
    for plan in plans:
        edits, again = (plan(random.Random(SEED)) for _ in range(2))  # noqa: S311 - an order
        assert edits == again
        assert len({(edit.name, edit.wish.model) for edit in edits}) == len(edits)
        assert [edit.offset for edit in edits] == sorted(edit.offset for edit in edits)


def test_a_ramp_grows_evenly() -> None:
    edits = ramp({"r": first("ep")}, 10, 50, 10, random.Random(SEED))  # noqa: S311 - an order
    early, late = (sum(begin <= edit.offset < begin + 1 for edit in edits) for begin in (0, 9))
    assert len(edits) == pytest.approx(300, rel=0.05)
    assert early == pytest.approx(12, abs=2)
    assert late == pytest.approx(48, abs=2)


def entry(seq: int, at: float, *, mutates: bool, model: str = "") -> Entry:
    body = {"hfModelRepo": model} if mutates else None
    return Entry(
        seq=seq, provider="friendli", method="?", path="/", at=at, mutates=mutates, endpoint_id="ep", body=body
    )


def test_times_count_from_the_planned_moment_and_reads_up_to_the_update() -> None:
    wish = changed(first("ep"))
    made = Made(Edit(0.0, "r", wish), planned=100.0, sent=100.5, generation=2)
    ledger = [
        entry(1, 99.0, mutates=False),
        entry(2, 101.0, mutates=False),
        entry(3, 102.0, mutates=True, model="org/model-9"),
        entry(4, 103.0, mutates=True, model=wish.model),
        entry(5, 104.0, mutates=False),
    ]
    seen = measured([made], ledger, {("r", 1): 102.5, ("r", 2): 105.0}, {"writes": 2})
    assert seen.samples == {"planned": [0.0], "request": [3.0], "synced": [5.0], "late": [0.5]}
    assert seen.counts == {"unserved": 0, "mutations": 2, "reads": 3, "reads_before": 1, "writes": 2}


def test_a_claim_before_the_update_counts_for_nothing() -> None:
    wish = changed(first("ep"))
    ledger = [entry(1, 103.0, mutates=True, model=wish.model)]
    seen = measured([Made(Edit(0.0, "r", wish), 100.0, 100.0, 2)], ledger, {("r", 2): 102.0}, {})
    assert seen.samples["synced"] == []


def test_an_edit_that_was_overtaken_has_no_time() -> None:
    wish = changed(first("ep"))
    seen = measured([Made(Edit(0.0, "r", wish), 1.0, 1.0, 2)], [], {}, {})
    assert seen.counts["unserved"] == 1
    assert seen.samples["request"] == []


def test_an_audit_log_is_read_on_across_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text('{"n": 0}\n')
    log = AuditLog(path)
    with path.open("a") as sink:
        sink.write('{"n": 1}\n{"n": ')
    assert [event["n"] for event in log.events()] == [1]
    with path.open("a") as sink:
        sink.write("2}\n")
    path.rename(tmp_path / "audit-1.log")
    path.write_text('{"n": 3}\n')
    assert [event["n"] for event in log.events()] == [2, 3]
    log.close()
