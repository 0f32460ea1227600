"""kopf with everything turned off but listing, watching and reconnecting; what is left writes nothing anywhere.

The replaced storages belong to change handlers, of which there are none. By default they copy every object deeply
several times per event all the same, which would be most of the cost of an event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import kopf
from pydantic_core import from_json

from inference_operator.api import names
from inference_operator.kube.api import CHUNK

SERVER_SECONDS: Final = 300
"""The API server ends each watch after this time, so that silence for longer means that something is wrong."""

INACTIVITY_SECONDS: Final = 70.0
"""A watch on which not even a bookmark came for this long is opened anew; bookmarks come every minute."""

BACKOFFS: Final = (*[1] * 10, *[3] * 10, *[5] * 52)
"""Pauses after a list or watch that failed, five minutes in all; then kopf gives up, and the process ends."""

END_SECONDS: Final = 3.0
"""How long kopf's tasks may take to end, each time they are told to; its own grace for them is two seconds."""

POSSIBLE_KEYS: Final = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token"
"""Which Secrets to watch: all but those that come in great numbers and hold no provider's key."""

CHANGES: Final = frozenset({"ADDED", "MODIFIED"})
"""Events that kopf is told of by a bookmark alone."""

_CANCELLATIONS: Final = 3
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
    chosen.watching.chunk_size = CHUNK
    chosen.watching.server_timeout = SERVER_SECONDS
    chosen.watching.connect_timeout = 5.0
    chosen.watching.inactivity_timeout = INACTIVITY_SECONDS
    chosen.networking.request_timeout = 30.0
    chosen.networking.connect_timeout = 5.0
    chosen.networking.error_backoffs = BACKOFFS
    chosen.watching.field_selectors["", "v1", "secrets"] = POSSIBLE_KEYS
    if label_selector:
        chosen.watching.label_selectors[names.GROUP, names.VERSION, names.PLURAL] = label_selector
    return chosen


async def run(
    registry: kopf.OperatorRegistry,
    chosen: kopf.OperatorSettings,
    *,
    namespaces: Sequence[str],
    stop: asyncio.Event,
    on_started: Callable[[], None],
) -> None:
    """Run kopf until `stop` is set, or until it ends by itself, which can only be a failure.

    kopf's own way to run ends every task that was created after it had started, passes over resources among them,
    and waits for ever for a watch that has swallowed its cancellation (seen).

    Args:
        registry: The handlers.
        chosen: The settings.
        namespaces: Those to watch; none means all.
        stop: Tells to end.
        on_started: Called once kopf has taken over SIGINT and SIGTERM, to take them back.

    Raises:
        Exception: What kopf has given up on.
    """
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=chosen,
        namespaces=namespaces,
        clusterwide=not namespaces,
        standalone=True,
        identity="inference-operator",  # type: ignore[arg-type] # a str by another name, which is private
    )
    on_started()
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end([stopping, *tasks])
    for task in done:
        task.result()


async def _end(tasks: Collection[asyncio.Task[Any]]) -> None:
    await _cancelled(tasks)
    for _ in range(_CANCELLATIONS):
        await _cancelled([task for task in asyncio.all_tasks() if _is_of_kopf(task)])


async def _cancelled(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=END_SECONDS)
        await asyncio.gather(*done, return_exceptions=True)


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


class Bookmarks:
    """The content of a watch as kopf sees it: of each event only how far it leads.

    kopf needs no more to keep its place. Given the events it makes a task for each object and copies each of them,
    which takes more time than anything that comes of an event. Deletions it is told, or else it would remember for
    ever what it has listed. A line that the end of the stream cuts off comes again with the next one.
    """

    def __init__(self, content: aiohttp.StreamReader, take: Callable[[kopf.RawEvent], None]) -> None:
        """Read a watch.

        Args:
            content: What the API server sends.
            take: Takes each event in its turn; returns at once.
        """
        self._content = content
        self._take = take

    def __getattr__(self, name: str) -> Any:
        """What aiohttp itself asks, as when the connection breaks."""
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """What kopf reads."""
        begun = b""
        async for chunk in self._content.iter_chunked(size):
            *lines, begun = (begun + chunk).split(b"\n")
            yield b"".join(self._bookmark(line) for line in lines if line)

    def _bookmark(self, line: bytes) -> bytes:
        event = from_json(line)
        if event["type"] in CHANGES or event["type"] == "DELETED":
            self._take(event)
        if event["type"] not in CHANGES:
            return line + b"\n"
        version = {"resourceVersion": event["object"]["metadata"]["resourceVersion"]}
        return json.dumps({"type": "BOOKMARK", "object": {"metadata": version}}).encode() + b"\n"


class LentSession:
    """A session as far as kopf uses one, which it cannot close.

    It closes that of a refused credential while other requests and watches are still at it, and ends with the errors
    that these raise (seen).
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.headers = session.headers
        self.request = session.request
        self.closed = False

    async def close(self) -> None:
        """Give it back."""
        self.closed = True


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
