"""Which object is worked on next: one entry per object, the most urgent first, and never one object twice at a time.

Every trigger (a change, a rotated Secret, a poll, a retry) goes through `WorkQueue.add`. What happens in between two
passes over an object is merged into one more pass, so that a hundred quick edits cost two passes and not a hundred.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)


class Trigger(IntEnum):
    """Why an object is looked at; the greater, the more urgent.

    The order is strict: polls wait as long as anything else is due. That cannot go on for ever, since every other
    trigger needs somebody who changes something, and an object has one entry however often it is changed.
    """

    POLL = 0
    SECRET = 1
    SPEC = 2
    DELETION = 3


class Turn(NamedTuple, Generic[K]):
    """One pass over one object.

    Attributes:
        key: The object.
        trigger: The most urgent of the triggers that were merged.
        waited: Seconds since it was due.
    """

    key: K
    trigger: Trigger
    waited: float


@dataclass(frozen=True, slots=True)
class _Entry:
    trigger: Trigger
    due: float
    ticket: int


class Backlog(Generic[K]):
    """The objects that wait for a pass, now or later. Pure: the caller tells the time, in seconds of any steady clock.

    Both heaps hold outdated entries too; the ticket tells which one counts.
    """

    def __init__(self) -> None:
        self._entries: dict[K, _Entry] = {}
        self._running: set[K] = set()
        self._later: list[tuple[float, int, K]] = []
        self._ready: list[tuple[int, float, int, K]] = []
        self._tickets = itertools.count()

    def add(self, key: K, trigger: Trigger, *, due: float) -> None:
        """Ask for a pass; merged with what is already asked for into the higher urgency and the earlier time."""
        known = self._entries.get(key)
        if known is not None:
            trigger, due = max(trigger, known.trigger), min(due, known.due)
            if (trigger, due) == (known.trigger, known.due):
                return
        self._entries[key] = _Entry(trigger, due, next(self._tickets))
        if key not in self._running:
            self._enlist(key)

    def pop(self, now: float) -> Turn[K] | None:
        """Begin the most urgent pass that is due, among equals the one that is due the longest; None if there is none.

        Its object is left alone until `done` is called.
        """
        self._promote(now)
        while self._ready:
            *_, ticket, key = heapq.heappop(self._ready)
            if self._counts(key, ticket):
                entry = self._entries.pop(key)
                self._running.add(key)
                return Turn(key, entry.trigger, now - entry.due)
        return None

    def done(self, key: K) -> None:
        """End the pass over an object, so that the next one that was asked for meanwhile may begin."""
        self._running.remove(key)
        if key in self._entries:
            self._enlist(key)

    def next_due(self) -> float | None:
        """When `pop` should be called next at the latest; None if only `add` or `done` can change anything."""
        if self._ready:
            return self._ready[0][1]
        while self._later and not self._counts(self._later[0][2], self._later[0][1]):
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def depth(self, now: float) -> int:
        """How many objects are due and wait."""
        return sum(entry.due <= now for entry in self._entries.values())

    def _enlist(self, key: K) -> None:
        entry = self._entries[key]
        heapq.heappush(self._later, (entry.due, entry.ticket, key))
        if len(self._later) > 2 * len(self._entries) + 64:  # passes that were moved forward leave their old times
            self._later = [item for item in self._later if self._counts(item[2], item[1])]
            heapq.heapify(self._later)

    def _promote(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            due, ticket, key = heapq.heappop(self._later)
            if self._counts(key, ticket):
                heapq.heappush(self._ready, (-self._entries[key].trigger, due, ticket, key))

    def _counts(self, key: K, ticket: int) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.ticket == ticket


Handler = Callable[[K, Trigger], Awaitable[float | None]]
"""Passes over an object; returns the seconds until the next look, None for none."""


def _unobserved(_trigger: Trigger, _waited: float) -> None:
    pass


class WorkQueue(Generic[K]):
    """Runs passes: at most `workers` at a time, in the order of `Backlog`, on one timer for all that wait.

    Belongs to one event loop; `add` must be called from its thread.
    """

    def __init__(
        self,
        *,
        workers: int,
        on_error: Callable[[K, Exception], float | None],
        on_wait: Callable[[Trigger, float], None] = _unobserved,
    ) -> None:
        """Make a queue that does nothing yet.

        Args:
            workers: Passes at the same time.
            on_error: Takes what a handler raised and returns the seconds until the next look; must not raise.
            on_wait: Told how many seconds each pass waited since it was due.
        """
        self._workers = workers
        self._on_error = on_error
        self._on_wait = on_wait
        self._backlog: Backlog[K] = Backlog()
        self._passes: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._sleeps_until = math.inf
        self._stopped = False

    @property
    def depth(self) -> int:
        """Objects that are due and wait for a worker."""
        return self._backlog.depth(_now())

    @property
    def running(self) -> int:
        """Passes under way."""
        return len(self._passes)

    def add(self, key: K, trigger: Trigger, after: float = 0.0) -> None:
        """Ask for a pass `after` seconds from now; an earlier or more urgent one that is already due stays that."""
        self._backlog.add(key, trigger, due=_now() + max(0.0, after))
        self._rouse()

    async def run(self, handler: Handler[K]) -> None:
        """Work until `stop` is called. Passes under way then go on; see `drain`."""
        while not self._stopped:
            self._wake.clear()
            while len(self._passes) < self._workers and (turn := self._backlog.pop(_now())):
                self._begin(turn, handler)
            await self._sleep()

    def stop(self) -> None:
        """Begin nothing new from now on."""
        self._stopped = True
        self._wake.set()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - what is late is cancelled, not abandoned
        """Wait for the passes under way, and cancel those that take longer than `timeout` seconds.

        Returns:
            Whether all of them ended by themselves.
        """
        if not self._passes:
            return True
        _, late = await asyncio.wait(self._passes, timeout=timeout)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return not late

    def _begin(self, turn: Turn[K], handler: Handler[K]) -> None:
        self._on_wait(turn.trigger, turn.waited)
        task = asyncio.create_task(self._pass(turn, handler), name=f"pass over {turn.key}")
        self._passes.add(task)
        task.add_done_callback(self._ended)

    async def _pass(self, turn: Turn[K], handler: Handler[K]) -> None:
        delay: float | None = None
        try:
            delay = await handler(turn.key, turn.trigger)
        except Exception as error:  # noqa: BLE001 - whatever a pass raises, the next one must come
            delay = self._on_error(turn.key, error)
        finally:
            self._backlog.done(turn.key)
            if delay is not None:
                self.add(turn.key, Trigger.POLL, after=delay)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._passes.discard(task)
        self._rouse()

    def _next_due(self) -> float | None:
        """When the next pass may begin; None while no worker is free, or nothing waits for one."""
        return self._backlog.next_due() if len(self._passes) < self._workers else None

    def _rouse(self) -> None:
        """End the sleep if a pass may begin before it would end by itself; most changes are about much later."""
        due = self._next_due()
        if due is not None and due < self._sleeps_until:
            self._wake.set()

    async def _sleep(self) -> None:
        """Wait until the next pass may begin."""
        due = self._next_due()
        self._sleeps_until = math.inf if due is None else due
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await self._wake.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()
