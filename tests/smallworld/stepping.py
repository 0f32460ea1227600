"""Passes of the real reconciler that stop wherever somebody else can see or disturb them.

A coroutine cannot be copied, so a pass is remembered by what it was told: the object that it began with and every
answer since, each with its age. From that it can be run anew up to where it waits. Passes that will go on alike are
one and the same `Node`, and each is run once only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from unittest.mock import patch

from inference_operator.core.plan import SLOW_AFTER
from inference_operator.core.rollouts import Rollouts
from inference_operator.core.schedule import Pace
from inference_operator.core.situation import NEVER, Recollection
from inference_operator.providers.memory.driver import MemoryDriver
from inference_operator.reconcile import Clock, Options, Reconciler, Sweeps, send
from smallworld.dialogue import (
    NOW,
    OLDEST,
    Answer,
    Held,
    Question,
    Told,
    Violation,
    Writing,
    aged,
    aged_identity,
    aged_status,
    names_in,
    outdated,
)
from smallworld.outside import UID, Blocks, Outside
from world import Allowed, ApiServer, SecretsOf, Silent

TIMES = {"seen", "gave_up", "uncommitted_at", "applied", "applied_since", "first_look_at", "looked_at", "whole_at"}
FACTS = {"uncommitted", "drift", "wrote"}
"""What is kept of a recollection from pass to pass."""

PACING = {"failures", "failed_for", "holds", "drift_since", "corrected_at", "wrote_at", "wrote_in"}
"""What only tells when the next pass or a correction is due; here passes begin at any time and nothing is corrected."""

ABSENT = {
    "refusal",
    "parked",
    "busy",
    "missing_since",
    "refresh",
    "listed",
    "listed_at",
    "warned",
    "succeeds_at",
    "rivalry",
    "updates",
    "lapsed_at",
    "bound",
}
"""What only comes of what is not in these worlds: refusals for good, missing Secrets, rivals, backups, connections."""


@dataclass(frozen=True, slots=True)
class Mind:
    """What a process remembers between passes."""

    recollection: Recollection = Recollection()  # noqa: RUF009 - immutable
    rolling: bool = False


@dataclass(eq=False, slots=True)
class Node:
    """A process: its mind at the beginning of the pass under way, and what it was told since.

    Attributes:
        text: Tells nodes apart; equal ones are the same object.
        mind: What it remembers.
        told: What it was told; nothing between passes.
        slow: An answer that is on its way, and since when.
        question: What it waits for; None between passes.
        names: Operations that it remembers.
    """

    text: str
    mind: Mind
    told: tuple[Told, ...]
    slow: Told | None
    question: Question | None
    names: frozenset[str]
    aged: Node | None = None
    outdated: Node | None = None

    @property
    def lasts(self) -> int:
        """How long ago the pass began."""
        return self.told[0].age if self.told else 0

    @property
    def waits(self) -> int:
        """How long ago the question was asked."""
        return self.told[-1].age if self.told else 0


class Stepper:
    """Drives passes of the real reconciler, one answer at a time, and remembers how each went on."""

    def __init__(self, blocks: Blocks, pace: Pace, *, history: bool, patience: int) -> None:
        """Make a stepper.

        Args:
            blocks: The provider's block of the spec by generation; of generation 0 what the endpoint holds at first.
            pace: All durations, in ticks.
            history: The provider keeps versions.
            patience: The most ticks that a pass may last.
        """
        assert {each.name for each in fields(Recollection)} == TIMES | FACTS | PACING | ABSENT, "say what becomes of it"
        assert pace.settle + patience <= OLDEST
        self.blocks = blocks
        self.pace = pace
        self.history = history
        self.runs = 0
        self.patience = patience
        self._driver = MemoryDriver()
        self._secrets = ApiServer()
        self._secrets.secret("key", token="flp_0123456789")
        self._nodes: dict[tuple[str, tuple[Told, ...], Told | None], Node] = {}
        self._steps: dict[tuple[Node, Answer, str], Node] = {}
        self.fresh = self._node(Mind())

    def begin(self, node: Node, held: Held) -> Node:
        """A pass begins with the object as the process sees it."""
        return self._go_on(node, held, "")

    def answer(self, node: Node, answer: Answer, name: str) -> Node:
        """A pass goes on with an answer; `name` is the next operation's id, should it draw one."""
        return self._go_on(node, answer, name)

    def slow(self, node: Node, answer: Answer) -> Node:
        """The question was answered, and the answer is on its way."""
        return self._node(node.mind, node.told, node.question, Told(answer))

    def age(self, node: Node) -> Node:
        """A tick later."""
        if node.aged is None:
            told = tuple(aged(each) for each in node.told)
            question = node.question
            if isinstance(question, Writing):
                question = replace(question, status=aged_status(question.status))
            node.aged = self._node(self._aged_mind(node.mind), told, question, node.slow and aged(node.slow))
        return node.aged

    def outdate(self, node: Node) -> Node:
        """The object has changed: whatever the process holds of it is no longer current."""
        if node.outdated is None:
            told = tuple(outdated(each) for each in node.told)
            question = node.question
            if isinstance(question, Writing):
                question = replace(question, current=False)
            node.outdated = self._node(node.mind, told, question, node.slow and outdated(node.slow))
        return node.outdated

    def forget(self, node: Node, names: frozenset[str]) -> Node:
        """Drop, between passes, what is remembered of operations other than `names`, all that are stored anywhere."""
        if node.names <= names:
            return node
        known = node.mind.recollection
        gave_up = {name: at for name, at in known.gave_up.items() if name in names}
        seen = {name: at for name, at in known.seen.items() if name in names}
        uncommitted = tuple(name if name in names else "" for name in known.uncommitted)
        kept = replace(known, seen=seen, gave_up=gave_up, uncommitted=uncommitted)
        return self._node(replace(node.mind, recollection=kept))

    def _go_on(self, node: Node, answer: Answer, name: str) -> Node:
        key = (node, answer, name)
        if key not in self._steps:
            told = (*node.told, Told(answer, name=name))
            question, drawn = self._run(node.mind, told)
            if not drawn:
                told = (*node.told, Told(answer))
            self._steps[key] = (
                self._node(question) if isinstance(question, Mind) else self._node(node.mind, told, question)
            )
        return self._steps[key]

    def _node(
        self, mind: Mind, told: tuple[Told, ...] = (), question: Question | None = None, slow: Told | None = None
    ) -> Node:
        key = (repr(mind), told, slow)
        if key not in self._nodes:
            text = repr(key)
            self._nodes[key] = Node(text, mind, told, slow, question, names_in(text))
        return self._nodes[key]

    # ── one run ───────────────────────────────────────────────────────────────────────────────────────

    def _run(self, mind: Mind, told: Sequence[Told]) -> tuple[Question | Mind, bool]:
        """Run a pass up to its next question, or to its end; and whether the last answer made it draw a name."""
        self.runs += 1
        outside, observer = Outside(self.blocks, told[0], history=self.history), Silent()
        reconciler = self._reconciler(mind, outside, observer)
        with patch.object(send, "uuid", SimpleNamespace(uuid4=outside.draw)):
            course = reconciler.reconcile(UID)
            try:
                question = course.send(None)
                for each in told[1:]:
                    outside.moment = each
                    outside.drawn = False
                    question = course.send(each.answer)
            except StopIteration as end:
                self._check(observer.results[-1], end.value)
                return self._mind(reconciler), outside.drawn
            course.close()
        return question, outside.drawn

    def _reconciler(self, mind: Mind, outside: Outside, observer: Silent) -> Reconciler:
        rollouts = Rollouts(0, lambda _: None)
        if mind.rolling:
            rollouts.begin(UID, 0, now=NOW, deadline=float("inf"))
        clock = Clock(outside.now, outside.wall, lambda: 0.5, lambda say: say())
        reconciler = Reconciler(
            cluster=outside,
            secrets=SecretsOf(self._secrets),
            drivers={"memory": self._driver},
            connector=outside,
            authority=Allowed(),
            rollouts=rollouts,
            sweeps=Sweeps(pace=self.pace, clock=clock, add=lambda *_: None),
            pace=self.pace,
            options=Options(),
            clock=clock,
            observer=observer,
        )
        reconciler._recollections[UID] = mind.recollection
        return reconciler

    def _check(self, result: str, delay: float | None) -> None:
        if result == "bug":
            raise Violation("S12: the reconciler failed by a fault of its own")
        if delay is None or delay > 1.1 * self.pace.slow:
            raise Violation(f"L1: after {result} nobody looks again for {delay} ticks")

    def _mind(self, reconciler: Reconciler) -> Mind:
        return Mind(self._essence(reconciler._recollections[UID]), reconciler._rollouts.is_ours(UID))

    def _essence(self, known: Recollection) -> Recollection:
        """Without what only paces passes, since here they may begin at any time, and what is too long ago to matter."""
        absent = known.refusal, known.parked, known.rivalry.owner, known.succeeds_at, known.lapsed_at
        assert absent == (None,) * len(absent)
        settle, quiet, slow = self.pace.settle, self.pace.quiet, self.pace.slow
        gave_up = {name: at if at == NEVER else self._recent(at, settle) for name, at in sorted(known.gave_up.items())}
        looked_at = None if known.first_look_at is None else self._recent(known.first_look_at, settle)
        wrote = None  # only without versions does anybody ask for it
        if known.wrote is not None and not self.history:
            wrote = known.wrote.model_copy(update={"id": "", "started_at": "", "generation": 0})
        return Recollection(
            seen={name: self._recent(at, quiet) for name, at in known.seen.items() if name not in gave_up},
            gave_up=gave_up,
            uncommitted=known.uncommitted,
            uncommitted_at=self._recent(known.uncommitted_at, slow) if len(known.uncommitted) >= SLOW_AFTER else 0.0,
            drift=known.drift,
            wrote=wrote,
            applied=known.applied,
            applied_since=self._recent(known.applied_since, settle),
            first_look_at=looked_at,
            looked_at=NOW,
            whole_at=None if known.whole_at is None else NOW,
        )

    def _recent(self, at: float, seconds: float) -> float:
        return max(at, NOW - seconds - self.patience)

    def _aged_mind(self, mind: Mind) -> Mind:
        known = mind.recollection
        older = replace(
            known,
            seen={name: at - 1 for name, at in known.seen.items()},
            gave_up={name: at - 1 for name, at in known.gave_up.items()},
            uncommitted_at=known.uncommitted_at - 1,
            applied=aged_identity(known.applied) if known.applied else known.applied,
            applied_since=known.applied_since - 1,
            first_look_at=None if known.first_look_at is None else known.first_look_at - 1,
        )
        return replace(mind, recollection=self._essence(older))
