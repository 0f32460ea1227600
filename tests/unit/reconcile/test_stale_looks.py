"""A look may show the past, also after a better one: for the settle time it is no ground for a write or a verdict."""

from __future__ import annotations

import pytest

from inference_operator.api.names import REFRESH_ANNOTATION
from inference_operator.errors import Ambiguous
from inference_operator.providers.memory.account import UPDATE, Commit, Fault
from world import World, spec

UID = "uid-a"
LAG = 4
"""Looks that show the past."""


@pytest.fixture(params=[True, False], ids=["history", "no history"])
def world(request: pytest.FixtureRequest) -> World:
    """An endpoint with one write that has settled just now, and whose reads have fallen back behind it."""
    return World(history=request.param)


async def settle_and_fall_back(world: World, **block: object) -> None:
    world.account.add("ep-1", {"memory.size": 1, "memory.model": "m0"})
    world.server.apply("a", spec(memory={"size": 2, **block}))
    await world.run(UID)
    assert world.condition(UID, "Synced") == ("True", "Applied")
    world.fall_back("ep-1", LAG)


@pytest.mark.parametrize("size", [3, 1], ids=["on", "back"])
async def test_a_change_waits_for_reads_that_show_the_last_write(world: World, size: int) -> None:
    await settle_and_fall_back(world)
    world.server.apply("a", spec(memory={"size": size}))
    await world.run(UID)
    assert (world.updates, world.condition(UID, "Synced")) == (1, ("False", "Waiting"))
    await world.settle(UID, world.pace.settle)
    assert (world.updates, world.versions()) == (2, 2)
    assert world.condition(UID, "Synced") == ("True", "Applied")
    assert not [event for event in world.server.events if event[1] == "Warning"]
    if world.history:
        assert world.status(UID).version == 2


@pytest.mark.parametrize("size", [3, 1], ids=["on", "back"])
async def test_a_lost_change_is_not_taken_for_done_by_such_a_look(world: World, size: int) -> None:
    await settle_and_fall_back(world)
    world.server.apply("a", spec(memory={"size": size}))
    world.account.faults[UPDATE, 2] = Fault(Ambiguous("lost"), Commit.NEVER)
    await world.settle(UID, 5 * world.pace.settle)
    assert world.account.endpoints["ep-1"].versions[-1]["memory.size"] == size
    assert (world.updates, world.versions()) == (3, 2)
    assert world.condition(UID, "Synced") == ("True", "Applied")


async def test_a_write_only_change_is_not_mistaken_for_the_write_before_it(world: World) -> None:
    await settle_and_fall_back(world, model="m1")
    world.server.apply("a", spec(memory={"size": 2, "model": "m2"}))
    await world.settle(UID, 20 * world.pace.settle)
    assert (world.updates, world.versions()) == (2, 2)
    assert world.condition(UID, "Synced") == ("True", "Applied")


async def test_at_rest_such_a_look_takes_nothing_back(world: World) -> None:
    await settle_and_fall_back(world)
    before = world.status(UID)
    world.server.apply("a", spec(memory={"size": 2}), annotations={REFRESH_ANNOTATION: "now"})
    await world.run(UID)
    assert (world.status(UID), world.updates) == (before, 1)


async def test_what_lasts_longer_than_the_settle_time_is_the_truth() -> None:
    """Without versions, a foreign change that takes ours back looks like the past for a while."""
    world = World(history=False)
    world.account.add("ep-1", {"memory.size": 1})
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.account.change("ep-1", {"memory.size": 1})
    world.server.apply("a", spec(memory={"size": 3}))
    await world.settle(UID, world.pace.settle - 1)
    assert world.updates == 1
    await world.settle(UID, 2 * world.pace.transition_poll)
    assert world.updates == 2
    assert world.condition(UID, "Synced") == ("True", "Applied")


async def test_without_versions_what_was_there_before_the_last_write_does_not_prove_the_next_one() -> None:
    world = World(history=False)
    world.account.add("ep-1", {"memory.size": 1})
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.server.apply("a", spec(memory={"size": 1}))
    world.account.faults[UPDATE, 2] = Fault(Ambiguous("lost"), Commit.NEVER)

    def fall_behind(resource: object, status: dict[str, object]) -> None:
        del resource
        if "operation" in status:
            world.fall_back("ep-1", LAG)

    world.server.before_write.append(fall_behind)
    await world.run(UID)
    assert world.condition(UID, "Synced") == ("Unknown", "WriteUndecided")
    await world.settle(UID, 5 * world.pace.settle)
    assert (world.updates, world.account.endpoints["ep-1"].versions[-1]["memory.size"]) == (3, 1)
    assert world.condition(UID, "Synced") == ("True", "Applied")
