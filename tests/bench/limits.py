"""Makes docs/limits.md: how many resources a process, a key and an API server carry, by what each costs.

uv run --no-sync --directory tests python -m bench.limits [FILE…] [--check]

The files are results of the bench, by default those that docs/performance.md is made from. What the API server sends
was weighed by `bench.weighing` and stands beside the page. Nothing on the page is typed by hand: a number was measured,
or is a setting or constant of the operator, or follows from these.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self, TypeVar

import yaml

from bench import weighing
from bench.figures import BY_NAME, spread
from bench.page import ROOT, kept
from bench.phases import CORES_OF_SHARD
from bench.record import Run
from bench.record import load as load_run
from bench.weighing import Weights
from inference_operator.app import _pace
from inference_operator.core.schedule import DRIFT_SHARE, LIST_SHARE, POLL_SHARE, Pace
from inference_operator.kube.api import CHUNK
from inference_operator.kube.operator import RESYNC_SECONDS
from inference_operator.providers.friendli.client import PAGE_SIZE
from inference_operator.settings import Settings

PAGE: Final = ROOT / "docs" / "limits.md"
WEIGHTS: Final = PAGE.with_suffix(".json")
VALUES: Final = ROOT / "charts" / "inference-operator" / "values.yaml"

SIZES: Final = (100, 1_000, 10_000, 100_000)
KEYS: Final = (1, 10)
SHARDS: Final = (1, 3, 10)

SPAN: Final = 10
"""How much larger the largest fleet must be than the smallest, so that a cost per resource shows above the rest."""

BUSY: Final = 0.25
"""The share of a core that a process may need at rest, so that the rest is there for changes."""

FULL: Final = 0.8
"""The share of its memory limit that a process may use at rest."""

DAY: Final = 86_400.0
HOUR: Final = 3_600.0
MINUTE: Final = 60.0
T = TypeVar("T")
MANY: Final = 10**8
"""More than anybody has."""

NOT_MEASURED: Final = "not measured"
OF_A_PROCESS: Final = "resources of a process"
OF_A_LIST: Final = "endpoints of a key that one shard has"

_INTRODUCTION = """\
# Limits

<!-- Made by `uv run --directory tests python -m bench.limits`; a test fails when it is out of date. -->

How many resources one process, one key and one API server carry, and what to do beyond that. Three things grow with a
fleet: what a process remembers and does, what a provider is asked, and what the API server stores and sends. The second
one is the narrowest by far, because a key may make only so many calls.

*Measured* figures are those of the bench ([performance.md](performance.md) tells on which machine and how); *derived*
ones follow from them and from the settings as shipped."""

_FLEETS = """\
As many shards as the limits of a process ask for, and keys with equal parts of the endpoints. Shards share keys only
where there are fewer keys than shards, and then divide their calls; each key's list is read by each shard that has a
part of it. An edit of all takes so long because of the keys."""

_KEYS = """\
All endpoints of a key share its calls ([settings.md](settings.md), `CALLS_PER_SECOND`). What people change goes first;
looks at endpoints at rest become rarer by themselves where a key has many. One call of a list shows @PAGE@ endpoints,
and a list is of the whole account; it may take @LIST@ of the calls. Endpoints whose replicas Friendli's autoscaler may
move at any time are looked at one by one, for @POLL@ of the calls. What lists do not show is read for @DRIFT@ of them:
at Friendli the specification and the versions that others have made. Novita's lists show its endpoints whole."""

_SHARED = """\
A list is of an account, not of a shard: each shard that has an endpoint of a key at rest reads the key's whole list,
with its part of the calls. So give all resources of a key to one shard where you can. The chart divides
`settings.callsPerSecond` among all shards whether or not they share keys: where they do not, multiply the value by the
number of shards, and each has the whole of it for its own keys. With @NUMBER@ endpoints under one key that shards share
evenly:"""

_API = """\
A process keeps one watch of what its shard selects, lists it at the start in answers of @CHUNK@, and compares what it
holds with another list every @RESYNC@. The API server evaluates a selector for every event and every list of every
shard, so that shards divide the work of the processes and the bytes, not the API server's reading. Replicas that stand
by watch and list as the active one does.

Before and after it stores its intent, a resource that has never written asks who else names its endpoint; shards ask
from time to time for all. The API server has no index for that and looks through every resource, so that the cost of
first writes grows with the square of their number: roll a very large fleet out in parts."""

