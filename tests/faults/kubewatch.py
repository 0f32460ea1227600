"""Watches on their way through the fault proxy: line by line, so that each event can be kept back, changed or cut."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any, Literal

import aiohttp
from aiohttp import web

from faults.kubescript import KubeScript, Target, status_document

Ending = Literal["reset", "midline", "end"]

_HALF_A_LINE = b'{"type":"MODIFIED","object":{"apiVersion":'
_NO_LINGER = struct.pack("ii", 1, 0)


class Past:
    """Up to which revision of the API server's store each resource is shown; by default, all of it."""

    def __init__(self) -> None:
        self._revisions: dict[str, int] = {}
        self._moved = asyncio.Condition()

    def of(self, resource: str) -> int | None:
        """The revision that reads are to show; None for the present."""
        return self._revisions.get(resource)

    async def stop_at(self, resource: str, revision: int) -> None:
        """Show nothing newer."""
        self._revisions[resource] = revision

    async def catch_up(self, resource: str) -> None:
        """Show the present again."""
        async with self._moved:
            self._revisions.pop(resource, None)
            self._moved.notify_all()

    async def shown(self, resource: str, revision: int) -> None:
        """Wait until a revision may be shown."""
        async with self._moved:
            await self._moved.wait_for(lambda: revision <= self._revisions.get(resource, revision))


class Stream:
    """One watch."""

    def __init__(self, target: Target, request: web.BaseRequest, script: KubeScript, past: Past) -> None:
        self.target = target
        self._request = request
        self._script = script
        self._past = past
        self._response = web.StreamResponse(headers={"Content-Type": "application/json"})
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._relay: asyncio.Task[None] | None = None

    async def serve(self, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass on what comes until either side has enough."""
        await self._response.prepare(self._request)
        self._relay = asyncio.create_task(self._pass_on(upstream))
        try:
            await asyncio.wait([self._relay])
        finally:
            self._relay.cancel()
        return self._response

    def freeze(self) -> None:
        """Keep everything back, with the connection open."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let go what was kept back."""
        self._flowing.set()

    async def finish(self, ending: Ending) -> None:
        """End now."""
        match ending:
            case "end":
                self._stop()
            case "midline":
                await self._response.write(_HALF_A_LINE)
                close(self._request)
            case "reset":
                reset(self._request)

    async def fail(self, status: int) -> None:
        """Report an error and end, as the API server does."""
        event = {"type": "ERROR", "object": status_document(status, "too old resource version")}
        await self._response.write(json.dumps(event).encode() + b"\n")
        self._stop()

    def _stop(self) -> None:
        if self._relay is not None:
            self._relay.cancel()

    async def _pass_on(self, upstream: aiohttp.ClientResponse) -> None:
        async for line in upstream.content:
            event = json.loads(line)
            await self._past.shown(self.target.resource, _revision(event))
            await self._flowing.wait()
            await self._deliver(line, event)

    async def _deliver(self, line: bytes, event: dict[str, Any]) -> None:
        fault = self._script.claim_event(self.target.resource, event)
        if fault is None:
            await self._response.write(line)
        elif fault.trick == "cut":
            await self._response.write(line[: len(line) // 2])
            close(self._request)
        elif fault.trick == "error":
            await self.fail(fault.status)


def _revision(event: dict[str, Any]) -> int:
    return int(event["object"].get("metadata", {}).get("resourceVersion") or 0)


def reset(request: web.BaseRequest) -> None:
    """End a connection by RST: what was not delivered yet never is."""
    if (transport := request.transport) is None:
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def close(request: web.BaseRequest) -> None:
    """End a connection by FIN, after what was written."""
    if request.transport is not None:
        request.transport.close()
