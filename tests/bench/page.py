"""Makes docs/performance.md, and the plots beside it, from the results of one run or several.

uv run --no-sync --directory tests python -m bench.page [FILE…] [--check]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.contestants import SUBJECTS
from bench.drawing import Bar, chart
from bench.editing import Kind
from bench.figures import (
    BY_NAME,
    FIGURES,
    GOALS,
    Control,
    Figure,
    Goal,
    Judged,
    Trust,
    compared,
    controls,
    judged,
    objections_to,
    phases_of,
    spread,
)
from bench.phases import PHASES
from bench.record import OTHERS, Run, load
from bench.statistics import FEWEST_BLOCKS, Interval, Verdict
from faults.comparison import Profile

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "performance.md"
FOLDER: Final = ROOT / "docs" / "performance"
"""For the results and the plots."""

NOTES: Final = FOLDER / "notes.md"
"""What people have to say about goals that were missed; part of the page where there is anything."""

PUBLISHED: Final = Path(__file__).with_name("published.json")
"""What the page says of the figures that the gate looks at."""

GATED: Final = (("cpu", "safe"), ("cpu", "naive"), ("wall", "safe"))
"""Of the burst, this operator's divided by another subject's."""

PLOTTED: Final = (
    ("edit", "request"),
    ("slow", "synced"),
    ("burst", "wall"),
    ("burst", "cpu"),
    ("sustained", "sustained"),
    ("rest", "idle-cpu"),
)
UNCOMPARED: Final = frozenset({"resident", "core", "beside", "beside-p99"})
"""Figures that are not divided by SAFE's: memory of Go and Python is no contest, and ratios are ratios already."""

REFERENCE: Final = "safe"
INSTEAD: Final = "peer-b"
"""What others are divided by where SAFE does nothing."""

_ORIGIN = "Made by `uv run --directory tests python -m bench.page` from the raw results that stand beside it."

_READING = f"""\
In each block everybody takes a turn, in an order that the seed decides, on the same kube-apiserver and the same
emulated provider. Edits come at planned times whatever became of those before, and a time counts from the planned
moment; reads before an update count from when the edit left. What arrived when is the word of the emulator, the API
server's audit log and its watch; processor time, memory and connections are the kernel's word. For single edits and
bursts, those of shards too, everybody is at work from the first block to the last, and does at rest what it always does
while others have their turn (but for provider-http, whose open connections would use up the machine's); in all other
phases each has the cluster to itself, and starts anew for each turn.

- **Counts** are exact, and are judged by their worst block.
- **Times** depend on the machine. Only the ratios are worth comparing: each is taken inside a block, the table shows
  the median of the blocks and, in brackets, the 95 % bootstrap interval.
- **Processor time** is gross, the process's own housekeeping included.
- **The control**: FLOOR takes part twice, under two names. Where the interval of its ratio to itself leaves 1 out, is
  wider than 5 % to either side, or rests on fewer than {FEWEST_BLOCKS} blocks, the times of that phase are *void*:
  they are shown, and nothing is concluded from them. If that happens to single edits, the whole run is void. Phases in
  which nobody edits anything have no control, because FLOOR does nothing in them; they rest on counts.
- **Kept up with**: the rate at which edits came when the first ones were more than a second late. Who is never late has
  the last rate of the ramp, and may be able to do more.
- **Dropped turns**: a phase of a subject during which others used more than {100 * OTHERS:.0f} % of the machine's
  processor time is repeated once, and dropped if that happens again; the same for everybody.
- **Once**: who is named behind `--once` in the command of a run had its turns in the first block alone, because they
  take long. Its figures have no interval; they tell counts and magnitudes.
- *met*: the whole interval is on the right side of the goal. *missed*: the whole interval is on the wrong side.
  *open*: it reaches to both sides, there are fewer than {FEWEST_BLOCKS} blocks, or nothing was measured."""

