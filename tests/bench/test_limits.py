from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bench.contestants import SUBJECTS
from bench.limits import (
    NOT_MEASURED,
    OF_A_PROCESS,
    PAGE,
    Costs,
    Line,
    costs,
    duration,
    largest,
    limits,
    list_round,
    memory_limit_of,
    page,
    render,
)
from bench.record import Machine, Result, Run
from bench.weighing import Weights
from inference_operator.core.schedule import Pace

PACE = Pace()
MEMORY_LIMIT = 256.0
WEIGHTS = Weights(
    server="v1",
    resources=10,
    changes=10,
    object_bytes=2048,
    lists=2,
    watch_events=30,
    watch_bytes=61_440,
    writes=30,
    questions=20,
    question_ms=1.5,
)
MEASURED = Costs(memory=Line(80, 0.02), idle=Line(0.01, 0.00003), cpu=0.01, calls=5, writes=3, weights=WEIGHTS)


def result(phase: str, resources: int, **changes: Any) -> Result:
    counts: Mapping[str, int] = {"mutations": 10, "reads": 30, "writes": 20, "events": 10, "other_writes": 0}
    known: dict[str, Any] = {
        "block": 0,
        "place": 0,
        "subject": "ours",
        "phase": phase,
        "resources": resources,
        "changes": 10,
        "seconds": 100.0,
        "cpu": 0.2,
        "resident": 80 + resources / 100,
        "descriptors": 20,
        "others": 0.0,
        "samples": {},
        "counts": counts,
    }
    return Result(**known | changes)


def run_of(*results: Result) -> Run:
    return Run(
        date="2026-01-01T00:00:00+00:00",
        commit="abc",
        command="bench",
        seed=6,
        blocks=1,
        machine=Machine(cores=4, model="some processor", kernel="Linux 6", memory_gib=8),
        versions={},
        subjects=[SUBJECTS["ours"].profile],
        results=results,
    )


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: uv run --directory tests python -m bench.limits"


def test_what_was_not_measured_says_so() -> None:
    text = render(costs([], None), PACE, MEMORY_LIMIT)
    assert f"| Processor time for a change | {NOT_MEASURED} |" in text
    assert f"| 1,000 | 10 | {NOT_MEASURED} | 60 s | 26.7 min | {NOT_MEASURED} |" in text
    assert "@" not in text


def test_costs_are_those_of_the_runs() -> None:
    runs = [
        run_of(result("edit-10", 10), result("burst", 300)),
        run_of(
            result("edit-5000", 5000),
            result("rest", 300, changes=0, cpu=1.3),
            result("polled", 5000, changes=0, cpu=6.0),
        ),
    ]
    found = costs(runs, WEIGHTS)
    assert found.cpu == pytest.approx(0.02)
    assert found.calls == 4
    assert found.writes == 3
    assert found.memory is not None
    assert found.memory.at(1000) == pytest.approx(90)
    assert found.idle is not None
    assert found.idle.at(0) == pytest.approx(0.01)
    assert found.idle.slope == pytest.approx(0.00001)
    assert found.still is None
    assert costs(runs[:1], None).memory is None


def test_no_line_says_that_nothing_costs_less_than_nothing() -> None:
    line = Line.through([(300, 2.0), (5_000, 100.0)])
    assert line is not None
    assert line.base == 0
    assert line.at(5_000) == pytest.approx(100, rel=0.01)


def test_a_line_needs_fleets_of_different_sizes() -> None:
    assert Line.through([(300, 90.0), (2_999, 100.0)]) is None
    assert Line.through([]) is None
    line = Line.through([(100, 10.0), (100, 30.0), (100, 20.0), (1_000, 110.0)])
    assert line is not None
    assert line.base == pytest.approx(10)
    assert line.slope == pytest.approx(0.1)


def test_limits_are_the_last_number_for_which_the_pace_holds() -> None:
    assert [largest(most.__ge__) for most in (0, 1, 17, 64)] == [0, 1, 17, 64]
    most = {each.name: each.most for each in limits(MEASURED, PACE, MEMORY_LIMIT)}
    states = most["states at most 60 s old"]
    assert states is not None
    assert list_round(PACE, states) == PACE.poll < list_round(PACE, states + 1)
    whole = most["read whole once a day"]
    assert whole is not None
    assert PACE.drifting(whole) <= 86_400 < PACE.drifting(whole + 1)
    assert most["autoscaled replicas at most 60 s old"] == 150
    assert (most["memory"], most["processor"]) == (6_240, 8_000)
    assert all(each.most is None for each in limits(Costs(), PACE, MEMORY_LIMIT) if each.of == OF_A_PROCESS)


def test_fleets_are_divided_by_the_nearest_limit_of_a_process() -> None:
    rows = [
        line.split(" | ") for line in render(MEASURED, PACE, MEMORY_LIMIT).splitlines() if line.startswith("| 100,")
    ]
    fleet = next(row for row in rows if row[1] == "10")
    assert fleet[2:6] == ["17", "2.67 min", "44.4 h", "2.78 h"]  # two shards for a key, so that its list is read twice
    assert "memory" not in fleet[6]
    assert "states at most 60 s old" in fleet[6]


def test_what_the_api_server_sends_follows_from_what_was_weighed() -> None:
    text = render(MEASURED, PACE, MEMORY_LIMIT)
    assert "| 1,000 | 1.95 MiB | 10 | 3.91 MiB | 3.33 KiB/s | 1.5 ms | 3 s |" in text
    assert "| 10 | 10 | 30 | 30 | 60 KiB/s |" in text


def test_the_chart_tells_the_memory_limit() -> None:
    assert memory_limit_of() == 256


@pytest.mark.parametrize(("seconds", "words"), [(60, "60 s"), (121, "2.02 min"), (7_200, "2 h"), (1_280_000, "14.8 d")])
def test_durations_are_for_people(seconds: float, words: str) -> None:
    assert duration(seconds) == words
