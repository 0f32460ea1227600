"""What a pass needs of Kubernetes (`core.port.Cluster`), made of guarded writes, fresh reads and the store.

A status is replaced whole by one conditional request (see `api`). It is neither a PUT, which the HTTP library may
repeat, nor a merge patch, in which a null deletes: statuses hold nulls that mean something.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

from inference_operator.api import names
from inference_operator.core.port import ResourceGone, StatusConflict
from inference_operator.errors import Unavailable
from inference_operator.kube import connections
from inference_operator.kube.api import Refused, Unanswered, selector_of
from inference_operator.kube.resources import VERSION_PATH, collection_path, object_path, parse

if TYPE_CHECKING:
    from inference_operator.core.connection import ConnectionMap
    from inference_operator.core.model import Resource
    from inference_operator.kube.api import Api
    from inference_operator.kube.events import EventPoster
    from inference_operator.kube.store import Store


class KubernetesCluster:
    """Implements `core.port.Cluster` on the API server and the store."""

    def __init__(
        self,
        api: Api,
        store: Store,
        events: EventPoster,
        *,
        namespaces: Sequence[str] = (),
        label_selector: str | None = None,
    ) -> None:
        """Make a client.

        Args:
            api: The API server.
            store: Takes in whatever is read or written here.
            events: Posts Events.
            namespaces: Those that we work in; none means all.
            label_selector: What we work on, as in `kubectl -l`; claims are looked for beyond it.
        """
        self._api = api
        self._store = store
        self._events = events
        self._collections = [collection_path(namespace) for namespace in namespaces or (None,)]
        self._scope = {"labelSelector": label_selector} if label_selector else {}

    def current(self, uid: str) -> Resource | None:
        """The newest version of the object that was seen; see `core.port.Cluster`."""
        return self._store.get(uid)

    async def read(self, resource: Resource) -> Resource | None:
        """The object as the API server has it now; see `core.port.Cluster`.

        Raises:
            Unavailable: The API server did not answer, or refused.
        """
        asked_at = time.monotonic()
        try:
            found = parse(await self._api.get(object_path(resource)))
        except (Refused, Unanswered) as error:
            if isinstance(error, Refused) and error.status == HTTPStatus.NOT_FOUND:
                return None
            raise Unavailable(f"the resource could not be read: {error}") from None
        self._store.answered(found, asked_at=asked_at)
        return found if found.uid == resource.uid else None

    async def write_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource:
        """Replace the status if the object has not changed since it was read; see `core.port.Cluster`.

        Raises:
            StatusConflict: The object changed meanwhile, or is another one of the same name.
            ResourceGone: It no longer exists.
            Unavailable: It was refused for another reason, or the answer is unknown; the message says which.
        """
        known = {"uid": resource.uid, "resourceVersion": resource.resource_version}
        path = object_path(resource) + "/status"
        try:
            document = await self._api.compare_and_swap(path, known, field="status", value=dict(status))
        except Refused as error:
            _raise_for(error)
        except Unanswered as error:
            raise Unavailable(f"the status may or may not have been written: {error}") from None
        stored = parse(document)
        self._store.answered(stored)
        return stored

    def rivals(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        """All other resources in scope that name the endpoint, as last seen; see `core.port.Cluster`."""
        uids = self._store.claimants(provider, endpoint_id) - {resource.uid}
        return [found for uid in uids if (found := self._store.get(uid)) is not None]

    def claim_removed_at(self, provider: str, endpoint_id: str) -> float | None:
        """When a resource that named the endpoint was last seen to go; see `core.port.Cluster`."""
        return self._store.last_claim_removed(provider, endpoint_id)

    async def claims(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        """All other resources that name the endpoint; see `core.port.Cluster`.

        Raises:
            Unavailable: The API server did not answer, or refused.
        """
        selector = selector_of([("spec.endpointId", endpoint_id), ("spec.provider", provider)])
        try:
            found = [item async for item in self._list({"fieldSelector": selector})]
        except (Refused, Unanswered) as error:
            raise Unavailable(f"other resources of the same endpoint could not be looked for: {error}") from None
        return [other for other in found if other.uid != resource.uid]

    async def is_served(self) -> bool:
        """Whether the API server knows our kind, that is, whether the custom resource definition is in effect.

        Raises:
            Unavailable: The API server did not answer, or refused.
        """
        try:
            kinds = await self._api.get(VERSION_PATH)
        except (Refused, Unanswered) as error:
            if isinstance(error, Refused) and error.status == HTTPStatus.NOT_FOUND:
                return False
            raise Unavailable(str(error)) from None
        return any(kind["name"] == names.PLURAL for kind in kinds["resources"])

    async def scope(self) -> AsyncIterator[Resource]:
        """Every resource that we work on, as the API server has them at this moment, chunk by chunk.

        Raises:
            Unavailable: The API server did not answer, or refused.
        """
        try:
            async for item in self._list(self._scope):
                yield item
        except (Refused, Unanswered) as error:
            raise Unavailable(f"the resources could not be listed: {error}") from None

    async def write_connection(self, resource: Resource, connection: ConnectionMap) -> None:
        """See to it that the ConfigMap exists and holds this; see `connections.keep`."""
        await connections.keep(self._api, resource, connection)

    def event(self, resource: Resource, *, warning: bool, reason: str, message: str) -> None:
        """Post an Event in the background; see `core.port.Cluster`."""
        self._events.post(resource, warning=warning, reason=reason, message=message)

    async def _list(self, query: Mapping[str, str]) -> AsyncIterator[Resource]:
        for path in self._collections:
            async for item in self._api.items(path, query=query):
                yield parse(item)


def _raise_for(error: Refused) -> NoReturn:
    match error.status:
        case HTTPStatus.CONFLICT:
            raise StatusConflict(str(error)) from None
        case HTTPStatus.NOT_FOUND:
            raise ResourceGone(str(error)) from None
        case _:
            raise Unavailable(f"the status was not written: {error}") from None
