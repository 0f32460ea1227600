"""The breadth-first search of a small world: every state that can be reached, and where it leads in the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from smallworld.dialogue import Violation
from smallworld.rules import SmallWorld
from smallworld.states import Replica, State, Step


@dataclass(frozen=True)
class Move:
    """One step of a schedule: which process of the state before (None: the world), and what happens."""

    who: int | None
    what: str


@dataclass(frozen=True)
class Counterexample:
    """A shortest schedule to a state in which something does not hold. `follow` repeats it."""

    what: str
    schedule: tuple[Move, ...]


@dataclass
class Result:
    """What a search has found.

    Attributes:
        states: States that can be reached.
        transitions: Steps between them.
        quiescent: States in which nothing moves any more.
        seconds: Of the processor.
        passes: Runs of the real reconciler.
        counts: Violations by what is violated.
        first: The first schedule to each.
    """

    states: int = 0
    transitions: int = 0
    quiescent: int = 0
    seconds: float = 0.0
    passes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, Counterexample] = field(default_factory=dict)


class Search:
    """Searches a world until no state is left."""

    def __init__(self, world: SmallWorld, *, until_broken: bool = False) -> None:
        """Make a search.

        Args:
            world: The world.
            until_broken: End at the first violation, whose schedule is a shortest one.
        """
        self._world = world
        self._until_broken = until_broken
        self._numbers: dict[State, int] = {}
        self._states: list[State] = []
        self._parents: list[tuple[int, Move] | None] = []
        self._next: list[tuple[int, ...]] = []
        self._result = Result()

    def run(self) -> Result:
        """Visit all states; then follow each to its end without any further fault."""
        begun, result = time.process_time(), self._result
        self._visit(canonical(self._world.start())[0], None)
        for number, state in enumerate(self._states):
            if self._until_broken and result.counts:
                break
            self._expand(number, state)
        if not result.counts:  # else some states lead nowhere
            self._follow_all()
        result.states, result.passes = len(self._states), self._world.stepper.runs
        result.seconds = time.process_time() - begun
        return result

    def _visit(self, state: State, parent: tuple[int, Move] | None) -> int | None:
        """The number of a state; None for one in which an invariant does not hold, which is not searched further."""
        if state in self._numbers:
            return self._numbers[state]
        broken = list(self._world.broken(state))
        for what in broken:
            self._violated(what, *(parent or ()))
        if broken:
            return None
        self._numbers[state] = len(self._states)
        self._states.append(state)
        self._parents.append(parent)
        return len(self._states) - 1

    def _expand(self, number: int, state: State) -> None:
        calm: list[tuple[Step, int]] = []
        try:
            for step in self._world.steps(state):
                self._result.transitions += 1
                visited = self._visit(canonical(step.state)[0], (number, Move(step.who, step.what)))
                if step.calm and visited is not None:
                    calm.append((step, visited))
        except Violation as violation:
            self._violated(str(violation), number)
        self._next.append(_continuation(state, calm))

    def _violated(self, what: str, number: int = 0, move: Move | None = None) -> None:
        kind = what.partition(":")[0]
        self._result.counts[kind] += 1
        if kind not in self._result.first:
            last = () if move is None else (move,)
            self._result.first[kind] = Counterexample(what, (*self._schedule(number), *last))

    def _schedule(self, number: int) -> tuple[Move, ...]:
        moves: list[Move] = []
        while (parent := self._parents[number]) is not None:
            number = parent[0]
            moves.append(parent[1])
        return tuple(reversed(moves))

    # ── where each state leads ────────────────────────────────────────────────────────────────────────

    def _follow_all(self) -> None:
        """Without further faults, with passes whenever they can change something, and with time going on."""
        ended: set[int] = set()
        for start in range(len(self._states)):
            path, at = dict.fromkeys((start,)), start
            while at not in ended:
                then = self._after(at)
                if then == at:
                    self._end(at)
                    break
                if then in path:
                    self._violated("L1: passes go on for ever", at)
                    break
                path[then] = None
                at = then
            ended.update(path)

    def _after(self, number: int) -> int:
        """The state that follows; the same one where nothing changes any more."""
        state, following = self._states[number], self._next[number]
        if _moving(state):
            return following[0] if following else number
        for begun in following:
            at = begun
            while _moving(self._states[at]) and self._next[at]:
                at = self._next[at][0]
            if at != number:
                return at
        return number

    def _end(self, number: int) -> None:
        self._result.quiescent += 1
        if not self._world.is_converged(self._states[number]):
            self._violated("L1: at rest without being in sync", number)


def _moving(state: State) -> bool:
    return any(replica.node.question is not None for replica in state.replicas)


def _continuation(state: State, calm: Sequence[tuple[Step, int]]) -> tuple[int, ...]:
    """The numbers of what may follow when nothing goes wrong: a pass under way goes on; else all that could begin."""
    under_way = [
        number for step, number in calm if step.who is not None and state.replicas[step.who].node.question is not None
    ]
    if under_way:
        return (under_way[0],)
    if _moving(state):
        return tuple(number for step, number in calm if step.who is None)[:1]
    return tuple(number for _, number in calm)


def canonical(state: State) -> tuple[State, tuple[int, ...]]:
    """The state with its processes in a fixed order, since they are alike, and the places that they had before."""
    order = tuple(sorted(range(len(state.replicas)), key=lambda number: _rank(state.replicas[number])))
    return state._replace(replicas=tuple(state.replicas[number] for number in order)), order


def _rank(replica: Replica) -> tuple[str, bool, str]:
    return replica.node.text, replica.frozen, repr(replica.view) if replica.view else ""


def follow(world: SmallWorld, schedule: Sequence[Move]) -> Iterator[str]:
    """Repeat a schedule, and tell it with names that stay with the processes."""
    state, names = world.start(), list(range(1, world.setting.replicas + 1))
    state, order = canonical(state)
    for move in schedule:
        step = next(each for each in world.steps(state) if (each.who, each.what) == (move.who, move.what))
        yield move.what if move.who is None else f"replica {names[move.who]} {move.what}"
        state, order = canonical(step.state)
        names = [names[number] for number in order]
