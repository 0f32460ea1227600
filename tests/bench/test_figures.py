from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench.contestants import SUBJECTS
from bench.editing import Edit, Made, Ramp, changed, climbing, evenly, first, together
from bench.figures import BY_NAME, CONNECTIONS, GOALS, compared, controls, judged, objections_to
from bench.observer import AuditLog
from bench.page import INSTEAD, files, kept, plots, published, render, table
from bench.phases import PHASES, RAMP, measured
from bench.record import Absent, Dropped, Machine, Result, Run, load, merged, save
from bench.statistics import Verdict
from inference_operator.playground.emulators.ledger import Entry

BLOCKS = 6
SEED = 6
MEDIANS = {"floor": 0.010, "floor2": 0.010, "yardstick": 0.020, "safe": 0.022, "ours": 0.024}
COUNTS = {"mutations": 4, "reads": 8, "reads_before": 8, "writes": 8, "events": 4, "other_writes": 0, "unserved": 0}


def result(block: int, subject: str, took: float, **changes: Any) -> Result:
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
        "samples": {"request": [took * jitter] * 4, "planned": [0.0, 1.0, 2.0, 3.0], "synced": [], "late": []},
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
    return {(goal.figure, goal.beside): word for goal, seen, word in judged(run) if seen and goal.subject == "ours"}


def test_parts_of_a_run_become_the_run() -> None:
    whole = run_of(MEDIANS)
    later = run_of({"naive": 0.02}).model_copy(update={"date": "2026-01-02T00:00:00+00:00"})
    found = merged([later, whole], "all of it")
    assert (found.date, found.command, found.blocks) == (whole.date, "all of it", BLOCKS)
    assert [profile.name for profile in found.subjects] == ["naive", *MEDIANS]
    assert found.results == [*later.results, *whole.results]


@pytest.mark.parametrize(
    "other",
    [
        run_of({"naive": 0.02}, phase="slow"),
        run_of({"floor": 0.02}),
        *(
            run_of({"naive": 0.02}).model_copy(update=change)
            for change in ({"commit": "b"}, {"seed": 7}, {"others": 1})
        ),
    ],
)
def test_what_ran_otherwise_is_no_part_of_a_run(other: Run) -> None:
    with pytest.raises(ValueError, match="not parts of one"):
        merged([run_of(MEDIANS), other], "all of it")


def test_ratios_are_taken_inside_each_block() -> None:
    found = compared(run_of(MEDIANS), BY_NAME["request"], ("ours", "edit"), ("safe", "edit"))
    assert found is not None
    assert found.low == pytest.approx(found.high) == pytest.approx(24 / 22)


def test_a_run_is_valid_with_a_control_that_agrees_and_a_safe_near_its_yardstick() -> None:
    assert objections_to(run_of(MEDIANS)) == []
    [control] = controls(run_of(MEDIANS))
    assert (control.phase, control.objection) == ("edit", None)
    assert control.seen is not None
    assert control.seen.middle == pytest.approx(1)


@pytest.mark.parametrize(
    ("subject", "median", "words"),
    [("floor2", 0.012, "single edits: its interval leaves 1 out"), ("safe", 0.031, "SAFE takes more")],
)
def test_a_run_that_cannot_be_believed_is_void(subject: str, median: float, words: str) -> None:
    run = run_of({**MEDIANS, subject: median})
    assert words in " ".join(objections_to(run))
    assert table(run).startswith("**Void**")


def test_the_times_of_a_phase_whose_control_fails_are_void_and_its_counts_are_not() -> None:
    run = run_of({**MEDIANS, "floor2": 0.012})
    assert verdicts(run)["request", "safe"] is Verdict.VOID
    assert verdicts(run)["mutations", None] is Verdict.MET


def test_a_phase_without_the_control_is_void_and_the_run_is_not() -> None:
    counts = {**COUNTS, "mutations": 4}
    run = run_of({"safe": 0.02, "ours": 0.024}, phase="burst", counts=counts, changes=4)
    assert objections_to(run) == []
    assert verdicts(run)["wall", "safe"] is Verdict.VOID
    assert verdicts(run)["mutations", None] is Verdict.MET
    assert "FLOOR did not take part twice" in table(run)


def test_goals_are_judged_by_the_whole_interval_and_counts_by_the_worst_block() -> None:
    found = verdicts(run_of(MEDIANS))
    assert found["request", "safe"] is Verdict.MET
    assert found["mutations", None] is Verdict.MET
    slow = run_of({**MEDIANS, "ours": 0.050})
    assert verdicts(slow)["request", "safe"] is Verdict.MISSED
    more = {"counts": {**COUNTS, "mutations": 5}}
    twice = [each if each.block else each.model_copy(update=more) for each in slow.results]
    assert verdicts(slow.model_copy(update={"results": twice}))["mutations", None] is Verdict.MISSED


