"""One connection to a provider: TCP, a tunnel where there is a proxy, TLS, and HTTP/1.1 by h11.

At most one request is under way, and whatever arrives when none is spoils the connection: taken for the answer to the
next request, it would be a lie about a write.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import select
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Final

import h11
from aiohappyeyeballs import start_connection
from yarl import URL

MAX_HEAD: Final = 100 << 10
"""Bytes of the head of an answer, or of a line of its chunks."""

MAX_UNREAD: Final = 64 << 10
"""Bytes that are taken from the kernel before somebody reads them."""

NEXT_ADDRESS_SECONDS: Final = 0.25
"""After so long the next address of a host is tried beside the one that does not answer (RFC 8305, section 8)."""


class TunnelRefused(Exception):  # noqa: N818 - an outcome, not a fault
    """The proxy does not lead to the origin."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where connections lead.

    Attributes:
        origin: Scheme, host and port.
        timeout: Seconds after which the kernel gives up what nobody has acknowledged.
        tls: Whom to trust.
        proxy: Where to tunnel through, with a user and a password where it wants them.
    """

    origin: URL
    timeout: float
    tls: ssl.SSLContext
    proxy: URL | None

    async def connect(self) -> Connection:
        """A connection on which nothing has been sent to the origin yet.

        asyncio's own race of addresses loses the socket of the winner when it is cancelled at the wrong moment (3.11).

        Raises:
            TunnelRefused: By the proxy.
            OSError: There is none, or no TLS on it.
            h11.RemoteProtocolError: The proxy speaks no HTTP.
        """
        loop, first = asyncio.get_running_loop(), self.proxy or self.origin
        addresses = await loop.getaddrinfo(first.raw_host, first.port, type=socket.SOCK_STREAM)
        connected = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        try:
            _close_hard(connected, self.timeout)
            _, connection = await loop.create_connection(Connection, sock=connected)
        except BaseException:
            connected.close()
            raise
        try:
            if self.proxy is not None:
                if self.proxy.scheme == "https":
                    await connection.start_tls(self.tls, self.proxy.raw_host)
                await connection.tunnel(_connect(self.origin, self.proxy))
            if self.origin.scheme == "https":
                await connection.start_tls(self.tls, self.origin.raw_host)
        except BaseException:
            connection.abort()
            raise
        return connection


class Connection(asyncio.Protocol):
    """Made by `Route.connect`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._http = _http()
        self._unread = bytearray()
        self._news = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    # ── a request and its answer ──────────────────────────────────────────────────────────────────────

    def encode(self, request: h11.Request, content: bytes | None) -> bytes:
        """A request as it goes over the wire.

        Raises:
            h11.LocalProtocolError: It cannot be sent.
        """
        body = () if content is None else (h11.Data(content),)
        return b"".join(self._http.send(event) or b"" for event in (request, *body, h11.EndOfMessage()))

    def send(self, message: bytes) -> None:
        """Hand over to the kernel; from here on it may arrive."""
        self._transport.write(message)

    async def next_event(self) -> h11.Event:
        """What comes next of the answer.

        Raises:
            h11.RemoteProtocolError: It is no HTTP, or ends too early.
            OSError: The connection broke.
        """
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._data())
        if not isinstance(event, h11.Event):
            raise h11.RemoteProtocolError("an answer beside the protocol")
        return event

    def settle(self) -> bool:
        """Make ready for the next request; returns whether there may be one.

        None is made after an answer that was not read to its end, or that was followed by anything.
        """
        if self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE} or self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        return True

    @property
    def is_spoiled(self) -> bool:
        """Whether anything is known to have arrived that nobody asked for, the end included."""
        return bool(self._unread) or self._ended or self._transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Whether nothing has; not to be asked right after a handshake, when TLS itself may have more to say."""
        return not self.is_spoiled and not _is_readable(self.socket)

    # ── its life ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def socket(self) -> socket.socket:
        """For its options."""
        found: socket.socket = self._transport.get_extra_info("socket")
        return found

    async def start_tls(self, tls: ssl.SSLContext, name: str | None) -> None:
        """Go on in TLS with the one who can prove the name.

        Raises:
            OSError: It failed.
        """
        loop = asyncio.get_running_loop()
        upgraded = await loop.start_tls(self._transport, self, tls, server_hostname=name)
        if upgraded is None:
            raise ConnectionResetError
        self._transport = upgraded

    async def tunnel(self, request: h11.Request) -> None:
        """Have a proxy lead on to the origin.

        Raises:
            TunnelRefused: It does not.
            h11.RemoteProtocolError: It speaks no HTTP.
            OSError: The connection broke.
        """
        self.send(self.encode(request, None))
        while isinstance(await self.next_event(), h11.InformationalResponse):
            pass
        if self._http.our_state is not h11.SWITCHED_PROTOCOL or self._http.trailing_data[0]:
            raise TunnelRefused
        self._http = _http()

    def abort(self) -> None:
        """Close at once; what the kernel has not sent yet is never sent."""
        self._transport.abort()

    async def _data(self) -> bytes:
        while not (self._unread or self._ended):
            self._news.clear()
            await self._news.wait()
        if not self._unread and self._failure is not None:
            raise self._failure
        data = bytes(self._unread)
        self._unread.clear()
        self._transport.resume_reading()
        return data

    # ── what asyncio tells ────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the way to send."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type only
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep it for whoever reads."""
        self._unread += data
        if len(self._unread) > MAX_UNREAD:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> None:
        """Nothing more will come; asyncio closes the connection."""
        self._ended = True
        self._news.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more will come, and why."""
        self._ended, self._failure = True, error
        self._news.set()


def host_of(url: URL) -> str:
    """A host as headers name it: with its port only where that is not the usual one."""
    return f"{url.host_subcomponent}" if url.is_default_port() else f"{url.host_subcomponent}:{url.port}"


def _http() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)


def _connect(origin: URL, proxy: URL) -> h11.Request:
    host = f"{origin.host_subcomponent}:{origin.port}"
    headers = [("Host", host), ("Accept", "*/*")]
    if proxy.user or proxy.password:
        credentials = base64.b64encode(f"{proxy.user or ''}:{proxy.password or ''}".encode()).decode()
        headers.append(("Proxy-Authorization", f"Basic {credentials}"))
    return h11.Request(method="CONNECT", target=host, headers=headers)


def _is_readable(connected: socket.socket) -> bool:
    """Whether something has arrived that the event loop has not seen yet, as after a freeze of the process."""
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))


def _close_hard(connected: socket.socket, timeout: float) -> None:
    """Keep the kernel from sending on for a request that this process has given up, or for a dead process."""
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(timeout * 1000)))