_FIRST = """\
Beyond a limit of a key the operator looks at endpoints at rest less often; what people change still goes out before
all else. Beyond a limit of a process it needs more memory than the chart allows it, or so much time for looking that
changes wait."""


_HOURLY: Final = "s per hour"


@dataclass(frozen=True)
class Line:
    """What something costs as such, and for each resource more."""

    base: float
    slope: float

    @classmethod
    def through(cls, points: Iterable[tuple[int, float]]) -> Self | None:
        """The straight line nearest to the medians; None if the fleets do not differ enough in size.

        Nothing costs less than nothing: where none at all would, the line begins at zero.
        """
        by_size = defaultdict[int, list[float]](list)
        for size, value in points:
            by_size[size].append(value)
        if not by_size or max(by_size) < SPAN * min(by_size):
            return None
        medians = [statistics.median(each) for each in by_size.values()]
        found = statistics.linear_regression(list(by_size), medians)
        if found.intercept < 0:
            found = statistics.linear_regression(list(by_size), medians, proportional=True)
        return cls(found.intercept, found.slope)

    def at(self, resources: int) -> float:
        """The cost of so many."""
        return self.base + self.slope * resources


@dataclass(frozen=True)
class Costs:
    """What was measured; None for what was not.

    Attributes:
        memory: Resident MiB of a process.
        idle: Share of a core of a process at rest that looks at every endpoint once a minute.
        cpu: Seconds of a core for a change.
        calls: Calls to the provider for a change.
        throughput: Changes per second of one process, with the part of a core that `shards` leaves it.
        sharded: Changes per second of three.
        still: Reads per hour of an endpoint that cannot move by itself.
        moving: Reads per hour of an autoscaled one.
        novita: Reads per hour of one of Novita's.
        writes: Kubernetes writes for a change, Events included.
        weights: What the API server sends.
    """

    memory: Line | None = None
    idle: Line | None = None
    cpu: float | None = None
    calls: float | None = None
    throughput: float | None = None
    sharded: float | None = None
    still: float | None = None
    moving: float | None = None
    novita: float | None = None
    writes: float | None = None
    weights: Weights | None = None


@dataclass(frozen=True)
class Limit:
    """How far something holds.

    Attributes:
        name: For tables.
        what: That holds so far, as a sentence.
        most: Resources; None where it was not measured.
        of: Of what there may be so many.
        then: What to do beyond.
    """

    name: str
    what: str
    most: int | None
    of: str
    then: str


def costs(runs: Sequence[Run], weights: Weights | None) -> Costs:
    """What the runs have measured of this operator."""

    def figure(name: str, phase: str, subject: str = "ours") -> float | None:
        found = (spread(run, subject, phase, BY_NAME[name]) for run in runs)
        return next((seen.middle for seen in found if seen is not None), None)

    def line(name: str, *phases: str) -> Line | None:
        results = [each for run in runs for each in run.results if each.subject == "ours" and each.phase in phases]
        found = [(each.resources, BY_NAME[name].of(each)) for each in results]
        return Line.through((resources, value) for resources, value in found if value is not None)

    milliseconds, reads, mutations = (figure(name, "burst") for name in ("cpu", "reads", "mutations"))
    return Costs(
        memory=line("resident", "edit-10", "edit", "edit-5000", "rest", "polled"),
        idle=line("core", "rest", "polled"),
        cpu=None if milliseconds is None else milliseconds / 1000,
        calls=None if reads is None or mutations is None else reads + mutations,
        throughput=figure("throughput", "shards"),
        sharded=figure("throughput", "shards", "ours-3"),
        still=figure("still-reads", "account"),
        moving=figure("moving-reads", "account"),
        novita=figure("idle-reads", "account", "ours-novita"),
        writes=figure("writes-events", "burst"),
        weights=weights,
    )


def largest(holds: Callable[[int], bool]) -> int:
    """The largest number for which something holds that holds for all smaller ones; 0 if for none."""
    low, high = 0, 1
    while high < MANY and holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def pages(endpoints: int) -> int:
    """Calls of one list of an account."""
    return math.ceil(endpoints / PAGE_SIZE)


