"""Small worlds, searched whole: no order of steps and faults breaks an invariant, and all of them end in sync.

`search.py` prints nothing by itself; every test here prints what it has searched (`pytest -s`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import structlog

from inference_operator.core import findings, plan
from inference_operator.core.model import EndpointRef, Look, Observed, Resource
from inference_operator.core.port import StatusConflict
from inference_operator.core.situation import Situation
from inference_operator.errors import Ambiguous, Unavailable
from inference_operator.providers.memory.account import UPDATE, Commit, Fault
from inference_operator.providers.memory.driver import MemoryConnection
from inference_operator.reconcile.publish import Publisher
from inference_operator.reconcile.send import Answered, Sender
from inference_operator.reconcile.work import Work
from smallworld.dialogue import Writing, stored_form
from smallworld.outside import CURRENT, UID, Outside
from smallworld.rules import Setting, SmallWorld
from smallworld.search import Counterexample, Result, Search, follow
from smallworld.stepping import Stepper
from world import World, spec

READABLE = ({"size": 1}, {"size": 2}, {"size": 3}, {"size": 2})
"""What the endpoint holds, A, B, and A again."""

WRITE_ONLY = tuple({"size": 1, "model": model} for model in ("m0", "m1", "m2", "m1"))
"""The same in a field that no read shows."""

A, B, BACK = 2, 3, 4
"""How much of it a world has."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A pass that is run thousands of times tells nothing."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


def searched(name: str, setting: Setting) -> Result:
    result = Search(SmallWorld(setting)).run()
    print(
        f"\n{name}: {result.states} states, {result.transitions} transitions, {result.quiescent} at rest, "
        f"{result.passes} passes run, {result.seconds:.0f} s, {sum(result.counts.values())} violations"
    )
    for counterexample in result.first.values():
        show(setting, counterexample)
    return result


def show(setting: Setting, counterexample: Counterexample) -> None:
    """Print a schedule for people, and as the list that `follow` repeats."""
    print(f"\n{counterexample.what}")
    print("\n".join(f"  {line}" for line in follow(SmallWorld(setting), counterexample.schedule)))
    print(f"schedule = {list(counterexample.schedule)}")


# ── the worlds ────────────────────────────────────────────────────────────────────────────────────────

