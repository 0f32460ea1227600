"""The short run of continuous integration: exact counts, and ratios that fail only far from what the page says.

uv run --no-sync --directory tests python -m bench.gate
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bench.figures import BY_NAME, Figure, values
from bench.page import GATED, PUBLISHED
from bench.record import Run
from bench.running import conducted
from bench.statistics import ratios
from bench.turns import Plan

OURS: Final = "ours-unpolled"
"""What is asked by turn would fall into the counts of a change, the more often the slower the machine is."""

PLAN: Final = Plan(subjects=("safe", OURS, "naive"), phases=("edit", "burst"), blocks=3, seed=6, scale=0.2, others=1)
"""Takes about two minutes. Others may use the machine as they like: it is not theirs to fail it."""

SLACK: Final = 2.0
"""How many times what the page says a ratio may be: machines differ, and so do sixty resources from three hundred."""

COUNTS: Final = {"mutations": (1.0, 1.0), "reads-before": (2.0, 2.0), "writes": (0.0, 2.0)}
"""The least and the most that every block of this operator may have."""


def shortcomings(run: Run, published: Mapping[str, float]) -> list[str]:
    """What fails the gate; empty for nothing."""
    return [*_miscounted(run), *_slower(run, published)]


def _miscounted(run: Run) -> Iterator[str]:
    for phase in PLAN.phases:
        for name, (least, most) in COUNTS.items():
            found = _blocks(run, phase, BY_NAME[name])
            if len(found) < run.blocks or not all(least <= value <= most for value in found):
                wanted = f"{least:g}" if least == most else f"at most {most:g}"
                yield f"{phase}: {BY_NAME[name].title}: {_shown(found)} instead of {wanted}"


def _slower(run: Run, published: Mapping[str, float]) -> Iterator[str]:
    for name, other in GATED:
        usual = published[f"{name} ÷ {other}"]
        found = _beside(run, BY_NAME[name], other)
        if not found or min(found) > SLACK * usual:  # one block at its usual speed shows that the code is not slower
            yield f"burst: {BY_NAME[name].title} ÷ {other}: {_shown(found)} where the page says {usual:g}"


def _beside(run: Run, figure: Figure, other: str) -> list[float]:
    return ratios(*(values(run, subject, "burst", figure) for subject in (OURS, other)))


def _blocks(run: Run, phase: str, figure: Figure) -> list[float]:
    return [value for value in values(run, OURS, phase, figure) if value is not None]


def _shown(found: Iterable[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in found) or "nothing"


def report(run: Run, published: Mapping[str, float]) -> str:
    """The figures of every block."""
    counted = ((phase, BY_NAME[name]) for phase in PLAN.phases for name in COUNTS)
    lines = [f"{phase}: {figure.title}: {_shown(_blocks(run, phase, figure))}" for phase, figure in counted]
    for name, other in GATED:
        usual, found = published[f"{name} ÷ {other}"], _beside(run, BY_NAME[name], other)
        lines.append(f"burst: {BY_NAME[name].title} ÷ {other}: {_shown(found)} (the page says {usual:g})")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run it; the exit code is 1 if anything falls short."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    run = conducted(PLAN, "bench.gate")
    sys.stdout.write(report(run, published))
    found = shortcomings(run, published)
    sys.stderr.write("".join(f"too far off: {line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
