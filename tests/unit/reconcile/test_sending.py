"""From the decision to the outcome of a write: what may change meanwhile, and what must not be lost or done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import structlog

from inference_operator.api.names import REAPPLY_ANNOTATION, SUSPEND_ANNOTATION
from inference_operator.core.model import Resource
from inference_operator.errors import Ambiguous, InvalidSpec, Throttled, Unavailable
from inference_operator.providers.memory.account import OBSERVE, UPDATE, Commit, Fault, MemoryAccount
from world import SecretsOf, World, spec

UID = "uid-a"


@pytest.fixture
def world() -> World:
    world = World()
    world.account.add("ep-1", {"memory.size": 1, "memory.model": "m0"})
    return world


def at_the_intent(world: World, act: Callable[[], object]) -> None:
    """Act once, right before the first intent is stored."""

    def hook(resource: Resource, status: Mapping[str, Any]) -> None:
        del resource
        if "operation" in status:
            world.server.before_write.remove(hook)
            act()

    world.server.before_write.append(hook)


def during_updates(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Act whenever the provider has taken an update, before it answers."""
    update = MemoryAccount.update

    def slow(account: MemoryAccount, *arguments: Any) -> Any:
        try:
            return update(account, *arguments)
        finally:
            act()

    monkeypatch.setattr(MemoryAccount, "update", slow)


def edit(world: World, **changes: Any) -> None:
    """Change the object without a conflict: the version that the pass has read stays the newest."""
    world.server.objects[UID] = replace(world.server.objects[UID], **changes)


def sizes_sent(world: World) -> list[int]:
    return [call.values["memory.size"] for call in world.account.calls if call.operation == UPDATE]


# ── between intent and update ─────────────────────────────────────────────────────────────────────────


async def test_an_intent_that_took_longer_than_the_claim_time_sends_nothing(world: World) -> None:
    def wait() -> None:
        world.time += world.pace.claim

    at_the_intent(world, wait)
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    assert (world.updates, world.status(UID).operation) == (0, None)
    await world.settle(UID, 60)
    assert (world.updates, world.versions()) == (1, 1)


async def test_an_update_does_not_wait_for_its_log_line(world: World) -> None:
    later: list[Callable[[], object]] = []
    world.clock = replace(world.clock, soon=later.append)
    world.restart()
    world.server.apply("a", spec(memory={"size": 2}))
    with structlog.testing.capture_logs() as lines:
        await world.settle(UID, 60)
        early = [line["event"] for line in lines]
        [tell] = later
        tell()
    assert (world.updates, "sending an update" in early) == (1, False)
    assert [line["fields"] for line in lines if line["event"] == "sending an update"] == [["memory.size"]]


async def test_a_lease_that_is_lost_before_the_update_sends_nothing(world: World) -> None:
    at_the_intent(world, lambda: setattr(world.authority, "allowed", False))
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 60)
    assert (world.updates, world.status(UID).operation) == (0, None)
    world.authority.allowed = True
    await world.settle(UID, 60)
    assert world.versions() == 1


async def test_a_resource_that_is_deleted_before_the_update_is_left_alone(world: World) -> None:
    at_the_intent(world, lambda: edit(world, deleting=True))
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 60)
    assert world.updates == 0


