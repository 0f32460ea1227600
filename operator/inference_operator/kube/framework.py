"""kopf with everything turned off but listing, watching and reconnecting; what is left writes nothing anywhere.

The replaced storages belong to change handlers, of which there are none. By default they copy every object deeply
several times per event all the same, which would be most of the cost of an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import kopf

from inference_operator.api import names

SERVER_SECONDS: Final = 300
"""The API server ends each watch after this time, so that silence for longer means that something is wrong."""

INACTIVITY_SECONDS: Final = 70.0
"""A watch on which not even a bookmark came for this long is opened anew; bookmarks come every minute."""

BACKOFFS: Final = (1, 1, 2, 3, 5, 8, 13, 21, *[30] * 8)
"""Pauses after a list or watch that failed, five minutes in all; then kopf gives up, and the process ends."""

_KOPF: Final = Path(kopf.__file__).parent


def settings(*, label_selector: str | None = None) -> kopf.OperatorSettings:
    """Settings of kopf.

    Args:
        label_selector: Which InferenceEndpoints the API server shall show; None for all.
    """
    chosen = kopf.OperatorSettings()
    chosen.process.ultimate_exiting_timeout = None  # how long an exit may take is the kubelet's decision
    chosen.posting.enabled = False
    chosen.scanning.disabled = True  # which would list and watch namespaces and definitions
    chosen.persistence.diffbase_storage = _NoDiffBase()
    chosen.persistence.progress_storage = _NoProgress()
    chosen.queueing.idle_timeout = 1.0  # of a task per object; the memory of a burst of events is held this long
    chosen.queueing.worker_limit = None  # counts idle tasks too, so that any limit would hold up events
    chosen.watching.chunk_size = 500
    chosen.watching.server_timeout = SERVER_SECONDS
    chosen.watching.connect_timeout = 5.0
    chosen.watching.inactivity_timeout = INACTIVITY_SECONDS
    chosen.networking.request_timeout = 30.0
    chosen.networking.connect_timeout = 5.0
    chosen.networking.error_backoffs = BACKOFFS
    if label_selector:
        chosen.watching.label_selectors[names.GROUP, names.VERSION, names.PLURAL] = label_selector
    return chosen


class TasksOfOthers(Collection["asyncio.Task[Any]"]):
    """The tasks that are not kopf's: what kopf is told to leave alone when it ends.

    It would otherwise cancel every task that was created after it had started, passes over resources among them.
    """

    def __contains__(self, task: object) -> bool:
        return isinstance(task, asyncio.Task) and not _is_of_kopf(task)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return (task for task in asyncio.all_tasks() if task in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_of_kopf(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and Path(code.co_filename).is_relative_to(_KOPF)


class LenientResponse(aiohttp.ClientResponse):
    """An answer in which a list without items has none, and not null, as the API server says of metadata lists."""

    async def json(self, **options: Any) -> Any:
        """Decode the body."""
        document = await super().json(**options)
        if isinstance(document, dict) and "items" in document:
            document["items"] = document["items"] or []
        return document


class _NoDiffBase(kopf.DiffBaseStorage):
    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    def fetch(self, **_: Any) -> None:
        pass

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence
