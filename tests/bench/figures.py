"""What is computed from a run: one value per block and subject, then intervals, ratios and verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from bench.editing import Kind
from bench.phases import PHASES, RAMP
from bench.record import Result, Run
from bench.statistics import Interval, Verdict, interval, objection_to, percentile, ratios, verdict

SAFE_LIMIT: Final = 1.5
"""How much slower than its yardstick SAFE may be."""

OVERLOAD_SECONDS: Final = 1.0
"""A subject whose edits take longer than this no longer keeps up with the ramp."""

OVERLOAD_SAMPLES: Final = 3
"""Of which most are late when it does not."""

FRESHNESS: Final = 1.2
"""How much older than the peer's the slowest reading of a state may be, and still count as the same: polls have some
jitter."""


class Trust(StrEnum):
    """How far a figure can be trusted on a machine with other work."""

    COUNT = "count"
    """Exact."""
    COST = "cost"
    """As the kernel has counted it; it depends on the machine, but hardly on what else runs."""
    TIME = "time"
    """Only beside another subject of the same run, and only while the control agrees with itself."""


@dataclass(frozen=True)
class Figure:
    """One column of a table.

    Attributes:
        name: By which goals know it.
        title: For readers, with the unit.
        trust: How far.
        of: Its value for one phase of one subject in one block; None where it makes no sense.
        larger_is_better: Whether it is.
    """

    name: str
    title: str
    trust: Trust
    of: Callable[[Result], float | None]
    larger_is_better: bool = False


def _sample(name: str, share: float) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        found = result.samples.get(name)
        return 1000 * percentile(found, share) if found and result.changes else None

    return value


def _served(result: Result) -> float | None:
    """What an edit alone takes, before any subject can hear of it: more, the more the API server has to validate."""
    return _sample("served", 0.5)(result) if result.phase.startswith("edit") else None


def _per_change(*names: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        if not result.changes or not result.counts.keys() >= set(names):
            return None
        return sum(result.counts[name] for name in names) / result.changes

    return value


def _cpu_per_change(result: Result) -> float | None:
    return 1000 * result.cpu / result.changes if result.changes > 0 and result.phase != "stuck" else None


def _resting(result: Result) -> bool:
    return result.phase in {"rest", "account", "polled"}


def _per_resource_hour(*names: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        if not _resting(result):
            return None
        return sum(result.counts[name] for name in names) * 3600 / result.seconds / result.resources

    return value


def _reads_of(*kinds: Kind) -> Callable[[Result], float | None]:
    """Reads per resource and hour of endpoints of these kinds; lists are shared evenly by all resources."""

    def value(result: Result) -> float | None:
        number = sum(result.counts.get(f"with_{kind}", 0) for kind in kinds)
        if result.phase != "account" or not number:
            return None
        singles = sum(result.counts[f"reads_{kind}"] for kind in kinds) / number
        return (singles + result.counts["lists"] / result.resources) * 3600 / result.seconds

    return value


def _idle_cpu(result: Result) -> float | None:
    return result.cpu * 3600 / result.seconds * 300 / result.resources if _resting(result) else None


def _core(result: Result) -> float | None:
    return result.cpu / result.seconds if _resting(result) else None


def _calls(of: Callable[[Sequence[float]], float]) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        calls = result.samples.get("calls")
        return of(calls) if calls else None

    return value


def _seconds(what: str, share: float, *kinds: Kind) -> Callable[[Result], float | None]:
    """Seconds after a change by others; `share` 1 is the slowest."""

    def value(result: Result) -> float | None:
        found = [each for kind in kinds for each in result.samples.get(f"{what}_{kind}", ())]
        return percentile(found, share) if found else None

    return value


def _counted(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.counts.get(name)


def _in_cold(*names: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        return float(sum(result.counts[name] for name in names)) if result.phase == "cold" else None

    return value


def _wall(result: Result) -> float | None:
    return max(result.samples["request"], default=None) if result.phase in {"burst", "shards"} else None


def _throughput(result: Result) -> float | None:
    wall = _wall(result) if result.phase == "shards" else None
    return result.changes / wall if wall else None


def _peak(result: Result) -> float | None:
    calls = result.samples.get("calls")
    return max(calls) / statistics.mean(calls) if calls and any(calls) else None


def _connections(result: Result) -> float | None:
    return float(max(result.connections.values())) if result.connections else None


def _kept_up(result: Result) -> float | None:
    """Edits per second up to which they were sent in time: the rate of the ramp when they no longer were."""
    if result.phase != "sustained" or not result.samples["request"]:
        return None
    pairs = sorted(zip(result.samples["planned"], result.samples["request"], strict=True))
    planned, took = [at for at, _ in pairs], [seconds for _, seconds in pairs]
    late = next((planned[place] for place in range(len(took)) if _is_overloaded(took[place:])), planned[-1])
    return RAMP.rate_at(late)


def _is_overloaded(took: Sequence[float]) -> bool:
    """Whether this edit is late and most of the next ones are: a single late one is no overload."""
    return took[0] > OVERLOAD_SECONDS and statistics.median(took[:OVERLOAD_SAMPLES]) > OVERLOAD_SECONDS


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


_STILL = (Kind.FIXED, Kind.ASLEEP)

FIGURES: Final = (
    Figure("request", "edit → provider, median ms", Trust.TIME, _sample("request", 0.5)),
    Figure("request-p99", "p99 ms", Trust.TIME, _sample("request", 0.99)),
    Figure("synced", "edit → status, median ms", Trust.TIME, _sample("synced", 0.5)),
    Figure("served", "the API server's part in the edit, median ms", Trust.TIME, _served),
    Figure("wall", "all at the provider, s", Trust.TIME, _wall),
    Figure("throughput", "changes per second", Trust.TIME, _throughput, larger_is_better=True),
    Figure("sustained", "kept up with, changes per second", Trust.TIME, _kept_up, larger_is_better=True),
    Figure("beside", "median beside ÷ alone", Trust.TIME, _beside(0.5)),
    Figure("beside-p99", "p99 beside ÷ alone", Trust.TIME, _beside(0.99)),
    Figure("ready", "ready after the list, ms", Trust.TIME, _ready),
    Figure("looked", "all looked at, ms", Trust.TIME, _only("looked")),
    Figure("cpu", "CPU ms per change", Trust.COST, _cpu_per_change),
    Figure("idle-cpu", "CPU s per 300 and hour", Trust.COST, _idle_cpu),
    Figure("core", "share of a core", Trust.COST, _core),
    Figure("resident", "resident MiB", Trust.COST, lambda result: result.resident),
    Figure("mutations", "provider updates per change", Trust.COUNT, _per_change("mutations")),
    Figure("reads-before", "provider reads before the update", Trust.COUNT, _per_change("reads_before")),
    Figure("reads", "provider reads per change", Trust.COUNT, _per_change("reads")),
    Figure("writes", "Kubernetes writes per change", Trust.COUNT, _per_change("writes", "other_writes")),
    Figure(
        "writes-events",
        "Kubernetes writes with Events per change",
        Trust.COUNT,
        _per_change("writes", "other_writes", "events"),
    ),
    Figure("twice", "changes sent twice", Trust.COUNT, _counted("twice")),
    Figure("unclaimed", "resources not in sync at the end", Trust.COUNT, _counted("unclaimed")),
    Figure("unserved", "edits overtaken by the next", Trust.COUNT, _per_change("unserved")),
    Figure("idle-mutations", "updates per resource and hour", Trust.COUNT, _per_resource_hour("mutations")),
    Figure("idle-reads", "reads per resource and hour", Trust.COUNT, _per_resource_hour("reads")),
    Figure("idle-lists", "lists among them", Trust.COUNT, _per_resource_hour("lists")),
    Figure("still-reads", "reads of fixed and sleeping ones", Trust.COUNT, _reads_of(*_STILL)),
    Figure("moving-reads", "reads of autoscaled ones", Trust.COUNT, _reads_of(Kind.AUTOSCALED)),
    Figure(
        "idle-writes",
        "Kubernetes writes per resource and hour",
        Trust.COUNT,
        _per_resource_hour("writes", "events", "other_writes"),
    ),
    Figure("calls", "calls per second, mean", Trust.COUNT, _calls(statistics.mean)),
    Figure("calls-most", "most in a second", Trust.COUNT, _calls(max)),
    Figure("peak", "most ÷ mean", Trust.COUNT, _peak),
    Figure("cold-writes", "Kubernetes writes", Trust.COUNT, _in_cold("writes", "events", "other_writes")),
    Figure("cold-mutations", "provider updates", Trust.COUNT, _in_cold("mutations")),
    Figure("state-freshness", "slowest state read, s", Trust.COUNT, _seconds("read_state", 1.0, *Kind)),
    Figure("connections", "open connections to one origin", Trust.COUNT, _connections),
    Figure("descriptors", "open descriptors", Trust.COUNT, lambda result: result.descriptors),
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


ORIGINS: Final = 2
"""That a subject of this bench speaks to: the API server and one provider."""

CONNECTIONS: Final = 64 + 2
"""To one origin."""

GOALS: Final = (
    Goal("edit", "mutations", 1.0),
    Goal("edit", "mutations", 1.0, subject="ours-novita"),
    Goal("burst", "mutations", 1.0),
    Goal("edit", "reads-before", 2.0),
    Goal("edit", "reads-before", 1.0, subject="ours-novita"),
    Goal("burst", "reads-before", 2.0),
    Goal("edit", "writes", 2.0),
    Goal("edit", "writes", 2.0, subject="ours-novita"),
    Goal("burst", "writes", 2.0),
    Goal("burst", "cpu", 2.0, "safe"),
    Goal("burst", "cpu", 1 / 3, "naive"),
    Goal("burst", "cpu", 1 / 3, "peer-b"),
    Goal("edit", "request", 1.15, "safe"),
    Goal("edit", "request-p99", 1.5, "safe"),
    Goal("edit", "request", 1.0, "peer-b"),
    Goal("slow", "synced", 1.05, "safe"),
    Goal("burst", "wall", 1.3, "safe"),
    Goal("burst", "wall", 0.5, "peer-b"),
    Goal("sustained", "sustained", 0.7, "safe"),
    Goal("sustained", "sustained", 2.0, "naive"),
    Goal("sustained", "sustained", 2.0, "peer-b"),
    Goal("edit-5000", "request", 1.2, "ours", "edit-10"),
    Goal("edit-5000", "request-p99", 1.5, "ours", "edit-10"),
    Goal("rest", "idle-mutations", 0.0),
    Goal("rest", "idle-writes", 0.0),
    Goal("account", "idle-mutations", 0.0),
    Goal("account", "idle-writes", 0.0),
    Goal("account", "still-reads", 1 / 50, "peer-b"),
    Goal("account", "still-reads", 1 / 50, "peer-b", subject="ours-novita"),
    Goal("account", "moving-reads", 1 / 50, "peer-b", subject="ours-novita"),
    Goal("account", "moving-reads", 1.0, "peer-b"),
    Goal("console", "state-freshness", FRESHNESS, "peer-b"),
    Goal("rest", "idle-cpu", 0.25, "peer-b"),
    Goal("polled", "core", 0.25),
    Goal("polled", "peak", 2.0),
    Goal("cold", "ready", 3000),
    Goal("cold", "cold-writes", 0.0),
    Goal("cold", "cold-mutations", 0.0),
    Goal("burst", "resident", 110),
    Goal("edit-5000", "resident", 220),
    Goal("burst", "connections", CONNECTIONS),
    Goal("burst", "descriptors", CONNECTIONS * ORIGINS),
    Goal("stuck", "beside-p99", 1.2),
    Goal("shards", "throughput", 2.5, "ours", subject="ours-3"),
    Goal("shards", "mutations", 1.0, subject="ours-3"),
    Goal("moving", "mutations", 1.0, subject="ours-3"),
    Goal("moving", "twice", 0.0, subject="ours-3"),
    Goal("moving", "unserved", 0.0, subject="ours-3"),
    Goal("moving", "unclaimed", 0.0, subject="ours-3"),
)
"""The goals of promise 4, in the order in which they were set."""


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


def phases_of(run: Run) -> list[str]:
    """The phases of a run, in the order of the tables."""
    seen = {result.phase for result in run.results}
    return [phase for phase in PHASES if phase in seen]


class Control(NamedTuple):
    """Whether FLOOR agrees with itself in a phase.

    Attributes:
        phase: Which.
        figure: By which figure.
        seen: FLOOR divided by itself; None if it did not take part twice.
        objection: Why the times of the phase say nothing; None if they do.
    """

    phase: str
    figure: Figure
    seen: Interval | None
    objection: str | None


def controls(run: Run) -> list[Control]:
    """The control of every phase that needs one: figures of phases in which nobody edits rest on counts alone."""
    found = []
    for phase in phases_of(run):
        if (name := PHASES[phase].control) is not None:
            seen = compared(run, BY_NAME[name], ("floor2", phase), ("floor", phase))
            objection = objection_to(seen) if seen else "FLOOR did not take part twice"
            found.append(Control(phase, BY_NAME[name], seen, objection))
    return found


def objections_to(run: Run) -> list[str]:
    """Why the whole run is void; empty for a valid one, and for one without single edits, whose phases stand alone."""
    found = [f"single edits: {each.objection}" for each in controls(run) if each.phase == "edit" and each.objection]
    if "edit" not in phases_of(run):
        return found
    safe = compared(run, BY_NAME["request"], ("safe", "edit"), ("yardstick", "edit"))
    if safe is None:
        return [*found, "SAFE was not held against its yardstick"]
    if safe.middle > SAFE_LIMIT:
        found.append(f"SAFE takes more than {SAFE_LIMIT:g} times its yardstick")
    return found


class Judged(NamedTuple):
    """What became of a goal; without a value and open where nothing was measured.

    Attributes:
        goal: Which.
        seen: The figure.
        verdict: Whether it is reached.
    """

    goal: Goal
    seen: Interval | None
    verdict: Verdict


def judged(run: Run) -> list[Judged]:
    """Every goal."""
    void = {each.phase for each in controls(run) if each.objection}
    return [_judge(run, goal, void) for goal in GOALS]


def _judge(run: Run, goal: Goal, void: Collection[str]) -> Judged:
    figure, mine = BY_NAME[goal.figure], (goal.subject, goal.phase)
    if goal.beside is None:
        seen = spread(run, *mine, figure)
    else:
        seen = compared(run, figure, mine, (goal.beside, goal.beside_phase or goal.phase))
    if seen is None:
        return Judged(goal, None, Verdict.OPEN)
    if figure.trust is Trust.TIME and {goal.phase, goal.beside_phase} & {*void}:
        return Judged(goal, seen, Verdict.VOID)
    return Judged(goal, seen, _verdict(figure, seen, goal.limit))


def _verdict(figure: Figure, seen: Interval, limit: float) -> Verdict:
    """Counts hold in every block; costs are open while the median holds and a block does not; times have intervals."""
    if figure.trust is not Trust.TIME and seen.worst <= limit:
        return Verdict.MET
    if figure.trust is not Trust.TIME:
        return Verdict.OPEN if figure.trust is Trust.COST and seen.middle <= limit else Verdict.MISSED
    if figure.larger_is_better:
        flipped = Interval(-seen.high, -seen.middle, -seen.low, -seen.worst, seen.blocks)
        return verdict(flipped, -limit)
    return verdict(seen, limit)