_FAIRNESS = """\
- provider-http and this operator look at endpoints at rest, and so notice what others change; the loops, the plain
  handler and the minimal controller never look. What they save at rest, they do not know.
- provider-http serves any HTTP API by templates, and stores the whole answer in the status. It looks before each
  decision. B is the best that was found: with the model in the endpoint's name, and failed reads left alone. There is
  no mapping of it for Novita here, so only this operator is shown there.
- It is run with the poll that it ships, and with two rates: 10, which it ships, and 100, which is better for it. With
  10, and where an answer never equals what was sent (D), it is at work on its 300 resources all the time; what it does
  for those that nobody edits meanwhile is in its figures per change.
- This operator is run without the limits that protect an account (the emulator needs no protection), except where the
  title says "on one account": there it has the limits that it ships, and everybody is started anew before it.
- Where a list shows many endpoints, its cost is shared evenly by all of them. What this operator reads more seldom than
  it is watched here is spread evenly over the fleet, so that its share is counted.
- Kubernetes writes are those of resources and everything else but Events and Leases, refused ones included. Events
  stand in a second figure, for everybody alike.
- Go and Python need different memory to begin with: it is shown, and is no claim.
- etcd runs without fsync, and only the API server speaks TLS, for everybody alike; the provider is on the same
  machine."""


def table(run: Run) -> str:
    """The results for a terminal; the page has the same tables."""
    lines = [*_verdict(run), "", *_goals([run], [each.goal for each in judged(run) if each.seen]), ""]
    for phase in phases_of(run):
        lines += [*_phase(run, phase, {}), ""]
    return "\n".join(lines).rstrip() + "\n"


def render(runs: Mapping[str, Run]) -> str:
    """The page.

    Args:
        runs: By the name of the file of each.
    """
    lines = ["# Performance", "", _ORIGIN, "", "## Goals", "", *_goals(list(runs.values())), "", *_void(runs.values())]
    lines += ["## How to read it", "", _READING, "", "## Who took part", "", *_subjects(runs.values()), ""]
    for phase in PHASES:
        for run in runs.values():
            if phase in phases_of(run):
                lines += [*_phase(run, phase, plots(run)), ""]
    if NOTES.exists():
        lines += ["## What is out of reach, and why", "", NOTES.read_text(encoding="utf-8").strip(), ""]
    lines += ["## For a fair reading", "", _FAIRNESS, "", "## The runs", ""]
    for name, run in runs.items():
        lines += [*_run(name, run), ""]
    return "\n".join(lines).rstrip() + "\n"


def plots(run: Run) -> dict[str, str]:
    """The plots by file name: ratios to SAFE, or to the best peer where SAFE does nothing."""
    found = {}
    for phase, name in PLOTTED:
        figure = BY_NAME[name]
        for other in (REFERENCE, INSTEAD):
            bars = [
                Bar(profile.title, seen.low, seen.middle, seen.high)
                for profile in run.subjects
                if (seen := compared(run, figure, (profile.name, phase), (other, phase))) is not None
            ]
            if any(bar.middle for bar in bars):
                title = f"{_title(run, phase)}: {figure.title}, ÷ {_name(other)}"
                found[f"{phase}-{name}.svg"] = chart(title, bars)
                break
    return found


def published(run: Run) -> dict[str, float]:
    """What the gate compares itself with: ratios of this operator in the burst."""
    pairs = {
        f"{name} ÷ {other}": compared(run, BY_NAME[name], ("ours", "burst"), (other, "burst")) for name, other in GATED
    }
    return {title: round(seen.middle, 3) for title, seen in pairs.items() if seen is not None}


def _title(run: Run | None, phase: str) -> str:
    results = run.results if run else ()
    resources = next((result.resources for result in results if result.phase == phase), PHASES[phase].resources)
    return PHASES[phase].title.format(resources)


def _name(subject: str) -> str:
    return SUBJECTS[subject].profile.title


def _verdict(run: Run) -> list[str]:
    found = objections_to(run)
    return [f"**Void**: {'; '.join(found)}." if found else "**Valid.**", *_disturbed(run)]


def _void(runs: Iterable[Run]) -> list[str]:
    """What was void, and why."""
    lines = []
    for run in runs:
        lines += [f"- {objection}." for objection in objections_to(run)]
        for each in controls(run):
            if each.objection:
                lines.append(f"- {_title(run, each.phase)}: {_words(each)}")
    return ["Void:", "", *lines, ""] if lines else []


