"""A proxy between one operator and the real API server, which loses, delays, holds, forges and rewinds at will.

It runs in a thread of the test and speaks plain HTTP to the operator. Whatever has no fault passes through unchanged,
with the operator's own credential.

The past is the API server's own: a list of an exact older revision. It remembers some minutes of it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, urlencode

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from faults.kubescript import Call, KubeFault, KubeScript, WatchFault, status_document, target_of
from faults.kubewatch import Ending, Past, Stream, close, reset
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.gates import Gates
from inference_operator.playground.kubeconfig import User, write_kubeconfig

T = TypeVar("T")

_GATE_SECONDS = 30.0
_LAST_ROUNDS = 5  # of the loop, in which it closes the sockets of what was aborted
_BUFFER_BYTES = 16 * 2**20
_JSON = {"Content-Type": "application/json"}
_OF_THE_CONNECTION = {"connection", "content-length", "transfer-encoding"}
_OURS = {*_OF_THE_CONNECTION, "host", "accept-encoding"}


@dataclass(frozen=True)
class Answer:
    """What a request is answered with."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class KubeProxy:
    """The proxy, to be used in a `with` statement; every method may be called from the test's thread.

    Attributes:
        kubeconfig: Leads to the API server by this detour, as the user.
    """

    kubeconfig: Path

    def __init__(self, plane: ControlPlane, user: str = "operator") -> None:
        self._plane = plane
        self._user = user
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubeproxy", daemon=True)
        self._front: _Front | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._front = self._run(_opened(self._plane.url, self._plane.ca_file))
        self.kubeconfig = self._plane.folder / f"proxy-{self._front.port}.kubeconfig"
        user = User(self._user, (), self._plane.token_of(self._user))
        url = f"http://127.0.0.1:{self._front.port}"
        write_kubeconfig(self.kubeconfig, url=url, ca_file=self._plane.ca_file, user=user)
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._serving.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ── what was asked ────────────────────────────────────────────────────────────────────────────────

    def calls(self, *, after: int = 0) -> list[Call]:
        """Every request in order of arrival, or those above a number."""
        return [call for call in list(self._serving.calls) if call.number > after]

    # ── single requests and events ────────────────────────────────────────────────────────────────────

    def add_fault(self, fault: KubeFault | WatchFault) -> str:
        """Add a fault to the script and return its id."""
        return self._run(self._serving.add_fault(fault))

    def clear_faults(self) -> None:
        """Take all faults out of the script; what one was applied to already keeps it."""
        self._run(self._serving.clear_faults())

    def fault_hits(self) -> dict[str, int]:
        """How often each fault was applied, by id."""
        return self._serving.script.hits()

    def wait_for_gate(self, name: str, *, seconds: float = _GATE_SECONDS, requests: int = 1) -> list[int]:
        """Wait until requests are held at a gate; returns their numbers.

        Raises:
            TimeoutError: They do not come in time.
        """
        return self._run(self._serving.gates.wait(name, seconds, requests))

    def release_gate(self, name: str) -> int:
        """Let the requests that are held at a gate go on; returns how many."""
        return self._run(self._serving.release(name))

    # ── watches ───────────────────────────────────────────────────────────────────────────────────────

    def open_watches(self, resource: str | None = None) -> int:
        """How many watches are open."""
        return len(self._serving.streams_of(resource))

    def cut_watches(self, resource: str | None = None, *, ending: Ending = "reset") -> int:
        """End the open watches: by RST, in the middle of a line, or as the API server ends them; returns how many."""
        return self._run(self._serving.finish(resource, ending))

    def freeze_watches(self, resource: str | None = None) -> None:
        """Keep back everything on the watches that are open now; those that are opened later are not frozen."""
        self._run(self._serving.freeze(resource))

    def thaw_watches(self, resource: str | None = None) -> None:
        """Let go what was kept back."""
        self._run(self._serving.thaw(resource))

    def fail_watches(self, resource: str | None = None, *, status: int = HTTPStatus.GONE) -> None:
        """Send an event ERROR on the open watches, and end them."""
        self._run(self._serving.fail(resource, status))

    # ── the past ──────────────────────────────────────────────────────────────────────────────────────

    def rewind(self, resource: str, revision: int) -> None:
        """Show a resource as of an earlier revision (an object's `resourceVersion`), until `catch_up`.

        Lists and single reads are answered from then; events that are newer are kept back. Writes meet the present.
        """
        self._run(self._serving.past.stop_at(resource, revision))

    def catch_up(self, resource: str) -> None:
        """Show the present again."""
        self._run(self._serving.past.catch_up(resource))

    # ── the whole connection ──────────────────────────────────────────────────────────────────────────

    def cut(self) -> None:
        """Reset every connection, and each new one at once, until `mend`."""
        self._run(self._serving.cut())

    def mend(self) -> None:
        """Accept connections again."""
        self._serving.severed = False

    @property
    def _serving(self) -> _Front:
        if self._front is None:
            raise RuntimeError("the proxy is used outside its `with` statement")
        return self._front

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _opened(url: str, ca_file: Path) -> _Front:
    front = _Front(url, ca_file)
    await front.start()
    return front


