"""Kubernetes Events, posted in the background: no pass waits for one, and losing one is allowed.

Nothing is merged here. Whoever reports does so only when something changed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from inference_operator.api import names
from inference_operator.kube.api import Refused, Unanswered, path_of

if TYPE_CHECKING:
    from inference_operator.core.model import Resource
    from inference_operator.kube.api import Api

COMPONENT: Final = "inference-operator"
CAPACITY: Final = 1000
"""Events that may wait; what comes on top is dropped."""

_NOTE_BYTES: Final = 1024  # a limit of events.k8s.io/v1
_NAME_LENGTH: Final = 230  # leaves room for the suffix within the 253 characters of a name

log = logging.getLogger(__name__)


def _uncounted() -> None:
    pass


class EventPoster:
    """Posts Events one after the other."""

    def __init__(self, api: Api, *, instance: str, on_loss: Callable[[], None] = _uncounted) -> None:
        """Make a poster that does nothing before `run`.

        Args:
            api: The API server.
            instance: Who reports, such as the pod's name.
            on_loss: Told of each Event that was dropped or refused.
        """
        self._api = api
        self._instance = instance[:128]
        self._on_loss = on_loss
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(CAPACITY)

    def post(self, resource: Resource, *, warning: bool, reason: str, message: str) -> None:
        """Post an Event about a resource, soon; never waits."""
        try:
            self._waiting.put_nowait(_event(resource, self._instance, warning, reason, message))
        except asyncio.QueueFull:
            self._on_loss()

    async def run(self) -> None:
        """Post what comes, until cancelled."""
        while True:
            event = await self._waiting.get()
            try:
                await self._post(event)
            finally:
                self._waiting.task_done()

    async def flush(self, timeout: float) -> None:  # noqa: ASYNC109 - what is late is given up, which is not a failure
        """Wait up to `timeout` seconds until what waits is posted; `run` must be running."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._waiting.join()

    async def _post(self, event: dict[str, Any]) -> None:
        namespace = event["metadata"]["namespace"]
        try:
            await self._api.create(path_of("apis", "events.k8s.io", "v1", "namespaces", namespace, "events"), event)
        except (Refused, Unanswered) as error:
            self._on_loss()
            log.info("an Event was lost (%s): %s", event["reason"], error)


def _event(resource: Resource, instance: str, warning: bool, reason: str, message: str) -> dict[str, Any]:  # noqa: FBT001
    prefix = resource.name[:_NAME_LENGTH].rstrip("-.")
    return {
        "metadata": {"name": f"{prefix}.{time.time_ns():x}", "namespace": resource.namespace},
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "namespace": resource.namespace,
            "name": resource.name,
            "uid": resource.uid,
            "resourceVersion": resource.resource_version,
        },
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "note": message.encode()[:_NOTE_BYTES].decode(errors="ignore"),
        "action": "Reconcile",
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": COMPONENT,
        "reportingInstance": instance,
    }