def _words(control: Control) -> str:
    """What the control says of a phase."""
    if control.seen is None:
        return f"times are void: {control.objection}."
    ratio = f"FLOOR divided by itself ({control.figure.title}) is {_interval(control.seen)}"
    return f"times are void: {ratio}, {control.objection}." if control.objection else f"{ratio}."


def _disturbed(run: Run) -> list[str]:
    return [*_dropped(run), *_absent(run)]


def _absent(run: Run) -> list[str]:
    """Who did not come so far as to be measured."""
    return [
        f"{_name(each.subject)} had {each.in_sync} of {each.resources} resources in sync after {each.seconds:.0f} s,"
        f" and had no turn in block {each.block + 1}: {', '.join(each.phases)}."
        for each in run.absent
    ]


def _dropped(run: Run) -> list[str]:
    if not run.dropped:
        return [f"No turn was dropped; {len(run.results)} count."]
    by_phase = ", ".join(f"{phase} {number}" for phase, number in Counter(each.phase for each in run.dropped).items())
    why = f"others used more than {100 * run.others:.0f} % of the machine"
    return [f"Turns dropped because {why}: {len(run.dropped)} ({by_phase}); {len(run.results)} count."]


def _subjects(runs: Iterable[Run]) -> list[str]:
    profiles: dict[str, Profile] = {}
    for run in runs:
        profiles |= {profile.name: profile for profile in run.subjects}
    return _rows(
        ("", "Version", "How it was run"), [(each.title, each.version, each.settings) for each in profiles.values()]
    )


def _run(name: str, run: Run) -> list[str]:
    machine, link = run.machine, f"[{name}]({FOLDER.name}/{name})"
    parts = ", ".join(f"{part} {number}" for part, number in run.versions.items())
    return [
        f"{link}: begun {run.date}, commit {run.commit}, seed {run.seed}, blocks: {run.blocks}.",
        "",
        "```console",
        f"$ {run.command}",
        "```",
        "",
        f"{machine.cores} cores ({machine.model}), {machine.memory_gib} GiB, {machine.kernel}; {parts}.",
        *_disturbed(run),
    ]


def _phase(run: Run, phase: str, pictures: Collection[str]) -> list[str]:
    lines = [f"## {_title(run, phase)}", ""]
    for each in controls(run):
        if each.phase == phase:
            words = _words(each)
            lines += [f"{words[0].upper()}{words[1:]}", ""]
    if phase == "console":
        lines += [*_console(run), ""]
    for trusts in ({Trust.TIME, Trust.COST}, {Trust.COUNT}):
        figures = [figure for figure in FIGURES if figure.trust in trusts and any(_cells(run, phase, figure).values())]
        if figures:
            lines += [*_rows(["", *(figure.title for figure in figures)], _phase_rows(run, phase, figures)), ""]
    for place, name in PLOTTED:
        if place == phase and (file := f"{place}-{name}.svg") in pictures:
            lines += [f"![{BY_NAME[name].title}]({FOLDER.name}/{file})", ""]
    return lines[:-1]


def _console(run: Run) -> list[str]:
    """Seconds after changes by others, of all blocks together: median, and slowest in brackets."""
    columns = [(what, how) for what in ("configuration", "state") for how in ("read", "shown")]
    rows = []
    for profile in run.subjects:
        results = [each for each in run.results if (each.subject, each.phase) == (profile.name, "console")]
        for kind in Kind:
            found = [
                [at for each in results for at in each.samples.get(f"{how}_{what}_{kind}", ())] for what, how in columns
            ]
            if any(found):
                cells = [f"{statistics.median(at):.0f} (≤ {max(at):.0f})" if at else "-" for at in found]
                rows.append([profile.title, kind, *cells])
    header = ["Seconds until …", "endpoint", "configuration read", "drift in status", "state read", "state in status"]
    return _rows(header, rows)


def _phase_rows(run: Run, phase: str, figures: Sequence[Figure]) -> Iterable[Sequence[str]]:
    columns = [_cells(run, phase, figure) for figure in figures]
    for profile in run.subjects:
        row = [column[profile.name] for column in columns]
        if any(row):
            yield [profile.title, *(cell or "-" for cell in row)]


