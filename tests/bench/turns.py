"""The run: blocks in which everybody takes a turn, in an order that the seed decides, on the same control plane."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench.contestants import SHARD, SHARDS, SUBJECTS, Ours, looks
from bench.editing import Kind, create, first, remove
from bench.observer import Writes, wait_until
from bench.phases import PHASES, Phase
from bench.record import OTHERS, Dropped, Result
from bench.stage import PATIENCE_SECONDS, Stage
from bench.vitals import Share, vitals
from faults.peers.subject import Subject
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.settings import Settings
from rig import rigged

DIGITS: Final = 5
"""Of a second, as samples are kept."""

Report = Callable[[int, str, str, Result | None], None]
"""Is told of a block, a subject and a phase when it begins (None) and when it is over."""


class NotInSyncError(RuntimeError):
    """A subject did not get its resources in sync before anything was measured; the message ends with its log."""


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        subjects: Who takes part, by name.
        phases: What is done, by name.
        blocks: How often.
        seed: Decides orders, moments and delays.
        scale: What the numbers of resources are multiplied by.
        watched: Seconds for which resources at rest are watched; None for what each phase finds right.
        others: The share of the machine's processor time that others may use during a phase of a subject; with more
            it counts for nothing, and is repeated once.
    """

    subjects: Sequence[str]
    phases: Sequence[str]
    blocks: int
    seed: int
    scale: float = 1.0
    watched: float | None = None
    others: float = OTHERS


@dataclass(frozen=True)
class Course:
    """What everybody goes through.

    Attributes:
        plane: The control plane of the run.
        emulators: The providers of the run.
        plan: What is run.
        report: Is told how far it is.
        dropped: The turns that were dropped so far.
    """

    plane: ControlPlane
    emulators: EmulatorControl
    plan: Plan
    report: Report
    dropped: list[Dropped] = field(default_factory=list)

    def run(self) -> Iterator[Result]:
        """Every phase of every subject in every block.

        Raises:
            NotInSyncError: A subject does not work.
        """
        phases = [phase for phase in PHASES.values() if phase.name in self.plan.phases]
        for block in range(self.plan.blocks):
            for _, grouped in groupby(phases, lambda phase: (phase.resources, phase.shipped)):
                chosen = list(grouped)
                for place, name in enumerate(self._order(block, chosen)):
                    yield from self._turn(block, place, name, [phase for phase in chosen if phase.is_for(name)])

    def _order(self, block: int, phases: Sequence[Phase]) -> list[str]:
        concerned = [name for name in self.plan.subjects if any(phase.is_for(name) for phase in phases)]
        random.Random(f"{self.plan.seed} {block} {phases[0].name}").shuffle(concerned)  # noqa: S311 - an order
        return concerned

    def _turn(self, block: int, place: int, name: str, phases: Sequence[Phase]) -> Iterator[Result]:
        with self._stage(
            name, max(2, round(phases[0].resources * self.plan.scale)), shipped=phases[0].shipped
        ) as stage:
            for phase in phases:
                self.report(block, name, phase.name, None)
                found = self._undisturbed(stage, phase, block, place)
                self.report(block, name, phase.name, found)
                if found is not None:
                    yield found

    def _undisturbed(self, stage: Stage, phase: Phase, block: int, place: int) -> Result | None:
        """A phase during which others left the machine alone, on the second try at the latest; None without one."""
        time.sleep(min(phase.settling, stage.watched or phase.settling))
        for _ in range(2):
            stage.draw = random.Random(f"{self.plan.seed} {block} {phase.name}")  # noqa: S311 - the same for everybody
            found = _carried_out(stage, phase, block, place)
            if found.others <= self.plan.others:
                return found
            self.dropped.append(Dropped(block=block, subject=found.subject, phase=phase.name, others=found.others))
        return None

    @contextmanager
    def _stage(self, name: str, resources: int, *, shipped: bool) -> Iterator[Stage]:
        """A subject in a namespace of its own, with fresh endpoints, in sync and at rest; nothing stays behind."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            rig = stack.enter_context(rigged(self.plane, self.emulators, folder))
            subject: Subject = SUBJECTS[name](rig)
            stack.callback(remove, subject)
            stack.callback(subject.kill)
            kinds = _kinds(resources) if shipped else {}
            wishes = {
                each: first(rig.endpoint(subject.provider), kinds.get(each))
                for each in (f"r{number:05d}" for number in range(resources))
            }
            create(subject, wishes, {each: {SHARD: str(int(each[1:]) % SHARDS)} for each in wishes})
            writes = Writes(self.plane, rig.namespace)
            stack.callback(writes.close)
            subject.start()
            draw = random.Random()  # noqa: S311 - replaced before every phase
            stage = Stage(subject, wishes, writes, draw, self.plan.watched, kinds)
            if not wait_until(stage.all_claim, PATIENCE_SECONDS + resources / 10):
                log = rig.processes[-1].log.read_text(errors="replace")[-3000:]
                raise NotInSyncError(f"{subject.profile.title} does not get its resources in sync:\n{log}")
            if shipped:
                _limit(stage)
            stage.let_rest()
            yield stage


def _kinds(resources: int) -> Mapping[str, Kind]:
    """A third of each."""
    kinds = list(Kind)
    return {f"r{number:05d}": kinds[number % len(kinds)] for number in range(resources)}


def _limit(stage: Stage) -> None:
    """Put to sleep what is to be asleep, and start the subject again with the limits that it ships."""
    subject, calls = stage.subject, Settings.model_fields["calls_per_second"].default
    if subject.provider == "friendli":
        for name, kind in stage.kinds.items():
            if kind is Kind.ASLEEP:
                subject.rig.emulators.set_endpoint("friendli", stage.wishes[name].endpoint_id, state="SLEEPING")
    if isinstance(subject, Ours):
        subject.limited = True
    stage.start_afresh()
    if looks(subject):
        stage.wait_until_looked(PATIENCE_SECONDS + 4 * len(stage.wishes) / calls)


def _carried_out(stage: Stage, phase: Phase, block: int, place: int) -> Result:
    stage.reset()
    share, before, began = Share(), vitals(stage.pids), time.monotonic()
    outcome = phase.run(stage)
    seconds, after, others = time.monotonic() - began, vitals(stage.pids), share.of_others()
    origins = _origins(stage)
    connections: dict[str, int] = {}
    for port, number in after.connections.items():
        connections[origins.get(port, "others")] = connections.get(origins.get(port, "others"), 0) + number
    return Result(
        block=block,
        place=place,
        subject=stage.subject.profile.name,
        phase=phase.name,
        resources=len(stage.wishes),
        changes=outcome.changes,
        seconds=round(seconds, DIGITS),
        cpu=round(after.cpu - before.cpu if after.cpu >= before.cpu else after.cpu, DIGITS),
        resident=round(after.resident, 1),
        descriptors=after.descriptors,
        others=round(others, DIGITS),
        samples={each: [round(value, DIGITS) for value in found] for each, found in outcome.samples.items()},
        counts=outcome.counts,
        connections=connections,
    )


def _origins(stage: Stage) -> Mapping[int, str]:
    """Whose port is whose."""
    rig = stage.subject.rig
    urls = {"kubernetes": rig.plane.url, **rig.emulators.urls()}
    return {port: name for name, url in urls.items() if (port := urlsplit(url).port) is not None}