WORLDS = {
    "one process, versions": Setting(READABLE[:B], crashes=1, losses=1, lag=True),
    "one process, no versions": Setting(READABLE[:B], crashes=1, losses=1, lag=True, history=False),
    "one process, a write-only change": Setting(WRITE_ONLY[:B], crashes=1, losses=1, lag=True),
    "one process that dies twice": Setting(READABLE[:A], crashes=2, losses=1, failures=1, stale=1, lag=True),
    "one process, its watch behind": Setting(READABLE[:B], crashes=1, failures=1, stale=1),
    "one slow process": Setting(READABLE[:A], crashes=1, losses=1, failures=1, patience=1),
    "two processes and an edit": Setting(READABLE[:B], replicas=2),
    "two processes, no versions": Setting(READABLE[:A], replicas=2, losses=1, history=False),
    "two processes, one dies": Setting(READABLE[:A], replicas=2, crashes=1, losses=1),
    "two processes, one watch behind": Setting(READABLE[:A], replicas=2, stale=1, failures=1),
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.covers("A1", "A2", "A3", "A4", "A5", "A9", "B1", "B2", "B3", "D6", "D8", "D9", "E1", "E5")
def test_a_small_world_holds_no_violation(name: str) -> None:
    result = searched(name, WORLDS[name])
    assert not result.counts
    assert result.quiescent


LARGER = {
    "one process, there and back": Setting(READABLE[:BACK], crashes=1, losses=1),
    "one process, every fault": Setting(READABLE[:B], crashes=1, losses=1, failures=1, stale=1, lag=True),
    "two processes, an edit, a lost answer": Setting(READABLE[:B], replicas=2, losses=1),
    "two processes, an edit, one dies": Setting(READABLE[:B], replicas=2, crashes=1),
    "two processes, an edit, one watch behind": Setting(READABLE[:B], replicas=2, stale=1),
    "two slow processes": Setting(READABLE[:A], replicas=2, crashes=1, losses=1, patience=1),
}


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", LARGER)
def test_a_larger_world_holds_no_violation(name: str) -> None:
    result = searched(name, LARGER[name])
    assert not result.counts
    assert result.quiescent


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.covers("A1", "A2", "A3", "A4", "B1", "B2", "B3", "E5")
def test_a_slow_process_in_a_larger_world_holds_no_violation() -> None:
    setting = Setting(READABLE[:B], crashes=1, losses=1, lag=True, patience=1)
    assert not searched("one slow process, versions", setting).counts


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_what_a_process_does_that_is_frozen_before_the_socket_is_counted() -> None:
    """No provider offers a condition that could stop its update; a status that was true is not when that has landed."""
    result = searched("two processes, one frozen", Setting(READABLE[:B], replicas=2, frozen=1))
    print(f"states after too many updates: {dict(result.counts)}")
    assert set(result.counts) == {"S1", "S3", "S5", "S7"}


# ── what the search has found ─────────────────────────────────────────────────────────────────────────


async def test_a_process_that_has_not_sent_the_last_write_waits_until_reads_must_show_it() -> None:
    """Without versions it cannot tell a look at the past, and would take a lost update that rests on it for done."""
    world = World(history=False)
    world.account.add("ep-1", {"memory.size": 1})
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.restart()
    world.fall_back("ep-1", looks=1)
    world.server.apply("a", spec(memory={"size": 3}))
    world.account.faults[UPDATE, 2] = Fault(Ambiguous("lost"), Commit.NEVER)
    await world.run(UID)
    assert (world.updates, world.condition(UID, "Synced")) == (1, ("False", "Waiting"))
    await world.settle(UID, 5 * world.pace.settle)
    assert (world.updates, world.account.endpoints["ep-1"].versions[-1]["memory.size"]) == (3, 3)
    assert world.condition(UID, "Synced") == ("True", "Applied")


async def test_a_look_counts_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it shows may be as old as that, however long its answer took."""
    world = World()
    world.account.add("ep-1", {"memory.size": 1})
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    await world.reconciler.reconcile(UID)
    world.fall_back("ep-1", looks=1)
    world.time += world.pace.settle - 1
    observe = MemoryConnection.observe

    async def slow(self: MemoryConnection, ref: EndpointRef, look: Look) -> Observed:
        seen = await observe(self, ref, look)
        world.time += 2
        return seen

    monkeypatch.setattr(MemoryConnection, "observe", slow)
    world.server.apply("a", spec(memory={"size": 3}))
    await world.reconciler.reconcile(UID)
    assert (world.updates, world.condition(UID, "Synced")) == (1, ("False", "Waiting"))


# ── the search can fail ───────────────────────────────────────────────────────────────────────────────

Patch = Callable[[pytest.MonkeyPatch], None]


def settle_counted_from_sending(patch: pytest.MonkeyPatch) -> None:
    update = Sender._update

    async def early(self: Sender, *given: Any) -> Any:
        sent_at = self.clock.now()
        sent = await update(self, *given)
        if not isinstance(sent, Answered):
            return sent
        recollection = sent.work.recollection
        counted = dict.fromkeys(recollection.gave_up, sent_at)
        return replace(sent, work=replace(sent.work, recollection=replace(recollection, gave_up=counted)))

    patch.setattr(Sender, "_update", early)


def another_operation_judged_at_once(patch: pytest.MonkeyPatch) -> None:
    own = plan._is_expired

    def expired(situation: Situation, operation_id: str) -> bool:
        return operation_id not in situation.recollection.gave_up or own(situation, operation_id)

    patch.setattr(plan, "_is_expired", expired)


def conflict_of_the_intent_unheeded(patch: pytest.MonkeyPatch) -> None:
    publish = Publisher.publish_intent

    async def heedless(self: Publisher, work: Work, *given: Any) -> Work:
        try:
            return await publish(self, work, *given)
        except StatusConflict:
            return replace(work, status=self._report(work, *given))

    patch.setattr(Publisher, "publish_intent", heedless)


def status_written_without_a_guard(patch: pytest.MonkeyPatch) -> None:
    async def unguarded(self: Any, resource: Resource, status: Mapping[str, Any]) -> Resource:
        await self.ask(Writing(stored_form(status), current=True))
        return replace(resource, status=json.loads(json.dumps(status)), resource_version=CURRENT)

    patch.setattr(Outside, "write_status", unguarded)
    patch.setattr(Stepper, "outdate", lambda _, node: node)


def lost_answer_taken_as_not_committed(patch: pytest.MonkeyPatch) -> None:
    update = Outside.update

    async def certain(self: Any, *given: Any) -> Any:
        try:
            return await update(self, *given)
        except Ambiguous:
            raise Unavailable("a server error") from None

    patch.setattr(Outside, "update", certain)


def blind_retry(patch: pytest.MonkeyPatch) -> None:
    update = Outside.update

    async def stubborn(self: Any, *given: Any) -> Any:
        try:
            return await update(self, *given)
        except Ambiguous:
            return await update(self, *given)

    patch.setattr(Outside, "update", stubborn)


def no_intent(patch: pytest.MonkeyPatch) -> None:
    async def unwritten(self: Publisher, work: Work, *given: Any) -> Work:
        return replace(work, status=self._report(work, *given))

    patch.setattr(Publisher, "publish_intent", unwritten)


def sent_although_the_intent_was_not_confirmed(patch: pytest.MonkeyPatch) -> None:
    publish = Publisher.publish_intent

    async def bold(self: Publisher, work: Work, *given: Any) -> Work:
        try:
            return await publish(self, work, *given)
        except Unavailable:
            return replace(work, status=self._report(work, *given))

    patch.setattr(Publisher, "publish_intent", bold)


def synced_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    synced = findings.Findings(findings.Finding("True", "Applied", ""), None, handled=True)
    patch.setattr(findings, "of_open_write", lambda: synced)


def late_outcome_written_over_whatever_is_there(patch: pytest.MonkeyPatch) -> None:
    async def publish(self: Publisher, work: Work, _: Any, *given: Any) -> None:
        while True:
            try:
                await self.publish(work, *given)
                break
            except StatusConflict:
                work = work.stored(await self.cluster.read(work.resource))  # type: ignore[arg-type] # it never goes here

    patch.setattr(Publisher, "publish_outcome", publish)


def look_at_the_past_taken_for_the_present(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Situation, "is_behind", property(lambda _: False))


ONE = Setting(READABLE[:B], crashes=1, losses=1, failures=1)
TWO = Setting(READABLE[:B], replicas=2, losses=1)

BUGS: dict[Patch, tuple[Setting, set[str]]] = {
    settle_counted_from_sending: (replace(ONE, patience=1), {"S1", "S5"}),
    another_operation_judged_at_once: (ONE, {"S1", "S5"}),
    conflict_of_the_intent_unheeded: (TWO, {"S1", "S3", "S5"}),
    status_written_without_a_guard: (TWO, {"S1", "S3", "S5", "S7"}),
    lost_answer_taken_as_not_committed: (ONE, {"S1", "S5"}),
    blind_retry: (ONE, {"S1", "S5"}),
    no_intent: (ONE, {"S1", "S5"}),
    sent_although_the_intent_was_not_confirmed: (ONE, {"S1", "S5"}),
    synced_before_the_commit: (ONE, {"S7"}),
    late_outcome_written_over_whatever_is_there: (TWO, {"S1", "S3", "S5", "S7"}),
    look_at_the_past_taken_for_the_present: (Setting(READABLE[:B], losses=1, lag=True), {"S1", "L1"}),
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_the_search_finds_a_seeded_bug(bug: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, kinds = BUGS[bug]
    bug(monkeypatch)
    result = Search(SmallWorld(setting), until_broken=True).run()
    print(f"\n{bug.__name__}: found after {result.states} states, {result.seconds:.0f} s")
    for counterexample in result.first.values():
        show(setting, counterexample)
    assert set(result.first) & kinds
