"""Crash plans, generated from the steps of workloads: one for each step and each moment at which it can be hit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from faults.kubescript import KubeFault
from faults.steps import EVENT, INTENT, LEASE, OUTCOME, UPDATE, Step, steps_of
from faults.trial import BOUND_SECONDS, PACE, Trial
from faults.workloads import CASES, NOVITA, WRITE_ONLY, Subject, Workload
from inference_operator.playground.emulators.faults import Fault
from rig import UNHURRIED, wait_for

Fate = Literal["before", "after-commit", "after-answer", "unanswered", "conflict"]
KILLS: Sequence[Fate] = ("before", "after-commit", "after-answer")
"""Killed before the step was carried out, after that without the answer, and after the answer."""

DECIDING = (INTENT, UPDATE, OUTCOME)
GATE, HUSH = "step", "hush"

ANNOTATION = {"metadata": {"annotations": {"example.test/touched": "by somebody else"}}}


def labels(workload: Workload, subject: Subject) -> list[str]:
    """The steps of a workload; a test compares them with what is recorded."""
    serving = "Asleep" if subject.provider == NOVITA.provider else "Serving"
    changed = [INTENT, UPDATE, OUTCOME]
    told = [f"{EVENT}{serving}", f"{EVENT}Applied"]
    match workload.name:
        case "adopt":
            return [LEASE, *changed, *told]
        case "rotation" if not subject.by_secret:
            return [*changed, *told]
        case "unclear-update" if subject is WRITE_ONLY:
            return [*changed, f"{EVENT}AppliedUnverified"]
        case "lost-update":
            return [INTENT, UPDATE, *changed, *told]
        case _:
            return changed


@dataclass(frozen=True)
class Plan:
    """One workload, one of its steps, and what happens there.

    Attributes:
        number: Of the step in its workload, from 1.
        fate: One of `KILLS`; or, of an operator that goes on living, `unanswered` (carried out, the answer lost) or
            `conflict` (somebody else writes the resource just before).
    """

    workload: Workload
    subject: Subject
    number: int
    step: Step
    fate: Fate
    pace: Mapping[str, float] = field(default_factory=lambda: PACE)

    def __str__(self) -> str:
        return f"{self.subject.name}-{self.workload.name}-{self.number}-{self.step.label}-{self.fate}"

    @property
    def kills(self) -> bool:
        return self.fate in KILLS

    def carry_out(self, trial: Trial) -> None:
        """Let it all happen, until everything has settled again."""
        self._script(trial)
        self.workload.act(trial)
        strike(trial, self.step, self.fate)
        if self.kills:
            trial.go_on()
        trial.finish()

    def _script(self, trial: Trial) -> None:
        """The step's own fault comes first: what it passes over is left to those of the workload."""
        planned = self.workload.fates[self.step.skip] if self.step.skip < len(self.workload.fates) else {}
        arm(trial, self.step, self.fate, planned)
        for number, fate in enumerate(self.workload.fates):
            if self.step.label != UPDATE or number != self.step.skip:
                trial.rig.emulators.add_fault(Fault(operation="update", skip=number, **fate))


@dataclass(frozen=True)
class Calm:
    """A workload that nothing befalls."""

    workload: Workload
    subject: Subject
    pace: Mapping[str, float] = field(default_factory=lambda: {**PACE, **UNHURRIED})

    def __str__(self) -> str:
        return f"{self.subject.name}-{self.workload.name}"

    def carry_out(self, trial: Trial) -> None:
        """Let it all happen, until everything has settled."""
        for number, fate in enumerate(self.workload.fates):
            trial.rig.emulators.add_fault(Fault(operation="update", skip=number, **fate))
        self.workload.act(trial)
        trial.wait_for_sync()
        trial.rest()


def arm(trial: Trial, step: Step, fate: Fate, planned: Any = None) -> None:
    """Lie in wait for a step; `planned` is what the provider makes of it anyway."""
    terms: dict[str, Any] = {
        "before": {"gate_before": GATE, "commit": "never", "delivery": "reset"},
        "after-commit": {"gate_after": GATE},
        "after-answer": {"gate_before": GATE},
        "unanswered": {"delivery": "reset"},
        "conflict": {"gate_before": GATE},
    }[fate]
    if step.label == UPDATE:
        trial.rig.emulators.add_fault(step.fault(**{**(planned or {}), **terms}))
    else:
        trial.proxy.add_fault(step.kube_fault(**terms))


