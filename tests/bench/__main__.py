"""Measures this operator beside bare loops and what people would use in its place, all in one run.

uv run --no-sync --directory tests python -m bench [--subjects floor,ours] [--phases edit] [--blocks N] [--json FILE]
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench.contestants import SUBJECTS, TESTS, prepare
from bench.contestants import USUAL as USUAL_SUBJECTS
from bench.figures import FIGURES, objections_to
from bench.page import table
from bench.phases import PHASES
from bench.phases import USUAL as USUAL_PHASES
from bench.record import Result, Run, save
from bench.turns import Course
from bench.vitals import machine
from faults.peers.command import chosen
from inference_operator.playground.binaries import PROGRAMS, ensure
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.process import emulator_process
from planes import PROGRAMS as PLANE_PROGRAMS
from planes import USERS

COMMAND = "uv run --directory tests python -m bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from a command line; the exit code is 1 for a run that is void."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or nobody would end the subjects
    ensure(PLANE_PROGRAMS)
    prepare(options.subjects)
    console, began = Console(stderr=True), datetime.now(UTC).isoformat(timespec="seconds")

    def report(block: int, subject: str, phase: str, found: Result | None) -> None:
        if found is not None:
            seen = [f"{figure.name} {value:.4g}" for figure in FIGURES if (value := figure.of(found)) is not None]
            line = f"block {block + 1}/{options.blocks} {subject} {phase}: {', '.join(seen)}"
            console.print(line, highlight=False, soft_wrap=True)

    results: list[Result] = []
    with ControlPlane(users=USERS) as plane, emulator_process() as emulators:
        course = Course(
            plane=plane,
            emulators=emulators,
            subjects=options.subjects,
            phases=[phase for phase in PHASES.values() if phase.name in options.phases],
            blocks=options.blocks,
            seed=options.seed,
            scale=options.scale,
            report=report,
        )
        try:
            results.extend(course.run())
        except BaseException as error:
            whole = results[-1].block if results else 0
            if whole and options.json:
                save(_run(options, began, results, whole), options.json)
            if isinstance(error, KeyboardInterrupt):
                return 130
            raise
    run = _run(options, began, results, options.blocks)
    if options.json:
        save(run, options.json)
    sys.stdout.write(table(run))
    return 1 if objections_to(run) else 0


def _run(options: argparse.Namespace, began: str, results: Sequence[Result], blocks: int) -> Run:
    """What is kept of a run: its whole blocks."""
    return Run(
        date=began,
        commit=_commit(),
        command=_command(options),
        seed=options.seed,
        blocks=blocks,
        machine=machine(),
        versions={"kube-apiserver": PROGRAMS["kube-apiserver"].module.version, "Python": sys.version.split()[0]},
        subjects=[SUBJECTS[name].profile for name in SUBJECTS if name in options.subjects],
        results=[result for result in results if result.block < blocks],
    )


def _command(options: argparse.Namespace) -> str:
    """What repeats the run; where the results are kept is nobody's business."""
    flags = {"subjects": ",".join(options.subjects), "phases": ",".join(options.phases), "scale": options.scale}
    if options.scale == 1:
        del flags["scale"]
    flags |= {"blocks": options.blocks, "seed": options.seed}
    return " ".join([COMMAND, *(f"--{name} {value}" for name, value in flags.items())])


def _commit() -> str:
    command = ["git", "-C", str(TESTS), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure this operator beside others, in one run.")
    some = {"subjects": (SUBJECTS, USUAL_SUBJECTS), "phases": (PHASES, USUAL_PHASES)}
    for word, (known, usual) in some.items():
        names = f"comma separated, of {', '.join(known)}; usually {','.join(usual)}"
        parser.add_argument(f"--{word}", type=chosen(known), default=list(usual), help=names)
    parser.add_argument("--blocks", type=int, default=10, help="how often everybody has a turn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=6, help="decides orders, moments and delays (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="what the numbers of resources are multiplied by")
    parser.add_argument("--json", type=Path, help="where the raw samples and counts are kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