def list_round(pace: Pace, endpoints: int) -> float:
    """Seconds between two sights of the same endpoint in lists."""
    return max(pace.poll, pages(endpoints) * pace.paging(pages(endpoints)))


def limits(found: Costs, pace: Pace, memory_limit: float) -> list[Limit]:
    """How far everything holds, the nearest first; what was not measured last."""
    memory, idle = found.memory, found.idle
    poll = duration(pace.poll)
    more = "more keys, or a provider that allows more calls"
    every = [
        Limit(
            f"read whole every {duration(pace.drift)}",
            f"Each is read whole every {duration(pace.drift)}",
            largest(lambda number: pace.drifting(number) <= pace.drift),
            "endpoints of a key at rest",
            more,
        ),
        Limit(
            "read whole once a day",
            "Each is read whole once a day",
            largest(lambda number: pace.drifting(number) <= DAY),
            "endpoints of a key at rest",
            more,
        ),
        Limit(
            f"autoscaled replicas at most {poll} old",
            f"Replica counts that an autoscaler moves are at most {poll} old",
            largest(lambda number: pace.polling(number) <= pace.poll),
            "endpoints of a key that Friendli scales",
            more,
        ),
        Limit(
            f"states at most {poll} old",
            f"States are at most {poll} old",
            largest(lambda number: list_round(pace, number) <= pace.poll),
            OF_A_LIST,
            more,
        ),
        Limit(
            "memory",
            f"A process stays within {FULL:.0%} of the chart's {memory_limit:.0f} MiB",
            None if memory is None else largest(lambda number: memory.at(number) <= FULL * memory_limit),
            OF_A_PROCESS,
            "a larger `resources.limits.memory`, or shards",
        ),
        Limit(
            "processor",
            f"Looking takes at most {BUSY:.0%} of a core",
            None if idle is None else largest(lambda number: idle.at(number) <= BUSY),
            OF_A_PROCESS,
            "shards",
        ),
    ]
    return sorted(every, key=lambda each: MANY if each.most is None else each.most)


