"""Lets answers travel as badly as real networks and gateways do.

Everything but ``whole`` writes to the transport or streams, because an HTTP library's response object is made to
prevent exactly these things.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import zlib
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from inference_operator.playground.emulators.exchange import Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from inference_operator.playground.emulators.faults import Fault

_JSON = "application/json"
_BLOCK = 1 << 20
_POLL_SECONDS = 0.02
_NO_LINGER = struct.pack("ii", 1, 0)


class Answer(NamedTuple):
    """An HTTP answer, ready to be sent one way or another."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def head(self) -> bytes:
        """Returns status line and headers as they stand on the wire."""
        fields = {"Content-Length": str(len(self.body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} {reason_phrase(self.status)}", *(f"{k}: {v}" for k, v in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def reason_phrase(status: int) -> str:
    """Returns the standard phrase of a status, or a plain one where the status is not standard."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"


def render(reply: Reply) -> Answer:
    """Turns a reply into bytes."""
    if isinstance(reply.body, bytes):
        return Answer(reply.status, reply.headers, reply.body)
    body = json.dumps(reply.body, separators=(",", ":")).encode()
    return Answer(reply.status, {"Content-Type": _JSON, **reply.headers}, body)


def respond(answer: Answer) -> web.StreamResponse:
    """Returns the response object that sends an answer whole."""
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


async def deliver(request: web.BaseRequest, answer: Answer, fault: Fault) -> web.StreamResponse:
    """Sends an answer the way a fault says, and returns what is left for the server to send."""
    if fault.delivery == "whole":
        return respond(answer)
    with contextlib.suppress(ConnectionError):
        return await _DELIVERIES[fault.delivery](request, answer, fault)
    return _nothing(request)


def _nothing(request: web.BaseRequest) -> web.StreamResponse:
    """Ends the connection; the server notices by itself that what it is given cannot be sent any more."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def _reset(request: web.BaseRequest, _answer: Answer, _fault: Fault) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()
    return web.Response()


async def _close(request: web.BaseRequest, _answer: Answer, _fault: Fault) -> web.StreamResponse:
    return _nothing(request)


async def _truncate(request: web.BaseRequest, answer: Answer, fault: Fault) -> web.StreamResponse:
    _write(request, answer.head() + answer.body[: fault.size])
    return _nothing(request)


async def _raw(request: web.BaseRequest, answer: Answer, _fault: Fault) -> web.StreamResponse:
    _write(request, answer.body)
    return _nothing(request)


async def _stall(request: web.BaseRequest, answer: Answer, fault: Fault) -> web.StreamResponse:
    everything = answer.head() + answer.body
    _write(request, everything[: fault.size])
    if fault.interval:
        for byte in everything[fault.size :]:
            await asyncio.sleep(fault.interval)
            _write(request, bytes([byte]))
        return _nothing(request)
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - nothing tells of a lost peer
        await asyncio.sleep(_POLL_SECONDS)
    return web.Response()


async def _endless(request: web.BaseRequest, answer: Answer, fault: Fault) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)
        await asyncio.sleep(fault.interval)


async def _huge(request: web.BaseRequest, answer: Answer, fault: Fault) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = fault.size + len(answer.body)
    await response.prepare(request)
    for start in range(0, fault.size, _BLOCK):
        await response.write(b" " * min(_BLOCK, fault.size - start))
        await asyncio.sleep(0)
    await response.write(answer.body)
    return response


async def _gzip_bomb(request: web.BaseRequest, answer: Answer, fault: Fault) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers={**answer.headers, "Content-Encoding": "gzip"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for block in gzipped(fault.size, answer.body):
        await response.write(block)
        await asyncio.sleep(0)
    return response


def gzipped(blanks: int, tail: bytes) -> Iterator[bytes]:
    """Yields a gzip stream of white space followed by a tail, without compressing the same block twice.

    A fully flushed deflate block does not look back, so one compressed megabyte can be repeated; only the checksum
    has to run over all of it.

    Args:
        blanks: Bytes of white space, rounded up to whole megabytes.
        tail: What follows.
    """
    block = b" " * _BLOCK
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum, size = 0, 0
    yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    for _ in range(0, blanks, _BLOCK):
        checksum, size = zlib.crc32(block, checksum), size + _BLOCK
        yield packed
    ending = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    yield ending.compress(tail) + ending.flush()
    yield struct.pack("<II", zlib.crc32(tail, checksum), (size + len(tail)) & 0xFFFFFFFF)


def _write(request: web.BaseRequest, data: bytes) -> None:
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError
    request.transport.write(data)


_DELIVERIES: Mapping[str, Callable[[web.BaseRequest, Answer, Fault], Awaitable[web.StreamResponse]]] = {
    "reset": _reset,
    "close": _close,
    "stall": _stall,
    "truncate": _truncate,
    "raw": _raw,
    "endless": _endless,
    "huge": _huge,
    "gzip_bomb": _gzip_bomb,
}
