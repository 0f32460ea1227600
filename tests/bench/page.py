"""Makes docs/performance.md, and the plots beside it, from the results of a run.

uv run --no-sync --directory tests python -m bench.page FILE [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.drawing import Bar, chart
from bench.figures import BY_NAME, FIGURES, Figure, Goal, Kind, compared, control, judged, objections_to, spread
from bench.phases import PHASES
from bench.record import Run, load
from bench.statistics import Interval

ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = ROOT / "docs" / "performance.json"
PAGE: Final = ROOT / "docs" / "performance.md"
PLOTS: Final = ROOT / "docs" / "performance"
PLOTTED: Final = (("edit", "request"), ("slow", "synced"), ("burst", "wall"), ("burst", "cpu"), ("rest", "idle-cpu"))
REFERENCE: Final = "safe"

_ORIGIN = "This page is made from the results of one run by `uv run --directory tests python -m bench.page`."

_READING = (
    "In each block everybody takes a turn, in an order that the seed decides, on the same kube-apiserver and the same"
    " emulated provider. Edits come at planned times whatever became of those before, and a time counts from the"
    " planned moment. What arrived when is the word of the emulator, the API server's audit log and its watch;"
    " processor time and memory are the kernel's. A figure is the median of the blocks; in brackets stands the 95 %"
    " bootstrap interval. Counts are exact. Times depend on the machine: only the ratios to SAFE, taken inside each"
    " block, are worth comparing. etcd runs without fsync, and only the API server speaks TLS."
)

_FAIRNESS = (
    "For a fair reading: provider-http and this operator look at endpoints at rest and so notice what others change;"
    " the loops, the plain handler and the minimal controller never do. provider-http serves any HTTP API. Memory of"
    " Go and of Python is reported, not compared."
)


def table(run: Run) -> str:
    """The results for a terminal; the page has the same tables."""
    return "\n".join([*_verdict(run), "", *_tables(run, {}), *_goals(run)]) + "\n"


def render(run: Run) -> str:
    """The page."""
    machine = run.machine
    parts = [f"{name} {number}" for name, number in run.versions.items()]
    where = f"{machine.cores} cores ({machine.model}), {machine.memory_gib} GiB, {machine.kernel}; {', '.join(parts)}"
    lines = [
        "# Performance",
        "",
        f"{_ORIGIN} The results are in [{RESULTS.name}]({RESULTS.name}), raw, and come from:",
        "",
        "```console",
        f"$ {run.command}",
        "```",
        "",
        f"Run on {run.date}, commit {run.commit}, seed {run.seed}, {run.blocks} blocks; {where}.",
        "",
        _READING,
        "",
        *_verdict(run),
        "",
        "## Who took part",
        "",
        *_rows(("", "Version", "How it was run"), [(each.title, each.version, each.settings) for each in run.subjects]),
        "",
        *_tables(run, plots(run)),
        *_goals(run),
        "",
        _FAIRNESS,
    ]
    return "\n".join(lines) + "\n"


def plots(run: Run) -> dict[str, str]:
    """The plots by file name: ratios to SAFE."""
    found = {}
    for phase, name in PLOTTED:
        figure = BY_NAME[name]
        bars = [
            Bar(profile.title, seen.low, seen.middle, seen.high)
            for profile in run.subjects
            if (seen := compared(run, figure, (profile.name, phase), (REFERENCE, phase))) is not None
        ]
        if bars:
            found[f"{phase}-{name}.svg"] = chart(f"{_title(run, phase)}: {figure.title}, divided by SAFE", bars)
    return found


def _title(run: Run, phase: str) -> str:
    resources = next((result.resources for result in run.results if result.phase == phase), PHASES[phase].resources)
    return PHASES[phase].title.format(resources)


def _verdict(run: Run) -> list[str]:
    found = objections_to(run)
    held = ", ".join(f"{phase} {_interval(each)}" for phase, each in control(run).items()) or "none"
    words = f"**Void**: {'; '.join(found)}." if found else "**Valid.**"
    return [f"{words} FLOOR divided by itself: {held}."]


def _tables(run: Run, pictures: Collection[str]) -> list[str]:
    lines = []
    for phase in PHASES:
        if not any(result.phase == phase for result in run.results):
            continue
        figures = [figure for figure in FIGURES if any(_cells(run, phase, figure).values())]
        lines += [f"## {_title(run, phase)}", ""]
        lines += [*_rows(["", *(figure.title for figure in figures)], _phase_rows(run, phase, figures)), ""]
        for place, name in PLOTTED:
            if place == phase and (file := f"{place}-{name}.svg") in pictures:
                lines += [f"![{BY_NAME[name].title}, divided by SAFE]({PLOTS.name}/{file})", ""]
    return lines


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
    if figure.kind is Kind.COUNT:
        return _number(seen.middle) if seen.low == seen.high else f"{_number(seen.middle)} (≤ {_number(seen.worst)})"
    ratio = compared(run, figure, (subject, phase), (REFERENCE, phase))
    beside = f" (÷ SAFE {_interval(ratio)})" if ratio is not None and subject != REFERENCE else ""
    return f"{_number(seen.middle)}{beside}"


def _goals(run: Run) -> list[str]:
    found = judged(run)
    titles = {profile.name: profile.title for profile in run.subjects}
    rows = [
        (_goal(run, goal, titles), f"{_sign(goal)} {_number(goal.limit)}", _interval(seen), _number(seen.worst), word)
        for goal, seen, word in found
    ]
    return ["## Goals", "", *_rows(("", "Goal", "Seen", "Worst block", ""), rows)] if rows else []


def _goal(run: Run, goal: Goal, titles: Mapping[str, str]) -> str:
    figure = f"{_title(run, goal.phase)}: {BY_NAME[goal.figure].title}"
    if goal.beside is None:
        return figure
    place = f", {_title(run, goal.beside_phase).lower()}" if goal.beside_phase else ""
    return f"{figure} ÷ {titles.get(goal.beside, goal.beside)}{place}"


def _sign(goal: Goal) -> str:
    return "≥" if BY_NAME[goal.figure].larger_is_better else "≤"


def _interval(seen: Interval) -> str:
    return f"{_number(seen.middle)} [{_number(seen.low)}, {_number(seen.high)}]"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page from a command line, or check that it is what the results give."""
    parser = argparse.ArgumentParser(prog="bench.page", description="Make docs/performance.md from a run's results.")
    parser.add_argument("file", type=Path, nargs="?", default=RESULTS, help="the results (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything would change")
    parser.add_argument("--void", action="store_true", help="make a page of a run that is void, too")
    options = parser.parse_args(arguments)
    run = load(options.file)
    if objections_to(run) and not options.void:
        sys.stderr.write(f"the run is void: {'; '.join(objections_to(run))}\n")
        return 1
    files = {PAGE: render(run)} | {PLOTS / name: text for name, text in plots(run).items()}
    if options.check:
        return int(any(not path.exists() or path.read_text(encoding="utf-8") != text for path, text in files.items()))
    PLOTS.mkdir(exist_ok=True)
    if options.file.resolve() != RESULTS:
        RESULTS.write_text(options.file.read_text(encoding="utf-8"), encoding="utf-8")
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
