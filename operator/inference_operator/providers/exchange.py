"""One HTTP request, one answer: bounded in time and size, never repeated, and clear about what may have arrived.

Nothing that the HTTP stack raises leaves this module: its texts may hold header values.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import certifi
import h11
from yarl import URL

from inference_operator import __version__
from inference_operator.descriptors import connections_per_pool
from inference_operator.providers.answers import Answer, NoAnswer, retry_after
from inference_operator.providers.connection import Connection, Route, TunnelRefused, host_of

if TYPE_CHECKING:
    from pathlib import Path

MAX_BODY: Final = 1 << 20
"""Bytes of a body, as sent and as decoded."""

MAX_CONNECTIONS: Final = 64
"""Per origin, where the limit of open files allows as many."""

KEEP_SECONDS: Final = 4.0
"""How long an idle connection is kept: common servers close one after five seconds, and a write on a connection
that is just being closed has an unknown outcome."""

HEADERS: Final = {
    "Connection": "keep-alive",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": f"inference-operator/{__version__}",
}

GZIP_OR_ZLIB: Final = 47
"""`wbits` of a decompressor that recognises both."""


class _Closed(Exception):  # noqa: N818 - not an error of ours
    """Nothing is sent any more."""


CLAUSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (_Closed, "the process is ending"),
    (TunnelRefused, "the proxy refused the connection"),
    (ssl.SSLError, "the TLS connection failed"),
    (socket.gaierror, "the host name could not be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
    (ConnectionResetError, "the connection was reset"),
    (OSError, "the connection failed"),
    (zlib.error, "an answer that cannot be unpacked"),
)
"""What is told of an exception; never its own text."""


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Whom TLS trusts: the authorities in the file alone, or else the public ones.

    Raises:
        ValueError: The file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=certifi.where() if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError):
        raise ValueError(f"{ca_file} cannot be read or holds no certificate in PEM form") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


class Exchange:
    """Speaks HTTP/1.1 to one origin; follows no redirect, keeps no cookie, repeats nothing.

    Args:
        origin: Scheme, host and port; http only for this machine itself.
        timeout: Seconds for a whole exchange, waiting for a connection included.
        tls: Whom to trust.
        proxy_url: Where to tunnel through; not used for http origins.
    """

    def __init__(self, origin: str, *, timeout: float, tls: ssl.SSLContext, proxy_url: str | None) -> None:
        url = URL(origin)
        proxy = URL(proxy_url) if proxy_url is not None and url.scheme == "https" else None
        self._timeout = timeout
        self._route = Route(url, timeout=timeout, tls=tls, proxy=proxy)
        self._headers = [("Host", host_of(url)), *HEADERS.items()]
        self._places = asyncio.Semaphore(min(MAX_CONNECTIONS, connections_per_pool()))
        self._busy: set[Connection] = set()
        self._idle: deque[tuple[float, Connection]] = deque()  # since when, in order
        self._closed = False

    async def close(self) -> None:
        """Close all connections; exchanges in flight end without an answer, and what still connects sends nothing."""
        self._closed = True
        for connection in [*self._busy, *(connection for _, connection in self._idle)]:
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # after which asyncio has closed the sockets

    async def run(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        since: float | None = None,
    ) -> Answer | NoAnswer:
        """Send one request and read its answer whole; cancelling it leaves a write undecided.

        Args:
            method: HTTP method.
            path: From the root of the origin.
            headers: Beside the usual ones.
            params: Query.
            content: Body.
            since: Monotonic time from which the time to begin counts, where that is earlier than now.
        """
        deadline = (time.monotonic() if since is None else since) + self._timeout
        target = f"{path}?{urlencode(params)}" if params else path
        sent = False
        try:
            async with asyncio.timeout(self._timeout), self._connection(method) as connection:
                length = () if content is None else (("Content-Length", str(len(content))),)
                request = h11.Request(method=method, target=target, headers=[*self._headers, *headers.items(), *length])
                message = connection.encode(request, content)
                self._must_not_be_late(deadline, connection)
                sent = True
                connection.send(message)
                return await _read(connection)
        except Exception as error:  # noqa: BLE001 - whatever it was, only whether the request left matters
            is_late = isinstance(error, TimeoutError) and error.errno is None  # the kernel's own has a number
            why = f"no complete answer within {self._timeout:g} s" if is_late else _why(error)
        return NoAnswer(why, sent=sent)

    def _must_not_be_late(self, deadline: float, connection: Connection) -> None:
        """Ask once more right before sending: a frozen process goes on before any timer can tell how late it is."""
        if self._closed:
            raise _Closed
        if time.monotonic() > deadline:
            raise TimeoutError
        if connection.is_spoiled:
            raise ConnectionResetError

    @contextlib.asynccontextmanager
    async def _connection(self, method: str) -> AsyncIterator[Connection]:
        """A connection for one exchange alone, kept for the next one if this one ends well."""
        async with self._places:
            if self._closed:
                raise _Closed
            connection = self._kept(method) or await self._route.connect()
            self._busy.add(connection)
            is_kept = False
            try:
                yield connection
                is_kept = connection.settle() and not self._closed
            finally:
                self._busy.remove(connection)
                if is_kept:
                    self._idle.append((time.monotonic(), connection))
                else:
                    connection.abort()

    def _kept(self, method: str) -> Connection | None:
        """One of the connections that are neither too old nor spoiled.

        Reads take the one that was idle the longest, so that a steady trickle of them needs no new connections; all
        others the one that was used last, which the server is the least likely to be closing.
        """
        while self._idle and self._idle[0][0] < time.monotonic() - KEEP_SECONDS:
            self._idle.popleft()[1].abort()
        while self._idle:
            _, connection = self._idle.popleft() if method == "GET" else self._idle.pop()
            if connection.is_silent:
                return connection
            connection.abort()
        return None


class _Unreadable(Exception):  # noqa: N818 - not an error of ours
    """The answer is not one that will be read; says why."""


async def _read(connection: Connection) -> Answer:
    while not isinstance(head := await connection.next_event(), h11.Response):  # noqa: ASYNC110 - the sleep is
        await asyncio.sleep(0)  # for others, as below
    headers = list(head.headers)
    encoding = ", ".join(_values(headers, b"content-encoding"))
    body = _Body(encoding.strip().lower())
    while isinstance(event := await connection.next_event(), h11.Data):
        if body.has_begun:
            await asyncio.sleep(0)  # a body in a million pieces would hold up everything else; most come in one
        body.add(event.data)
    silence = retry_after(_values(headers, b"retry-after"), datetime.now(UTC))
    return Answer(head.status_code, body.whole(), silence)


def _values(headers: list[tuple[bytes, bytes]], header: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == header]


class _Body:
    """Collects a body up to its bound, unpacking what was packed although nobody asked for it."""

    def __init__(self, encoding: str) -> None:
        if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise _Unreadable("an answer in an encoding that was not asked for")
        self._inflate = zlib.decompressobj(GZIP_OR_ZLIB) if encoding not in {"", "identity"} else None
        self._received = 0
        self._content = bytearray()

    @property
    def has_begun(self) -> bool:
        return self._received > 0

    def add(self, chunk: bytes) -> None:
        self._received += len(chunk)
        room = MAX_BODY + 1 - len(self._content)
        self._content += self._inflate.decompress(chunk, room) if self._inflate else chunk
        if max(self._received, len(self._content)) > MAX_BODY:
            raise _Unreadable("an answer of more than 1 MiB")

    def whole(self) -> bytes:
        if self._inflate and self._received and not (self._inflate.eof and not self._inflate.unused_data):
            raise _Unreadable("an answer that cannot be unpacked")
        return bytes(self._content)


def _why(error: Exception) -> str:
    """A clause for people, made of fixed texts and of what TLS says about certificates."""
    for cause in _causes(error):
        if isinstance(cause, _Unreadable):
            return str(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the TLS certificate was not accepted ({cause.verify_message})"
        for kind, clause in CLAUSES:
            if isinstance(cause, kind):
                return clause
    return f"no complete answer ({type(error).__name__})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(16):
        if seen is None:
            return
        yield seen
        seen = seen.exceptions[0] if isinstance(seen, BaseExceptionGroup) else seen.__cause__ or seen.__context__
