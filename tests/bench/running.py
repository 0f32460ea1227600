"""A run from its first program to its last result."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench.contestants import SUBJECTS, TESTS, prepare
from bench.figures import FIGURES
from bench.phases import PHASES
from bench.record import Absent, Dropped, Result, Run, load, merged, save
from bench.turns import Course, Plan
from bench.vitals import machine
from inference_operator.playground.binaries import PROGRAMS, ensure
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.process import emulator_process
from planes import PROGRAMS as PLANE_PROGRAMS
from planes import USERS


def conducted(plan: Plan, command: str, kept: Path | None = None) -> Run:
    """Carry out a plan, telling on the way what was seen.

    Args:
        plan: What is run.
        command: How to repeat it.
        kept: Where its results are kept, those of whole blocks also when it is interrupted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or nobody would end the subjects
    ensure(PLANE_PROGRAMS)
    prepare(plan.subjects)
    console, began = Console(stderr=True), datetime.now(UTC).isoformat(timespec="seconds")

    def report(block: int, subject: str, phase: str, found: Result | None) -> None:
        if found is not None:
            seen = [f"{figure.name} {value:.4g}" for figure in FIGURES if (value := figure.of(found)) is not None]
            line = f"block {block + 1}/{plan.blocks} {subject} {phase}: {', '.join(seen)}; others {found.others:.0%}"
            console.print(line, highlight=False, soft_wrap=True)

    def of_blocks(blocks: int) -> Run:
        return Run(
            date=began,
            commit=_commit(),
            command=command,
            seed=plan.seed,
            blocks=blocks,
            machine=machine(),
            versions=_versions(),
            subjects=[SUBJECTS[name].profile for name in SUBJECTS if name in plan.subjects],
            results=[result for result in results if result.block < blocks],
            dropped=[each for each in dropped if each.block < blocks],
            others=plan.others,
            absent=[each for each in absent if each.block < blocks],
        )

    results: list[Result] = []
    dropped: list[Dropped] = []
    absent: list[Absent] = []
    whole = plan.blocks
    try:
        with ControlPlane(users=USERS) as plane, emulator_process() as emulators:
            results.extend(Course(plane, emulators, plan, report, dropped, absent).run())
    except BaseException:
        whole = whole_blocks(results, plan)
        raise
    finally:
        if kept is not None and whole:
            save(of_blocks(whole), kept)
    return of_blocks(whole)


def whole_blocks(results: Sequence[Result], plan: Plan) -> int:
    """How many blocks of an interrupted run are over: those before the last that was begun, and that if it is."""
    if not results:
        return 0
    last = results[-1].block
    turns = sum(PHASES[phase].is_for(subject) for phase in plan.phases for subject in plan.of_block(last))
    return last + (sum(result.block == last for result in results) == turns)


def conducted_side_by_side(plan: Plan, command: str, kept: Path | None = None) -> Run:
    """Carry out a plan with a run for each subject, all at the same time.

    Args:
        plan: What is run.
        command: How to repeat it.
        kept: Where its results are kept.

    Raises:
        ChildProcessError: One of the runs failed; the others were ended.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ensure(PLANE_PROGRAMS)
    prepare(plan.subjects)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{subject}.json" for subject in plan.subjects]
        runs = [
            subprocess.Popen([sys.executable, "-m", "bench", *_alone(plan, subject), "--json", str(file)], cwd=TESTS)
            for subject, file in zip(plan.subjects, files, strict=True)
        ]
        try:
            _await(runs)
        finally:
            for run in runs:
                run.terminate()
            for run in runs:
                run.wait()
        whole = merged([load(file) for file in files], command)
    if kept is not None:
        save(whole, kept)
    return whole


def _alone(plan: Plan, subject: str) -> list[str]:
    """The arguments of the run of one subject."""
    flags = {"subjects": subject, "phases": ",".join(plan.phases), "blocks": plan.blocks, "seed": plan.seed}
    flags |= {"scale": plan.scale, "others": plan.others}
    if plan.watched is not None:
        flags["watch"] = plan.watched
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


def _await(runs: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended, or one has failed."""
    while None in (codes := [run.poll() for run in runs]) or any(codes):
        if failed := [code for code in codes if code]:
            raise ChildProcessError(f"the run of a subject ended with the exit code {failed[0]}; the others were ended")
        time.sleep(1)


def _versions() -> dict[str, str]:
    return {"kube-apiserver": PROGRAMS["kube-apiserver"].module.version, "Python": sys.version.split()[0]}


def _commit() -> str:
    command = ["git", "-C", str(TESTS), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
