"""The cluster's DNS: the addresses of Services, and nothing else."""

from __future__ import annotations

import re
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Final

DOMAIN: Final = "cluster.local"

Resolve = Callable[[str, str], Sequence[str] | None]
"""The IPv4 addresses of a Service by its name and namespace; None if there is no such Service."""

_SERVICE: Final = re.compile(rf"([^.]+)\.([^.]+)\.svc\.{re.escape(DOMAIN)}", re.IGNORECASE)
_HEAD: Final = struct.Struct(">6H")
_ANSWERED, _UNKNOWN = 0x8580, 0x8583  # an authoritative answer: no error, and no such name
_ADDRESS, _INTERNET = 1, 1
_NAME_OF_QUESTION: Final = 0xC000 | _HEAD.size
_TTL_SECONDS: Final = 1


@contextmanager
def serving(address: str, resolve: Resolve) -> Iterator[None]:
    """Answer the questions of pods, UDP at port 53, while the context is open."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            query, socket = self.request
            socket.sendto(answer(query, resolve), self.client_address)

    with socketserver.ThreadingUDPServer((address, 53), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def answer(query: bytes, resolve: Resolve) -> bytes:
    """The answer to a query of one question (RFC 1035)."""
    number, *_ = _HEAD.unpack_from(query)
    name, end = _name(query, _HEAD.size)
    kind, _ = struct.unpack_from(">HH", query, end)
    question = query[_HEAD.size : end + 4]
    service = _SERVICE.fullmatch(name)
    addresses = resolve(service[1], service[2]) if service else None
    if addresses is None:
        return _HEAD.pack(number, _UNKNOWN, 1, 0, 0, 0) + question
    fields = struct.pack(">HHHIH", _NAME_OF_QUESTION, _ADDRESS, _INTERNET, _TTL_SECONDS, 4)
    records = [fields + IPv4Address(address).packed for address in addresses if kind == _ADDRESS]
    return _HEAD.pack(number, _ANSWERED, 1, len(records), 0, 0) + question + b"".join(records)


def _name(message: bytes, at: int) -> tuple[str, int]:
    """A name in dots, and where the message goes on after it."""
    labels = []
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode("ascii", errors="replace"))
        at += 1 + length
    return ".".join(labels), at + 1
