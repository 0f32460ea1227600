from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from inference_operator.api import names
from inference_operator.core.model import Resource
from inference_operator.errors import Unavailable
from inference_operator.kube.intake import Intake, trigger_of
from inference_operator.kube.queue import Trigger, WorkQueue
from inference_operator.kube.resources import parse
from inference_operator.kube.secrets import Secrets
from inference_operator.kube.store import Store
from memory_api import MemoryApi
from virtual_time import in_virtual_time, now

KNOWN = Resource(
    namespace="team-a",
    name="chat",
    uid="u1",
    generation=3,
    resource_version="10",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    deleting=False,
    annotations={"other": "x"},
    spec={"provider": "friendli"},
    status={"observedGeneration": 3},
)


@pytest.mark.parametrize(
    ("before", "changes", "trigger"),
    [
        (None, {}, Trigger.POLL),
        (None, {"status": {}}, Trigger.SPEC),
        (None, {"status": {"observedGeneration": -1}}, Trigger.SPEC),
        (None, {"generation": 4}, Trigger.SPEC),
        (None, {"deleting": True}, Trigger.DELETION),
        (KNOWN, {}, None),
        (KNOWN, {"generation": 4}, Trigger.SPEC),
        (KNOWN, {"generation": 4, "deleting": True}, Trigger.DELETION),
        (KNOWN, {"deleting": True}, Trigger.DELETION),
        (replace(KNOWN, deleting=True), {"deleting": True}, None),
        (KNOWN, {"status": {"observedGeneration": 3, "state": "Running"}}, None),
        (KNOWN, {"status": {}}, None),
        (KNOWN, {"annotations": {"other": "y"}}, None),
        (KNOWN, {"annotations": {names.REFRESH_ANNOTATION: "now"}}, Trigger.SPEC),
        (KNOWN, {"annotations": {names.REAPPLY_ANNOTATION: "1"}}, Trigger.SPEC),
        (KNOWN, {"annotations": {names.SUSPEND_ANNOTATION: "true"}}, Trigger.SPEC),
        (replace(KNOWN, annotations={names.SUSPEND_ANNOTATION: "true"}), {"annotations": {}}, Trigger.SPEC),
    ],
)
def test_what_is_looked_at_and_why(before: Resource | None, changes: dict[str, Any], trigger: Trigger | None) -> None:
    assert trigger_of(before, replace(KNOWN, resource_version="11", **changes)) == trigger


def document(
    uid: str = "u1", version: int = 10, *, generation: int = 1, endpoint: str = "ep-1", secret: str = "key"
) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "team-a",
            "name": f"name-of-{uid}",
            "uid": uid,
            "generation": generation,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"provider": "friendli", "endpointId": endpoint, "credentialsSecretRef": {"name": secret}},
        "status": {"observedGeneration": 1},
    }


def secret(version: int, name: str = "key") -> dict[str, Any]:
    return {"metadata": {"namespace": "team-a", "name": name, "resourceVersion": str(version)}}


