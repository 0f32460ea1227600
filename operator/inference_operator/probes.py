"""What the outside asks the process itself: is it alive, is it ready, what are its numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from inference_operator.addresses import Address
from inference_operator.settings import UnusableSettings

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

Check = Callable[[], tuple[bool, str]]
"""The answer to a probe, and the reason in one sentence; fast, and without I/O."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def serving(
    address: Address, *, alive: Check, ready: Check, metrics: Callable[[], bytes]
) -> AsyncIterator[Address]:
    """Answer /healthz, /readyz and /metrics for as long as the context is open.

    They are answered on the event loop that does the work, so that a loop that is stuck answers none.

    Args:
        address: Where to listen.
        alive: Whether a restart would not help.
        ready: Whether the process does its part, as leader or standby.
        metrics: Renders the metrics; called at each scrape.

    Yields:
        The address that is listened on, with the port that the system chose for port 0.

    Raises:
        UnusableSettings: The address cannot be listened on.
    """
    app = web.Application()
    app.router.add_get("/healthz", _probe(alive))
    app.router.add_get("/readyz", _probe(ready))
    app.router.add_get("/metrics", _numbers(metrics))
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        yield await _listen(runner, address)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, address: Address) -> Address:
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except OSError as error:
        reason = str(error.strerror).rpartition(": ")[2]  # asyncio puts the address before it
        cure = "choose another with --http-address"
        raise UnusableSettings([f"HTTP_ADDRESS: cannot listen on {address}: {reason}; {cure}"]) from None
    host, port = runner.addresses[0][:2]
    log.info("serving", address=str(Address(host, port)), paths="/metrics /healthz /readyz")
    return Address(host, port)


def _probe(check: Check) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        passed, reason = check()
        return web.Response(status=200 if passed else 503, text=reason + "\n")

    return answer


def _numbers(metrics: Callable[[], bytes]) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer
