"""Percentiles, bootstrap intervals and verdicts: functions over values.

A block is one turn of every subject under the same conditions, shortly after each other. What is compared are blocks:
each gives one value per subject, and one ratio per pair of subjects.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

CONFIDENCE: Final = 0.95
DRAWS: Final = 2000
FEWEST_BLOCKS: Final = 5
"""With fewer blocks an interval says nothing."""

CONTROL_WIDTH: Final = 0.10
"""How far apart the ends of the control's interval may be: 5 % to either side."""


class Interval(NamedTuple):
    """A median over blocks, between the bounds of its bootstrap interval.

    Attributes:
        low: Lower bound.
        middle: The median.
        high: Upper bound.
        worst: The largest block.
        blocks: How many there were.
    """

    low: float
    middle: float
    high: float
    worst: float
    blocks: int


class Verdict(StrEnum):
    """Whether a goal is reached."""

    MET = "met"
    MISSED = "missed"
    OPEN = "open"
    """The interval reaches to both sides, or says nothing."""
    VOID = "void"
    """The control disagrees with itself, so that nothing can be said."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies, interpolated between neighbours.

    Args:
        values: At least one, in any order.
        share: Between 0 and 1.

    Raises:
        ValueError: There are no values, or the share is none.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError("a percentile needs values and a share between 0 and 1")
    ordered, place = sorted(values), share * (len(values) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


def interval(values: Sequence[float], seed: int) -> Interval:
    """The median of one value per block, with its bootstrap interval; the same seed gives the same interval.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no block has a value")
    draw = random.Random(seed)  # noqa: S311 - drawing blocks, not secrets
    medians = [statistics.median(draw.choices(values, k=len(values))) for _ in range(DRAWS)]
    tail = (1 - CONFIDENCE) / 2
    low, high = percentile(medians, tail), percentile(medians, 1 - tail)
    return Interval(low, statistics.median(values), high, max(values), len(values))


def ratios(values: Sequence[float | None], others: Sequence[float | None]) -> list[float]:
    """One ratio per block in which both have a value and the divisor is not 0.

    Raises:
        ValueError: They are not of the same blocks.
    """
    return [value / other for value, other in zip(values, others, strict=True) if value is not None and other]


def objection_to(control: Interval) -> str | None:
    """Why a subject does not agree with itself, by the ratio of its two turns; None if it does."""
    if control.blocks < FEWEST_BLOCKS:
        return f"fewer than {FEWEST_BLOCKS} blocks"
    if not control.low <= 1 <= control.high:
        return "its interval leaves 1 out"
    if control.high - control.low > CONTROL_WIDTH:
        return f"its interval is wider than {50 * CONTROL_WIDTH:g} % to either side"
    return None


def verdict(found: Interval, limit: float) -> Verdict:
    """Whether a figure is at most its limit; open where the interval reaches to both sides, or says nothing."""
    if found.low > limit and found.blocks >= FEWEST_BLOCKS:
        return Verdict.MISSED
    if found.high <= limit and found.blocks >= FEWEST_BLOCKS:
        return Verdict.MET
    return Verdict.OPEN
