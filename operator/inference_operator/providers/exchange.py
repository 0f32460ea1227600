"""One HTTP request, one answer: bounded in time and size, never repeated, and clear about what may have arrived.

Nothing that the HTTP stack raises leaves this module: its texts may hold header values.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import certifi
import httpcore
from yarl import URL

from inference_operator import __version__
from inference_operator.descriptors import connections_per_pool
from inference_operator.providers.answers import Answer, NoAnswer, retry_after

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


_SENDING: Final = {"http11.send_request_headers.started", "http11.send_request_body.started"}


class _Closed(Exception):  # noqa: N818 - not an error of ours
    """Nothing is sent any more."""


CLAUSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (_Closed, "the process is ending"),
    (httpcore.ProxyError, "the proxy refused the connection"),
    (ssl.SSLError, "the TLS connection failed"),
    (socket.gaierror, "the host name could not be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
    (ConnectionResetError, "the connection was reset"),
    (zlib.error, "an answer that cannot be unpacked"),
)
"""What is told of an exception; never its own text."""


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Whom TLS trusts: the authorities in the file alone, or else the public ones.

    Raises:
        ValueError: The file cannot be read or holds no certificate.
    """
    if ca_file is None:
        return ssl.create_default_context(cafile=certifi.where())
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError):
        raise ValueError(f"{ca_file} cannot be read or holds no certificate in PEM form") from None


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
        self._timeout = timeout
        self._url = partial(httpcore.URL, scheme=url.scheme, host=url.raw_host or "", port=url.port)
        self._headers = [(name.encode(), value.encode()) for name, value in {"Host": _host(url), **HEADERS}.items()]
        self._connect = _connecting(self._url().origin, tls, proxy_url if url.scheme == "https" else None)
        self._places = asyncio.Semaphore(min(MAX_CONNECTIONS, connections_per_pool()))
        self._busy: dict[httpcore.AsyncConnectionInterface, _Progress] = {}
        self._idle: deque[tuple[float, httpcore.AsyncConnectionInterface]] = deque()  # since when, in order
        self._closed = False

    async def close(self) -> None:
        """Close all connections; exchanges in flight end without an answer, and none begins any more."""
        self._closed = True
        for progress in self._busy.values():
            progress.ended = True
        connections = [*self._busy, *(connection for _, connection in self._idle)]
        self._idle.clear()
        for connection in connections:
            await connection.aclose()

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
        progress = _Progress(self._timeout, time.monotonic() if since is None else since)
        try:
            request = httpcore.Request(
                method,
                self._url(target=f"{path}?{urlencode(params)}" if params else path),
                headers=[*self._headers, *headers.items(), *_length(content)],
                content=content,
                extensions={"trace": progress},
            )
            async with (
                asyncio.timeout(self._timeout),
                self._connection(progress) as connection,
                contextlib.aclosing(await connection.handle_async_request(request)) as response,
            ):
                return await _read(response)
        except Exception as error:  # noqa: BLE001 - whatever it was, only whether the request left matters
            why = f"no complete answer within {self._timeout:g} s" if isinstance(error, TimeoutError) else _why(error)
        return NoAnswer(why, sent=progress.sent)

    @contextlib.asynccontextmanager
    async def _connection(self, progress: _Progress) -> AsyncIterator[httpcore.AsyncConnectionInterface]:
        """A connection for one exchange alone, kept for the next one if this one ends well.

        A TLS handshake that is cut off leaves its socket open (httpcore 1.0), which is why it is closed here.
        """
        async with self._places:
            kept = await self._kept()
            if self._closed:
                raise _Closed
            connection = kept or self._connect()
            self._busy[connection] = progress
            try:
                yield connection
            except BaseException:
                if progress.unfinished is not None:
                    await progress.unfinished.aclose()
                await connection.aclose()
                raise
            finally:
                del self._busy[connection]
            if connection.is_available():
                self._idle.append((time.monotonic(), connection))

    async def _kept(self) -> httpcore.AsyncConnectionInterface | None:
        """The connection that was used last, of those that are neither too old nor closed by the server."""
        while self._idle and self._idle[0][0] < time.monotonic() - KEEP_SECONDS:
            await self._idle.popleft()[1].aclose()
        while self._idle:
            _, connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None