@pytest.mark.parametrize(
    ("memory", "verdict"),
    [((90.0, 100.0), Verdict.MET), ((90.0, 120.0), Verdict.OPEN), ((111.0, 120.0), Verdict.MISSED)],
)
def test_costs_are_open_while_only_a_block_is_above(memory: tuple[float, float], verdict: Verdict) -> None:
    run = run_of({"ours": 0.02}, phase="burst")
    usual, once = memory
    results = [each.model_copy(update={"resident": once if each.block == 3 else usual}) for each in run.results]
    assert verdicts(run.model_copy(update={"results": results}))["resident", None] is verdict


def at_rest(block: int, subject: str, phase: str, **counts: int) -> Result:
    known = {"mutations": 0, "reads": 0, "lists": 0, "writes": 0, "events": 0, "other_writes": 0}
    samples = {"calls": [1.0, 0.0, 2.0, 1.0]}
    more = {"changes": 0, "seconds": 360.0, "cpu": 3.6, "resources": 300, "samples": samples}
    return result(block, subject, 0.0, phase=phase, counts=known | counts, **more)


def test_reads_at_rest_are_told_by_kind_and_lists_are_shared_by_all() -> None:
    kinds = {f"with_{kind}": 100 for kind in ("fixed", "asleep", "autoscaled")}
    found = at_rest(
        0, "ours", "account", reads=330, lists=30, reads_fixed=10, reads_asleep=0, reads_autoscaled=290, **kinds
    )
    assert BY_NAME["still-reads"].of(found) == pytest.approx((10 / 200 + 30 / 300) * 10)
    assert BY_NAME["moving-reads"].of(found) == pytest.approx((290 / 100 + 30 / 300) * 10)
    assert BY_NAME["idle-reads"].of(found) == pytest.approx(330 / 300 * 10)
    assert BY_NAME["idle-cpu"].of(found) == pytest.approx(36)
    assert BY_NAME["core"].of(found) == pytest.approx(0.01)
    assert BY_NAME["peak"].of(found) == 2


def test_writes_are_told_with_and_without_events() -> None:
    found = result(0, "ours", 0.01)
    assert (BY_NAME["writes"].of(found), BY_NAME["writes-events"].of(found)) == (2, 3)


def test_a_start_is_judged_by_everything_that_was_written() -> None:
    found = at_rest(0, "ours", "cold", writes=1, events=2, mutations=3)
    assert (BY_NAME["cold-writes"].of(found), BY_NAME["cold-mutations"].of(found)) == (3, 3)


def test_connections_are_those_to_one_origin() -> None:
    assert CONNECTIONS == 64 + 2
    run = run_of({"ours": 0.02}, phase="burst", connections={"kubernetes": 4, "friendli": CONNECTIONS})
    assert verdicts(run)["connections", None] is Verdict.MET
    more = run_of({"ours": 0.02}, phase="burst", connections={"kubernetes": 4, "friendli": CONNECTIONS + 1})
    assert verdicts(more)["connections", None] is Verdict.MISSED


def test_every_goal_names_what_there_is() -> None:
    for goal in GOALS:
        assert goal.figure in BY_NAME
        assert {goal.phase, goal.beside_phase or goal.phase} <= PHASES.keys()
        assert {goal.subject, goal.beside or goal.subject} <= SUBJECTS.keys()


def test_what_is_kept_is_what_was_seen(tmp_path: Path) -> None:
    dropped = [Dropped(block=1, subject="ours", phase="edit", others=0.3)]
    for run in (run_of(MEDIANS), run_of(MEDIANS).model_copy(update={"dropped": dropped}), run_of({})):
        save(run, tmp_path / "run.json")
        assert load(tmp_path / "run.json") == run
        assert (tmp_path / "run.json").read_text().count('"dropped"') == 1


def test_who_did_not_come_so_far_as_to_be_measured_is_kept_and_named(tmp_path: Path) -> None:
    absent = Absent(block=0, subject="peer-d", phases=["edit", "slow"], seconds=150.0, resources=300, in_sync=7)
    run = run_of(MEDIANS).model_copy(update={"absent": [absent]})
    save(run, tmp_path / "run.json")
    assert load(tmp_path / "run.json") == run
    words = (
        "provider-http D had 7 of 300 resources in sync after 150 s, and had no turn in block 1: edit, slow.",
        "No turn was dropped",
    )
    for text in (render({"usual.json": run}), table(run)):
        assert all(each in text for each in words)
    assert merged([run, run_of({"naive": 0.02})], "all of it").absent == [absent]


def test_the_page_has_a_row_for_everybody_and_well_formed_plots() -> None:
    run = run_of(MEDIANS)
    page = render({"usual.json": run})
    tables = page.partition("## How to read it")[2]
    for profile in run.subjects:
        assert tables.count(f"| {profile.title} |") == 3, "among those who took part, and in both tables of the phase"
    drawn = plots(run)
    assert set(drawn) == {"edit-request.svg"}
    assert f"performance/{next(iter(drawn))}" in page
    texts = [element.text for element in ET.fromstring(drawn["edit-request.svg"]).iter() if element.text]  # noqa: S314 - our own
    assert {profile.title for profile in run.subjects} <= set(texts)


