"""An older status is put back, or none, while an update that it does not tell of may still arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from inference_operator.core.model import Resource
from inference_operator.errors import Ambiguous, InvalidSpec, Unavailable
from inference_operator.providers.memory.account import UPDATE, Commit, Fault
from world import World, spec

UID = "uid-a"
SYNCED = ("True", "Applied")
HELD = ("False", "Waiting")
LOST = Fault(Ambiguous("lost"), Commit.LATER)


@pytest.fixture(params=[True, False], ids=["versions", "no versions"])
async def world(request: pytest.FixtureRequest) -> World:
    """A resource that was in sync when the backup was made, and edited after that."""
    world = World(history=request.param)
    world.account.add("ep-1", {"memory.size": 1})
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 300)
    assert (world.updates, world.condition(UID, "Synced")) == (1, SYNCED)
    return world


def put_back(world: World, status: Mapping[str, Any], *, size: int) -> None:
    """Give the resource an older status, and a spec."""
    stored = world.server.objects[UID]
    world.server.objects[UID] = replace(stored, status=dict(status), resource_version=world.server.version())
    world.server.apply("a", spec(memory={"size": size}))


def synced(world: World) -> str:
    """The status of Synced."""
    return next(each.status for each in world.status(UID).conditions if each.type == "Synced")


def told(world: World) -> str:
    """The message of Synced."""
    return next(each.message for each in world.status(UID).conditions if each.type == "Synced")


@pytest.mark.covers("E7", "E11")
async def test_a_change_waits_until_what_an_older_status_hides_has_landed(world: World) -> None:
    backup = world.server.objects[UID].status
    world.account.faults[UPDATE, 2] = LOST
    world.server.apply("a", spec(memory={"size": 3}))
    await world.run(UID)
    put_back(world, backup, size=4)
    await world.settle(UID, world.pace.quiet - 1)
    assert (world.updates, world.condition(UID, "Synced")) == (2, HELD)
    assert told(world).startswith("An older status was put back")
    await world.settle(UID, 60)
    assert (world.updates, world.versions(), world.condition(UID, "Synced")) == (3, 3, SYNCED)


@pytest.mark.covers("E7", "E11")
@pytest.mark.parametrize("erased", [True, False], ids=["erased", "put back"])
async def test_what_an_older_status_hides_is_not_sent_again(world: World, *, erased: bool) -> None:
    backup = {} if erased else world.server.objects[UID].status
    world.account.faults[UPDATE, 2] = LOST
    world.server.apply("a", spec(memory={"size": 3}))
    await world.run(UID)
    put_back(world, backup, size=3)
    await world.settle(UID, world.pace.quiet + 60)
    assert (world.updates, world.versions(), synced(world)) == (2, 2, "True")


@pytest.mark.covers("E7", "E11")
async def test_a_restore_before_the_outcome_could_be_stored_is_noticed_as_well(world: World) -> None:
    backup = world.server.objects[UID].status
    world.account.faults[UPDATE, 2] = LOST

    def fail(resource: Resource, status: Mapping[str, Any]) -> None:
        del resource, status
        if world.updates == 2:
            raise Unavailable("HTTP 503")

    world.server.before_write.append(fail)
    world.account.endpoints["ep-1"].rolling = 1  # so that the look after the update has something to store
    world.server.apply("a", spec(memory={"size": 3}))
    await world.run(UID)
    assert world.observer.results[-1] == "kubernetes_unavailable"
    world.server.before_write.remove(fail)
    put_back(world, backup, size=4)
    await world.settle(UID, world.pace.quiet - 1)
    assert (world.updates, world.condition(UID, "Synced")) == (2, HELD)


async def test_the_next_change_after_a_restore_waits_for_nothing_more(world: World) -> None:
    backup = world.server.objects[UID].status
    world.server.apply("a", spec(memory={"size": 3}))
    await world.settle(UID, 300)
    put_back(world, backup, size=4)
    await world.settle(UID, world.pace.quiet + 60)
    assert (world.updates, world.condition(UID, "Synced")) == (3, SYNCED)
    world.server.apply("a", spec(memory={"size": 5}))
    await world.settle(UID, 20)
    assert (world.updates, world.condition(UID, "Synced")) == (4, SYNCED)
    assert world.status(UID).updates == 4


async def test_a_refused_update_counts_and_is_no_restore(world: World) -> None:
    world.account.faults[UPDATE, 2] = Fault(InvalidSpec("no"))
    world.server.apply("a", spec(memory={"size": 3}))
    await world.run(UID)
    assert world.status(UID).updates == 2
    world.server.apply("a", spec(memory={"size": 4}))
    await world.run(UID)
    assert (world.updates, world.condition(UID, "Synced")) == (3, SYNCED)


async def test_a_new_process_believes_the_count_that_it_finds(world: World) -> None:
    world.restart()
    world.server.apply("a", spec(memory={"size": 3}))
    await world.run(UID)
    assert (world.updates, world.status(UID).updates) == (2, 2)


async def test_a_resource_that_was_only_adopted_counts_no_update() -> None:
    world = World()
    world.account.add("ep-1", {"memory.size": 2})
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 300)
    assert "updates" not in world.server.objects[UID].status
