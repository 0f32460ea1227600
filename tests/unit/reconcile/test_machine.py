"""Any interleaving of edits, faults, crashes and time: never one version too many, and convergence afterwards."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inference_operator.errors import Ambiguous, EndpointError, InvalidSpec, Throttled, Unavailable
from inference_operator.providers.memory.account import OBSERVE, UPDATE, Commit, Fault
from world import World, spec

UID = "uid-a"
REFUSALS: list[EndpointError] = [Unavailable("x"), Throttled("x", retry_after=3), InvalidSpec("x", maybe_busy=True)]
PAYLOADS = st.tuples(st.integers(1, 3), st.sampled_from([None, "m1", "m2"]))


class AtMostOnce(RuleBasedStateMachine):
    """The world of `world.py`, driven by chance."""

    history: ClassVar[bool] = True

    @initialize(payload=PAYLOADS, rollout=st.integers(0, 3))
    def start(self, payload: tuple[int, str | None], rollout: int) -> None:
        self.world = World(history=self.history)
        self.world.account.add("ep-1", {"memory.size": 1, "memory.model": "m0"})
        self.world.account.rollout = rollout
        self.payloads: list[tuple[int, str | None]] = []
        self.other = self.world.another()
        self.edit(payload)

    @rule(payload=PAYLOADS)
    def edit(self, payload: tuple[int, str | None]) -> None:
        size, model = payload = (payload[0], payload[1] if self.history else None)
        block = {"size": size} | ({"model": model} if model else {})
        self.world.server.apply("a", spec(memory=block))
        if not self.payloads or self.payloads[-1] != payload:
            self.payloads.append(payload)

    @rule(comment=st.text(max_size=3))
    def edit_the_comment(self, comment: str) -> None:
        current = dict(self.world.server.objects[UID].spec)
        self.world.server.apply("a", current | {"versionComment": comment})

    @rule()
    def look(self) -> None:
        asyncio.run(self.world.run(UID))

    @rule()
    def another_operator_looks(self) -> None:
        asyncio.run(self.world.run(UID, reconciler=self.other[0]))

    @rule()
    def another_operator_falls_behind(self) -> None:
        self.other[1].stale[UID] = self.world.server.objects[UID]

    @rule(seconds=st.sampled_from([0.5, 5, 20]))
    def time_passes(self, seconds: float) -> None:
        asyncio.run(self.world.settle(UID, seconds))

    @rule(seconds=st.sampled_from([70, 130, 700]))
    def much_time_passes(self, seconds: float) -> None:
        """Longer than the settle time."""
        asyncio.run(self.world.settle(UID, seconds))

    @rule()
    def crash(self) -> None:
        self.world.restart()

    @rule(commit=st.sampled_from(list(Commit)))
    def the_next_answer_is_lost(self, commit: Commit) -> None:
        self._next_update(Fault(Ambiguous("lost"), commit))

    @rule(error=st.sampled_from(REFUSALS))
    def the_next_update_is_refused(self, error: EndpointError) -> None:
        self._next_update(Fault(error))

    @rule()
    def the_next_look_fails(self) -> None:
        number = sum(call.operation == OBSERVE for call in self.world.account.calls) + 1
        self.world.account.faults[OBSERVE, number] = Fault(Unavailable("x"))

    @rule()
    def late_commits_land(self) -> None:
        self.world.account.land()

    @rule(looks=st.integers(0, 4))
    def reads_lag(self, looks: int) -> None:
        self.world.account.lag = looks

    @rule(looks=st.integers(1, 4))
    def reads_fall_back(self, looks: int) -> None:
        if self.history:  # without versions, a process that has not sent the last write cannot tell
            self.world.fall_back("ep-1", looks)

    @rule()
    def the_api_server_loses_an_answer(self) -> None:
        self.world.server.lose_answers = 1

    def _next_update(self, fault: Fault) -> None:
        self.world.account.faults[UPDATE, self.world.updates + 1] = fault

    @invariant()
    def no_version_too_many(self) -> None:
        if hasattr(self, "world"):
            assert self.world.versions() <= len(self.payloads)

    @invariant()
    def no_torn_payload(self) -> None:
        if hasattr(self, "world"):
            for call in self.world.account.calls:
                if call.operation == UPDATE:
                    sent = (call.values["memory.size"], call.values.get("memory.model"))
                    assert sent in self.payloads

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        account = self.world.account
        account.faults.clear()
        account.land()
        account.lag = account.endpoints["ep-1"].lagging = 0
        self.world.server.lose_answers = 0
        asyncio.run(self.world.settle(UID, 2000))
        size, model = self.payloads[-1]
        newest = account.endpoints["ep-1"].versions[-1]
        assert newest["memory.size"] == size
        assert model in {None, newest["memory.model"]}
        assert self.world.versions() <= len(self.payloads)
        assert self.world.condition(UID, "Synced") in {
            ("True", "Applied"),
            ("True", "AppliedUnverified"),
            ("True", "Matched"),
        }
        calls, writes = self.world.updates, len(self.world.server.writes)
        self.world.restart()
        asyncio.run(self.world.settle(UID, 2000))
        assert (self.world.updates, len(self.world.server.writes)) == (calls, writes)


class AtMostOnceWithoutVersions(AtMostOnce):
    """A provider that keeps no versions, so that reading back decides; all of its fields can be read back."""

    history = False


SETTINGS = settings(max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
AtMostOnce.TestCase.settings = SETTINGS
AtMostOnceWithoutVersions.TestCase.settings = settings(SETTINGS, max_examples=75)
TestAtMostOnce = AtMostOnce.TestCase
TestAtMostOnceWithoutVersions = AtMostOnceWithoutVersions.TestCase
