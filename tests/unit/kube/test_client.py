from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from inference_operator.core.model import Resource
from inference_operator.core.port import Cluster, ResourceGone, StatusConflict
from inference_operator.errors import Unavailable
from inference_operator.kube.client import KubernetesCluster
from inference_operator.kube.events import CAPACITY, EventPoster
from inference_operator.kube.resources import parse
from inference_operator.kube.store import Store
from memory_api import MemoryApi

COLLECTION = "/apis/inference-operator.io/v1alpha1/namespaces/team-a/inferenceendpoints"
PATH = f"{COLLECTION}/chat"
EVENTS = "/apis/events.k8s.io/v1/namespaces/team-a/events"
LOST = aiohttp.ServerDisconnectedError()


class World:
    """A cluster with one resource, which has been seen."""

    def __init__(self, **scope: Any) -> None:
        self.api = MemoryApi()
        self.store = Store()
        self.losses = 0
        self.events = EventPoster(self.api, instance="pod-1", on_loss=self.lose)
        self.cluster = KubernetesCluster(self.api, self.store, self.events, **scope)
        self.seen = self.edit(spec={"provider": "friendli"})
        self.store.put(self.seen)

    def edit(self, **changes: Any) -> Resource:
        """Change the resource behind everybody's back."""
        metadata = {
            "namespace": "team-a",
            "name": "chat",
            "uid": "u1",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        return parse(self.api.put(PATH, {"metadata": metadata, "status": {"old": [1], "gone": 1}, **changes}))

    def lose(self) -> None:
        self.losses += 1


async def test_a_status_is_replaced_whole_and_the_stored_object_comes_back() -> None:
    world = World()
    cluster: Cluster = world.cluster
    stored = await cluster.write_status(world.seen, {"old": [2], "new": None})
    assert stored.status == {"old": [2], "new": None}
    assert stored.resource_version != world.seen.resource_version
    assert stored == cluster.current("u1") == parse(world.api.objects[PATH])


async def test_a_status_of_a_changed_object_is_a_conflict() -> None:
    world = World()
    edited = world.edit(spec={"provider": "novita"})
    with pytest.raises(StatusConflict):
        await world.cluster.write_status(world.seen, {})
    assert parse(world.api.objects[PATH]) == edited
    assert len(world.api.requests) == 1


async def test_a_status_of_another_object_of_the_same_name_is_a_conflict() -> None:
    world = World()
    world.api.objects[PATH]["metadata"]["uid"] = "u2"
    with pytest.raises(StatusConflict):
        await world.cluster.write_status(world.seen, {})
    assert world.api.objects[PATH]["status"] == world.seen.status


async def test_a_status_of_an_object_that_is_gone() -> None:
    world = World()
    del world.api.objects[PATH]
    with pytest.raises(ResourceGone):
        await world.cluster.write_status(world.seen, {})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (LOST, "the status may or may not have been written: the API server could not be reached"),
        (422, "the status was not written: the API server answered 422"),
        (403, "the status was not written: the API server answered 403"),
        (500, "the status was not written: the API server answered 500"),
    ],
)
async def test_a_status_write_is_never_repeated_here(fault: Any, message: str) -> None:
    world = World()
    world.api.faults.append(fault)
    # A refusal by a schema tells its causes; see test_api for the one that does not.
    if fault == 422:
        message, fault = "the object is not the one", StatusConflict
    with pytest.raises(fault if fault is StatusConflict else Unavailable, match=message):
        await world.cluster.write_status(world.seen, {})
    assert len(world.api.requests) == 1


async def test_a_read_asks_the_api_server_and_is_remembered() -> None:
    world = World()
    edited = world.edit(spec={"provider": "novita"})
    assert world.cluster.current("u1") == world.seen
    assert await world.cluster.read(world.seen) == edited
    assert world.cluster.current("u1") == edited


async def test_a_read_of_what_is_gone_or_another() -> None:
    world = World()
    world.api.objects[PATH]["metadata"]["uid"] = "u2"
    assert await world.cluster.read(world.seen) is None
    del world.api.objects[PATH]
    assert await world.cluster.read(world.seen) is None
    world.api.faults.append(500)
    with pytest.raises(Unavailable, match="the resource could not be read"):
        await world.cluster.read(world.seen)


