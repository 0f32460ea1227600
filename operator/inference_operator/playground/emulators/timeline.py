"""Keeps every state an endpoint ever had, so that reads can lag and overlapping rollouts can be counted afterwards.

States are immutable and are functions of time: a rollout that takes ten seconds is one state whose reading changes
with the clock. Nothing has to tick, and a state of the past can be read as it looked then.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class State(Protocol):
    """What every state of an endpoint tells, whatever the provider.

    It is in transition from ``begins`` until ``ends`` (monotonic seconds), caused by the credential ``by``;
    ``deleted`` is the last state of an endpoint.
    """

    @property
    def by(self) -> str: ...  # noqa: D102 - the class says it
    @property
    def begins(self) -> float: ...  # noqa: D102 - the class says it
    @property
    def ends(self) -> float: ...  # noqa: D102 - the class says it
    @property
    def deleted(self) -> bool: ...  # noqa: D102 - the class says it


class Cause(NamedTuple):
    """What sets an endpoint in motion.

    Attributes:
        by: Who caused it.
        at: When, monotonic seconds.
        seconds: How long it takes.
        error: With which error it ends, None for success.
    """

    by: str
    at: float
    seconds: float = 0.0
    error: str | None = None


class Interval(NamedTuple):
    """A span of time in which one endpoint was in transition."""

    by: str
    begins: float
    ends: float


S = TypeVar("S", bound=State)


class Timeline(Generic[S]):
    """The states of one endpoint in the order of their commits."""

    __slots__ = ("_states", "_times")

    def __init__(self, state: S, at: float = -math.inf) -> None:
        """Begins with a state; without a time it has always been there, so that no lag can hide it."""
        self._states = [state]
        self._times = [at]

    @property
    def latest(self) -> S:
        """The state that was committed last."""
        return self._states[-1]

    def append(self, state: S, at: float) -> None:
        """Commits a state at a monotonic time."""
        self._states.append(state)
        self._times.append(at)

    def as_of(self, at: float) -> S | None:
        """Returns the state as it was at a monotonic time; None before the endpoint existed."""
        if at >= self._times[-1]:
            return self._states[-1]
        position = bisect_right(self._times, at)
        return self._states[position - 1] if position else None

    def intervals(self, since: float) -> Iterator[Interval]:
        """Yields the spans after ``since`` in which the endpoint was in transition."""
        ends = [*self._times[1:], math.inf]
        for state, begin, end in zip(self._states, self._times, ends, strict=True):
            first, last = max(state.begins, begin, since), min(state.ends, end)
            if first < last:
                yield Interval(state.by, first, last)


def peaks(intervals: Iterable[Interval]) -> dict[str, int]:
    """Returns, for each credential, the largest number of its intervals that lay over each other."""
    events: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for interval in intervals:
        events[interval.by] += [(interval.begins, 1), (interval.ends, -1)]
    return {by: _peak(sorted(changes)) for by, changes in events.items()}


def _peak(changes: list[tuple[float, int]]) -> int:
    highest = count = 0
    for _, change in changes:
        count += change
        highest = max(highest, count)
    return highest
