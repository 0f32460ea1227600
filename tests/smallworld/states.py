"""The states of a small world, as values: equal ones are the same state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from smallworld.dialogue import NAMES, Held, Updating, names_in
from smallworld.stepping import Node


class Left(NamedTuple):
    """How often each kind of fault may still happen."""

    crashes: int
    losses: int
    failures: int
    stale: int
    frozen: int


class Replica(NamedTuple):
    """A process.

    Attributes:
        node: Where it stands.
        view: The object as its watch has it; None while that is up to date.
        frozen: The update that it has asked for has not left it yet.
    """

    node: Node
    view: Held | None = None
    frozen: bool = False

    @property
    def may_land(self) -> bool:
        """Whether an update of its own may land at any moment."""
        return isinstance(self.node.question, Updating) and self.node.slow is None


class Version(NamedTuple):
    """A version at the provider, made for a generation of the spec; reads may not show it for `hidden` ticks."""

    generation: int
    hidden: int


class Stray(NamedTuple):
    """An update whose sender has given it up, and that lands before `left` ticks are over."""

    generation: int
    left: int


class State(NamedTuple):
    """Everything that there is, at one moment."""

    generation: int
    status: str
    replicas: tuple[Replica, ...]
    versions: tuple[Version, ...]
    strays: tuple[Stray, ...]
    left: Left

    def spent(self, **what: int) -> State:
        """So many of the faults have happened."""
        return self._replace(left=self.left._replace(**{name: getattr(self.left, name) - 1 for name in what}))

    def at(self, number: int, replica: Replica) -> State:
        """One of the processes is another."""
        return self._replace(replicas=(*self.replicas[:number], replica, *self.replicas[number + 1 :]))

    def landed(self, generation: int, hidden: int) -> State:
        """An update makes a version."""
        return self._replace(versions=(*self.versions, Version(generation, hidden)))

    def caught_up(self, number: int) -> State:
        """The view of a process is up to date."""
        return self.at(number, self.replicas[number]._replace(view=None))

    @property
    def stored_names(self) -> frozenset[str]:
        """The operations that a process can still come across."""
        views = [replica.view.status for replica in self.replicas if replica.view]
        return names_in(self.status).union(*map(names_in, views))

    @property
    def new_name(self) -> str:
        """The first name of an operation that nobody remembers."""
        used = self.stored_names.union(*(replica.node.names for replica in self.replicas))
        return next(name for name in NAMES if name not in used)


class Step(NamedTuple):
    """One step.

    Attributes:
        who: The process, by its place in the state before; None for the world.
        what: What happens.
        state: The state after it.
        calm: Nothing goes wrong and nobody interferes.
    """

    who: int | None
    what: str
    state: State
    calm: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """What a status says: the generation for which it says Synced=True, and the open operation."""

    synced: int | None
    operation: str | None


@cache
def claim_of(status: str) -> Claim:
    """Read a status."""
    document = json.loads(status)
    synced = [each for each in document.get("conditions", ()) if each["type"] == "Synced" and each["status"] == "True"]
    return Claim(synced[0]["observedGeneration"] if synced else None, document.get("operation", {}).get("id"))
