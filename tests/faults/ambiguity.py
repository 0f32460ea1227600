"""Thousands of writes of which nobody can say whether they arrived, each in a world that goes on meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any

from faults.endings import converge, stays
from faults.invariants import UNKNOWABLE
from faults.model import PACE, Model, quietly
from faults.timed_account import Trouble
from inference_operator.core.model import Resource
from inference_operator.errors import Ambiguous
from tally import show

WRITES_PER_WORLD = 20
KINDS: dict[str, Callable[[random.Random], float | None]] = {
    "an answer of no use, not committed": lambda _: None,
    "an answer of no use, committed": lambda _: 0.0,
    "a time-out, never committed": lambda _: None,
    "a time-out, committed": lambda _: 0.0,
    "a time-out, committed late": lambda chance: chance.uniform(0, PACE.settle),
    "a crash before the commit": lambda _: None,
    "a crash at the commit": lambda _: 0.0,
    "a crash, committed late": lambda chance: chance.uniform(0, PACE.settle),
}
"""After how many seconds the write lands; None: never."""


FORGETTING = ("a deletion and re-creation", "a re-creation with the old status", "a restore of the old object")
"""What takes the memory of an open write away."""


@dataclass(slots=True)
class Case:
    """One ambiguous write.

    Attributes:
        kind: Why nobody can say.
        lands: After how many seconds it lands.
        sent_at: When it was sent.
        looks: Looks before it was sent, and later looks until the verdict.
        decided_at: When its outcome was stored.
    """

    kind: str
    lands: float | None
    sent_at: float
    looks: int
    decided_at: float | None = None


@dataclass
class Campaign:
    """Everything that was counted.

    Attributes:
        history: Whether the provider keeps versions.
        cases: All ambiguous writes.
        meanwhile: What else happened, by name.
        begun: How many were sent; some have lost their resource, or its memory of them, before a verdict.
        unknowable: Cases that nobody could have told apart.
    """

    history: bool
    cases: list[Case] = field(default_factory=list)
    begun: int = 0
    meanwhile: Counter[str] = field(default_factory=Counter)
    unknowable: Counter[str] = field(default_factory=Counter)

    @property
    def forgotten(self) -> int:
        """How often a status was lost."""
        return sum(self.meanwhile[what] for what in FORGETTING)

    @property
    def looks(self) -> float:
        """Looks until the verdict, on average."""
        return mean(case.looks for case in self.cases)

    def seconds(self, *, committed: bool) -> float:
        """Seconds from sending to the verdict, the median of those that were or were not committed at once."""
        return median(
            (case.decided_at or 0.0) - case.sent_at
            for case in self.cases
            if (case.lands == 0.0 if committed else case.lands is None)
        )

    def print(self) -> None:
        """Show what was counted."""
        rows = []
        for kind in KINDS:
            cases = [case for case in self.cases if case.kind == kind]
            seconds = [(case.decided_at or 0.0) - case.sent_at for case in cases]
            looks = mean(case.looks for case in cases)
            rows.append([kind, len(cases), f"{looks:.1f}", f"{median(seconds):.1f}", f"{max(seconds):.1f}"])
        rows.append(["all", len(self.cases), f"{self.looks:.1f}", "", ""])
        title = f"Ambiguous writes {'with' if self.history else 'without'} versions, 0 extra versions, 0 lost changes"
        show(title, ["kind", "writes", "looks", "median s", "longest s"], rows)
        show("Meanwhile", ["what", "times"], sorted(self.meanwhile.items()))
        show("Unknowable", ["what", "times"], [[name, self.unknowable[name]] for name in UNKNOWABLE])


class Run(Model):
    """A world with two operators, of which both may work at once, that notes what becomes of ambiguous writes."""

    def __init__(self, chance: random.Random, *, history: bool) -> None:
        super().__init__(history=history, operators=2, clamp=chance.choice([None, None, None, 40]))
        self.chance = chance
        self.open: dict[str, Case] = {}
        self.case: tuple[str, float | None] | None = None
        self.decided: list[Case] = []
        self.begun = 0

    def _sends(self, values: Any) -> Any:
        sender = super()._sends(values)
        if self.case is not None:
            kind, lands = self.case
            self.begun += 1
            self.open[sender.operation["id"]] = Case(kind, lands, self.time, self.looks)
            self.case = None
        return sender

    def _stored(self, before: Resource, after: Resource) -> None:
        super()._stored(before, after)
        self._decide((before.status.get("operation") or {}).get("id"), after.status)

    def _decide(self, was: str | None, status: Any) -> None:
        still = status.get("operation", {}).get("id")
        if was in self.open and was != still:
            case = self.open.pop(was)
            case.decided_at, case.looks = self.time, self.looks - case.looks
            self.decided.append(case)

    def begin(self, name: str) -> str:
        """The next update is ambiguous; returns its kind."""
        kind = self.chance.choice(list(KINDS))
        lands = KINDS[kind](self.chance)
        self.case, self.account.trouble = (kind, lands), Trouble(Ambiguous(kind), lands)
        self.account.read_lag = self.chance.choice([0.0, 0.0, 0.0, self.chance.uniform(0, PACE.settle)])
        block: dict[str, Any] = {"size": self.chance.randint(1, 60)}
        if self.chance.random() < 0.3:
            block["name"] = self.chance.choice(["n1", "n2"])
        if self.history and self.chance.random() < 0.5:
            found = self.server.named(name)
            block = dict(found.spec["memory"]) if found and self.chance.random() < 0.5 else block
            block["model"] = f"m{self.chance.randint(1, 99)}"
        self.edit(name, memory=block)
        return kind

    def carry_out(self, kind: str, name: str) -> None:
        """Passes until the update has left, and its answer, if there is one, has come; or the process dies with it."""
        working = next(number for number, each in enumerate(self.operators) if each.active)
        for _ in range(400):
            if self.case is None:
                break
            self.step(working, name)
            if not self.operators[working].passes:
                self.pass_time(0.5)
        if "crash" in kind:
            self.crash(working)
        elif "time-out" in kind:
            self.pass_time(0.5 * PACE.request_timeout)
        else:
            self.pass_time(self.chance.uniform(0, 0.1) * PACE.request_timeout)
            self.look(working, name)

    def go_on(self, name: str) -> str:
        """Something else happens; returns what."""
        events: dict[str, Callable[[], object]] = {
            "a foreign version": lambda: self.foreign(size=7),
            "a foreign version of another field": lambda: self.foreign(name="n3"),
            "a foreign version of what cannot be read back": lambda: self.foreign(model="mx"),
            "a console edit that takes the last version back": self.take_back,
            "an edit of the spec": lambda: self.edit(name, memory={"size": self.chance.randint(1, 60)}),
            "an edit of the comment": lambda: self.edit(name, versionComment=str(self.chance.random())),
            "a deletion and re-creation": lambda: self.recreate(name, with_status=False),
            "a re-creation with the old status": lambda: self.recreate(name, with_status=True),
            "a restore of the old object": lambda: self.restore(name, self.chance.randint(1, 4)),
            "a shard move": lambda: self.move_shard(name, self.chance.randint(0, 1)),
            "a second active operator": lambda: self.activate(self.chance.randint(0, 1)),
            "a crash": lambda: self.crash(self.chance.randint(0, 1)),
            "a rotated key": self.rotate,
        }
        what = self.chance.choice(list(events))
        self.pass_time(self.chance.choice([0.0, 0.3, 5.0, 20.0]))
        events[what]()
        return what

    def rest(self) -> None:
        """Faults are over, and everything comes to rest; a write whose resource has gone needs no verdict."""
        converge(self)
        undecided = {each.status.get("operation", {}).get("id") for each in self.server.objects.values()}
        assert undecided.isdisjoint(self.open), "L2: an ambiguous write was not resolved"
        self.case = None
        self.open.clear()


def ambiguous_writes(count: int, *, history: bool, seed: int) -> Campaign:
    """Carry out so many ambiguous writes.

    Raises:
        AssertionError: An invariant was violated, or a write was not resolved.
    """
    chance, campaign = random.Random(seed), Campaign(history)  # noqa: S311 - chance, not cryptography
    with quietly():
        while len(campaign.cases) < count:
            _one_world(chance, campaign)
    return campaign


def _one_world(chance: random.Random, campaign: Campaign) -> None:
    world = Run(chance, history=campaign.history)
    world.create("a", {"size": 1})
    converge(world)
    for _ in range(WRITES_PER_WORLD):
        world.carry_out(world.begin("a"), "a")
        if chance.random() < 0.5:
            campaign.meanwhile[world.go_on("a")] += 1
        world.rest()
    stays(world)
    campaign.cases += world.decided
    campaign.begun += world.begun
    campaign.unknowable += world.invariants.unknowable
