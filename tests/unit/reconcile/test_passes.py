"""Whole passes over a world in memory: what is sent, what is stored, and what the status says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from inference_operator.api.names import REAPPLY_ANNOTATION, REFRESH_ANNOTATION, SUSPEND_ANNOTATION
from inference_operator.core.model import Resource
from inference_operator.errors import (
    Ambiguous,
    CapacityUnavailable,
    CredentialsRejected,
    InvalidSpec,
    Throttled,
    Unavailable,
)
from inference_operator.providers.memory.account import OBSERVE, UPDATE, Commit, Fault
from inference_operator.reconcile import Options
from world import World, spec

UID = "uid-a"


@pytest.fixture
def world() -> World:
    world = World()
    world.account.add(
        "ep-1", {"memory.size": 1, "memory.model": "m0", "scaling.minReplicas": 1, "scaling.maxReplicas": 1}
    )
    return world


async def test_an_endpoint_that_already_holds_the_spec_is_adopted_without_a_write(world: World) -> None:
    world.server.apply("a", spec())
    await world.run(UID)
    assert world.updates == 0
    assert world.condition(UID, "Synced") == ("True", "Matched")
    assert world.condition(UID, "Ready") == ("True", "Serving")
    assert len(world.server.writes) == 1


async def test_a_first_write_takes_two_status_writes_and_one_version(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    assert (world.updates, world.versions(), len(world.server.writes)) == (1, 1, 2)
    status = world.status(UID)
    assert (status.version, status.observed_generation, status.operation) == (1, 1, None)
    assert world.condition(UID, "Synced") == ("True", "Applied")
    assert world.condition(UID, "Ready") == ("True", "Serving")
    assert status.applied is not None
    assert status.applied.settling is None
    assert [entry.version for entry in status.history] == [1]


async def test_at_rest_nothing_is_written_anywhere(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2, "model": "m1"}))
    await world.run(UID)
    writes, updates = len(world.server.writes), world.updates
    await world.settle(UID, 4000)
    world.restart()
    await world.settle(UID, 4000)
    assert (len(world.server.writes), world.updates) == (writes, updates)


async def test_every_change_makes_exactly_one_version(world: World) -> None:
    for number in range(2, 12):
        world.server.apply("a", spec(memory={"size": number, "model": f"m{number}"}))
        await world.run(UID)
        assert world.versions() == number - 1
        assert world.condition(UID, "Synced") == ("True", "Applied")


async def test_a_change_of_the_comment_alone_makes_no_version_and_rides_on_the_next(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.server.apply("a", spec(memory={"size": 2}, versionComment="later"))
    await world.run(UID)
    assert world.updates == 1
    assert world.status(UID).observed_generation == 2
    world.server.apply("a", spec(memory={"size": 3}, versionComment="later"))
    await world.run(UID)
    assert (world.updates, world.status(UID).version_comment) == (2, "later")


@pytest.mark.covers("B1", "B2")
@pytest.mark.parametrize("model", [None, "m1"], ids=["readable", "write-only"])
@pytest.mark.parametrize("commit", list(Commit))
@pytest.mark.parametrize("restart", [False, True])
async def test_a_lost_answer_never_makes_a_second_version(
    world: World, commit: Commit, *, restart: bool, model: str | None
) -> None:
    changed = {"size": 1 if model else 2} | ({"model": model} if model else {})
    world.server.apply("a", spec(memory=changed))
    world.account.faults[UPDATE, 1] = Fault(Ambiguous("lost"), commit)
    await world.run(UID)
    if restart:
        world.restart()
    if commit is Commit.LATER:
        world.time += 20
        world.account.land()
    await world.settle(UID, 300)
    assert world.versions() == 1
    reason = "AppliedUnverified" if model and commit is not Commit.NEVER else "Applied"
    assert world.condition(UID, "Synced") == ("True", reason)
    assert world.updates == (2 if commit is Commit.NEVER else 1)


async def test_an_operation_of_another_process_is_left_alone_until_it_was_seen_for_q(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    world.account.faults[UPDATE, 1] = Fault(Ambiguous("lost"), Commit.NEVER)
    await world.run(UID)
    world.restart()
    await world.settle(UID, world.pace.quiet - 1)
    assert world.updates == 1
    assert world.condition(UID, "Synced") == ("Unknown", "WriteUndecided")
    await world.settle(UID, 30)
    assert (world.updates, world.versions()) == (2, 1)


@pytest.mark.covers("C10")
async def test_lagging_reads_lead_to_no_second_write(world: World) -> None:
    world.account.lag = 5
    world.server.apply("a", spec(memory={"size": 2, "model": "m1"}))
    await world.run(UID)
    assert world.condition(UID, "Synced") == ("Unknown", "WriteUndecided")
    await world.settle(UID, 120)
    assert (world.updates, world.versions()) == (1, 1)
    assert world.condition(UID, "Synced") == ("True", "Applied")


@pytest.mark.covers("C16")
async def test_a_clamped_value_is_not_sent_again_and_needs_a_human(world: World) -> None:
    world.account.clamp["memory.size"] = 5
    world.server.apply("a", spec(memory={"size": 9}))
    await world.settle(UID, 5000)
    assert (world.updates, world.versions()) == (1, 1)
    assert world.condition(UID, "Synced") == ("False", "NotConverging")
    assert world.condition(UID, "Stalled") == ("True", "NotConverging")
    world.account.clamp.clear()
    world.account.change("ep-1", {"memory.size": 9})
    await world.settle(UID, 700)
    assert world.updates == 1
    assert world.condition(UID, "Synced") == ("True", "Applied")


@pytest.mark.parametrize(
    "error",
    [Unavailable("x"), Throttled("x"), CredentialsRejected("x"), InvalidSpec("x"), CapacityUnavailable("x")],
    ids=lambda error: type(error).__name__,
)
async def test_a_failed_read_never_leads_to_a_write(world: World, error: Exception) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    for number in range(1, 2000):
        world.account.faults[OBSERVE, number] = Fault(error)  # type: ignore[arg-type]
    await world.settle(UID, 1000)
    assert world.updates == 0
    synced = world.condition(UID, "Synced")
    assert synced is not None
    assert synced[0] == "False"


async def test_a_refused_update_stalls_and_wakes_on_a_new_generation(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    world.account.faults[UPDATE, 1] = Fault(InvalidSpec("size is too large"))
    await world.settle(UID, 200)
    assert (world.updates, world.versions()) == (1, 0)
    assert world.condition(UID, "Stalled") == ("True", "InvalidSpec")
    assert world.status(UID).operation is None
    world.server.apply("a", spec(memory={"size": 3}))
    await world.run(UID)
    assert (world.updates, world.versions()) == (2, 1)
    assert world.condition(UID, "Stalled") is None


@pytest.mark.covers("C6")
async def test_a_refusal_while_the_provider_is_at_work_is_not_the_users_fault(world: World) -> None:
    world.account.rollout = 6
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.server.apply("a", spec(memory={"size": 3}))
    world.account.faults[UPDATE, 2] = Fault(InvalidSpec("busy", maybe_busy=True))
    await world.run(UID)
    assert world.condition(UID, "Synced") == ("False", "Waiting")
    await world.settle(UID, 300)
    assert world.versions() == 2
    assert world.condition(UID, "Synced") == ("True", "Applied")


async def test_a_spec_that_changes_during_a_rollout_is_sent_at_once(world: World) -> None:
    world.account.rollout = 10
    for size in (2, 3):
        world.server.apply("a", spec(memory={"size": size}))
        await world.run(UID)
    assert world.versions() == 2
    assert world.condition(UID, "Ready") == ("Unknown", "Updating")
    assert world.condition(UID, "Reconciling") == ("True", "Updating")


async def test_a_foreign_change_is_reported_and_not_touched(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.account.change("ep-1", {"memory.size": 7})
    await world.settle(UID, 700)
    assert world.updates == 1
    assert world.condition(UID, "Synced") == ("False", "Drifted")
    assert world.condition(UID, "Ready") == ("True", "Serving")
    assert [(d.field, d.desired, d.observed) for d in world.status(UID).drift] == [("memory.size", 2, 7)]


@pytest.mark.covers("C8")
async def test_a_foreign_version_is_drift_only_where_it_may_hide_something(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.account.change("ep-1", {"memory.model": "other"})
    await world.settle(UID, 1300)
    assert (world.condition(UID, "Synced"), world.status(UID).version) == (("True", "Applied"), 2)
    world.server.apply("a", spec(memory={"size": 2, "model": "m1"}))
    await world.run(UID)
    world.account.change("ep-1", {"memory.model": "other"})
    await world.settle(UID, 1300)
    assert world.condition(UID, "Synced") == ("False", "Drifted")
    writes = len(world.server.writes)
    await world.settle(UID, 3000)
    assert len(world.server.writes) == writes


@pytest.mark.covers("C7")
async def test_drift_is_corrected_after_two_looks_and_contested_the_third_time(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}, driftPolicy="Correct"))
    await world.settle(UID, 700)
    for corrections in (1, 2):
        world.account.change("ep-1", {"memory.size": 7})
        await world.settle(UID, 3000)
        assert world.updates == 1 + corrections
        assert world.condition(UID, "Synced") == ("True", "Applied")
    world.account.change("ep-1", {"memory.size": 7})
    await world.settle(UID, 5000)
    assert world.updates == 3
    assert world.condition(UID, "Stalled") == ("True", "Contested")


async def test_observe_and_read_only_write_nothing_and_report_differences(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}, managementPolicy="Observe"))
    await world.settle(UID, 500)
    assert (world.updates, world.condition(UID, "Synced")) == (0, ("False", "Drifted"))
    world.options = Options(read_only=True)
    world.restart()
    world.server.apply("a", spec(memory={"size": 3}))
    await world.settle(UID, 500)
    assert (world.updates, world.condition(UID, "Synced")) == (0, ("False", "Drifted"))


async def test_observing_claims_nothing_to_be_applied(world: World) -> None:
    world.server.apply("a", spec(memory={"model": "m7"}, managementPolicy="Observe"))
    await world.run(UID)
    assert (world.updates, world.condition(UID, "Synced")) == (0, ("True", "Matched"))


async def test_suspension_calls_no_provider_and_says_so(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    calls = len(world.account.calls)
    world.server.apply("a", spec(memory={"size": 2}, suspend=True))
    assert await world.run(UID) is None
    assert world.condition(UID, "Suspended") == ("True", "Suspended")
    assert world.condition(UID, "Ready") == ("True", "Serving")
    writes = len(world.server.writes)
    world.time += 100
    await world.run(UID)
    assert len(world.server.writes) == writes
    world.server.apply("a", spec(memory={"size": 3}), annotations={SUSPEND_ANNOTATION: "true"})
    await world.run(UID)
    assert world.condition(UID, "Synced") == ("False", "Suspended")
    assert world.condition(UID, "Ready") == ("Unknown", "Suspended")
    assert len(world.account.calls) == calls
    world.server.apply("a", spec(memory={"size": 3}), annotations={})
    await world.run(UID)
    assert (world.versions(), world.condition(UID, "Suspended")) == (2, None)


async def test_a_spec_that_declares_nothing_sends_nothing(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.server.apply("a", spec(memory={}))
    await world.settle(UID, 100)
    assert (world.updates, world.condition(UID, "Synced")) == (1, ("True", "Applied"))


async def test_reapply_sends_once_for_each_new_value(world: World) -> None:
    world.server.apply("a", spec(memory={"model": "m1"}))
    await world.run(UID)
    for count, value in enumerate(["x", "x", "y", "", "z"], start=1):
        world.server.apply("a", spec(memory={"model": "m1"}), annotations={REAPPLY_ANNOTATION: value})
        await world.settle(UID, 100)
        assert world.versions() == 1 + {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}[count]


async def test_adoption_by_match_takes_write_only_fields_as_applied(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 1, "model": "m9"}, adoptionPolicy="Match"))
    await world.run(UID)
    assert (world.updates, world.condition(UID, "Synced")) == (0, ("True", "Matched"))
    assert world.status(UID).unverifiable == ["memory.model"]


async def test_a_missing_secret_waits_and_then_stalls_and_heals(world: World) -> None:
    del world.server.secrets["team", "key"]
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 100)
    assert world.condition(UID, "Synced") == ("False", "Waiting")
    assert world.condition(UID, "Stalled") is None
    await world.settle(UID, 100)
    assert world.condition(UID, "Stalled") == ("True", "CredentialsRejected")
    assert world.account.calls == []
    world.server.secret("key", token="flp_x\n")
    await world.run(UID)
    assert world.condition(UID, "Synced") == ("True", "Applied")


async def test_a_missing_endpoint_stalls_and_clears_nothing(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    gone = world.account.endpoints.pop("ep-1")
    await world.settle(UID, 1000)
    assert world.condition(UID, "Stalled") == ("True", "EndpointNotFound")
    assert world.condition(UID, "Synced") == ("False", "EndpointNotFound")
    status = world.status(UID)
    assert status.applied is not None
    assert status.version == 1
    world.account.endpoints["ep-1"] = gone
    await world.settle(UID, 1000)
    assert (world.updates, world.condition(UID, "Synced")) == (1, ("True", "Applied"))


@pytest.mark.covers("D14")
@pytest.mark.parametrize("field", ["operation", "updates"])
async def test_an_older_crd_that_drops_the_intent_stops_the_write(world: World, field: str) -> None:
    world.server.prune = (field,)
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 400)
    assert world.updates == 0
    assert world.condition(UID, "Stalled") == ("True", "InternalError")


async def test_the_older_of_two_resources_owns_the_endpoint(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    world.server.apply("b", spec(memory={"size": 3}))
    await world.run(UID)
    await world.settle("uid-b", 300)
    assert (world.updates, world.condition("uid-b", "Stalled")) == (1, ("True", "Conflict"))
    del world.server.objects[UID]
    world.view.removed["memory", "ep-1"] = world.time
    await world.settle("uid-b", world.pace.quiet - 5)
    assert (world.updates, world.condition("uid-b", "Synced")) == (1, ("False", "Waiting"))
    await world.settle("uid-b", 60)
    assert (world.updates, world.condition("uid-b", "Synced")) == (2, ("True", "Applied"))


async def test_first_writes_wait_after_a_predecessor(world: World) -> None:
    world.authority.succeeded_at = world.time
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, world.pace.quiet - 1)
    assert world.updates == 0
    await world.settle(UID, 61)
    assert world.updates == 1


@pytest.mark.covers("E5")
async def test_an_edit_between_intent_and_outcome_is_recorded_against_its_own_generation(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    changes = [spec(memory={"size": 3})]

    def edit(resource: object, status: dict[str, object]) -> None:
        del resource
        if "operation" not in status and changes:
            world.server.apply("a", changes.pop())

    world.server.before_write.append(edit)
    await world.run(UID)
    await world.run(UID)
    assert world.versions() == 2
    assert [entry.generation for entry in world.status(UID).history] == [2, 1]
    assert world.status(UID).observed_generation == 2


@pytest.mark.covers("D9")
async def test_a_lost_answer_of_the_api_server_to_the_intent_sends_nothing_twice(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    world.server.lose_answers = 1
    await world.settle(UID, 60)
    assert (world.updates, world.versions()) == (1, 1)
    assert world.condition(UID, "Synced") == ("True", "Applied")


@pytest.mark.parametrize("history", [True, False])
async def test_what_certainly_was_not_sent_is_not_taken_for_done(*, history: bool) -> None:
    """A reapply differs in nothing that could be read back, so that only the process knows that it was not sent."""
    world = World(history=history)
    world.account.add("ep-1", {"memory.size": 1})
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.server.apply("a", spec(memory={"size": 2}), annotations={REAPPLY_ANNOTATION: "now"})
    world.server.lose_answers = 1
    await world.settle(UID, 60)
    assert (world.updates, world.versions()) == (2, 2)
    assert world.condition(UID, "Synced") == ("True", "Applied")


async def test_two_operators_on_one_object_make_one_version(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    other, view, _ = world.another()
    view.stale[UID] = world.server.objects[UID]
    await world.run(UID)
    await world.run(UID, reconciler=other)
    await world.settle(UID, 300)
    await world.settle(UID, 300, reconciler=other)
    assert (world.updates, world.versions()) == (1, 1)


async def test_without_authority_nothing_is_sent(world: World) -> None:
    world.authority.allowed = False
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 100)
    assert world.updates == 0
    assert world.status(UID).operation is None
    assert world.condition(UID, "Synced") == ("False", "Waiting")
    assert len(world.server.writes) == 1


async def test_the_brake_holds_back_and_wakes_the_next(world: World) -> None:
    world.max_rollouts = 2
    world.restart()
    world.account.rollout = 5
    names = [f"r{number}" for number in range(5)]
    for name in names:
        world.account.add(f"ep-{name}", {"memory.size": 1})
        world.server.apply(name, spec(endpointId=f"ep-{name}", memory={"size": 2}))
        await world.run(f"uid-{name}")
    assert world.updates == 2
    assert world.condition("uid-r4", "Synced") == ("False", "Waiting")
    for _ in range(6):
        world.time += 10
        await world.run("uid-r0")
    assert world.woken == ["uid-r2"]


async def test_writes_of_replicas_alone_keep_their_interval(world: World) -> None:
    world.server.apply("a", spec(scaling={"replicas": 2}))
    await world.run(UID)
    world.time += 10
    world.server.apply("a", spec(scaling={"replicas": 3}))
    await world.run(UID)
    assert (world.versions(), world.condition(UID, "Synced")) == (1, ("False", "Waiting"))
    await world.settle(UID, 55)
    assert world.versions() == 2
    world.server.apply("a", spec(scaling={"replicas": 4}, memory={"size": 9}))
    await world.run(UID)
    assert world.versions() == 3


@pytest.mark.covers("E2")
async def test_a_wrong_clock_starts_and_stops_nothing(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}, driftPolicy="Correct"))
    await world.run(UID)
    for offset in (3.2e8, -3.2e8):
        world.wall_offset = offset
        world.restart()
        await world.settle(UID, 500)
        world.server.apply("a", spec(memory={"size": 3 + (offset > 0)}, driftPolicy="Correct"))
        await world.settle(UID, 500)
        assert world.condition(UID, "Synced") == ("True", "Applied")
    assert world.versions() == 3


async def test_our_own_failure_is_one_honest_condition(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server.apply("a", spec(memory={"size": 2}))

    def explode(*_: object) -> bool:
        raise RuntimeError("flp_0123456789")

    monkeypatch.setattr(type(world.driver), "agrees", explode)
    await world.run(UID)
    assert world.condition(UID, "Stalled") == ("True", "InternalError")
    assert "flp_" not in str(world.server.objects[UID].status)


async def test_a_deleted_resource_is_left_alone(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    world.server.objects[UID] = replace(world.server.objects[UID], deleting=True)
    assert await world.run(UID) is None
    assert (world.account.calls, world.server.writes) == ([], [])


async def test_a_spec_that_comes_to_ask_for_what_is_there_sends_nothing(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 100)
    world.account.change("ep-1", {"memory.size": 7})
    await world.settle(UID, 700)
    assert world.condition(UID, "Synced") == ("False", "Drifted")
    world.server.apply("a", spec(memory={"size": 7}))
    await world.settle(UID, 100)
    assert (world.updates, world.condition(UID, "Synced")) == (1, ("True", "Applied"))


async def test_a_spec_that_goes_back_while_reads_may_be_stale_is_sent(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    stale = world.account.endpoints["ep-1"]
    stale.visible, stale.lagging = 1, 3
    world.server.apply("a", spec(memory={"size": 1}))
    await world.settle(UID, 100)
    assert (world.updates, stale.versions[-1]["memory.size"]) == (2, 1)


def refuse(world: World, operation: str, error: Exception) -> None:
    """Every call from now on."""
    done = sum(call.operation == operation for call in world.account.calls)
    world.account.faults |= {
        (operation, number): Fault(error)  # type: ignore[arg-type]
        for number in range(done + 1, done + 500)
    }


@pytest.mark.parametrize("operation", [OBSERVE, UPDATE])
async def test_a_refused_key_is_tried_slowly_and_a_new_one_within_a_poll(world: World, operation: str) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    refuse(world, operation, CredentialsRejected("HTTP 401"))
    assert 0 < (await world.run(UID) or 0) <= 1.1 * world.pace.poll
    assert world.condition(UID, "Stalled") == ("True", "CredentialsRejected")
    tried = [call.operation for call in world.account.calls].count(operation)
    await world.settle(UID, 4 * world.pace.poll)
    assert 0 < (await world.run(UID) or 0) <= 1.1 * world.pace.poll
    assert [call.operation for call in world.account.calls].count(operation) == tried
    await world.settle(UID, 2 * world.pace.poll)
    assert [call.operation for call in world.account.calls].count(operation) == tried + 1
    world.account.faults.clear()
    world.server.secret("key", token="flp_new")
    await world.settle(UID, 1.1 * world.pace.poll)
    assert (world.versions(), world.condition(UID, "Synced")) == (1, ("True", "Applied"))


async def test_a_throttled_look_is_not_repeated_before_the_silence_is_over_however_many_polls_that_lasts(
    world: World,
) -> None:
    silence = 5 * world.pace.poll
    refuse(world, OBSERVE, Throttled("slower", retry_after=silence))
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, silence - 1)
    assert len(world.account.calls) == 1
    assert 0 < (await world.run(UID) or 0) <= 1.1 * world.pace.poll
    world.account.faults.clear()
    await world.settle(UID, 1.1 * world.pace.poll)
    assert (world.versions(), world.condition(UID, "Synced")) == (1, ("True", "Applied"))


async def test_a_missing_secret_is_looked_for_at_every_poll(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    del world.server.secrets["team", "key"]
    for _ in range(20):
        delay = await world.run(UID)
        assert delay is not None
        assert delay <= 1.1 * world.pace.poll
        world.time += delay
    assert world.condition(UID, "Stalled") == ("True", "CredentialsRejected")
    world.server.secret("key", token="flp_new")
    await world.run(UID)
    assert world.condition(UID, "Synced") == ("True", "Applied")


async def test_a_refused_look_is_repeated_when_a_person_asks_for_it(world: World) -> None:
    world.server.apply("a", spec())
    refuse(world, OBSERVE, CredentialsRejected("HTTP 403"))
    await world.run(UID)
    world.account.faults.clear()
    await world.run(UID)
    assert len(world.account.calls) == 1
    world.server.apply("a", spec(), annotations={REFRESH_ANNOTATION: "now"})
    await world.run(UID)
    assert world.condition(UID, "Synced") == ("True", "Matched")


async def test_missing_capacity_is_tried_at_one_slow_pace(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    refuse(world, UPDATE, CapacityUnavailable("no H100 left"))
    await world.settle(UID, 12 * world.pace.slow)
    assert 10 <= world.updates <= 13
    assert world.condition(UID, "Synced") == ("False", "CapacityUnavailable")


async def test_ready_is_unknown_once_a_refused_key_has_hidden_the_endpoint_for_three_polls(world: World) -> None:
    world.server.apply("a", spec())
    await world.run(UID)
    refuse(world, OBSERVE, CredentialsRejected("HTTP 401"))
    await world.settle(UID, 2 * world.pace.poll)
    assert world.condition(UID, "Ready") == ("True", "Serving")
    await world.settle(UID, 2 * world.pace.poll)
    assert world.condition(UID, "Ready") == ("Unknown", "CredentialsRejected")


async def test_a_refused_key_is_tried_again_slowly_and_at_once_when_the_secret_changes(world: World) -> None:
    world.options = Options(reread_secrets=True)
    world.restart()
    world.server.apply("a", spec(memory={"size": 2}))
    for number in range(1, 4):
        world.account.faults[OBSERVE, number] = Fault(CredentialsRejected("refused"))
    await world.settle(UID, 2 * world.pace.slow + 10)
    assert len(world.account.calls) == 3
    assert world.condition(UID, "Stalled") == ("True", "CredentialsRejected")
    world.server.secret("key", token="flp_rotated")
    await world.settle(UID, 1.1 * world.pace.poll)
    assert world.condition(UID, "Synced") == ("True", "Applied")


async def test_drift_is_not_mended_by_a_rollout_that_somebody_else_begins(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 100)
    world.account.change("ep-1", {"memory.size": 7})
    await world.settle(UID, 700)
    assert world.condition(UID, "Synced") == ("False", "Drifted")
    world.account.rollout = 50
    world.account.change("ep-1", {"memory.size": 8})
    await world.settle(UID, 65)
    assert world.status(UID).state == "Updating"
    assert world.condition(UID, "Synced") == ("False", "Drifted")


async def test_a_resource_that_comes_to_be_observed_between_intent_and_sending_is_not_written(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    send = world.view.write_status

    async def observe_meanwhile(resource: Resource, status: Mapping[str, Any]) -> Resource:
        stored = await send(resource, status)
        if "operation" in status:
            world.server.apply("a", spec(memory={"size": 2}, managementPolicy="Observe"))
        return stored

    world.view.write_status = observe_meanwhile  # type: ignore[method-assign] # the moment after the intent
    await world.run(UID)
    assert world.updates == 0