def test_the_page_names_every_run_every_goal_and_what_was_void_or_dropped() -> None:
    dropped = [Dropped(block=1, subject="ours", phase="rest", others=0.3)]
    resting = [at_rest(block, name, "rest") for block in range(BLOCKS) for name in ("ours", INSTEAD)]
    quiet = run_of({}).model_copy(update={"results": resting, "dropped": dropped, "command": "bench --phases rest"})
    void = run_of({**MEDIANS, "floor2": 0.012})
    page = render({"usual.json": void, "rest.json": quiet})
    for words in (
        "usual.json",
        "rest.json",
        "$ bench --phases rest",
        "- single edits: its interval leaves 1 out.",
        "of the machine: 1 (rest 1)",
    ):
        assert words in page
    goals = page.partition("## Goals")[2].partition("## ")[0]
    assert sum(line.startswith("| ") for line in goals.splitlines()) == len(GOALS) + 2
    assert "| void |" in goals
    assert "not measured" in goals
    assert "| met |" in goals
    assert "| **missed** |" in render({"usual.json": run_of({**MEDIANS, "ours": 0.05})})


def test_no_phase_comes_from_two_runs() -> None:
    with pytest.raises(ValueError, match="more than one run has been through: edit"):
        files({"one.json": run_of(MEDIANS), "two.json": run_of(MEDIANS)})


def test_the_gate_is_told_the_ratios_of_the_burst() -> None:
    run = run_of({"safe": 0.02, "naive": 0.08, "ours": 0.04}, phase="burst")
    assert published(run) == {"cpu ÷ safe": 1, "cpu ÷ naive": 1, "wall ÷ safe": 2}


def test_the_committed_page_is_what_the_committed_results_give() -> None:
    made = files({path.name: load(path) for path in kept()}) if kept() else {}
    assert [str(path) for path, text in made.items() if path.read_text(encoding="utf-8") != text] == []


def test_the_rate_that_was_kept_up_with_is_that_of_the_ramp_when_the_first_edit_was_late() -> None:
    planned = [float(number) for number in range(30)]
    took = [0.1] * 5 + [5.0] + [0.1] * 14 + [5.0] * 10  # a single late edit is no overload
    samples = {"planned": planned, "request": took}
    seen = BY_NAME["sustained"].of(result(0, "ours", 0.0, phase="sustained", samples=samples))
    assert seen == RAMP.slowest + (RAMP.fastest - RAMP.slowest) * 20 / 30


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
        lambda draw: climbing(wishes, Ramp(5, 50, 4), draw),
    )
    for plan in plans:
        edits, again = (plan(random.Random(SEED)) for _ in range(2))  # noqa: S311 - an order
        assert edits == again
        assert len({(edit.name, edit.wish.model) for edit in edits}) == len(edits)
        assert [edit.offset for edit in edits] == sorted(edit.offset for edit in edits)


def test_a_ramp_grows_evenly() -> None:
    edits = climbing({"r": first("ep")}, Ramp(10, 50, 10), random.Random(SEED))  # noqa: S311 - an order
    early, late = (sum(begin <= edit.offset < begin + 1 for edit in edits) for begin in (0, 9))
    assert len(edits) == pytest.approx(300, rel=0.05)
    assert early == pytest.approx(12, abs=2)
    assert late == pytest.approx(48, abs=2)


def entry(seq: int, at: float, *, mutates: bool, model: str = "") -> Entry:
    body = {"hfModelRepo": model} if mutates else None
    return Entry(
        seq=seq, provider="friendli", method="?", path="/", at=at, mutates=mutates, endpoint_id="ep", body=body
    )


def test_times_count_from_the_planned_moment_and_reads_from_when_the_edit_left() -> None:
    wish = changed(first("ep"))
    made = Made(Edit(0.0, "r", wish), planned=100.0, sent=100.5, answered=100.75, generation=2)
    ledger = [
        entry(1, 99.0, mutates=False),
        entry(2, 100.25, mutates=False),
        entry(3, 101.0, mutates=False),
        entry(4, 102.0, mutates=True, model="org/model-9"),
        entry(5, 103.0, mutates=True, model=wish.model),
        entry(6, 104.0, mutates=False),
    ]
    seen = measured([made], ledger, {("r", 1): 102.5, ("r", 2): 105.0}, {"writes": 2})
    assert seen.samples == {
        "planned": [0.0],
        "request": [3.0],
        "synced": [5.0],
        "served": [0.25],
        "late": [0.5],
    }
    assert seen.counts == {"unserved": 0, "mutations": 2, "reads": 4, "reads_before": 1, "writes": 2}


def test_a_claim_before_the_update_counts_for_nothing() -> None:
    wish = changed(first("ep"))
    ledger = [entry(1, 103.0, mutates=True, model=wish.model)]
    seen = measured([Made(Edit(0.0, "r", wish), 100.0, 100.0, 100.0, 2)], ledger, {("r", 2): 102.0}, {})
    assert seen.samples["synced"] == []


def test_an_edit_that_was_overtaken_has_no_time() -> None:
    wish = changed(first("ep"))
    seen = measured([Made(Edit(0.0, "r", wish), 1.0, 1.0, 1.0, 2)], [], {}, {})
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
