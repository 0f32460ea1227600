"""The way of a request through an emulated provider: recorded, admitted, carried out, and answered as scripted."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from inference_operator.playground.emulators.accounts import Account, Accounts
from inference_operator.playground.emulators.delivery import deliver, reason_phrase, render, respond
from inference_operator.playground.emulators.exchange import Call, Reply
from inference_operator.playground.emulators.faults import Fault, FaultScript
from inference_operator.playground.emulators.gates import Gates
from inference_operator.playground.emulators.ledger import Entry, Ledger
from inference_operator.playground.emulators.provider import Provider, Refusal, Route
from inference_operator.playground.emulators.validate import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_ERROR = 400
_WITHOUT_STATUS = frozenset({"reset", "close", "stall", "raw"})


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


@dataclass(frozen=True, slots=True)
class Stage:
    """What both providers share while they serve."""

    accounts: Accounts
    ledger: Ledger
    script: FaultScript
    gates: Gates
    late: set[asyncio.TimerHandle]


@dataclass(slots=True)
class _Visit:
    """One request on its way."""

    request: web.BaseRequest
    entry: Entry
    admitted: Call | Reply


class Front:
    """The HTTP side of one emulated provider."""

    def __init__(self, provider: Provider[Any, Any], stage: Stage) -> None:
        self._provider = provider
        self._stage = stage

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request, unless a fault has it otherwise."""
        visit = await self._arrive(request)
        fault = self._stage.script.claim(visit.entry)
        if fault is not None:
            return await self._misbehave(visit, fault)
        reply = self._carry_out(visit, write=True)
        return respond(render(self._answered(visit, reply)))

    async def _arrive(self, request: web.BaseRequest) -> _Visit:
        """Records a request and decides whether it gets as far as an operation."""
        query = request.query if request.query_string else {}
        route, match = self._provider.find_route(request.method, request.path)
        entry = self._stage.ledger.open(
            provider=self._provider.name,
            method=request.method,
            path=request.raw_path,
            operation=route and route.operation,
            mutates=bool(route and route.mutates),
            team=request.headers.get("X-Friendli-Team"),
        )
        entry.body, problem = await _read(request)
        entry.endpoint_id = match and self._provider.identify(match, query, entry.body)
        admitted = self._admit(request, entry, route, path_exists=match is not None)
        if isinstance(admitted, Reply):
            return _Visit(request, entry, admitted)
        if problem:
            return _Visit(request, entry, self._provider.invalid("body", [problem]))
        call = Call(
            operation=str(entry.operation),
            endpoint_id=entry.endpoint_id,
            account=admitted,
            team=entry.team,
            by=entry.token,
            at=entry.at,
            query=query,
            body=entry.body,
        )
        return _Visit(request, entry, call)

    def _admit(
        self, request: web.BaseRequest, entry: Entry, route: Route | None, *, path_exists: bool
    ) -> Account | Reply:
        """Returns who calls, or the refusal of a request that does not get as far as an operation."""
        account = self._authenticate(request, entry)
        if account is None:
            return self._refuse(401, "UNAUTHORIZED", "Unauthorized")
        if wait := self._stage.accounts.wait_seconds(account, entry.token, entry.at):
            reply = self._refuse(429, "RATE_LIMIT_EXCEEDED", "Too many requests")
            return replace(reply, headers={"Retry-After": str(math.ceil(wait))})
        if route is None:
            status = 405 if path_exists else 404
            return self._refuse(status, "REQUEST", reason_phrase(status))
        if problem := self._provider.content_type_problem(route, request.content_type):
            return self._provider.invalid("header", [problem])
        return account

    def _authenticate(self, request: web.BaseRequest, entry: Entry) -> Account | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        entry.token, account = self._stage.accounts.identify(token)
        return account

    def _refuse(self, status: int, reason: str, message: str) -> Reply:
        return self._provider.refusal(Refusal(status, reason, message))

    def _carry_out(self, visit: _Visit, *, write: bool) -> Reply:
        """Carries the call out now, and notes in the ledger what came of it."""
        if isinstance(visit.admitted, Reply):
            visit.entry.errors = visit.admitted.errors
            return visit.admitted
        at = time.monotonic()
        reply = self._provider.execute(replace(visit.admitted, at=at, write=write))
        record(visit.entry, reply, at)
        return reply

    async def _misbehave(self, visit: _Visit, fault: Fault) -> web.StreamResponse:
        await self._hold(fault.gate_before, fault.delay_before, visit.entry)
        reply = self._carry_out(visit, write=fault.commit == "now")
        await self._hold(fault.gate_after, fault.delay_after, visit.entry)
        answer = render(self._answered(visit, self._altered(reply, fault)))
        if fault.delivery in _WITHOUT_STATUS:
            visit.entry.status = None
        if fault.commit == "late" and reply.status < _FIRST_ERROR:
            self._commit_later(visit, fault.late_seconds)
        return await deliver(visit.request, answer, fault)

    async def _hold(self, gate: str | None, seconds: float, entry: Entry) -> None:
        if gate is not None:
            await self._stage.gates.hold(gate, entry.seq)
        if seconds:
            await asyncio.sleep(seconds)

    def _commit_later(self, visit: _Visit, seconds: float) -> None:
        def commit() -> None:
            self._stage.late.discard(handle)
            self._carry_out(visit, write=True)

        handle = asyncio.get_running_loop().call_later(seconds, commit)
        self._stage.late.add(handle)

    def _altered(self, reply: Reply, fault: Fault) -> Reply:
        """Returns the reply with what the fault puts in place of its status, headers and body."""
        altered = reply
        if fault.status is not None and fault.status >= _FIRST_ERROR:
            altered = self._refuse(fault.status, reason_phrase(fault.status), reason_phrase(fault.status))
        body, headers = altered.body, dict(altered.headers)
        if fault.json is not None:
            body = fault.json
        elif fault.body is not None:
            body, headers = fault.body.encode(), {"Content-Type": "text/plain; charset=utf-8"}
        elif fault.body_base64 is not None:
            body, headers = base64.b64decode(fault.body_base64), {"Content-Type": "application/octet-stream"}
        return Reply(status=fault.status or altered.status, body=body, headers=headers | fault.headers)

    def _answered(self, visit: _Visit, reply: Reply) -> Reply:
        visit.entry.status, visit.entry.answered_at = reply.status, time.monotonic()
        if reply.status >= _FIRST_ERROR and self._provider.knobs.echo_headers:
            return replace(reply, body=_with_headers(reply.body, visit.request.headers))
        return reply


def record(entry: Entry, reply: Reply, at: float) -> None:
    """Notes in a ledger entry what an operation did."""
    entry.errors = reply.errors
    entry.endpoint_id = reply.endpoint_id
    if reply.committed:
        entry.committed, entry.committed_at, entry.version = True, at, reply.version


async def _read(request: web.BaseRequest) -> tuple[Any, Problem | None]:
    """Returns the body as JSON (None without one) and what is wrong with it."""
    try:
        raw = await request.content.read()
    except ConnectionError:
        return None, Problem((), "incomplete", "the connection was lost before the body had arrived")
    if not raw:
        return None, None
    try:
        return _DECODER.decode(raw.decode()), None
    except (ValueError, RecursionError):
        return None, Problem((), "json_invalid", "the body is not JSON")


def _with_headers(body: Any, headers: Mapping[str, str]) -> Any:
    if isinstance(body, dict):
        return body | {"request_headers": dict(headers)}
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return text + b"\n" + "\n".join(f"{name}: {value}" for name, value in headers.items()).encode()
