"""When a pass writes the ConfigMap of `spec.writeConnectionTo`, and what the status says when it cannot."""

from __future__ import annotations

import pytest
import structlog

from inference_operator.api.names import REFRESH_ANNOTATION
from inference_operator.core.connection import ConnectionMap
from inference_operator.errors import InvalidSpec, Unavailable
from world import World, spec

UID = "uid-a"
TARGET = {"configMapName": "chat"}
WRITTEN = {("team", "chat"): {"provider": "memory", "endpointId": "ep-1"}}


@pytest.fixture
def world() -> World:
    world = World()
    world.account.add("ep-1", {"memory.size": 1, "scaling.minReplicas": 1, "scaling.maxReplicas": 1})
    return world


async def test_it_is_written_before_the_status_says_that_all_is_well(world: World) -> None:
    told: list[bool] = []
    world.server.before_write.append(
        lambda _, status: told.append(
            any(each["type"] == "Ready" and each["status"] == "True" for each in status["conditions"])
            and not world.server.connections
        )
    )
    world.server.apply("a", spec(memory={"size": 2}, writeConnectionTo=TARGET))
    await world.run(UID)
    assert world.server.connections == WRITTEN
    assert told == [False, False]
    assert world.condition(UID, "Ready") == ("True", "Serving")
    assert world.updates == 1


async def test_it_alone_makes_no_update_of_the_endpoint(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 2}))
    await world.run(UID)
    world.server.apply("a", spec(memory={"size": 2}, writeConnectionTo=TARGET))
    await world.run(UID)
    assert (world.server.connections, world.updates) == (WRITTEN, 1)
    world.server.apply("a", spec(memory={"size": 2}, writeConnectionTo=TARGET | {"keys": {"endpointId": "ID"}}))
    await world.run(UID)
    assert world.server.connections == {("team", "chat"): {"provider": "memory", "ID": "ep-1"}}
    assert world.updates == 1


async def test_at_rest_it_is_asked_for_only_at_whole_looks(world: World) -> None:
    world.server.apply("a", spec(writeConnectionTo=TARGET))
    await world.run(UID)
    assert len(world.server.connections_asked) == 1
    await world.settle(UID, world.pace.drift - 1)
    assert len(world.server.connections_asked) == 1
    await world.settle(UID, world.pace.drift)
    assert len(world.server.connections_asked) == 2
    world.server.apply("a", spec(writeConnectionTo=TARGET), annotations={REFRESH_ANNOTATION: "now"})
    await world.run(UID)
    assert len(world.server.connections_asked) == 3


async def test_a_resource_that_asks_for_none_gets_none(world: World) -> None:
    world.server.apply("a", spec())
    await world.settle(UID, 2000)
    assert world.server.connections_asked == []


@pytest.mark.parametrize(
    ("error", "ready", "present"),
    [
        (InvalidSpec("not ours"), ("False", "ConnectionNotWritten"), "Stalled"),
        (Unavailable("away"), ("False", "ConnectionNotWritten"), "Reconciling"),
    ],
)
async def test_a_failure_is_said_and_tried_again_at_every_poll(
    world: World, error: InvalidSpec | Unavailable, ready: tuple[str, str], present: str
) -> None:
    world.server.refuse_connections = error
    world.server.apply("a", spec(writeConnectionTo=TARGET))
    await world.run(UID)
    assert world.condition(UID, "Synced") == ("True", "Matched")
    assert world.condition(UID, "Ready") == ready
    assert world.condition(UID, present) is not None
    await world.settle(UID, 3 * world.pace.poll)
    assert len(world.server.connections_asked) >= 3
    world.server.refuse_connections = None
    await world.settle(UID, 2 * world.pace.poll)
    assert world.condition(UID, "Ready") == ("True", "Serving")
    assert world.condition(UID, present) is None
    assert world.server.connections == WRITTEN


async def test_what_was_written_is_believed_while_the_api_server_is_away(world: World) -> None:
    world.server.apply("a", spec(writeConnectionTo=TARGET))
    await world.run(UID)
    world.server.refuse_connections = Unavailable("away")
    await world.settle(UID, 2 * world.pace.drift)
    assert world.condition(UID, "Ready") == ("True", "Serving")
    world.server.refuse_connections = InvalidSpec("taken by somebody else")
    await world.settle(UID, 2 * world.pace.drift)
    assert world.condition(UID, "Ready") == ("False", "ConnectionNotWritten")


async def test_it_is_written_for_an_endpoint_that_is_only_observed(world: World) -> None:
    world.server.apply("a", spec(memory={"size": 5}, managementPolicy="Observe", writeConnectionTo=TARGET))
    await world.run(UID)
    assert world.server.connections_asked == [ConnectionMap("chat", WRITTEN["team", "chat"])]
    assert world.updates == 0


async def test_it_is_believed_after_a_restart_too_while_the_status_says_ready(world: World) -> None:
    world.server.apply("a", spec(writeConnectionTo=TARGET))
    await world.run(UID)
    world.restart()
    world.server.refuse_connections = Unavailable("away")
    await world.settle(UID, 2 * world.pace.poll)
    assert world.condition(UID, "Ready") == ("True", "Serving")
    assert len(world.server.connections_asked) >= 3
    world.server.apply("a", spec(writeConnectionTo={"configMapName": "other"}))
    await world.run(UID)
    assert world.condition(UID, "Ready") == ("False", "ConnectionNotWritten")


async def test_the_loser_of_a_conflict_leaves_the_config_map_to_the_owner(world: World) -> None:
    world.server.apply("a", spec(writeConnectionTo=TARGET))
    await world.run(UID)
    world.server.connections.clear()
    world.server.apply("b", spec(writeConnectionTo=TARGET))
    await world.settle("uid-b", 1000)
    assert world.condition("uid-b", "Stalled") == ("True", "Conflict")
    assert world.server.connections == {}
    await world.settle(UID, world.pace.drift)
    assert world.server.connections == WRITTEN
    assert world.condition(UID, "Ready") == ("True", "Serving")


async def test_a_failure_is_logged_once(world: World) -> None:
    world.server.refuse_connections = InvalidSpec("not ours")
    world.server.apply("a", spec(writeConnectionTo=TARGET))
    with structlog.testing.capture_logs() as lines:
        await world.settle(UID, 5 * world.pace.poll)
    levels = [line["log_level"] for line in lines if line["event"] == "the connection was not written"]
    assert levels[0] == "info"
    assert {*levels[1:]} == {"debug"}
