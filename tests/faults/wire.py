"""A way over TCP that can be cut or fall silent: in front of the API server or a provider, for one process alone.

It knows nothing of what passes, so that TLS goes through. It runs in a thread, and its methods may be called from any.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self
from urllib.parse import urlsplit

_CHUNK: Final = 65536
_RESET: Final = struct.pack("ii", 1, 0)


class Wire:
    """Forwards to one origin; to be used in a `with` statement.

    Attributes:
        origin: Where it can be reached instead.
    """

    origin: str

    def __init__(self, origin: str) -> None:
        """Describe a wire that leads to an origin on this machine, such as `https://127.0.0.1:6443`."""
        there = urlsplit(origin)
        if there.hostname is None or there.port is None:
            raise ValueError(f"{origin} has no host and port")
        self._scheme, self._host, self._port = there.scheme, there.hostname, there.port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"wire to {origin}", daemon=True)
        self._there, self._back = asyncio.Event(), asyncio.Event()
        self._whole = True
        self._ends: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.thaw()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Reset every connection, and every new one at once."""
        self._do(self._cut)

    def mend(self) -> None:
        """Let new connections through again."""
        self._do(self._mend)

    def freeze(self, *, answers_only: bool = False) -> None:
        """Let nothing pass, or nothing that comes back; connections stay, and what is on its way is kept."""
        self._do(self._back.clear)
        if not answers_only:
            self._do(self._there.clear)

    def thaw(self) -> None:
        """Let pass what was kept, and whatever comes."""
        self._do(self._there.set)
        self._do(self._back.set)

    def _do(self, action: Callable[[], object]) -> None:
        """Act in the thread of the connections, and return when it is done."""
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        done.wait()

    def _cut(self) -> None:
        self._whole = False
        for end in self._ends:
            _reset(end)

    def _mend(self) -> None:
        self._whole = True

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"{self._scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        if self._server:
            self._server.close()
        self._cut()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):  # who started this expects neither
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            self._ends |= (ends := {writer, far_writer})
            try:
                if self._whole:
                    there, back = _pass(reader, far_writer, self._there), _pass(far_reader, writer, self._back)
                    await asyncio.gather(there, back)
            finally:
                self._ends -= ends
                for end in ends:
                    _reset(end)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: asyncio.Event) -> None:
    """Pass on what comes, and then its end, while the way is open."""
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            await way.wait()
            writer.write(data)
            await writer.drain()
        await way.wait()
        writer.write_eof()


def _reset(end: asyncio.StreamWriter) -> None:
    connected: socket.socket = end.get_extra_info("socket")
    with suppress(OSError):  # closed already
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.transport.abort()
