"""The run: blocks in which everybody takes a turn, in an order that the seed decides, on the same control plane.

For phases of edits everybody stays at work from the first block to the last, so that turns follow each other quickly
and the machine is the same for all of a block. Phases that count what is asked at rest, or that overload their subject,
have the cluster to themselves, and a fresh subject for each turn.
"""

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
from bench.record import OTHERS, Absent, Dropped, Result
from bench.resting import LIMITED_SECONDS
from bench.stage import PATIENCE_SECONDS, Stage
from bench.vitals import Share, vitals
from faults.peers.crossplane import ProviderHttp
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
    """A subject did not get its resources in sync before anything was measured.

    Attributes:
        claiming: How many of them were, when it was no longer waited for.
        resources: How many there are.
        seconds: How long it was waited for.
    """

    def __init__(self, title: str, claiming: int, resources: int, seconds: float, log: str) -> None:
        super().__init__(f"{title} has {claiming} of {resources} resources in sync after {seconds:g} s:\n{log}")
        self.claiming, self.resources, self.seconds = claiming, resources, seconds


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
        once: Who takes part in the first block alone, by name: for counts and magnitudes, not for intervals.
    """

    subjects: Sequence[str]
    phases: Sequence[str]
    blocks: int
    seed: int
    scale: float = 1.0
    watched: float | None = None
    others: float = OTHERS
    once: Sequence[str] = ()

    def of_block(self, block: int) -> list[str]:
        """Who takes part in a block, which is counted from 0."""
        return [name for name in self.subjects if block == 0 or name not in self.once]


@dataclass(frozen=True)
class Course:
    """What everybody goes through.

    Attributes:
        plane: The control plane of the run.
        emulators: The providers of the run.
        plan: What is run.
        report: Is told how far it is.
        dropped: The turns that were dropped so far.
        absent: The turns that were not taken so far.
    """

    plane: ControlPlane
    emulators: EmulatorControl
    plan: Plan
    report: Report
    dropped: list[Dropped] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)

    def run(self) -> Iterator[Result]:
        """Every phase of every subject in every block.

        Raises:
            NotInSyncError: A subject does not work, and it is not provider-http.
        """
        phases = [phase for phase in PHASES.values() if phase.name in self.plan.phases]
        with ExitStack() as company:
            standing: dict[tuple[str, int], Stage] = {}
            for block in range(self.plan.blocks):
                for (_, _, stand), grouped in groupby(phases, self._setting):
                    chosen = list(grouped)
                    if stand:
                        yield from self._together(block, chosen, standing, company)
                    else:
                        company.close()
                        standing.clear()
                        yield from self._apart(block, chosen)

    def _together(
        self, block: int, phases: Sequence[Phase], standing: dict[tuple[str, int], Stage], company: ExitStack
    ) -> Iterator[Result]:
        """One phase after the other, in which everybody has a turn while the others stand by."""
        order, resources = self._order(block, phases), phases[0].resources
        for name in order:
            if _may_stand(name) and (name, resources) not in standing:
                standing[name, resources] = company.enter_context(self._stage(name, phases[0]))
        for phase in phases:
            for place, name in enumerate(order):
                if _may_stand(name):
                    yield from self._turn(standing[name, resources], block, place, [phase])
                else:
                    yield from self._alone(block, place, name, [phase])

    def _apart(self, block: int, phases: Sequence[Phase]) -> Iterator[Result]:
        """One after the other, each with the whole cluster, goes through all phases."""
        for place, name in enumerate(self._order(block, phases)):
            yield from self._alone(block, place, name, phases)

    def _alone(self, block: int, place: int, name: str, phases: Sequence[Phase]) -> Iterator[Result]:
        try:
            with self._stage(name, phases[0]) as stage:
                yield from self._turn(stage, block, place, phases)
        except NotInSyncError as error:
            if not _is_peer(name):
                raise
            self.absent.append(
                Absent(
                    block=block,
                    subject=name,
                    phases=[phase.name for phase in phases if phase.is_for(name)],
                    seconds=error.seconds,
                    resources=error.resources,
                    in_sync=error.claiming,
                )
            )

    def _setting(self, phase: Phase) -> tuple[int, bool, bool]:
        """What phases have in common that follow each other in one turn; the last is whether everybody stays."""
        return phase.resources, phase.shipped, phase.stands

    def _order(self, block: int, phases: Sequence[Phase]) -> list[str]:
        concerned = [name for name in self.plan.of_block(block) if any(phase.is_for(name) for phase in phases)]
        random.Random(f"{self.plan.seed} {block} {phases[0].name}").shuffle(concerned)  # noqa: S311 - an order
        return concerned

    def _turn(self, stage: Stage, block: int, place: int, phases: Sequence[Phase]) -> Iterator[Result]:
        name = stage.subject.profile.name
        for phase in phases:
            if phase.is_for(name):
                self.report(block, name, phase.name, None)
                found = self._undisturbed(stage, phase, block, place)
                self.report(block, name, phase.name, found)
                if found is not None:
                    yield found

    def _undisturbed(self, stage: Stage, phase: Phase, block: int, place: int) -> Result | None:
        """A phase during which others left the machine alone, on the second try at the latest; None without one."""
        if phase.prepare is not None:
            stage.draw = self._draw(block, phase)
            phase.prepare(stage)
            stage.let_rest()
        time.sleep(min(phase.settling, stage.watched or phase.settling))
        for _ in range(2):
            stage.draw = self._draw(block, phase)
            found = _carried_out(stage, phase, block, place)
            if found.others <= self.plan.others:
                return found
            self.dropped.append(Dropped(block=block, subject=found.subject, phase=phase.name, others=found.others))
        return None

    def _draw(self, block: int, phase: Phase) -> random.Random:
        """The same for everybody."""
        return random.Random(f"{self.plan.seed} {block} {phase.name}")  # noqa: S311 - for moments and choices

    @contextmanager
    def _stage(self, name: str, phase: Phase) -> Iterator[Stage]:
        """A subject in a namespace of its own, with fresh endpoints, in sync and at rest; nothing stays behind."""
        resources = max(2, round(phase.resources * self.plan.scale))
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            rig = stack.enter_context(rigged(self.plane, self.emulators, folder))
            subject: Subject = SUBJECTS[name](rig)
            stack.callback(remove, subject)
            stack.callback(subject.kill)
            kinds = _kinds(resources) if phase.shipped else {}
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
            patience = PATIENCE_SECONDS + resources / 10
            if not wait_until(stage.all_claim, patience):
                log = rig.processes[-1].log.read_text(errors="replace")[-3000:]
                raise NotInSyncError(subject.profile.title, stage.claiming(), resources, patience, log)
            if phase.shipped:
                _limit(stage)
            stage.let_rest()
            yield stage


def _may_stand(name: str) -> bool:
    """Not provider-http: it knows no namespaces, and opens connections without end."""
    return not _is_peer(name)


def _is_peer(name: str) -> bool:
    """Whether it is provider-http, of which some mappings never come to rest: that is a result."""
    return issubclass(SUBJECTS[name], ProviderHttp)


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
    if isinstance(subject, Ours):
        time.sleep(min(LIMITED_SECONDS, stage.watched or LIMITED_SECONDS))


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
