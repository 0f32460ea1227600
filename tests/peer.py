"""A peer that answers HTTP requests byte by byte as a test says, which no HTTP server would."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Answering = Callable[["Connection", bytes], Awaitable[None]]


@dataclass(slots=True)
class Connection:
    """One connection of a client, with the writing end."""

    writer: asyncio.StreamWriter
    served: int = 0

    async def send(self, *chunks: bytes) -> None:
        """Send bytes as they are."""
        for chunk in chunks:
            self.writer.write(chunk)
            await self.writer.drain()

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        connected: socket.socket = self.writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """End the connection in order."""
        self.writer.close()


@dataclass(slots=True)
class Peer:
    """What the peer answers, and what it has been sent."""

    origin: str = ""
    answering: Answering | None = None
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: list[Connection] = field(default_factory=list)
    """The connections that have not ended yet."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a request has arrived."""

    ends: list[str] = field(default_factory=list)
    """How each connection ended: `reset` or `closed` by the client."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a connection has ended."""

    def answer(self, *chunks: bytes) -> None:
        """Answer every request with these bytes and keep the connection."""

        async def send(connection: Connection, _: bytes) -> None:
            await connection.send(*chunks)

        self.answering = send

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        self.connections += 1
        connection = Connection(writer)
        self.open.append(connection)
        try:
            while request := await _request(reader):
                self.requests.append(request)
                self.arrived.set()
                connection.served += 1
                if self.answering is not None:
                    await self.answering(connection, request)
            self.ends.append("closed")
        except ConnectionResetError:
            self.ends.append("reset")
        finally:
            self.open.remove(connection)
            self.ended.set()
            writer.transport.abort()


async def _request(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A peer on a free port of loopback."""
    peer, tasks = Peer(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await peer.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=1 << 22)
    port = server.sockets[0].getsockname()[1]
    peer.origin = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield peer
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    """A whole HTTP/1.1 answer."""
    lines = (f"HTTP/1.1 {status} Whatever", *headers, f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body
