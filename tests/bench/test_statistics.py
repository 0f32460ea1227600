from __future__ import annotations

import random

import pytest

from bench.statistics import Interval, Verdict, control_holds, interval, objections, percentile, ratios, verdict

SEED = 6
LIMIT = 1.5


def around(low: float, high: float, blocks: int = 10) -> Interval:
    return Interval(low, (low + high) / 2, high, high, blocks)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.99, 7.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0], 0.5, 1.5),
        ([0.0, 10.0, 20.0, 30.0, 40.0], 0.25, 10.0),
        ([0.0, 10.0, 20.0, 30.0, 40.0], 0.9, 36.0),
        ([4.0, 1.0], 0.0, 1.0),
        ([4.0, 1.0], 1.0, 4.0),
    ],
)
def test_percentiles_are_interpolated_between_neighbours(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == pytest.approx(expected)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_percentile_of_nothing_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_an_interval_has_the_median_within_and_the_worst_block_beside() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0, 100.0], SEED)
    assert found.low <= found.middle == 3.0 <= found.high
    assert (found.worst, found.blocks) == (100.0, 5)


def test_the_same_seed_gives_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.statistics.DRAWS", 20)  # so few that another seed gives another
    draw = random.Random(SEED)  # noqa: S311 - a sample
    values = [draw.gauss(10, 1) for _ in range(40)]
    assert len({interval(values, SEED) for _ in range(10)}) == 1
    assert len({interval(values, seed) for seed in range(10)}) > 1


def test_an_interval_of_equal_blocks_is_a_point() -> None:
    assert interval([2.0] * 6, SEED)[:3] == (2.0, 2.0, 2.0)


def test_an_interval_needs_a_block() -> None:
    with pytest.raises(ValueError, match="no block"):
        interval([], SEED)


def test_nineteen_intervals_in_twenty_hold_the_true_median() -> None:
    draw = random.Random(SEED)  # noqa: S311 - a sample
    held = 0
    for run in range(200):
        found = interval([draw.gauss(5, 1) for _ in range(15)], run)
        held += found.low <= 5 <= found.high
    assert 180 <= held <= 200


def test_ratios_are_of_blocks_in_which_both_have_a_value() -> None:
    assert ratios([2.0, None, 6.0, 8.0], [1.0, 1.0, None, 0.0]) == [2.0]


def test_ratios_of_different_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("control", "holds"),
    [
        (around(0.8, 1.3), True),
        (around(1.01, 1.04), True),
        (around(0.96, 0.99), True),
        (around(1.01, 1.2), False),
        (around(0.7, 0.97), False),
    ],
)
def test_the_control_holds_if_it_contains_one_or_is_near(control: Interval, *, holds: bool) -> None:
    assert control_holds(control) is holds


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (around(1.0, 1.1), Verdict.MET),
        (around(1.6, 2.0), Verdict.MISSED),
        (around(1.4, 1.6), Verdict.OPEN),
        (around(1.0, 1.1, blocks=4), Verdict.OPEN),
        (around(1.6, 2.0, blocks=4), Verdict.OPEN),
    ],
)
def test_a_verdict_needs_the_whole_interval_and_enough_blocks(found: Interval, expected: Verdict) -> None:
    assert verdict(found, LIMIT) is expected


def test_a_run_is_valid_if_nothing_speaks_against_it() -> None:
    assert objections([around(0.9, 1.1)], [around(0.9, 1.2)], LIMIT) == []


@pytest.mark.parametrize(
    ("control", "safe", "words"),
    [
        ([], [around(1, 1)], "no control"),
        ([around(0.9, 1.1, blocks=3)], [around(1, 1)], "fewer than 5"),
        ([around(0.9, 1.1), around(1.2, 1.4)], [around(1, 1)], "disagrees"),
        ([around(0.9, 1.1)], [], "not held"),
        ([around(0.9, 1.1)], [around(1.6, 1.8)], "SAFE takes more"),
    ],
)
def test_a_void_run_says_why(control: list[Interval], safe: list[Interval], words: str) -> None:
    found = objections(control, safe, LIMIT)
    assert len(found) == 1
    assert words in found[0]
