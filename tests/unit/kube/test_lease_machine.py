"""Never two at a time: three candidates for a Lease under any schedule of deaths, delays and lost answers."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from inference_operator.kube import lease as module
from inference_operator.kube.lease import Lease, LeaseLost
from leases import LOST
from memory_api import Fault, MemoryApi
from virtual_time import VirtualTimeLoop

STEP = 0.25
"""How often it is looked whether more than one may write."""

LATEST = 20.0
"""How long after its sender gave up a request may still be carried out."""

SLOTS = range(3)
CLOCKS = {"on time": (0.0, 1.0), "a year ahead, slow": (3e7, 0.9), "behind, fast": (-5e3, 1.1)}
"""What the steady clock of a machine shows first, and how many seconds it counts in one; far worse than real ones."""


class Landing(Exception):  # noqa: N818 - a fate, not a failure of the test
    """The request is given up, and carried out all the same some seconds later."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"lands after {seconds} s")
        self.seconds = seconds


class Way(MemoryApi):
    """One process's way to the API server that all share."""

    def __init__(self, shared: MemoryApi) -> None:
        super().__init__()
        self.objects = shared.objects
        self._versions = shared._versions

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Any, timeout_seconds: float
    ) -> tuple[int, bytes]:
        if self.faults and isinstance(fate := self.faults[0], Landing):
            self.faults.popleft()
            asyncio.get_running_loop().call_later(fate.seconds, self._answer, method, path, body)
            raise aiohttp.ServerDisconnectedError
        return await super()._exchange(method, path, query, body, timeout_seconds)


@dataclass
class Candidate:
    """A process that wants to be active."""

    way: Way
    lease: Lease
    task: asyncio.Task[None]


FATES: st.SearchStrategy[Fault] = st.one_of(
    st.sampled_from([LOST, 409, 429, 500, 503, 403]),
    st.floats(0.1, 3.0).map(lambda seconds: round(seconds, 1)),
    st.floats(0.1, LATEST).map(Landing),
)


class Election(RuleBasedStateMachine):
    """Time passes only in `pass_time`, in steps, and after each of them at most one candidate may write."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.shared = MemoryApi()
        self.names = itertools.count()
        self.alive: list[Lease] = []
        self.running: dict[int, Candidate] = {}

    @precondition(lambda self: len(self.running) < len(SLOTS))
    @rule(clock=st.sampled_from(sorted(CLOCKS)))
    def start(self, clock: str) -> None:
        slot = min(set(SLOTS) - self.running.keys())
        self.runner.run(self._start(slot, *CLOCKS[clock]))

    @rule(slot=st.sampled_from(SLOTS), fates=st.lists(FATES, min_size=1, max_size=8))
    def trouble(self, slot: int, fates: list[Fault]) -> None:
        if slot in self.running:
            self.running[slot].way.faults.extend(fates)

    @rule(slot=st.sampled_from(SLOTS))
    def cut_off(self, slot: int) -> None:
        """No request of it arrives any more until it ends."""
        if slot in self.running:
            self.running[slot].way.faults = deque([60.0] * 1000)

    @rule(slot=st.sampled_from(SLOTS), cleanly=st.booleans())
    def end(self, slot: int, *, cleanly: bool) -> None:
        """Killed, or told to end; its requests under way may be carried out all the same."""
        if slot in self.running:
            self.runner.run(self._end(self.running.pop(slot), cleanly=cleanly))

    @rule(seconds=st.sampled_from([STEP, 1.0, 3.0, 8.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.runner.run(self._pass_time(seconds))

    async def _pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            await asyncio.sleep(STEP)
            assert await self._active() <= 1

    def teardown(self) -> None:
        """Once the trouble is over, somebody becomes active in time."""
        self.pass_time(20.0)
        self.running = {slot: each for slot, each in self.running.items() if not each.task.done()}
        for candidate in self.running.values():
            candidate.way.faults.clear()
        if len(self.running) < len(SLOTS):
            self.start("on time")
        self.runner.run(self._pass_time(LATEST + 2 * module.DURATION_SECONDS))
        assert self.runner.run(self._active()) == 1
        self.runner.close()

    async def _active(self) -> int:
        return sum(each.may_write() for each in self.alive)

    async def _start(self, slot: int, first: float, rate: float) -> None:
        way, loop = Way(self.shared), asyncio.get_running_loop()
        lease = Lease(
            way,
            namespace="home",
            name="inference-operator",
            identity=f"process {next(self.names)}",
            election=True,
            clock=lambda: first + rate * loop.time(),
        )
        self.alive.append(lease)
        self.running[slot] = Candidate(way, lease, asyncio.create_task(self._live(lease)))

    async def _live(self, lease: Lease) -> None:
        with suppress(LeaseLost, module.LeaseError):
            await lease.acquire()
            await lease.keep()

    async def _end(self, candidate: Candidate, *, cleanly: bool) -> None:
        candidate.task.cancel()
        await asyncio.wait([candidate.task])
        if cleanly:
            await candidate.lease.release()
        else:
            self.alive.remove(candidate.lease)


Election.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestNeverTwoAtATime = Election.TestCase