def _host(url: URL) -> str:
    return f"{url.host_subcomponent}" if url.is_default_port() else f"{url.host_subcomponent}:{url.port}"


def _length(content: bytes | None) -> Iterable[tuple[str, str]]:
    return () if content is None else [("Content-Length", str(len(content)))]


def _connecting(
    origin: httpcore.Origin, tls: ssl.SSLContext, proxy_url: str | None
) -> Callable[[], httpcore.AsyncConnectionInterface]:
    """What makes a connection, which connects when it is first used.

    Pools make the connections through a proxy, and are used for nothing else: httpcore 1.0 compares all connections
    of a pool with each other whenever a request begins or ends.
    """
    if proxy_url is None:
        return partial(httpcore.AsyncHTTPConnection, origin, ssl_context=tls)
    url = URL(proxy_url)
    pool = httpcore.AsyncHTTPProxy(
        httpcore.URL(scheme=url.scheme, host=url.raw_host or "", port=url.port, target="/"),
        proxy_auth=((url.user or "").encode(), (url.password or "").encode()) if url.user or url.password else None,
        ssl_context=tls,
    )
    return partial(pool.create_connection, origin)


class _Progress:
    """Follows a request through httpcore by its documented trace events, and prepares its socket.

    A process that was frozen goes on in the middle of a request, before any timer can tell how late it is. Therefore
    the time is looked at once more right before the head and right before the body; without it nothing is carried out.

    Attributes:
        sent: The request has been handed to a connection.
        unfinished: A connection that was opened for the request and is not ready for it yet.
        ended: Nothing may be sent any more.
    """

    def __init__(self, timeout: float, since: float) -> None:
        self.sent = False
        self.ended = False
        self.unfinished: httpcore.AsyncNetworkStream | None = None
        self._timeout = timeout
        self._deadline = since + timeout

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event in _SENDING and self.ended:
            raise _Closed
        if event in _SENDING and time.monotonic() > self._deadline:
            raise TimeoutError
        if event == "connection.connect_tcp.complete":
            self.unfinished = info["return_value"]
            _close_hard(info["return_value"].get_extra_info("socket"), self._timeout)
        elif event == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
            self.unfinished = None
            self.sent = True


def _close_hard(connected: socket.socket | None, timeout: float) -> None:
    """Keep the kernel from sending on for a request that this process has given up, or for a dead process.

    Set here and not with httpcore's `socket_options`, which does not reach connections to a proxy.
    """
    if connected is None:
        return
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(timeout * 1000)))


class _Unreadable(Exception):  # noqa: N818 - not an error of ours
    """The answer is not one that will be read; says why."""


async def _read(response: httpcore.Response) -> Answer:
    encoding = ", ".join(_values(response, b"content-encoding"))
    body = _Body(encoding.strip().lower())
    async for chunk in response.aiter_stream():
        body.add(chunk)
        await asyncio.sleep(0)  # a body in a million pieces would hold up everything else
    silence = retry_after(_values(response, b"retry-after"), datetime.now(UTC))
    return Answer(response.status, body.whole(), silence)


def _values(response: httpcore.Response, header: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in response.headers if name.lower() == header]


class _Body:
    """Collects a body up to its bound, unpacking what was packed although nobody asked for it."""

    def __init__(self, encoding: str) -> None:
        if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise _Unreadable("an answer in an encoding that was not asked for")
        self._inflate = zlib.decompressobj(GZIP_OR_ZLIB) if encoding not in {"", "identity"} else None
        self._received = 0
        self._content = bytearray()

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