class _Refusing(asyncio.Protocol):
    """Resets a connection as soon as it stands."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class _Front:
    """The server itself; lives in the proxy's own thread."""

    def __init__(self, url: str, ca_file: Path) -> None:
        self.calls: list[Call] = []
        self.script = KubeScript()
        self.gates = Gates()
        self.past = Past()
        self.severed = False
        self._url = url
        self._streams: list[Stream] = []
        self._exchanges: set[asyncio.Task[Any]] = set()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=ca_file)),
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=[hdrs.USER_AGENT, hdrs.CONTENT_TYPE],
            read_bufsize=_BUFFER_BYTES,
            trust_env=False,
        )
        self._server = web.Server(self._handle, handler_cancellation=True)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._protocol, "127.0.0.1", 0)
        self.port: int = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._listener.close()
        await self.cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()
        for _ in range(_LAST_ROUNDS):
            await asyncio.sleep(0.01)

    async def cut(self) -> None:
        self.severed = True
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def add_fault(self, fault: KubeFault | WatchFault) -> str:
        return self.script.add(fault)

    async def clear_faults(self) -> None:
        self.script.clear()

    async def release(self, gate: str) -> int:
        return self.gates.release(gate)

    def streams_of(self, resource: str | None) -> list[Stream]:
        return [stream for stream in self._streams if resource in {None, stream.target.resource}]

    async def finish(self, resource: str | None, ending: Ending) -> int:
        streams = self.streams_of(resource)
        for stream in streams:
            await stream.finish(ending)
        return len(streams)

    async def freeze(self, resource: str | None) -> None:
        for stream in self.streams_of(resource):
            stream.freeze()

    async def thaw(self, resource: str | None) -> None:
        for stream in self.streams_of(resource):
            stream.thaw()

    async def fail(self, resource: str | None, status: int) -> None:
        for stream in self.streams_of(resource):
            await stream.fail(status)

    # ── one request ───────────────────────────────────────────────────────────────────────────────────

    def _protocol(self) -> asyncio.Protocol:
        return _Refusing() if self.severed else self._server()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        content = await request.content.read()
        call = Call(
            number=len(self.calls) + 1,
            target=target_of(request.method, request.path, request.query),
            path=request.raw_path,
            body=_parsed(content),
        )
        self.calls.append(call)
        fault = self.script.claim(call, content.decode(errors="replace")) or KubeFault()
        exchange = asyncio.create_task(self._exchange(request, call, fault, content))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        try:
            # A request outlives its sender, as one does that is in the network or in the API server; a watch does not.
            outcome = await (exchange if call.verb == "watch" else asyncio.shield(exchange))
            return await self._deliver(request, call, fault, outcome)
        finally:
            call.answered_at = time.monotonic()

    async def _exchange(
        self, request: web.BaseRequest, call: Call, fault: KubeFault, content: bytes
    ) -> Answer | aiohttp.ClientResponse | None:
        """What the API server answers: whole, as a watch that stands, or not at all."""
        if fault.gate_before is not None:
            await self.gates.hold(fault.gate_before, call.number)
        await asyncio.sleep(fault.delay_before)
        outcome = None if fault.commit == "never" else await self._forward(request, call, content)
        await asyncio.sleep(fault.delay_after)
        if fault.gate_after is not None:
            await self.gates.hold(fault.gate_after, call.number)
        return outcome

    async def _forward(
        self, request: web.BaseRequest, call: Call, content: bytes
    ) -> Answer | aiohttp.ClientResponse | None:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OURS}
        revision = self.past.of(call.resource)
        rewound = revision is not None and call.verb in {"get", "list"}
        url = _earlier(call, revision or 0) if rewound else call.path
        try:
            upstream = await self._session.request(
                request.method, URL(self._url + url, encoded=True), headers=headers, data=content or None
            )
            call.served = upstream.status
            if call.verb == "watch" and upstream.ok:
                return upstream
            async with upstream:
                body = await upstream.read()
        except aiohttp.ClientError:
            return None
        if rewound and call.verb == "get" and upstream.ok:
            return _only_item(call, body)
        kept = {name: value for name, value in upstream.headers.items() if name.lower() not in _OF_THE_CONNECTION}
        return Answer(upstream.status, body, kept)

    async def _deliver(
        self, request: web.BaseRequest, call: Call, fault: KubeFault, outcome: Answer | aiohttp.ClientResponse | None
    ) -> web.StreamResponse:
        if isinstance(outcome, aiohttp.ClientResponse):
            async with outcome:
                if fault.status is None and fault.delivery == "whole":
                    return await self._stream(request, call, outcome)
        answer = _refusal(fault.status, fault) if fault.status is not None else outcome
        if not isinstance(answer, Answer) or fault.delivery in {"reset", "close", "stall"}:
            return await self._withhold(request, fault)
        response = await _answer(request, fault, answer)
        call.status = answer.status
        return response

    async def _stream(
        self, request: web.BaseRequest, call: Call, upstream: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        stream = Stream(call.target, request, self.script, self.past)
        call.status = upstream.status
        self._streams.append(stream)
        try:
            return await stream.serve(upstream)
        finally:
            self._streams.remove(stream)

    async def _withhold(self, request: web.BaseRequest, fault: KubeFault) -> web.StreamResponse:
        if fault.delivery == "stall":
            await asyncio.Event().wait()  # until its sender gives up
        (close if fault.delivery == "close" else reset)(request)
        return web.Response()


async def _answer(request: web.BaseRequest, fault: KubeFault, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    if fault.delivery == "truncate":
        await response.write(answer.body[: fault.size])
        close(request)
    else:
        await response.write_eof(answer.body)
    return response


def _refusal(status: int, fault: KubeFault) -> Answer:
    headers = dict(_JSON)
    if fault.retry_after is not None:
        headers["Retry-After"] = fault.retry_after
    return Answer(status, json.dumps(status_document(status, fault.message)).encode(), headers)


def _earlier(call: Call, revision: int) -> str:
    """The request for a list as of a revision; for a single object, of a list that holds nothing else."""
    path, _, text = call.path.partition("?")
    query = {key: value for key, value in parse_qsl(text) if key not in {"resourceVersion", "resourceVersionMatch"}}
    if call.verb == "get":
        path = path.rpartition("/")[0]
        query["fieldSelector"] = f"metadata.name={call.name}"
    query |= {"resourceVersion": str(revision), "resourceVersionMatch": "Exact"}
    return f"{path}?{urlencode(query)}"


def _only_item(call: Call, body: bytes) -> Answer:
    found = json.loads(body)
    if not found["items"]:
        missing = status_document(HTTPStatus.NOT_FOUND, f'{call.resource} "{call.name}" not found')
        return Answer(HTTPStatus.NOT_FOUND, json.dumps(missing).encode(), _JSON)
    kind = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
    return Answer(HTTPStatus.OK, json.dumps(kind | found["items"][0]).encode(), _JSON)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return content.decode(errors="replace")
