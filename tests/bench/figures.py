"""What is computed from a run: one value per block and subject, then intervals, ratios and verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bench.record import Result, Run
from bench.statistics import Interval, Verdict, interval, objections, percentile, ratios, verdict

SAFE_LIMIT: Final = 1.5
"""How much slower than its yardstick SAFE may be."""

OVERLOAD_SECONDS: Final = 1.0
"""A subject whose edits take longer than this no longer keeps up with the ramp."""


OVERLOAD_EDITS: Final = 20


class Kind(StrEnum):
    """How far a figure can be trusted on a machine with other work."""

    COUNT = "count"
    """Exact."""
    RATIO = "ratio"
    """Only beside another subject of the same run."""


@dataclass(frozen=True)
class Figure:
    """One column of a table.

    Attributes:
        name: By which goals know it.
        title: For readers, with the unit.
        kind: How far it can be trusted.
        of: Its value for one phase of one subject in one block; None where it makes no sense.
        phases: Where it makes sense; empty for wherever it has a value.
        larger_is_better: Whether it is.
    """

    name: str
    title: str
    kind: Kind
    of: Callable[[Result], float | None]
    larger_is_better: bool = False


def _sample(name: str, share: float) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        found = result.samples.get(name)
        return 1000 * percentile(found, share) if found and result.changes else None

    return value


def _per_change(*names: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        if not result.changes or not result.counts.keys() >= set(names):
            return None
        return sum(result.counts[name] for name in names) / result.changes

    return value


def _cpu_per_change(result: Result) -> float | None:
    return 1000 * result.cpu / result.changes if result.changes > 0 and result.phase != "stuck" else None


def _per_resource_hour(*names: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        if result.phase != "rest":
            return None
        return sum(result.counts[name] for name in names) * 3600 / result.seconds / result.resources

    return value


def _idle_cpu(result: Result) -> float | None:
    return result.cpu * 3600 / result.seconds * 300 / result.resources if result.phase == "rest" else None


def _wall(result: Result) -> float | None:
    return max(result.samples["request"], default=None) if result.phase in {"burst", "shards"} else None


def _peak(result: Result) -> float | None:
    calls = result.samples.get("calls")
    return max(calls) / statistics.mean(calls) if calls and any(calls) else None


def _kept_up(result: Result) -> float | None:
    """Edits per second up to which they were sent in time: the rate of the ramp when they no longer were."""
    if result.phase != "sustained" or not result.samples["request"]:
        return None
    pairs = sorted(zip(result.samples["planned"], result.samples["request"], strict=True))
    planned, took = [at for at, _ in pairs], [seconds for _, seconds in pairs]
    late = next((planned[place] for place in range(len(took)) if _is_overloaded(took[place:])), planned[-1])
    return sum(late - 1 < at <= late for at in planned) / min(1.0, late) if late else 0.0


def _is_overloaded(took: Sequence[float]) -> bool:
    """Whether this edit is late and most of the next ones are: a single late one is no overload."""
    return took[0] > OVERLOAD_SECONDS and statistics.median(took[:OVERLOAD_EDITS]) > OVERLOAD_SECONDS


def _only(name: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        found = result.samples.get(name)
        return 1000 * max(found) if found else None

    return value


def _beside(share: float) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        alone = result.samples.get("alone")
        return percentile(result.samples["request"], share) / percentile(alone, share) if alone else None

    return value


def _ready(result: Result) -> float | None:
    ready, listed = result.samples.get("ready"), result.samples.get("listed")
    return 1000 * (ready[0] - listed[0]) if ready and listed else None


FIGURES: Final = (
    Figure("request", "edit → provider, median ms", Kind.RATIO, _sample("request", 0.5)),
    Figure("request-p99", "p99 ms", Kind.RATIO, _sample("request", 0.99)),
    Figure("synced", "edit → status, median ms", Kind.RATIO, _sample("synced", 0.5)),
    Figure("wall", "all at the provider, s", Kind.RATIO, _wall),
    Figure("sustained", "changes per second", Kind.RATIO, _kept_up, larger_is_better=True),
    Figure("cpu", "CPU ms per change", Kind.RATIO, _cpu_per_change),
    Figure("mutations", "provider updates per change", Kind.COUNT, _per_change("mutations")),
    Figure("reads-before", "provider reads before the update", Kind.COUNT, _per_change("reads_before")),
    Figure("reads", "provider reads per change", Kind.COUNT, _per_change("reads")),
    Figure("writes", "Kubernetes writes per change", Kind.COUNT, _per_change("writes", "other_writes")),
    Figure("events", "Events per change", Kind.COUNT, _per_change("events")),
    Figure("unserved", "edits overtaken by the next", Kind.COUNT, _per_change("unserved")),
    Figure("beside", "median beside ÷ alone", Kind.RATIO, _beside(0.5)),
    Figure("beside-p99", "p99 beside ÷ alone", Kind.RATIO, _beside(0.99)),
    Figure("idle-mutations", "updates per resource and hour", Kind.COUNT, _per_resource_hour("mutations")),
    Figure("idle-reads", "reads per resource and hour", Kind.COUNT, _per_resource_hour("reads")),
    Figure(
        "idle-writes",
        "Kubernetes writes per resource and hour",
        Kind.COUNT,
        _per_resource_hour("writes", "events", "other_writes"),
    ),
    Figure("idle-cpu", "CPU s per 300 and hour", Kind.RATIO, _idle_cpu),
    Figure("peak", "calls per second, max ÷ mean", Kind.RATIO, _peak),
    Figure("ready", "ready after the list, ms", Kind.RATIO, _ready),
    Figure("looked", "all looked at, ms", Kind.RATIO, _only("looked")),
    Figure("resident", "resident MiB", Kind.COUNT, lambda result: result.resident),
    Figure("descriptors", "open descriptors", Kind.COUNT, lambda result: result.descriptors),
    Figure("others", "machine time of others", Kind.COUNT, lambda result: result.others),
)
"""Every column, in the order of the tables."""

BY_NAME: Final = {figure.name: figure for figure in FIGURES}


@dataclass(frozen=True)
class Goal:
    """What this operator shall reach.

    Attributes:
        phase: Where.
        figure: Which figure.
        limit: What it may be at most.
        beside: The subject that it is divided by; None for the figure itself.
        beside_phase: The phase that it is divided by, where that is another.
        subject: Whose figure.
    """

    phase: str
    figure: str
    limit: float
    beside: str | None = None
    beside_phase: str | None = None
    subject: str = "ours"


GOALS: Final = (
    Goal("edit", "request", 1.15, "safe"),
    Goal("edit", "request-p99", 1.5, "safe"),
    Goal("edit", "request", 1.0, "peer-b"),
    Goal("slow", "synced", 1.05, "safe"),
    Goal("edit", "mutations", 1.0),
    Goal("edit", "reads-before", 2.0),
    Goal("edit", "writes", 2.0),
    Goal("burst", "mutations", 1.0),
    Goal("burst", "writes", 2.0),
    Goal("burst", "cpu", 2.0, "safe"),
    Goal("burst", "cpu", 1 / 3, "naive"),
    Goal("burst", "cpu", 1 / 3, "peer-b"),
    Goal("burst", "wall", 1.3, "safe"),
    Goal("burst", "wall", 0.5, "peer-b"),
    Goal("burst", "resident", 110),
    Goal("sustained", "sustained", 0.7, "safe"),
    Goal("sustained", "sustained", 2.0, "naive"),
    Goal("sustained", "sustained", 2.0, "peer-b"),
    Goal("rest", "idle-mutations", 0.0),
    Goal("rest", "idle-writes", 0.0),
    Goal("rest", "idle-reads", 1.0, "peer-b"),
    Goal("rest", "idle-cpu", 0.25, "peer-b"),
    Goal("edit-5000", "request", 1.2, "ours", "edit-10"),
    Goal("edit-5000", "request-p99", 1.5, "ours", "edit-10"),
    Goal("edit-5000", "resident", 220),
    Goal("cold", "ready", 3000),
    Goal("stuck", "beside-p99", 1.2),
    Goal("shards", "mutations", 1.0, subject="ours-3"),
    Goal("shards", "wall", 1 / 2.5, "ours", subject="ours-3"),
)
"""The goals of promise 4 that this bench can show."""


def values(run: Run, subject: str, phase: str, figure: Figure) -> list[float | None]:
    """One value per block."""
    found: list[float | None] = [None] * run.blocks
    for result in run.results:
        if (result.subject, result.phase) == (subject, phase):
            found[result.block] = figure.of(result)
    return found


def spread(run: Run, subject: str, phase: str, figure: Figure) -> Interval | None:
    """A figure over all blocks; None without a value."""
    return _interval([value for value in values(run, subject, phase, figure) if value is not None], run)


def compared(run: Run, figure: Figure, subject: tuple[str, str], other: tuple[str, str]) -> Interval | None:
    """The ratio of a figure, each a subject in a phase, inside each block; None where the two never met."""
    mine, theirs = (values(run, *each, figure) for each in (subject, other))
    return _interval(ratios(mine, theirs), run)


def _interval(found: Sequence[float], run: Run) -> Interval | None:
    return interval(found, run.seed) if found else None


def control(run: Run) -> dict[str, Interval]:
    """FLOOR divided by itself, by phase: the median time of an edit."""
    phases = dict.fromkeys(result.phase for result in run.results)
    found = {
        phase: compared(run, BY_NAME["request"], ("floor2", phase), ("floor", phase))
        for phase in phases
        if phase != "sustained"  # its edits queue, so that its median says little
    }
    return {phase: each for phase, each in found.items() if each is not None}


def objections_to(run: Run) -> list[str]:
    """Why the run is void; empty for a valid one."""
    safe = compared(run, BY_NAME["request"], ("safe", "edit"), ("yardstick", "edit"))
    return objections(list(control(run).values()), [safe] if safe else [], SAFE_LIMIT)


def judged(run: Run) -> list[tuple[Goal, Interval, Verdict]]:
    """Every goal that the run says something about."""
    found = []
    for goal in GOALS:
        figure, mine = BY_NAME[goal.figure], (goal.subject, goal.phase)
        if goal.beside is None:
            seen = spread(run, *mine, figure)
        else:
            seen = compared(run, figure, mine, (goal.beside, goal.beside_phase or goal.phase))
        if seen is not None:
            found.append((goal, seen, _judged(figure, seen, goal.limit)))
    return found


def _judged(figure: Figure, seen: Interval, limit: float) -> Verdict:
    if figure.kind is Kind.COUNT and not figure.larger_is_better:
        return Verdict.MET if seen.worst <= limit else Verdict.MISSED
    if figure.larger_is_better:
        flipped = Interval(-seen.high, -seen.middle, -seen.low, -seen.worst, seen.blocks)
        return verdict(flipped, -limit)
    return verdict(seen, limit)
