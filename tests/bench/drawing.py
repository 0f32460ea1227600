"""Horizontal bars with intervals as SVG, on a logarithmic scale around 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

WIDTH: Final = 760
LABEL: Final = 210
ROW: Final = 26
HEAD: Final = 44
FOOT: Final = 30
MARGIN: Final = 50

_FONT: Final = 'font-family="sans-serif" font-size="12"'


class Bar(NamedTuple):
    """One row.

    Attributes:
        title: What it is.
        low: Lower bound of its interval.
        middle: Its value.
        high: Upper bound of its interval.
    """

    title: str
    low: float
    middle: float
    high: float


def chart(title: str, bars: Sequence[Bar]) -> str:
    """A drawing of positive values; dark on a light ground of its own, so that it reads on any page."""
    ends = [value for bar in bars for value in (bar.low, bar.high) if value > 0]
    least, most = min([*ends, 1.0]), max([*ends, 1.0])
    ticks = _ticks(least, most)
    scale = _scale(min(least, ticks[0]), max(most, ticks[-1]))
    height = HEAD + ROW * len(bars) + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {_FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-size="14" fill="#111111">{escape(title)}</text>',
    ]
    for tick in ticks:
        x, colour = scale(tick), "#888888" if tick == 1 else "#dddddd"
        parts.append(f'<line x1="{x}" x2="{x}" y1="{HEAD - 8}" y2="{height - FOOT}" stroke="{colour}"/>')
        parts.append(f'<text x="{x}" y="{height - 12}" text-anchor="middle" fill="#444444">{tick:g}</text>')
    for number, bar in enumerate(bars):
        parts += _row(bar, HEAD + ROW * number + ROW // 2, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


class _scale:  # noqa: N801 - used as a function
    def __init__(self, least: float, most: float) -> None:
        self._least, self._span = math.log(least), math.log(most) - math.log(least) or 1.0

    def __call__(self, value: float) -> float:
        share = (math.log(value) - self._least) / self._span
        return round(LABEL + (WIDTH - LABEL - MARGIN) * share, 1)


def _ticks(least: float, most: float) -> list[float]:
    """1, 2 and 5 of every decade that is touched, and 1 in any case."""
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    every = sorted(digit * 10.0**decade for decade in decades for digit in (1, 2, 5))
    return [tick for tick in every if least / 2 < tick < most * 2] or [1.0]


def _row(bar: Bar, y: float, scale: _scale) -> list[str]:
    label = f'<text x="{LABEL - 12}" y="{y + 4}" text-anchor="end" fill="#111111">{escape(bar.title)}</text>'
    if bar.low <= 0:  # has no place on the scale
        return [label, f'<text x="{LABEL + 4}" y="{y + 4}" fill="#444444">{bar.middle:.3g}</text>']
    low, middle, high = (scale(value) for value in (bar.low, bar.middle, bar.high))
    return [
        label,
        f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="#1f77b4" stroke-width="3"/>',
        f'<circle cx="{middle}" cy="{y}" r="4.5" fill="#1f77b4"/>',
        f'<text x="{high + 8}" y="{y + 4}" fill="#444444">{bar.middle:.3g}</text>',
    ]
