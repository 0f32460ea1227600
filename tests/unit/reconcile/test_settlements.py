"""What is told of updates that took effect: each is counted once, however its outcome came to be known."""

from __future__ import annotations

from typing import Any

import pytest

from inference_operator.api.names import REAPPLY_ANNOTATION
from inference_operator.errors import Ambiguous, InvalidSpec
from inference_operator.providers.memory.account import UPDATE, Commit, Fault
from world import Silent, World, spec

UID = "uid-a"


@pytest.fixture
def world() -> World:
    world = World()
    world.account.add(
        "ep-1", {"memory.size": 1, "memory.model": "m0", "scaling.minReplicas": 1, "scaling.maxReplicas": 1}
    )
    return world


def told(world: World) -> list[str]:
    observer: Silent = world.observer
    return observer.settlements


async def test_each_confirmed_update_is_counted_once(world: World) -> None:
    for number in range(2, 14):  # more than the history holds
        world.server.apply("a", spec(memory={"size": number, "model": f"m{number}"}))
        await world.settle(UID, 120)
    assert told(world) == ["Applied"] * 12 == ["Applied"] * world.versions()


async def test_an_update_that_reads_show_late_is_counted_once_they_do(world: World) -> None:
    world.account.lag = 5
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    assert told(world) == []
    await world.settle(UID, 300)
    assert told(world) == ["Applied"]


@pytest.mark.parametrize(
    ("commit", "change", "results"),
    [
        (Commit.NOW, {"size": 2}, ["Applied"]),
        (Commit.LATER, {"size": 2}, ["Applied"]),
        (Commit.NEVER, {"size": 2}, ["Applied"]),
        (Commit.NOW, {"size": 1, "model": "m1"}, ["AppliedUnverified"]),
    ],
)
async def test_an_update_whose_answer_was_lost_is_counted_when_a_look_shows_it(
    world: World, commit: Commit, change: dict[str, Any], results: list[str]
) -> None:
    world.account.faults[UPDATE, 1] = Fault(Ambiguous("lost"), commit)
    world.server.apply("a", spec(memory=change))
    await world.settle(UID, 600)
    assert told(world) == results
    assert len(results) == world.versions()


async def test_an_update_that_another_process_finds_is_counted_there(world: World) -> None:
    world.account.lag = 5
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.restart()
    await world.settle(UID, 300)
    assert told(world) == ["Applied"]
    world.restart()
    await world.settle(UID, 300)
    assert told(world) == []


async def test_a_value_that_is_clamped_is_counted_as_that_and_not_again_when_it_heals(world: World) -> None:
    world.account.clamp["memory.size"] = 5
    world.server.apply("a", spec(memory={"size": 9}))
    await world.settle(UID, 600)
    assert told(world) == ["NotConverging"]
    world.account.clamp.clear()
    world.account.change("ep-1", {"memory.size": 9})
    await world.settle(UID, 900)
    assert world.condition(UID, "Synced") == ("True", "Applied")
    assert told(world) == ["NotConverging"]


async def test_what_makes_no_version_is_not_counted(world: World) -> None:
    world.server.apply("a", spec())
    await world.settle(UID, 120)  # adopted as it is
    world.account.faults[UPDATE, 1] = Fault(InvalidSpec("no"), Commit.NEVER)
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.account.change("ep-1", {"memory.size": 7})  # by somebody else
    await world.run(UID)
    assert told(world) == []


async def test_a_reapply_is_counted(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.settle(UID, 120)
    world.server.apply("a", spec(memory={"size": 2}), annotations={REAPPLY_ANNOTATION: "now"})
    await world.settle(UID, 120)
    assert told(world) == ["Applied", "Applied"]
    assert world.versions() == 2