async def test_a_resource_that_is_gone_before_the_update_is_left_alone(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    looks = iter([True])
    current = world.view.current

    def vanish(uid: str) -> Resource | None:
        stored = world.server.objects[uid].status.get("operation")
        return None if stored and next(looks, False) else current(uid)

    world.view.current = vanish  # type: ignore[method-assign] # the object leaves our scope for one look
    await world.run(UID)
    assert (world.updates, world.status(UID).operation) == (0, None)


@pytest.mark.parametrize("how", ["spec", "annotation"])
async def test_a_resource_that_is_suspended_before_the_update_is_left_alone(world: World, how: str) -> None:
    resource = world.server.apply("a", spec(memory={"size": 2}))
    if how == "spec":
        at_the_intent(world, lambda: edit(world, spec={**resource.spec, "suspend": True}))
    else:
        at_the_intent(world, lambda: edit(world, annotations={SUSPEND_ANNOTATION: "true"}))
    await world.settle(UID, 60)
    assert world.updates == 0


async def test_an_edit_before_the_intent_is_stored_is_decided_anew(world: World) -> None:
    at_the_intent(world, lambda: world.server.apply("a", spec(memory={"size": 3})))
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    assert sizes_sent(world) == [3]
    assert world.status(UID).observed_generation == 2


async def test_a_cached_object_is_read_again_after_a_conflict(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    world.view.stale[UID] = world.server.objects[UID]
    world.server.apply("a", spec(memory={"size": 3}))
    await world.run(UID)
    assert sizes_sent(world) == [3]


async def test_the_status_says_nothing_of_a_write_before_its_answer(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    _, stored = world.server.writes[0]
    conditions = {each["type"]: each for each in stored["conditions"]}
    assert "operation" in stored
    assert (conditions["Synced"]["status"], conditions["Synced"]["reason"]) == ("Unknown", "WriteUndecided")
    assert conditions["Ready"]["status"] == "Unknown"
    assert stored["observedGeneration"] == -1
    assert "applied" not in stored


# ── the update itself ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("history", [True, False])
async def test_the_settle_time_is_counted_from_giving_up(monkeypatch: pytest.MonkeyPatch, *, history: bool) -> None:
    """A request that nobody has answered may arrive until its time-out, and take effect up to the settle time later."""
    world = World(history=history)
    world.account.add("ep-1", {"memory.size": 1})
    world.server.apply("a", spec(memory={"size": 2}))
    world.account.faults[UPDATE, 1] = Fault(Ambiguous("no answer"), Commit.LATER)

    def time_out() -> None:
        world.time += world.pace.request_timeout

    during_updates(monkeypatch, time_out)
    monkeypatch.setattr(World, "_tick", lambda _: None)  # by itself the world lands what is late somewhat earlier
    await world.run(UID)
    await world.settle(UID, world.pace.settle - 1)
    assert (world.updates, world.versions()) == (1, 0)
    world.account.land()
    await world.settle(UID, 200)
    assert (world.updates, world.versions()) == (1, 1)
    assert world.condition(UID, "Synced") == ("True", "Applied")


@pytest.mark.parametrize("history", [True, False])
async def test_a_look_that_began_before_the_deadline_proves_nothing_after_it(
    monkeypatch: pytest.MonkeyPatch, *, history: bool
) -> None:
    """What it has read may have been overtaken by a late commit."""
    world = World(history=history)
    world.account.add("ep-1", {"memory.size": 1})
    world.server.apply("a", spec(memory={"size": 2}))
    world.account.faults[UPDATE, 1] = Fault(Ambiguous("no answer"), Commit.LATER)
    monkeypatch.setattr(World, "_tick", lambda _: None)
    await world.run(UID)
    observe = MemoryAccount.observe

    def slow(account: MemoryAccount, endpoint_id: str) -> Any:
        reading = observe(account, endpoint_id)
        world.time += 10
        return reading

    monkeypatch.setattr(MemoryAccount, "observe", slow)
    world.time += world.pace.settle - 5
    await world.run(UID)
    assert world.updates == 1
    world.account.land()
    await world.settle(UID, 200)
    assert (world.updates, world.versions()) == (1, 1)


async def test_an_outcome_is_reported_for_the_generation_that_was_sent(world: World) -> None:
    """Whoever waits for the newer generation must not be told that it is applied."""

    def edit_before_the_outcome(resource: Resource, status: Mapping[str, Any]) -> None:
        del resource
        if "operation" not in status:
            world.server.before_write.remove(edit_before_the_outcome)
            world.server.apply("a", spec(memory={"size": 3}))

    world.server.before_write.append(edit_before_the_outcome)
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    _, outcome = world.server.writes[1]
    assert (outcome["observedGeneration"], outcome["applied"]["generation"]) == (1, 1)
    assert {each["observedGeneration"] for each in outcome["conditions"]} == {1}


async def test_a_late_result_is_not_written_over_a_newer_operation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer: list[Mapping[str, Any]] = []

    def another_process_writes() -> None:
        resource = world.server.objects[UID]
        newer.append({**resource.status, "operation": {**resource.status["operation"], "id": "newer"}})
        edit(world, status=newer[0], resource_version=world.server.version())

    during_updates(monkeypatch, another_process_writes)
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    assert world.server.objects[UID].status == newer[0]


async def test_a_late_result_is_not_written_over_what_another_process_has_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_process_settles() -> None:
        status = {name: value for name, value in world.server.objects[UID].status.items() if name != "operation"}
        edit(world, status=status, resource_version=world.server.version())

    during_updates(monkeypatch, another_process_settles)
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    assert "applied" not in world.server.objects[UID].status


@pytest.mark.parametrize("error", [InvalidSpec("no"), Throttled("slower", retry_after=5), Unavailable("refused")])
async def test_a_refused_write_is_closed_at_once_and_never_settled(world: World, error: Exception) -> None:
    world.account.faults[UPDATE, 1] = Fault(error)  # type: ignore[arg-type]
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    assert (world.status(UID).operation, world.status(UID).applied) == (None, None)


async def test_a_throttled_update_is_not_sent_again_before_the_silence_is_over(world: World) -> None:
    world.account.faults[UPDATE, 1] = Fault(Throttled("slower", retry_after=40))
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 39)
    assert world.updates == 1
    await world.settle(UID, 10)
    assert world.updates == 2


async def test_an_intent_without_an_answer_sends_nothing(world: World) -> None:
    world.server.lose_answers = 1
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    assert world.updates == 0
    await world.settle(UID, 60)
    assert (world.updates, world.versions()) == (1, 1)


async def test_the_answer_to_a_reapply_request_is_remembered_across_a_lost_answer(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.server.apply("a", spec(memory={"size": 2}), annotations={REAPPLY_ANNOTATION: "now"})
    world.account.faults[UPDATE, 2] = Fault(Ambiguous("lost"), Commit.NOW)
    await world.settle(UID, 300)
    world.restart()
    await world.settle(UID, 300)
    assert world.versions() == 2


# ── another of the same name ──────────────────────────────────────────────────────────────────────────


def recreate(world: World, uid: str, **block: Any) -> str:
    """Delete the resource and create one of its name, with the status that a restore from a backup would bring."""
    old = world.server.objects.pop(UID)
    fresh = world.server.apply("a", spec(memory=block), uid=uid)
    world.server.objects[uid] = replace(fresh, status=old.status)
    return uid


async def test_what_another_uid_has_applied_proves_nothing(world: World) -> None:
    """Write-only fields may have changed since; only this uid's own write tells."""
    world.server.apply("a", spec(memory={"size": 2, "model": "m1"}))
    await world.run(UID)
    world.account.change("ep-1", {"memory.model": "other"})
    uid = recreate(world, "uid-new", size=2, model="m1")
    world.restart()
    await world.settle(uid, 300)
    assert world.account.endpoints["ep-1"].versions[-1]["memory.model"] == "m1"
    applied = world.status(uid).applied
    assert applied is not None
    assert applied.uid == uid


async def test_an_operation_of_another_uid_is_waited_for_and_never_settled(world: World) -> None:
    """The request of a deleted predecessor may still land: the successor's first write comes after that."""
    world.account.faults[UPDATE, 1] = Fault(Ambiguous("lost"), Commit.LATER)
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    uid = recreate(world, "uid-new", size=3)
    await world.settle(uid, world.pace.quiet - 1)
    assert sizes_sent(world) == [2]
    await world.settle(uid, 100)
    assert sizes_sent(world) == [2, 3]
    assert world.account.endpoints["ep-1"].versions[-1]["memory.size"] == 3
    assert world.condition(uid, "Synced") == ("True", "Applied")


# ── what a pass leaves alone ──────────────────────────────────────────────────────────────────────────


async def test_an_edit_of_annotations_writes_nothing(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 100)
    updates, writes = world.updates, len(world.server.writes)
    world.server.apply("a", spec(memory={"size": 2}), annotations={"team": "x"})
    await world.settle(UID, 100)
    assert (world.updates, len(world.server.writes)) == (updates, writes)


async def test_a_key_that_was_replaced_by_the_same_key_writes_nothing(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 100)
    updates, writes = world.updates, len(world.server.writes)
    world.server.secret("key", token="flp_0123456789")
    await world.settle(UID, 700)
    assert (world.updates, len(world.server.writes)) == (updates, writes)


async def test_the_clock_of_a_condition_stands_while_the_condition_does(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    since = {each.type: each.last_transition_time for each in world.status(UID).conditions}
    world.account.change("ep-1", {"memory.size": 7})
    await world.settle(UID, 1300)
    after = {each.type: each.last_transition_time for each in world.status(UID).conditions}
    assert after["Ready"] == since["Ready"]
    assert after["Synced"] > since["Synced"]


async def test_a_write_that_is_not_visible_yet_is_looked_for_in_growing_pauses(world: World) -> None:
    world.account.lag = 1000
    world.server.apply("a", spec(memory={"size": 2}))
    delays = []
    for _ in range(8):
        delay = await world.run(UID)
        assert delay is not None
        delays.append(delay)
        world.time += delay
    assert delays == [0.5, 1, 2, 4, 8, 10, 10, 10]


async def test_failed_looks_are_repeated_in_growing_pauses(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    for number in range(1, 20):
        world.account.faults[OBSERVE, number] = Fault(Unavailable("down"))
    delays = []
    for _ in range(9):
        delay = await world.run(UID)
        assert delay is not None
        delays.append(delay)
        world.time += delay
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


async def test_a_rival_that_only_the_api_server_knows_is_asked_for_before_the_first_write(world: World) -> None:
    """Another shard's resource is not among those that this process watches."""
    older = world.server.apply("b", spec(memory={"size": 5}))
    world.server.objects["uid-b"] = replace(older, status={"endpointId": "ep-1"})
    world.server.apply("a", spec(memory={"size": 2}))
    world.view.rivals = lambda *_: []  # type: ignore[method-assign] # what this process watches
    rivals = type(world.view).rivals

    async def everywhere(resource: Resource, provider: str, endpoint_id: str) -> Any:
        return rivals(world.view, resource, provider, endpoint_id)

    world.view.claims = everywhere  # type: ignore[method-assign] # what the API server knows
    await world.run(UID)
    assert world.updates == 0
    assert world.condition(UID, "Stalled") == ("True", "Conflict")


async def test_a_fresh_reading_of_unwatched_secrets_precedes_each_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.options = replace(world.options, reread_secrets=True)
    world.restart()
    world.server.apply("a", spec(memory={"size": 2}))
    read, asked = SecretsOf.read, []

    async def noted(reader: SecretsOf, namespace: str, name: str, *, fresh: bool = False) -> Any:
        asked.append(fresh)
        return await read(reader, namespace, name, fresh=fresh)

    monkeypatch.setattr(SecretsOf, "read", noted)
    await world.run(UID)
    assert world.updates == 1
    assert asked == [False, True]


async def test_a_first_write_waits_after_another_claimant_of_the_endpoint_was_deleted(world: World) -> None:
    """This process has seen it go, and it may have lost a write."""
    world.view.removed["memory", "ep-1"] = world.time
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, world.pace.quiet - 1)
    assert (world.updates, world.condition(UID, "Synced")) == (0, ("False", "Waiting"))
    await world.settle(UID, 60)
    assert world.updates == 1


@pytest.mark.covers("C9")
@pytest.mark.parametrize("history", [True, False], ids=["versions", "no versions"])
async def test_a_foreign_change_before_the_second_try_is_not_taken_for_it(*, history: bool) -> None:
    """It was there when the second try began, which therefore cannot have made it."""
    world = World(history=history)
    world.account.add("ep-1", {"memory.size": 1, "memory.name": "n0"})
    world.account.faults |= {(UPDATE, number): Fault(Ambiguous("lost"), Commit.NEVER) for number in (1, 2)}
    world.server.apply("a", spec(memory={"size": 1, "name": "n1"}))
    await world.settle(UID, 0.9 * world.pace.settle)
    world.account.change("ep-1", {"memory.size": 7})
    await world.settle(UID, 4 * world.pace.settle)
    assert (world.updates, world.condition(UID, "Synced")) == (3, ("True", "Applied"))
