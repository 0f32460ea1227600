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

CONTROL_TOLERANCE: Final = 0.05
"""How far the control may be off although its interval leaves 1 out."""


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


def control_holds(control: Interval) -> bool:
    """Whether a subject agrees with itself: the interval of its ratio holds 1, or lies within 5 % of it."""
    near = control.low >= 1 - CONTROL_TOLERANCE and control.high <= 1 + CONTROL_TOLERANCE
    return control.low <= 1 <= control.high or near


def verdict(found: Interval, limit: float) -> Verdict:
    """Whether a figure is at most its limit; open where the interval reaches to both sides, or says nothing."""
    if found.low > limit and found.blocks >= FEWEST_BLOCKS:
        return Verdict.MISSED
    if found.high <= limit and found.blocks >= FEWEST_BLOCKS:
        return Verdict.MET
    return Verdict.OPEN


def objections(control: Sequence[Interval], safe: Sequence[Interval], safe_limit: float) -> list[str]:
    """Why a run is void; empty for a valid one.

    Args:
        control: The ratios of FLOOR to itself under another name.
        safe: The ratio of SAFE to its yardstick, where it was measured.
        safe_limit: The largest ratio that SAFE may have: a slow SAFE would make everything else look good.
    """
    found = []
    if not control:
        found.append("it has no control: FLOOR did not take part twice")
    if any(each.blocks < FEWEST_BLOCKS for each in control):
        found.append(f"it has fewer than {FEWEST_BLOCKS} blocks")
    if not all(map(control_holds, control)):
        found.append("the control disagrees with itself")
    if not safe:
        found.append("SAFE was not held against its yardstick")
    if any(each.middle > safe_limit for each in safe):
        found.append(f"SAFE takes more than {safe_limit:g} times its yardstick")
    return found
