"""Watching the cluster with kopf, and nothing but watching: every event goes to a function that returns at once.

kopf lists, watches, reconnects and starts over. It neither writes nor decides; no handler of it ever waits. What it
does not tell we see at the requests it sends through our session: that a watch stands, that a listing was repeated
(and something may have vanished unseen), and how long ago the API server was last heard of. There the events of a
watch are taken, too, before kopf reads them as bookmarks; what it lists comes through its handlers, and may come later
than an event that is newer.

Secrets are watched as metadata: the contents of those that nothing refers to are never received.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

import aiohttp
import kopf
from yarl import URL

from inference_operator.api import names
from inference_operator.kube import framework
from inference_operator.kube.access import Access
from inference_operator.kube.resources import collection_path, secrets_path

OnEvent = Callable[[str | None, Mapping[str, Any]], None]
"""Takes the type of an event (None: listed, or ADDED, MODIFIED, DELETED) and the object; returns at once."""

LOGINS: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, *[30.0] * 8)
"""Pauses before the sessions that follow one another within `SERVER_SECONDS`, each refused by the API server (401)."""

METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Asked for each with its own kind of request: a watch for the form of a list is answered, and stays silent (seen)."""

log = logging.getLogger(__name__)


class WatchEnded(Exception):  # noqa: N818 - an outcome, not a fault
    """The watch ended although nobody had asked for it."""


class Watcher:
    """Watches InferenceEndpoints and, if asked to, Secrets.

    Attributes:
        established: Set once every watch stands, so that whatever changes from then on is told.
        gap: Set when something may have been missed; whoever looks closer clears it.
    """

    def __init__(
        self,
        access: Access,
        *,
        on_resource: OnEvent,
        on_secret: OnEvent | None,
        namespaces: Sequence[str] = (),
        label_selector: str | None = None,
    ) -> None:
        """Make a watcher that does nothing before `run`.

        Args:
            access: The way to the API server.
            on_resource: Takes events of InferenceEndpoints.
            on_secret: Takes events of Secrets, whose objects are metadata only; None: Secrets are not watched.
            namespaces: Those to watch; none means all.
            label_selector: Which InferenceEndpoints to watch, filtered by the API server.
        """
        self._access = access
        self._on_resource = on_resource
        self._on_secret = on_secret
        self._namespaces = tuple(namespaces)
        self._label_selector = label_selector
        prefix = URL(access.server).path.rstrip("/")  # of an API server behind a proxy
        scopes = self._namespaces or (None,)
        self._secrets = {prefix + secrets_path(scope) for scope in scopes} if on_secret else set()
        self._streams = {prefix + collection_path(scope) for scope in scopes} | self._secrets
        self._heard: dict[str, float] = {}
        self._standing: set[str] = set()
        self._started_at = time.monotonic()
        self._session: aiohttp.ClientSession | None = None
        self._logins: list[float] = []
        self._halt = asyncio.Event()
        self.established = asyncio.Event()
        self.gap = asyncio.Event()

    @property
    def oldest_watch_age(self) -> float:
        """Seconds since a list or a watch was last answered, on the stream where that is the longest ago.

        kopf keeps bookmarks to itself, but reopens a watch on which they stop, and every watch that has lasted
        `framework.SERVER_SECONDS`. Clearly more than that means that the API server is away or that nobody is watching.
        """
        heard = [self._heard.get(stream, self._started_at) for stream in self._streams]
        return time.monotonic() - min(heard)

    async def run(self, on_started: Callable[[], None]) -> None:
        """Watch until `stop` is called.

        Args:
            on_started: Called once kopf has taken over SIGINT and SIGTERM, to take them back.

        Raises:
            WatchEnded: It ended by itself.
            Exception: What kopf gives up on: the API server failing for minutes, or refusing our credentials.
        """
        try:
            await framework.run(
                self._registry(),
                framework.settings(label_selector=self._label_selector),
                namespaces=self._namespaces,
                stop=self._halt,
                on_started=on_started,
            )
        finally:
            if self._session is not None:
                await self._session.close()
        if not self._halt.is_set():
            raise WatchEnded("kopf stopped watching")

    def stop(self) -> None:
        """End `run`."""
        self._halt.set()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)(self._listed_resource)
        if self._on_secret:
            kopf.on.event("", "v1", "secrets", registry=registry)(self._listed_secret)
        return registry

    async def _login(self, **_: Any) -> kopf.AiohttpSession | None:
        """Lend kopf our session; asked for again whenever the API server answers 401.

        kopf never tries the same credentials twice, but cannot tell that two sessions have the same, so the pauses
        and the end are ours.
        """
        now = time.monotonic()
        self._logins = [at for at in self._logins if now - at < framework.SERVER_SECONDS]
        if len(self._logins) >= len(LOGINS):
            log.error("the API server keeps refusing our credentials")
            return None
        pause = LOGINS[len(self._logins)]
        self._logins.append(now)
        await asyncio.sleep(pause)
        if self._session is None:
            self._session = self._access.session(self._observe, response_class=framework.LenientResponse)
        lent = cast("aiohttp.ClientSession", framework.LentSession(self._session))
        return kopf.AiohttpSession(server=self._access.server, aiohttp_session=lent)

    async def _observe(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """See what kopf asks and what is answered."""
        path, watching = request.url.path, "watch" in request.url.query
        if path in self._secrets:
            request.headers["Accept"] = METADATA if watching else METADATA_LIST
        response = await handler(request)
        if response.status == HTTPStatus.GONE and path in self._streams:
            response.release()
            response = await self._begin_anew(request, handler)
        if response.ok and path in self._streams:
            self._hear(path, watching=watching)
            if watching:
                take = self._take_secret if path in self._secrets else self._take_resource
                response.content = cast("aiohttp.StreamReader", framework.Bookmarks(response.content, take))
        return response

    async def _begin_anew(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Ask for the present where the API server has forgotten the past; kopf would give up (seen).

        A watch from no version begins with all that is there.
        """
        request.url = request.url.without_query_params("resourceVersion", "continue")
        self.gap.set()
        return await handler(request)

    def _hear(self, stream: str, *, watching: bool) -> None:
        self._heard[stream] = time.monotonic()
        if not watching and self.established.is_set():
            self.gap.set()
        if watching:
            self._standing.add(stream)
            if self._standing == self._streams:
                self.established.set()

    async def _listed_resource(self, event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] is None:
            self._take_resource(event)

    async def _listed_secret(self, event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] is None:
            self._take_secret(event)

    def _take_resource(self, event: kopf.RawEvent) -> None:
        self._take(self._on_resource, event)

    def _take_secret(self, event: kopf.RawEvent) -> None:
        if self._on_secret:
            self._take(self._on_secret, event)

    def _take(self, consumer: OnEvent, event: kopf.RawEvent) -> None:
        try:
            consumer(event["type"], event["object"])
        except Exception:
            log.exception("an event could not be taken in")
            self.gap.set()
