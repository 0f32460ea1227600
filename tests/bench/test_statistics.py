from __future__ import annotations

import random

import pytest

from bench.statistics import Interval, Verdict, interval, objection_to, percentile, ratios, verdict

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
    ("control", "words"),
    [
        (around(0.96, 1.05), None),
        (around(1.0, 1.0), None),
        (around(1.01, 1.04), "leaves 1 out"),
        (around(0.9, 0.99), "leaves 1 out"),
        (around(0.94, 1.05), "wider than 5 %"),
        (around(0.99, 1.01, blocks=4), "fewer than 5"),
    ],
)
def test_the_control_holds_if_it_contains_one_and_is_narrow(control: Interval, words: str | None) -> None:
    found = objection_to(control)
    assert found is None if words is None else words in str(found)


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
