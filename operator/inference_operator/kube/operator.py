"""The life of the process: watch, list, become active, work, and end in the reverse order.

Every replica watches and lists; only the active one works. Level, not edge: an event only says which resource to look
at; what to do is decided from what the store holds by then.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from inference_operator.api import names
from inference_operator.errors import Unavailable
from inference_operator.kube.queue import Trigger

if TYPE_CHECKING:
    from inference_operator.kube.client import KubernetesCluster
    from inference_operator.kube.events import EventPoster
    from inference_operator.kube.intake import Intake
    from inference_operator.kube.lease import Lease
    from inference_operator.kube.queue import WorkQueue
    from inference_operator.kube.watching import Watcher

Reconcile = Callable[[str, Trigger], Awaitable[float | None]]
"""One pass over the resource of a uid, which may be gone; returns the seconds until the next look, None for none."""

RESYNC_SECONDS: Final = 600.0
"""How often the store is compared with a list, for what the watch may have missed."""

RETRY_SECONDS: Final = 2.0
"""Pause after a list that failed, and between looks for the custom resource definition."""

FLUSH_SECONDS: Final = 2.0
"""How long Events that wait may hold up the end of the process."""

UNWATCH_SECONDS: Final = 5.0
"""How long the end of the watch may take before it is cut off."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an operator is made of; see each."""

    cluster: KubernetesCluster
    events: EventPoster
    intake: Intake
    lease: Lease
    queue: WorkQueue[str]
    watcher: Watcher


class Operator:
    """Runs passes over resources, once.

    Attributes:
        listed: Set once all resources in scope are known; a replica is ready from then on, active or not.
        active: Set once this replica works.
        ending: Set once nothing new is begun any more.
    """

    def __init__(self, parts: Parts, reconcile: Reconcile, *, drain_seconds: float) -> None:
        """Put an operator together.

        Args:
            parts: What it is made of.
            reconcile: The pass.
            drain_seconds: How long passes under way may take at the end: a provider call and a status write.
        """
        self._parts = parts
        self._reconcile = reconcile
        self._drain_seconds = drain_seconds
        self.listed = asyncio.Event()
        self.active = asyncio.Event()
        self.ending = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, which SIGINT and SIGTERM do too, and end in good order.

        The Lease is kept until the last pass has ended, and let go of then. Where it is lost, passes end as well as
        they can, but none of them may begin a write to a provider.

        Raises:
            LeaseError: The Lease cannot be kept.
            LeaseLost: Another process is active now.
            WatchEnded: The watch ended by itself.
            Exception: Whatever else ended the watch; the process is to be started anew.
        """
        claim_signals(stop)
        watch = asyncio.create_task(self._watch(partial(claim_signals, stop)), name="watch")
        lead = asyncio.create_task(self._lead(), name="lead")
        post = asyncio.create_task(self._parts.events.run(), name="events")
        tasks = [watch, lead, post, asyncio.create_task(self._list(), name="list")]
        tasks.append(asyncio.create_task(self._work(), name="work"))
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            failures = [task for task in tasks if task.done()]
        finally:
            await self._finish_work()
            await _cancel(lead)
            await self._parts.lease.release()
            if not post.done():
                await self._parts.events.flush(FLUSH_SECONDS)
            self._parts.watcher.stop()
            await asyncio.wait([watch], timeout=UNWATCH_SECONDS if self._parts.watcher.established.is_set() else 0)
            await _cancel(stopping, *tasks)
        for task in failures:
            task.result()

    async def _finish_work(self) -> None:
        self.ending.set()
        self._parts.queue.stop()
        if not await self._parts.queue.drain(self._drain_seconds):
            log.warning("passes were cut off after %g s", self._drain_seconds)

    async def _watch(self, on_started: Callable[[], None]) -> None:
        while not await self._is_served():  # noqa: ASYNC110 - what is waited for happens in the cluster
            await asyncio.sleep(RETRY_SECONDS)
        await self._parts.watcher.run(on_started)

    async def _is_served(self) -> bool:
        """Whether there is anything to watch; kopf looks only once, and would wait for ever."""
        try:
            served = await self._parts.cluster.is_served()
        except Unavailable as error:
            log.warning("waiting for the API server: %s", error)
            return False
        if not served:
            log.warning("waiting for the custom resource definition %s; install it", names.CRD_NAME)
        return served

    async def _list(self) -> None:
        """List once the watch stands, so that nothing falls in between, and whenever something may have been missed."""
        gap = self._parts.watcher.gap
        await self._parts.watcher.established.wait()
        while True:
            gap.clear()
            asked_at = time.monotonic()
            try:
                await self._parts.intake.take_list(self._parts.cluster.scope(), asked_at=asked_at)
            except Unavailable as error:
                log.warning("%s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self.listed.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(RESYNC_SECONDS):
                    await gap.wait()

    async def _lead(self) -> None:
        await self.listed.wait()
        await self._parts.lease.acquire()
        self.active.set()
        await self._parts.lease.keep()

    async def _work(self) -> None:
        await self.active.wait()
        await self._parts.queue.run(self._reconcile)


def claim_signals(stop: asyncio.Event) -> None:
    """Let SIGINT and SIGTERM set `stop`. Has no effect outside the main thread."""
    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)


async def _cancel(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
