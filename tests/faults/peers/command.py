"""The command that runs the comparison: every subject in a thread of its own, with live progress."""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from faults.comparison import Comparison, Counts, Row, render, save
from faults.peers import crossplane
from faults.peers.naive import Naive
from faults.peers.ordeals import ORDEALS, Ordeal
from faults.peers.ours import Ours
from faults.peers.subject import POLL_SECONDS, Subject
from faults.peers.trial import PATIENCE_SECONDS, WATCHED_SECONDS, Stopped, Trial
from inference_operator.playground.binaries import PROGRAMS, ensure
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.process import emulator_process
from planes import PROGRAMS as PLANE_PROGRAMS
from planes import USERS
from rig import rigged

SUBJECTS: Final[tuple[type[Subject], ...]] = (Ours, Naive, crossplane.Default, crossplane.Best)
SEED: Final = 4
RESOURCES: Final = 10

Report = Callable[[type[Subject], Ordeal, Counts | None], None]
"""Is told when a subject begins an ordeal (None) and when it has been counted."""


def compare(
    subjects: Sequence[type[Subject]],
    ordeals: Sequence[Ordeal],
    *,
    resources: int = RESOURCES,
    seed: int = SEED,
    report: Report = lambda *_: None,
) -> Comparison:
    """Put every subject through every ordeal, the subjects side by side.

    Raises:
        BuildError: A program could not be built.
        AssertionError: A subject did not even get its resources in sync before anything went wrong.
    """
    ensure(PLANE_PROGRAMS)
    if any(issubclass(subject, crossplane.ProviderHttp) for subject in subjects):
        crossplane.program()
    began = datetime.now(UTC).isoformat(timespec="seconds")
    course = _Course(ordeals, resources, seed, report)
    with ThreadPoolExecutor(len(subjects)) as pool:
        runs = [pool.submit(course.run, subject) for subject in subjects]
        try:
            wait(runs)
        finally:
            course.stop.set()
    for error in sorted(filter(None, (run.exception() for run in runs)), key=lambda each: isinstance(each, Stopped)):
        raise error
    counts = {subject.profile.name: run.result() for subject, run in zip(subjects, runs, strict=True)}
    return Comparison(
        date=began,
        seed=seed,
        resources=resources,
        poll_seconds=POLL_SECONDS,
        watched_seconds=WATCHED_SECONDS,
        patience_seconds=PATIENCE_SECONDS,
        kubernetes=PROGRAMS["kube-apiserver"].module.version,
        subjects=tuple(subject.profile for subject in subjects),
        rows=tuple(Row(name=ordeal.name, title=ordeal.title, beyond=ordeal.beyond) for ordeal in ordeals),
        counts=counts,
    )


@dataclass(frozen=True)
class _Course:
    """The way through all ordeals, which ends for all subjects as soon as it has to end for one."""

    ordeals: Sequence[Ordeal]
    resources: int
    seed: int
    report: Report
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, subject: type[Subject]) -> dict[str, Counts]:
        try:
            return self._endured(subject)
        except BaseException:
            self.stop.set()
            raise

    def _endured(self, subject: type[Subject]) -> dict[str, Counts]:
        """Everything in one control plane, with fresh processes and a namespace for each ordeal."""
        found: dict[str, Counts] = {}
        with ExitStack() as stack:
            plane = stack.enter_context(ControlPlane(users=USERS))
            emulators = stack.enter_context(emulator_process())
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for ordeal in self.ordeals:
                self.report(subject, ordeal, None)
                with rigged(plane, emulators, folder) as rig:
                    found[ordeal.name] = Trial(subject(rig), ordeal, self.resources, self.seed, self.stop).run()
                self.report(subject, ordeal, found[ordeal.name])
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it from a command line."""
    options = _parser().parse_args(arguments)
    subjects = [each for each in SUBJECTS if options.subjects is None or each.profile.name in options.subjects]
    ordeals = [each for each in ORDEALS if options.faults is None or each.name in options.faults]
    with Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
        console=(console := Console(stderr=True)),
    ) as bars:
        tasks = {each: bars.add_task(each.profile.title, total=len(ordeals), now="") for each in subjects}

        def report(subject: type[Subject], ordeal: Ordeal, counts: Counts | None) -> None:
            bars.update(tasks[subject], now=ordeal.title, advance=counts is not None)
            if counts is not None:
                said = ", ".join(f"{count} {name}" for name, count in counts.faults.items()) or "0"
                console.print(f"{subject.profile.title}: {ordeal.title}: {said}", highlight=False, soft_wrap=True)

        try:
            found = compare(subjects, ordeals, resources=options.resources, seed=options.seed, report=report)
        except KeyboardInterrupt:
            sys.exit(130)
    if options.json:
        save(found, options.json)
    sys.stdout.write(render(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Count what this operator and others do under the same faults.")
    subjects, ordeals = [each.profile.name for each in SUBJECTS], [each.name for each in ORDEALS]
    parser.add_argument("--subjects", type=chosen(subjects), help=f"comma separated, of {', '.join(subjects)}")
    parser.add_argument("--faults", type=chosen(ordeals), help=f"comma separated, of {', '.join(ordeals)}")
    parser.add_argument("--resources", type=int, default=RESOURCES, help="how many resources each row has")
    parser.add_argument("--seed", type=int, default=SEED, help="decides at which moments of a poll they are changed")
    parser.add_argument("--json", type=Path, help="where the results are kept")
    return parser


def chosen(known: Collection[str]) -> Callable[[str], list[str]]:
    """The type of an argument that lists some of these names, separated by commas."""

    def names(text: str) -> list[str]:
        given = text.split(",")
        if unknown := set(given) - set(known):
            raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}")
        return given

    return names