def duration(seconds: float) -> str:
    """For people."""
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def number(value: float) -> str:
    """Three digits at most, and no less than a whole one above."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def of(measured: T | None, figure: Callable[[T], float]) -> float | None:
    """A figure of what may not have been measured."""
    return None if measured is None else figure(measured)


def optional(value: float | None, unit: str = "") -> str:
    """With a unit, or that it was not measured."""
    return NOT_MEASURED if value is None else f"{number(value)} {unit}".rstrip()


def render(found: Costs, pace: Pace, memory_limit: float) -> str:
    """The page."""
    places = {
        "@PAGE@": str(PAGE_SIZE),
        "@LIST@": _share(LIST_SHARE),
        "@POLL@": _share(POLL_SHARE),
        "@DRIFT@": _share(DRIFT_SHARE),
        "@NUMBER@": number(SIZES[-2]),
        "@CHUNK@": str(CHUNK),
        "@RESYNC@": duration(RESYNC_SECONDS),
    }
    every = limits(found, pace, memory_limit)
    sections: tuple[tuple[str, str, list[str]], ...] = (
        ("", _INTRODUCTION, []),
        ("What gives first", _FIRST, _limits(every)),
        ("Fleets", _FLEETS, _fleets(found, pace, every)),
        ("What one process needs", "", _processes(found)),
        ("What one key carries", _KEYS, _keys(found, pace)),
        ("One key in several shards", _SHARED, _shared(pace)),
        ("The API server", _API, _server(found, pace)),
        ("What was measured", "", _measured(found)),
    )
    parts = []
    for title, words, rows in sections:
        parts += [part for part in (f"## {title}" if title else "", words, "\n".join(rows)) if part]
    text = "\n\n".join(parts) + "\n"
    return re.sub("|".join(places), lambda place: places[place[0]], text)


def _share(value: float) -> str:
    return f"1/{1 / value:.0f}"


def _limits(every: Sequence[Limit]) -> list[str]:
    rows = [(each.what, optional(each.most), each.of, each.then) for each in every]
    return _table(("Holds", "up to", "of", "beyond that"), rows)


def _fleets(found: Costs, pace: Pace, every: Sequence[Limit]) -> list[str]:
    """Each fleet, with the shards that it should have and the first limit that it is beyond."""
    of_process = [each.most for each in every if each.of == OF_A_PROCESS]
    known = [most for most in of_process if most]
    rows = []
    for size in SIZES:
        for keys in KEYS:
            shards = math.ceil(size / min(known)) if len(known) == len(of_process) else None
            sharing = math.ceil((shards or 1) / keys)
            parts = {OF_A_PROCESS: size / (shards or 1), OF_A_LIST: size / keys * sharing}
            beyond = [limit.name for limit in every if limit.most and parts.get(limit.of, size / keys) > limit.most]
            slower = replace(pace, rate=pace.rate / sharing)
            cells = (duration(list_round(slower, size // keys)), duration(pace.drifting(size // keys)))
            taken = _all_at_once(found, pace, size // keys)
            rows.append((number(size), str(keys), optional(shards), *cells, taken, "; ".join(beyond) or "-"))
    header = (
        "Resources",
        "Keys",
        "Shards advised",
        "States are at most",
        "read whole every",
        "an edit of all takes",
        "No longer holds",
    )
    return _table(header, rows)


def _all_at_once(found: Costs, pace: Pace, endpoints: int) -> str:
    """How long the calls of a key make one change of each of its endpoints take."""
    return NOT_MEASURED if found.calls is None else duration(endpoints * found.calls / pace.rate)


def _processes(found: Costs) -> list[str]:
    rows = []
    for size in SIZES:
        idle = None if found.idle is None else found.idle.at(size)
        rows.append(
            (
                number(size),
                optional(None if found.memory is None else found.memory.at(size), "MiB"),
                NOT_MEASURED if idle is None else f"{100 * idle:.3g} %",
                NOT_MEASURED if found.cpu is None else duration(size * found.cpu),
                NOT_MEASURED if found.throughput is None else duration(size / found.throughput),
            )
        )
    header = (
        "Resources of one process",
        "Resident memory (derived)",
        "Of a core at rest, every endpoint looked at each minute (derived)",
        "Processor time to change each once (derived)",
        f"Time for that without limits of a key, with {CORES_OF_SHARD} cores (derived)",
    )
    return _table(header, rows)


def _keys(found: Costs, pace: Pace) -> list[str]:
    rows = [
        (
            number(size),
            f"{number(size)} of {number(pace.rate * pace.poll)}",
            number(pages(size)),
            duration(list_round(pace, size)),
            duration(pace.polling(size)),
            duration(pace.drifting(size)),
            _all_at_once(found, pace, size),
        )
        for size in SIZES
    ]
    header = (
        "Endpoints of one key",
        f"Calls to look at each one by one, of those in {duration(pace.poll)}",
        "Calls of one list",
        "A list takes",
        "If all were autoscaled, each is looked at every",
        "Each is read whole every",
        "One change of each takes",
    )
    return _table(header, rows)


def _shared(pace: Pace) -> list[str]:
    rows = []
    for shards in SHARDS:
        each = replace(pace, rate=pace.rate / shards)
        size = SIZES[-2]
        rows.append(
            (
                str(shards),
                f"{number(each.rate)} calls/s",
                number(shards * pages(size)),
                duration(list_round(each, size)),
                duration(each.drifting(size // shards)),
            )
        )
    header = ("Shards", "Each may make", "List calls of all, for one round", "States are at most", "read whole every")
    return _table(header, rows)


def _server(found: Costs, pace: Pace) -> list[str]:
    weights = found.weights
    rows = []
    for size in SIZES:
        stored = None if weights is None else size * weights.object_bytes / 2**20
        requests = None if weights is None else weights.lists * math.ceil(size / CHUNK)
        started = None if weights is None or stored is None else weights.lists * stored
        again = None if stored is None else 1024 * stored / RESYNC_SECONDS
        cells = (optional(stored, "MiB"), optional(requests), optional(started, "MiB"), optional(again, "KiB/s"))
        rows.append((number(size), *cells, *_questions(weights, size)))
    header = (
        "Resources",
        "Stored (derived)",
        "Requests of a start, all shards together (derived)",
        "Bytes of a start (derived)",
        "Bytes of the comparison (derived)",
        "Processor time of a question for claims (derived)",
        "Processor time if each makes its first write (derived)",
    )
    return [*_table(header, rows), "", *_events(found, pace)]


def _questions(weights: Weights | None, size: int) -> tuple[str, str]:
    """What it costs the API server to tell who else names an endpoint: it looks through all resources."""
    if weights is None:
        return NOT_MEASURED, NOT_MEASURED
    seconds = weights.question_ms / 1000 * size / 1000
    return f"{number(1000 * seconds)} ms", duration(size * seconds * weights.questions / weights.changes)


def _events(found: Costs, pace: Pace) -> list[str]:
    """While people change as much as keys allow."""
    weights, rows = found.weights, []
    for keys in KEYS:
        changes = None if found.calls is None else keys * pace.rate / found.calls
        events = None if weights is None or changes is None else changes * weights.watch_events / weights.changes
        sent = None if weights is None or changes is None else changes * weights.watch_bytes / weights.changes / 1024
        written = None if changes is None or found.writes is None else changes * found.writes
        cells = (optional(changes), optional(written), optional(events), optional(sent, "KiB/s"))
        rows.append((str(keys), *cells))
    header = (
        "Keys in use to their limit",
        "Changes per second (derived)",
        "Kubernetes writes per second (derived)",
        "Watch events per second to each watcher of all (derived)",
        "Their bytes (derived)",
    )
    return _table(header, rows)


def _measured(found: Costs) -> list[str]:
    memory, idle, weights = found.memory, found.idle, found.weights
    rows = [
        ("Resident memory of a process without resources", optional(of(memory, lambda line: line.base), "MiB")),
        ("Resident memory for each resource", optional(of(memory, lambda line: 1024 * line.slope), "KiB")),
        (
            "Processor time at rest of a process without resources",
            "too little to tell"
            if idle and not idle.base
            else optional(of(idle, lambda line: HOUR * line.base), _HOURLY),
        ),
        (
            "Processor time at rest for each resource, looked at each minute",
            optional(of(idle, lambda line: HOUR * line.slope), _HOURLY),
        ),
        ("Processor time for a change", optional(of(found.cpu, lambda seconds: 1000 * seconds), "ms")),
        (f"Changes per second, one process with {CORES_OF_SHARD} cores", optional(found.throughput)),
        (f"Changes per second, three shards with {CORES_OF_SHARD} cores each", optional(found.sharded)),
        ("Calls to Friendli for a change, reads and the update", optional(found.calls)),
        ("Reads of a fixed or sleeping endpoint of Friendli", optional(found.still, "per hour")),
        ("Reads of an autoscaled endpoint of Friendli", optional(found.moving, "per hour")),
        ("Reads of an endpoint of Novita", optional(found.novita, "per hour")),
        ("Kubernetes writes for a change, Events included", optional(found.writes)),
        ("Size of a resource with its status", optional(of(weights, lambda each: each.object_bytes), "bytes")),
        (
            "Watch events for a change, the edit included",
            optional(of(weights, lambda each: each.watch_events / each.changes)),
        ),
        ("Bytes of these", optional(of(weights, lambda each: each.watch_bytes / each.changes), "bytes")),
        ("Lists of everything at a start", optional(of(weights, lambda each: each.lists))),
        ("Questions for claims for a first write", optional(of(weights, lambda each: each.questions / each.changes))),
        (
            "Processor time of the API server for one, for each thousand resources",
            optional(of(weights, lambda each: each.question_ms), "ms"),
        ),
    ]
    return _table(("", "Measured"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def memory_limit_of(values: Path = VALUES) -> float:
    """MiB that the chart allows a process."""
    limit = str(yaml.safe_load(values.read_text(encoding="utf-8"))["resources"]["limits"]["memory"])
    return float(limit.removesuffix("Mi"))


def page(files: Sequence[Path] = (), weights: Path = WEIGHTS) -> str:
    """The page of these results, by default of those that docs/performance.md is made from."""
    runs = [load_run(path) for path in files or kept()]
    found = costs(runs, weighing.load(weights) if weights.exists() else None)
    return render(found, _pace(Settings()), memory_limit_of())


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page from a command line, or check that it is what the results give."""
    parser = argparse.ArgumentParser(prog="bench.limits", description="Make docs/limits.md from results of the bench.")
    parser.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="results (default: those of the bench's page)"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page would change")
    options = parser.parse_args(arguments)
    text = page(options.files)
    if options.check:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
