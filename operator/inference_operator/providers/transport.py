"""The plumbing that all drivers share: one way to read and one to write, with one budget per key and one error table.

Reads and writes fail differently. A read that is not clean is `Unavailable`. A write that was handed to a
connection is settled only by a complete success or a complete refusal (4xx but 408); anything else is `Ambiguous`.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote

from inference_operator import addresses
from inference_operator.core.model import Credentials, Json, Urgency, canonical_json
from inference_operator.errors import (
    Ambiguous,
    CapacityUnavailable,
    CredentialsRejected,
    EndpointError,
    InvalidSpec,
    NotFound,
    Throttled,
    Unavailable,
)
from inference_operator.providers.answers import (
    Answer,
    NoAnswer,
    Redaction,
    answered,
    decode,
    refusal,
    words,
)
from inference_operator.providers.budget import Budget, Budgets
from inference_operator.providers.exchange import Exchange, trust

if TYPE_CHECKING:
    from pathlib import Path

MIN_PAUSE: Final = 1.0
"""Seconds of silence after a 429 that asks for none."""

SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)

SENDABLE: Final = re.compile(r"[ -~]+")

OUTCOMES: Final[Mapping[type[EndpointError], str]] = {
    InvalidSpec: "rejected",
    CredentialsRejected: "unauthorized",
    CapacityUnavailable: "capacity",
    NotFound: "not_found",
    Throttled: "throttled",
    Unavailable: "unavailable",
    Ambiguous: "ambiguous",
}
"""What a call observer is told of a failure."""

Refine = Callable[[int, Any], EndpointError | None]
"""From the status and the JSON value of a complete 4xx (None where there is none) to a more specific error."""


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """How to speak to providers.

    Attributes:
        request_timeout: Seconds for one call, answer included; waiting for the budget is not.
        calls_per_second: Rate of one key.
        calls_burst: Calls that one key may make at once after a rest.
        ca_file: Certificate authorities to trust instead of the public ones.
        proxy_url: An HTTP proxy for all but loopback origins; may hold a password.
    """

    request_timeout: float
    calls_per_second: float
    calls_burst: int
    ca_file: Path | None = None
    proxy_url: str | None = field(default=None, repr=False)


class CallObserver(Protocol):
    """Counts and times calls."""

    def call(
        self, *, provider: str, operation: str, outcome: str, seconds: float, waited: float, status: int | None
    ) -> None:
        """A call has ended.

        Args:
            provider: Of the channel.
            operation: As the driver names it.
            outcome: `ok`, one of `OUTCOMES`, or `cancelled`.
            seconds: From sending to the end of the answer.
            waited: Seconds before that, for the budget.
            status: Of HTTP; None without an answer.
        """


def segment(value: str) -> str:
    """An id as exactly one segment of a path.

    Raises:
        InvalidSpec: It could be read as anything else.
    """
    if not SEGMENT.fullmatch(value):
        raise InvalidSpec(
            "spec.endpointId must be 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit"
        )
    return quote(value, safe="")


@dataclass(frozen=True, slots=True)
class _Call:
    """What is asked of the provider."""

    operation: str
    method: str
    path: str
    params: Mapping[str, str] | None = None
    content: bytes | None = None
    empty_is_success: bool = False
    since: float | None = None
    waited: float = 0.0

    @property
    def is_write(self) -> bool:
        return self.method != "GET"


@dataclass(slots=True, kw_only=True, repr=False, eq=False)
class Channel:
    """One origin and one key. Cheap: connections and budget belong to the transport, which hands channels out.

    Every method raises only errors of `errors.py`, none of which holds or remembers anything of the HTTP stack.
    """

    exchange: Exchange
    budget: Budget
    observer: CallObserver
    provider: str
    credentials: Credentials
    headers: Mapping[str, str]
    refine: Refine
    _reserved_at: float | None = None
    _reserving_took: float = 0.0

    async def read(
        self,
        operation: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        urgency: Urgency = Urgency.ROLLOUT,
    ) -> dict[str, Any]:
        """GET a JSON object.

        Args:
            operation: Name for messages and metrics.
            path: From the root of the origin; ids in it are `segment`s.
            params: Query.
            urgency: Which of the calls that wait for the budget it goes before.

        Raises:
            Throttled: The key is silenced for longer than a moment, or the provider says so now.
            NotFound: 404.
            CredentialsRejected: 401 or 403.
            InvalidSpec: Any other 4xx but 408.
            Unavailable: No clean answer.
        """
        waited = await self._take(urgency)
        return await self._call(_Call(operation, "GET", path, params=params, waited=waited))

    async def reserve_write(self) -> None:
        """Wait for the budget now, so that the next `write` of this channel does not have to.

        The time of that write counts from now: a process that is frozen at any moment in between does not send it
        when it goes on. A reservation that is never used costs a token.

        Raises:
            Throttled: The key is silenced for longer than a moment.
        """
        self._reserving_took = await self._take(Urgency.WRITE)
        self._reserved_at = time.monotonic()

    async def write(
        self, operation: str, method: str, path: str, *, body: Json, empty_is_success: bool = False
    ) -> dict[str, Any]:
        """Send a change, once.

        Args:
            operation: Name for messages and metrics.
            method: PUT, POST, PATCH or DELETE.
            path: From the root of the origin; ids in it are `segment`s.
            body: Sent as JSON.
            empty_is_success: A 2xx without a body is a success; the answer is then an empty object.

        Returns:
            The JSON object of a complete 2xx.

        Raises:
            Ambiguous: The change may have arrived. So it may when this is cancelled.
            EndpointError: Any other one proves that it was not carried out.
        """
        content = canonical_json(body).encode()
        reserved_at, self._reserved_at = self._reserved_at, None
        if reserved_at is None:
            waited = await self._take(Urgency.WRITE)
        else:
            self.budget.refuse_silence()
            waited = self._reserving_took
        return await self._call(
            _Call(
                operation,
                method,
                path,
                content=content,
                empty_is_success=empty_is_success,
                since=reserved_at,
                waited=waited,
            )
        )

    async def _take(self, urgency: Urgency) -> float:
        """Wait for the budget; returns for how many seconds."""
        began = time.monotonic()
        await self.budget.take(urgency)
        return time.monotonic() - began

    async def _call(self, call: _Call) -> dict[str, Any]:
        started, outcome, status = time.monotonic(), "cancelled", None
        try:
            answer = await self._run(call)
            status = answer.status if isinstance(answer, Answer) else None
            result = self._judge(call, answer, started)
            outcome = OUTCOMES.get(type(result), "failed") if isinstance(result, EndpointError) else "ok"
        finally:
            self.observer.call(
                provider=self.provider,
                operation=call.operation,
                outcome=outcome,
                seconds=time.monotonic() - started,
                waited=call.waited,
                status=status,
            )
        if isinstance(result, EndpointError):
            raise result
        return result

    async def _run(self, call: _Call) -> Answer | NoAnswer:
        headers = {**self.headers, "Authorization": f"Bearer {self.credentials.token.get_secret_value()}"}
        if call.content is not None:
            headers["Content-Type"] = "application/json"
        return await self.exchange.run(
            call.method, call.path, headers=headers, params=call.params, content=call.content, since=call.since
        )

    def _judge(self, call: _Call, result: Answer | NoAnswer, sent: float) -> dict[str, Any] | EndpointError:
        who = self._name(call)
        if isinstance(result, NoAnswer):
            return _unclear(call, f"{who}: {result.why}", sent=result.sent)
        document = decode(result.content)
        if _is_success(call, result, document):
            return document or {}
        if _is_class(result.status, 4) and result.status != HTTPStatus.REQUEST_TIMEOUT:
            return self._refused(call, result, document, sent)
        said = words(document, self._redaction())
        if _is_class(result.status, 2):
            said = "the answer is not the JSON object that belongs to it"
        return _unclear(call, f"{who}: {answered(result.status, said)}", sent=True)

    def _refused(self, call: _Call, answer: Answer, document: Any, sent: float) -> EndpointError:
        redaction, who = self._redaction(), self._name(call)
        error = self.refine(answer.status, document)
        if error is None:
            error = refusal(who, answer.status, words(document, redaction), write=call.is_write)
        elif redaction.leaks(error.message):
            error.message = f"{who}: {answered(answer.status, '')}"
            error.args = (error.message,)
        if isinstance(error, Throttled):
            error.retry_after = max(error.retry_after, answer.retry_after, MIN_PAUSE)
            self.budget.pause(error.retry_after, sent=sent)
        return error

    def _redaction(self) -> Redaction:
        return Redaction(self.credentials.token.get_secret_value())

    def _name(self, call: _Call) -> str:
        return f"{self.provider} {call.operation}"


def _is_success(call: _Call, answer: Answer, document: Any) -> bool:
    if not call.is_write:
        return answer.status == HTTPStatus.OK and isinstance(document, dict)
    if not _is_class(answer.status, 2):
        return False
    return isinstance(document, dict) or (call.empty_is_success and not answer.content.strip())


def _is_class(status: int, hundreds: int) -> bool:
    return status // 100 == hundreds


def _unclear(call: _Call, message: str, *, sent: bool) -> EndpointError:
    if call.is_write and sent:
        return Ambiguous(f"{message}. The change may have arrived.")
    return Unavailable(f"{message}.")


_origin: Final = functools.lru_cache(addresses.origin)  # the same few texts, again with every pass


class Transport:
    """Owns the connections and budgets of all providers.

    Args:
        settings: How to speak.
        observer: Is told of every call.

    Raises:
        ValueError: The CA file is not usable.
    """

    def __init__(self, settings: TransportSettings, observer: CallObserver) -> None:
        self._settings = settings
        self._observer = observer
        self._tls = trust(settings.ca_file)
        self._budgets = Budgets(rate=settings.calls_per_second, burst=settings.calls_burst)
        self._exchanges: dict[str, Exchange] = {}
        self._origins: dict[str, str] = {}

    def paused(self) -> Mapping[str, int]:
        """How many keys of each provider that was spoken to are silenced at the moment."""
        return {provider: self._budgets.paused(origin) for provider, origin in self._origins.items()}

    def rates(self) -> Mapping[str, float]:
        """Calls per second that the slowest key of each provider that was spoken to may make at the moment."""
        return {provider: self._budgets.rate(origin) for provider, origin in self._origins.items()}

    def waiting(self) -> Mapping[str, int]:
        """How many calls to each provider that was spoken to wait for the budget of their key."""
        return {provider: self._budgets.waiting(origin) for provider, origin in self._origins.items()}

    def channel(
        self, *, provider: str, origin: str, credentials: Credentials, headers: Mapping[str, str], refine: Refine
    ) -> Channel:
        """A channel for one key; all of the same origin, key and headers share one budget.

        Args:
            provider: Name for messages and metrics.
            origin: Scheme, host and port; https, or on this machine.
            credentials: The key.
            headers: Sent with every request beside the key; they select what the key acts as.
            refine: The provider's own meaning of a refusal.

        Raises:
            InvalidSpec: A header has no value, or one that cannot be sent.
            ValueError: The origin is none.
        """
        for name, value in headers.items():
            if not SENDABLE.fullmatch(value):
                raise InvalidSpec(f"the value for the header {name} must be printable ASCII")
        origin = self._origins[provider] = _origin(origin)
        return Channel(
            exchange=self._exchange(origin),
            budget=self._budgets.of(origin, credentials, headers.items()),
            observer=self._observer,
            provider=provider,
            credentials=credentials,
            headers=headers,
            refine=refine,
        )

    async def close(self) -> None:
        """Close all connections; calls in flight fail, writes among them as undecided."""
        exchanges = list(self._exchanges.values())
        self._exchanges.clear()
        for exchange in exchanges:
            await exchange.close()

    def _exchange(self, origin: str) -> Exchange:
        if origin not in self._exchanges:
            self._exchanges[origin] = Exchange(
                origin, timeout=self._settings.request_timeout, tls=self._tls, proxy_url=self._settings.proxy_url
            )
        return self._exchanges[origin]