@pytest.mark.parametrize("namespaces", [(), ("team-a", "team-b")])
async def test_claims_are_looked_for_in_every_namespace_and_beyond_the_labels(namespaces: tuple[str, ...]) -> None:
    world = World(namespaces=namespaces, label_selector="shard=1")
    paths = [f"/apis/inference-operator.io/v1alpha1/namespaces/{name}/inferenceendpoints" for name in namespaces]
    paths = paths or ["/apis/inference-operator.io/v1alpha1/inferenceendpoints"]
    other = {**world.api.objects[PATH], "metadata": {**world.api.objects[PATH]["metadata"], "uid": "u2"}}
    for path in paths:
        world.api.objects[path] = {"metadata": {}, "items": [world.api.objects[PATH], other]}
    found = await world.cluster.claims(world.seen, "friendli", "ep-1")
    assert [claim.uid for claim in found] == ["u2"] * len(paths)
    assert [path for _, path in world.api.requests] == paths
    selector = {"fieldSelector": "spec.endpointId=ep-1,spec.provider=friendli", "limit": "200"}
    assert world.api.queries == [selector] * len(paths)
    assert len([each async for each in world.cluster.scope()]) == 2 * len(paths)
    assert world.api.queries[-1] == {"labelSelector": "shard=1", "limit": "200"}


async def test_failing_lists_say_what_they_were_for() -> None:
    world = World()
    with pytest.raises(Unavailable, match="other resources of the same endpoint could not be looked for"):
        await world.cluster.claims(world.seen, "friendli", "ep-1")
    with pytest.raises(Unavailable, match="the resources could not be listed"):
        await anext(world.cluster.scope())


@pytest.mark.parametrize(
    ("answer", "served"),
    [
        ({"resources": [{"name": "inferenceendpoints"}, {"name": "inferenceendpoints/status"}]}, True),
        ({"resources": [{"name": "others"}]}, False),
        (None, False),
    ],
)
async def test_whether_the_kind_is_served(answer: Any, *, served: bool) -> None:
    world = World()
    if answer:
        world.api.objects["/apis/inference-operator.io/v1alpha1"] = answer
    assert await world.cluster.is_served() == served
    world.api.faults.append(500)
    with pytest.raises(Unavailable):
        await world.cluster.is_served()


async def test_events_are_posted_in_the_background() -> None:
    world = World()
    posting = asyncio.create_task(world.events.run())
    long = "ä" * 600
    world.cluster.event(world.seen, warning=False, reason="Applied", message="version 17")
    world.cluster.event(world.seen, warning=True, reason="InvalidSpec", message=long)
    assert world.api.requests == []
    await world.events.flush(1)
    assert world.api.requests == [("POST", EVENTS)] * 2
    normal, warning = (event for path, event in world.api.objects.items() if path.startswith(EVENTS))
    assert normal["regarding"] == {
        "apiVersion": "inference-operator.io/v1alpha1",
        "kind": "InferenceEndpoint",
        "namespace": "team-a",
        "name": "chat",
        "uid": "u1",
        "resourceVersion": world.seen.resource_version,
    }
    assert (normal["type"], normal["reason"], normal["note"]) == ("Normal", "Applied", "version 17")
    assert (normal["reportingController"], normal["reportingInstance"]) == ("inference-operator", "pod-1")
    assert warning["type"] == "Warning"
    assert warning["note"] == "ä" * 512  # 1024 bytes
    assert world.losses == 0
    posting.cancel()


async def test_events_are_lost_rather_than_waited_for() -> None:
    world = World()
    for _ in range(CAPACITY + 3):
        world.cluster.event(world.seen, warning=False, reason="Applied", message="")
    assert world.losses == 3
    world.api.faults.extend([500, LOST, 403])
    posting = asyncio.create_task(world.events.run())
    await world.events.flush(10)
    assert world.losses == 6
    assert len(world.api.requests) == CAPACITY
    posting.cancel()


async def test_flushing_ends_in_time() -> None:
    world = World()
    world.cluster.event(world.seen, warning=False, reason="Applied", message="")
    await world.events.flush(0.01)  # nobody posts
    assert world.api.requests == []