def strike(trial: Trial, step: Step, fate: Fate) -> None:
    """Wait until the step comes, and let happen what is to happen."""
    if fate == "unanswered":
        return
    number = wait_for_gate(trial, step)
    match fate:
        case "before" | "after-commit":
            trial.kill()
            release(trial, step)
        case "after-answer":
            hush(trial)
            release(trial, step)
            wait_for(answered(trial, step, number), what="the answer to be delivered")
            trial.kill()
            trial.rig.emulators.clear_faults()
            trial.proxy.clear_faults()
            trial.rig.emulators.release_gate(HUSH)
            trial.proxy.release_gate(HUSH)
        case "conflict":
            trial.rig.merge(trial.name, ANNOTATION)
            release(trial, step)


def wait_for_gate(trial: Trial, step: Step, seconds: float = BOUND_SECONDS) -> int:
    """Wait until the step is held; returns its number in the books of who holds it."""
    holder = trial.rig.emulators if step.at_provider else trial.proxy
    return holder.wait_for_gate(GATE, seconds=seconds)[0]


def release(trial: Trial, step: Step) -> None:
    """Let the step go on."""
    (trial.rig.emulators if step.at_provider else trial.proxy).release_gate(GATE)


def hush(trial: Trial) -> None:
    """Let nothing out of the operator any more."""
    trial.proxy.add_fault(KubeFault(gate_before=HUSH, commit="never", delivery="reset", count=None))
    trial.rig.emulators.add_fault(Fault(gate_before=HUSH, commit="never", delivery="reset", count=None))


def answered(trial: Trial, step: Step, number: int) -> Callable[[], bool]:
    """Tells whether a request was answered, in whichever books it stands."""
    if step.at_provider:
        return lambda: any(entry.seq == number and entry.answered_at is not None for entry in trial.mutations())
    return lambda: any(call.number == number and call.status is not None for call in trial.calls())


def single_crashes() -> Iterator[Plan]:
    """Every step of every workload, with the operator killed before, in and after it."""
    for workload, subject in CASES:
        for number, step in enumerate(steps_of(labels(workload, subject)), start=1):
            for fate in KILLS:
                yield Plan(workload, subject, number, step, fate)


def living() -> Iterator[Plan]:
    """Every Kubernetes write whose answer is lost, and every status write that meets a conflict."""
    for workload, subject in CASES:
        if workload.after is not None:
            continue
        for number, step in enumerate(steps_of(labels(workload, subject)), start=1):
            if not step.at_provider:
                yield Plan(workload, subject, number, step, "unanswered")
            if step.is_status:
                yield Plan(workload, subject, number, step, "conflict")


@dataclass(frozen=True)
class Pair:
    """A crash, and another one while the next operator recovers from it.

    The second step may never come: what is decided already is not decided again.
    """

    first: Plan
    step: Step
    fate: Fate
    pace: Mapping[str, float] = field(default_factory=lambda: PACE)

    def __str__(self) -> str:
        return f"{self.first}-then-{self.step.label}-{self.fate}"

    @property
    def workload(self) -> Workload:
        return self.first.workload

    @property
    def subject(self) -> Subject:
        return self.first.subject

    def carry_out(self, trial: Trial) -> None:
        """Let it all happen, until everything has settled again."""
        self.first._script(trial)
        self.workload.act(trial)
        strike(trial, self.first.step, self.first.fate)
        trial.rig.emulators.clear_faults()
        trial.proxy.clear_faults()
        arm(trial, self.step, self.fate)
        trial.go_on()
        wait_for(lambda: self._is_reached(trial) or trial.is_in_sync(), what="the second step", seconds=BOUND_SECONDS)
        if self._is_reached(trial):
            strike(trial, self.step, self.fate)
            trial.start()
        else:
            trial.rig.emulators.clear_faults()
            trial.proxy.clear_faults()
        trial.finish()

    def _is_reached(self, trial: Trial) -> bool:
        try:
            wait_for_gate(trial, self.step, seconds=0.02)
        except TimeoutError:
            return False
        return True


def pairs() -> Iterator[Pair]:
    """All pairs of the steps that decide over a commit."""
    for first in single_crashes():
        if first.step.label in DECIDING and not first.workload.deletes:
            for label in _left(first):
                for fate in KILLS:
                    yield Pair(first, Step(label), fate)


def _left(first: Plan) -> Sequence[str]:
    """The deciding steps that a recovery may still have to take."""
    if first.workload.another or first.workload.recreates:
        return DECIDING
    match first.step.label, first.fate:
        case "outcome", "after-commit" | "after-answer":
            return ()
        case ("outcome", _) | ("update", "after-commit" | "after-answer"):
            return (OUTCOME,)
        case _:
            return DECIDING
