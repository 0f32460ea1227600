"""The run: blocks in which everybody takes a turn, in an order that the seed decides, on the same control plane."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from bench.contestants import SHARD, SHARDS, SUBJECTS
from bench.editing import create, first, remove
from bench.observer import Writes, wait_until
from bench.phases import PATIENCE_SECONDS, Phase, Stage
from bench.record import Result
from bench.vitals import Share, vitals
from faults.peers.subject import Subject
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from rig import rigged

REST_SECONDS: Final = 1.5
"""A subject that writes nothing for so long is at rest."""

Report = Callable[[int, str, str, Result | None], None]
"""Is told of a block, a subject and a phase when it begins (None) and when it is over."""


class NotInSyncError(RuntimeError):
    """A subject did not get its resources in sync before anything was measured; the message ends with its log."""


@dataclass(frozen=True)
class Course:
    """What everybody goes through.

    Attributes:
        plane: The control plane of the run.
        emulators: The providers of the run.
        subjects: Who takes part, by name.
        phases: What is done.
        blocks: How often.
        seed: Decides orders, moments and delays.
        scale: What the numbers of resources are multiplied by.
        report: Is told how far it is.
    """

    plane: ControlPlane
    emulators: EmulatorControl
    subjects: Sequence[str]
    phases: Sequence[Phase]
    blocks: int
    seed: int
    scale: float
    report: Report

    def run(self) -> Iterator[Result]:
        """Every phase of every subject in every block.

        Raises:
            NotInSyncError: A subject does not work.
        """
        for block in range(self.blocks):
            for resources, phases in groupby(self.phases, lambda phase: phase.resources):
                chosen = list(phases)
                for place, name in enumerate(self._order(block, chosen)):
                    yield from self._turn(block, place, name, max(2, round(resources * self.scale)), chosen)

    def _order(self, block: int, phases: Sequence[Phase]) -> list[str]:
        concerned = [name for name in self.subjects if any(not phase.only or name in phase.only for phase in phases)]
        random.Random(f"{self.seed} {block} {phases[0].name}").shuffle(concerned)  # noqa: S311 - an order
        return concerned

    def _turn(self, block: int, place: int, name: str, resources: int, phases: Sequence[Phase]) -> Iterator[Result]:
        with self._stage(name, resources) as stage:
            for phase in phases:
                if phase.only and name not in phase.only:
                    continue
                stage.draw = random.Random(f"{self.seed} {block} {phase.name}")  # noqa: S311 - the same for everybody
                self.report(block, name, phase.name, None)
                found = _carried_out(stage, phase, block, place, name)
                self.report(block, name, phase.name, found)
                yield found

    @contextmanager
    def _stage(self, name: str, resources: int) -> Iterator[Stage]:
        """A subject in a namespace of its own, with fresh endpoints, in sync and at rest; nothing stays behind."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            rig = stack.enter_context(rigged(self.plane, self.emulators, folder))
            subject: Subject = SUBJECTS[name](rig)
            stack.callback(remove, subject)
            stack.callback(subject.kill)
            numbers = range(resources)
            wishes = {f"r{number:05d}": first(rig.endpoint("friendli")) for number in numbers}
            create(subject, wishes, {each: {SHARD: str(int(each[1:]) % SHARDS)} for each in wishes})
            writes = Writes(self.plane, rig.namespace)
            stack.callback(writes.close)
            subject.start()
            stage = Stage(subject, wishes, writes, random.Random())  # noqa: S311 - replaced before every phase
            if not wait_until(stage.all_claim, PATIENCE_SECONDS + resources / 10):
                log = rig.processes[-1].log.read_text(errors="replace")[-3000:]
                raise NotInSyncError(f"{subject.profile.title} does not get its resources in sync:\n{log}")
            _let_rest(stage)
            yield stage


def _let_rest(stage: Stage) -> None:
    """Wait until nothing is written any more: Events are posted in the background."""
    for _ in range(round(PATIENCE_SECONDS / REST_SECONDS)):
        stage.reset()
        time.sleep(REST_SECONDS)
        written = stage.writes.count(stage.subject.plural)
        if not any(count for kind, count in written.items() if kind != "leases"):
            return


def _carried_out(stage: Stage, phase: Phase, block: int, place: int, name: str) -> Result:
    stage.reset()
    share, before, began = Share(), vitals(stage.pids), time.monotonic()
    outcome = phase.run(stage)
    seconds, after, others = time.monotonic() - began, vitals(stage.pids), share.of_others()
    return Result(
        block=block,
        place=place,
        subject=name,
        phase=phase.name,
        resources=len(stage.wishes),
        changes=outcome.changes,
        seconds=seconds,
        cpu=after.cpu - before.cpu if after.cpu >= before.cpu else after.cpu,
        resident=after.resident,
        descriptors=after.descriptors,
        others=others,
        samples=outcome.samples,
        counts=outcome.counts,
    )
