"""TLS in front of the emulated providers, which speak plain HTTP on loopback: pods call providers by https only."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Final
from urllib.parse import urlsplit

from e2e.node.commands import run

_CHUNK: Final = 1 << 16


@dataclass(frozen=True)
class Front:
    """Providers behind TLS.

    Attributes:
        origins: Where pods find each of them.
        ca_file: The authority that has signed for them, PEM.
    """

    origins: Mapping[str, str]
    ca_file: Path


@contextmanager
def front(address: str, behind: Mapping[str, str], folder: Path) -> Iterator[Front]:
    """Listen on free ports of an address while the context is open.

    Args:
        address: The IP address.
        behind: The origins of plain HTTP servers by their names.
        folder: Where keys and certificates go, made for this.
    """
    context = _certified(address, folder)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    opened: Future[Mapping[str, str]] = Future()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            opened.set_result({name: await _forward(stack, address, url, context) for name, url in behind.items()})
            await stop.wait()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = Thread(target=work, name="TLS")
    thread.start()
    try:
        yield Front(opened.result(timeout=10), folder / "ca.crt")
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _certified(address: str, folder: Path) -> ssl.SSLContext:
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    authority = ("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key")
    run(*made, "-subj", "/CN=authority", "-keyout", folder / "ca.key", "-out", folder / "ca.crt")
    names = ("-subj", "/CN=providers", "-addext", f"subjectAltName=IP:{address}")
    run(*made, *names, *authority, "-keyout", folder / "providers.key", "-out", folder / "providers.crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "providers.crt", folder / "providers.key")
    return context


async def _forward(stack: AsyncExitStack, address: str, behind: str, context: ssl.SSLContext) -> str:
    """Open a port whose connections lead to an origin; returns the port's own origin."""
    target = urlsplit(behind)
    visits = set[asyncio.Task[None]]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = asyncio.create_task(_lead(reader, writer, str(target.hostname), target.port))
        visits.add(visit)
        visit.add_done_callback(visits.discard)

    async def end() -> None:
        server.close()
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        await asyncio.sleep(0)  # the sockets are closed by what is called soon

    server = await asyncio.start_server(connected, address, 0, ssl=context)
    stack.push_async_callback(end)
    return f"https://{address}:{server.sockets[0].getsockname()[1]}"


async def _lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int | None) -> None:
    """Copy both ways until one side has gone, which ends both, as it would without anything between them."""
    there, back = await asyncio.open_connection(host, port)
    ways = [asyncio.create_task(_copy(*way)) for way in ((reader, back), (there, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for each in (writer, back):
            each.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while received := await reader.read(_CHUNK):
            writer.write(received)
            await writer.drain()
    except OSError:
        return  # reset by the other side