class World:
    """An intake, and what it asks for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.store = Store(clock=now)
        self.secrets = Secrets(
            MemoryApi(), keep_seconds=600, referenced=lambda key: bool(self.store.dependents(key)), clock=now
        )
        # Only `add` of a queue is used.
        self.intake = Intake(self.store, self.secrets, self, poll_seconds=60)  # type: ignore[arg-type]

    def add(self, key: str, trigger: Trigger, after: float = 0) -> None:
        self.asked.append((key, f"{trigger.name} after {after}" if after else trigger.name))

    def taken(self) -> list[tuple[str, str]]:
        """What was asked for since the last call."""
        asked, self.asked = sorted(self.asked), []
        return asked


async def test_events_of_resources() -> None:
    world = World()
    take = world.intake.take_resource
    take("ADDED", document("u1"))
    take("ADDED", document("u2"))
    take("ADDED", document("u3", endpoint="ep-2"))
    assert world.taken() == [("u1", "POLL"), ("u2", "POLL"), ("u3", "POLL")]
    take("MODIFIED", document("u1", 11))
    take("MODIFIED", document("u1", 9, generation=7))
    take(None, document("u1", 11))
    assert world.taken() == []
    take("MODIFIED", document("u1", 12, generation=2))
    assert world.taken() == [("u1", "SPEC")]
    take("DELETED", document("u1", 8))
    assert world.taken() == []
    take("DELETED", document("u1", 13))
    assert world.taken() == [("u1", "DELETION"), ("u2", "POLL")]  # u2 may own the endpoint now
    take("DELETED", document("u1", 13))
    take("DELETED", document("unknown", 13))
    assert world.taken() == []
    assert world.store.get("u1") is None


async def test_events_of_secrets() -> None:
    world = World()
    world.intake.take_resource("ADDED", document("u1"))
    world.intake.take_resource("ADDED", document("u2"))
    world.intake.take_resource("ADDED", document("u3", secret="other"))
    world.taken()
    world.intake.take_secret("ADDED", secret(5, "nobody's"))
    world.intake.take_secret(None, secret(5))
    assert world.taken() == []
    world.intake.take_secret("MODIFIED", secret(5))
    world.intake.take_secret("MODIFIED", secret(4))
    assert world.taken() == []
    world.intake.take_secret("MODIFIED", secret(6))
    assert world.taken() == [("u1", "SECRET"), ("u2", "SECRET")]
    world.intake.take_secret("DELETED", secret(7))
    assert world.taken() == [("u1", "SECRET"), ("u2", "SECRET")]
    world.intake.take_resource("MODIFIED", document("u1", 11, generation=2, secret="other"))
    assert world.secrets._known.keys() == {("team-a", "key")}
    world.intake.take_resource("DELETED", document("u2", 11))
    assert world.secrets._known.keys() == set()


async def test_a_status_of_somebody_else_asks_for_a_pass_a_poll_later() -> None:
    world = World()
    world.intake.take_resource("ADDED", document("u1"))
    ours, theirs = document("u1", 11), document("u1", 12)
    ours["status"]["state"], theirs["status"]["state"] = "Running", "Sleeping"
    world.store.put(parse(ours))
    world.taken()
    world.intake.take_resource("MODIFIED", ours)
    assert world.taken() == []
    world.intake.take_resource("MODIFIED", theirs)
    assert world.taken() == [("u1", "POLL after 60")]


async def listing(*found: str | dict[str, Any], breaks_off: bool = False) -> AsyncIterator[Resource]:
    """A list of the API server, of uids or whole objects."""
    for each in found:
        yield parse(document(each) if isinstance(each, str) else each)
    if breaks_off:
        raise Unavailable("the API server is away")


async def test_lists() -> None:
    world = World()
    await world.intake.take_list(listing("u1", "u2"), asked_at=now())
    assert world.taken() == [("u1", "POLL"), ("u2", "POLL")]
    asked_at = now()
    world.intake.take_resource("ADDED", document("u3"))
    world.taken()
    changed = document("u2", 12, generation=2)
    await world.intake.take_list(listing(changed), asked_at=asked_at)
    assert world.taken() == [("u1", "DELETION"), ("u2", "POLL"), ("u2", "SPEC"), ("u3", "POLL")]
    assert len(world.store) == 2
    await world.intake.take_list(listing(changed, "u3"), asked_at=now())
    assert world.taken() == []


async def test_a_list_that_breaks_off_removes_nothing() -> None:
    world = World()
    await world.intake.take_list(listing("u1", "u2"), asked_at=now())
    world.taken()
    with pytest.raises(Unavailable):
        await world.intake.take_list(listing("u3", breaks_off=True), asked_at=now())
    assert world.taken() == [("u3", "POLL")]
    assert len(world.store) == 3


def test_a_real_queue_fits() -> None:
    async def scenario() -> int:
        world = World()
        queue: WorkQueue[str] = WorkQueue(workers=1, on_error=lambda *_: None)
        Intake(world.store, world.secrets, queue, poll_seconds=60).take_resource("ADDED", document())
        return queue.depth

    assert in_virtual_time(scenario()) == 1