def _cells(run: Run, phase: str, figure: Figure) -> dict[str, str]:
    return {profile.name: _cell(run, profile.name, phase, figure) for profile in run.subjects}


def _cell(run: Run, subject: str, phase: str, figure: Figure) -> str:
    seen = spread(run, subject, phase, figure)
    if seen is None:
        return ""
    if figure.trust is Trust.COUNT:
        return _count(seen)
    if figure.name in UNCOMPARED:
        return _interval(seen)
    ratio = compared(run, figure, (subject, phase), (REFERENCE, phase))
    beside = f" (÷ SAFE {_interval(ratio)})" if ratio is not None and subject != REFERENCE else ""
    return f"{_number(seen.middle)}{beside}"


def _goals(runs: Sequence[Run], goals: Sequence[Goal] = GOALS) -> list[str]:
    rows = []
    for goal in goals:
        measured = [(run, each) for run in runs for each in judged(run) if each.goal == goal and each.seen is not None]
        run, found = measured[0] if measured else (None, Judged(goal, None, Verdict.OPEN))
        word = f"**{found.verdict}**" if found.verdict is Verdict.MISSED else found.verdict
        limit = f"{_sign(goal)} {_number(goal.limit)}"
        rows.append([_title(run, goal.phase), BY_NAME[goal.figure].title, _whose(run, goal), limit, _seen(found), word])
    return _rows(("While", "Figure", "Whose", "Goal", "Seen", ""), rows)


def _whose(run: Run | None, goal: Goal) -> str:
    mine = _name(goal.subject)
    if goal.beside is None:
        return mine
    place = f", {_title(run, goal.beside_phase).lower()}" if goal.beside_phase else ""
    return f"{mine} ÷ {'itself' if goal.beside == goal.subject else _name(goal.beside)}{place}"


def _seen(found: Judged) -> str:
    if found.seen is None:
        return "not measured"
    return _count(found.seen) if BY_NAME[found.goal.figure].trust is Trust.COUNT else _interval(found.seen)


def _sign(goal: Goal) -> str:
    return "≥" if BY_NAME[goal.figure].larger_is_better else "≤"


def _count(seen: Interval) -> str:
    return _number(seen.middle) if seen.worst == seen.middle else f"{_number(seen.middle)} (≤ {_number(seen.worst)})"


def _interval(seen: Interval) -> str:
    if seen.low == seen.high:
        return _number(seen.middle)
    return f"{_number(seen.middle)} [{_number(seen.low)}, {_number(seen.high)}]"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def files(runs: Mapping[str, Run]) -> dict[Path, str]:
    """Everything that is made from the runs.

    Raises:
        ValueError: Two of them have been through the same phase.
    """
    twice = [
        phase
        for phase, number in Counter(each for run in runs.values() for each in phases_of(run)).items()
        if number > 1
    ]
    if twice:
        raise ValueError(f"more than one run has been through: {', '.join(twice)}")
    found = {PAGE: render(runs)}
    for run in runs.values():
        found |= {FOLDER / name: text for name, text in plots(run).items()}
        if ratios := published(run):
            found[PUBLISHED] = json.dumps(ratios, indent=1, ensure_ascii=False) + "\n"
    return found


def kept() -> list[Path]:
    """The results that the page is made from."""
    return sorted(FOLDER.glob("*.json"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page from a command line, or check that it is what the results give."""
    parser = argparse.ArgumentParser(prog="bench.page", description="Make docs/performance.md from results of runs.")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="results (default: those of the page)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything would change")
    parser.add_argument("--void", action="store_true", help="make a page of a run that is void, too")
    options = parser.parse_args(arguments)
    paths = options.files or kept()
    runs = {path.name: load(path) for path in paths}
    void = [f"{name}: {'; '.join(objections)}" for name, run in runs.items() if (objections := objections_to(run))]
    if void and not options.void:
        sys.stderr.write("".join(f"void: {line}\n" for line in void))
        return 1
    made = files(runs)
    if options.check:
        return int(any(not path.exists() or path.read_text(encoding="utf-8") != text for path, text in made.items()))
    FOLDER.mkdir(exist_ok=True)
    for path in paths:
        if path.resolve().parent != FOLDER:
            (FOLDER / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
