"""What the watch and the lists bring: kept in the store, and turned into the question which resource to look at.

Nothing here waits and nothing decides. Most of what comes is an echo of our own writes, and ends in the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from inference_operator.kube.queue import Trigger
from inference_operator.kube.resources import REQUESTS, parse

if TYPE_CHECKING:
    from inference_operator.core.model import Resource
    from inference_operator.kube.queue import WorkQueue
    from inference_operator.kube.secrets import Secrets
    from inference_operator.kube.store import SecretKey, Store


def trigger_of(before: Resource | None, after: Resource) -> Trigger | None:
    """Why a new version of a resource should be looked at; None if only what we do not read has changed.

    A status that somebody else has written is none either: it is corrected, but only a poll later, since two operators
    that answered each other's statuses would never end.
    """
    if after.deleting and not (before and before.deleting):
        return Trigger.DELETION
    if before is None:
        handled = after.status.get("observedGeneration") == after.generation
        return Trigger.POLL if handled else Trigger.SPEC
    asked = any(before.annotations.get(name) != after.annotations.get(name) for name in REQUESTS)
    return Trigger.SPEC if asked or before.generation != after.generation else None


class Intake:
    """Takes in what comes; see `watching.OnEvent` for the shape of events."""

    def __init__(self, store: Store, secrets: Secrets, queue: WorkQueue[str], *, poll_seconds: float) -> None:
        self._store = store
        self._secrets = secrets
        self._queue = queue
        self._poll_seconds = poll_seconds

    def take_resource(self, kind: str | None, document: Mapping[str, Any]) -> None:
        """Take in an event of an InferenceEndpoint."""
        resource = parse(document)
        if kind == "DELETED":
            self._remove(resource.uid, resource.resource_version)
        else:
            self._put(resource)

    def take_secret(self, kind: str | None, document: Mapping[str, Any]) -> None:
        """Take in an event of a Secret, of which only the metadata is read."""
        metadata = document["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if self._secrets.changed(key, metadata["resourceVersion"], listed=kind is None):
            for uid in self._store.dependents(key):
                self._queue.add(uid, Trigger.SECRET)

    async def take_list(self, resources: AsyncIterable[Resource], *, asked_at: float) -> None:
        """Take in a complete list of the resources in scope that was asked for at `asked_at` (monotonic), as it comes.

        Where the list breaks off, nothing is taken for gone.
        """
        listed = set()
        async for resource in resources:
            listed.add(resource.uid)
            self._put(resource, asked_at=asked_at)
        for uid in self._store.unlisted(listed, asked_at=asked_at):
            self._remove(uid)

    def _put(self, resource: Resource, *, asked_at: float | None = None) -> None:
        before = self._store.get(resource.uid)
        referenced = self._store.secrets(resource.uid)
        if not self._store.put(resource, asked_at=asked_at):
            return
        self._release(referenced)
        trigger = trigger_of(before, resource)
        if trigger is not None:
            self._queue.add(resource.uid, trigger)
        elif before is not None and before.status != resource.status:
            self._queue.add(resource.uid, Trigger.POLL, after=self._poll_seconds)

    def _remove(self, uid: str, version: str | None = None) -> None:
        referenced = self._store.secrets(uid)
        removed = self._store.remove(uid, version)
        if removed is None:
            return
        self._release(referenced)
        self._queue.add(uid, Trigger.DELETION)
        for rival in self._store.rivals(removed):  # one of them may own the endpoint now
            self._queue.add(rival, Trigger.POLL)

    def _release(self, referenced: Iterable[SecretKey]) -> None:
        for key in referenced:
            if not self._store.dependents(key):
                self._secrets.forget(key)
