from __future__ import annotations

import json
from typing import Any

import pytest

from bench.contestants import SUBJECTS
from bench.gate import OURS, PLAN, SLACK, report, shortcomings
from bench.page import GATED, PUBLISHED
from bench.record import Machine, Result, Run

COUNTS = {"mutations": 10, "reads": 20, "reads_before": 20, "writes": 20, "other_writes": 0, "events": 9, "unserved": 0}
USUAL = {f"{name} ÷ {other}": 2.0 for name, other in GATED}


def run_of(cpu: float = 0.04, wall: float = 0.2, blocks: int = 3, **changes: int) -> Run:
    """A run in which the others take half of what is usual for this operator."""
    results = []
    for block in range(blocks):
        for subject in PLAN.subjects:
            for phase in PLAN.phases:
                mine = subject == OURS
                known: dict[str, Any] = {"block": block, "place": 0, "subject": subject, "phase": phase}
                known |= {
                    "resources": 10,
                    "changes": 10,
                    "seconds": 1.0,
                    "resident": 1.0,
                    "descriptors": 1,
                    "others": 0.0,
                }
                samples = {"request": [wall if mine else 0.1] * 10}
                counts = COUNTS | changes if mine else COUNTS
                results.append(Result(cpu=cpu if mine else 0.02, samples=samples, counts=counts, **known))
    return Run(
        date="2026-01-01T00:00:00+00:00",
        commit="abc",
        command="bench.gate",
        seed=1,
        blocks=blocks,
        machine=Machine(cores=2, model="some processor", kernel="Linux 6", memory_gib=8),
        versions={},
        subjects=[SUBJECTS[name].profile for name in PLAN.subjects],
        results=results,
    )


def test_the_usual_passes_and_is_reported() -> None:
    assert shortcomings(run_of(), USUAL) == []
    said = report(run_of(), USUAL)
    assert said.count("\n") == 9
    assert "burst: CPU ms per change ÷ safe: 2, 2, 2 (the page says 2)" in said


@pytest.mark.parametrize(
    ("count", "value", "words"),
    [
        ("mutations", 11, "provider updates per change: 1.1, 1.1, 1.1 instead of 1"),
        ("mutations", 9, "provider updates per change: 0.9, 0.9, 0.9 instead of 1"),
        ("reads_before", 21, "provider reads before the update: 2.1, 2.1, 2.1 instead of 2"),
        ("writes", 21, "Kubernetes writes per change: 2.1, 2.1, 2.1 instead of at most 2"),
    ],
)
def test_a_count_fails_however_little_it_is_off(count: str, value: int, words: str) -> None:
    found = shortcomings(run_of(**{count: value}), USUAL)
    assert found == [f"edit: {words}", f"burst: {words}"]


def test_fewer_writes_than_allowed_pass() -> None:
    assert shortcomings(run_of(writes=10), USUAL) == []


def test_a_ratio_fails_only_beyond_its_slack() -> None:
    assert shortcomings(run_of(cpu=0.04 * SLACK * 0.99, wall=0.2 * SLACK * 0.99), USUAL) == []
    found = shortcomings(run_of(cpu=0.04 * SLACK * 1.01), USUAL)
    assert [line.partition(":")[2].partition(":")[0] for line in found] == [
        " CPU ms per change ÷ safe",
        " CPU ms per change ÷ naive",
    ]
    assert "all at the provider" in "".join(shortcomings(run_of(wall=0.2 * SLACK * 1.01), USUAL))


def test_one_block_at_the_usual_speed_is_enough() -> None:
    slow = run_of(cpu=1.0, wall=5.0)
    results = [usual if usual.block == 1 else each for each, usual in zip(slow.results, run_of().results, strict=True)]
    assert shortcomings(slow.model_copy(update={"results": results}), USUAL) == []


def test_a_subject_that_did_not_take_part_fails_everything() -> None:
    others = [each for each in run_of().results if each.subject != OURS]
    assert len(shortcomings(run_of().model_copy(update={"results": others}), USUAL)) == 9


def test_a_block_without_a_count_fails() -> None:
    results = [each for each in run_of().results if (each.block, each.subject, each.phase) != (1, OURS, "edit")]
    assert len(shortcomings(run_of().model_copy(update={"results": results}), USUAL)) == 3


def test_the_published_ratios_are_those_that_the_gate_asks_for() -> None:
    assert set(json.loads(PUBLISHED.read_text(encoding="utf-8"))) == set(USUAL)
