"""Describes faults by the request they hit, the fate of its commit and the way its answer travels.

The three are independent, because the interesting cases are combinations: a write that was committed and answered
with 502 is ``Fault(status=502)``; one that was lost on its way is ``Fault(commit="never", delivery="reset")``; one
that lands after its sender gave up is ``Fault(commit="late", late_seconds=2, delivery="reset")``.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from inference_operator.playground.emulators.ledger import Entry

Commit = Literal["now", "never", "late"]
Delivery = Literal["whole", "reset", "close", "stall", "truncate", "raw", "endless", "huge", "gzip_bomb"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One entry of the fault script.

    Which requests (all that are given must match):
        provider: ``friendli`` or ``novita``.
        method: HTTP method.
        path: Regular expression, searched in path and query as sent.
        operation: Name of the operation as in the ledger, for example ``update``.
        endpoint_id: The endpoint concerned.
        token: Fingerprint of the bearer token.
        skip: Matching requests that pass unharmed first.
        count: Matching requests that are hit after that; None for all.

    What happens to the commit:
        gate_before: Name of a gate at which the request is held before anything is committed.
        delay_before: Seconds of waiting before the commit.
        commit: ``now``; ``never`` (computed and answered, but not kept); ``late`` (after the answer).
        late_seconds: How long after the answer a late commit lands.
        delay_after: Seconds between commit and answer.
        gate_after: Name of a gate between commit and answer.

    What is answered (what is absent is as the provider would answer):
        status: HTTP status. With a status from 400 on and no body, the provider's usual error body is sent.
        headers: Headers to add or replace.
        json: Body as JSON; ``body`` as text; ``body_base64`` as bytes. At most one.

    How it travels:
        delivery: ``whole``; ``reset`` (TCP RST, no answer); ``close`` (FIN, no answer); ``stall`` (``size`` bytes
            of the answer, head included, then silence, or one byte every ``interval`` seconds); ``truncate``
            (``size`` bytes of the body, then FIN although Content-Length promised more); ``raw`` (the body alone,
            in place of an HTTP answer); ``endless`` (chunks without end, one every ``interval`` seconds); ``huge``
            (the body behind ``size`` bytes of white space); ``gzip_bomb`` (as huge, compressed a thousandfold).
        size: Bytes, see delivery.
        interval: Seconds, see delivery.
    """

    provider: str | None = None
    method: str | None = None
    path: str | None = None
    operation: str | None = None
    endpoint_id: str | None = None
    token: str | None = None
    skip: int = 0
    count: int | None = 1

    gate_before: str | None = None
    delay_before: float = 0.0
    commit: Commit = "now"
    late_seconds: float = 0.0
    delay_after: float = 0.0
    gate_after: str | None = None

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    body: str | None = None
    body_base64: str | None = None

    delivery: Delivery = "whole"
    size: int = 0
    interval: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what could only be a mistake of the script.

        Raises:
            ValueError: For an unknown commit or delivery, two bodies, or an unusable expression or encoding.
        """
        if self.commit not in get_args(Commit) or self.delivery not in get_args(Delivery):
            raise ValueError(f"commit is one of {get_args(Commit)}, delivery one of {get_args(Delivery)}")
        if sum(body is not None for body in (self.json, self.body, self.body_base64)) > 1:
            raise ValueError("json, body and body_base64 exclude each other")
        try:
            re.compile(self.path or "")
            base64.b64decode(self.body_base64 or "", validate=True)
        except (re.error, binascii.Error) as error:
            raise ValueError(f"path or body_base64: {error}") from None

    def as_json(self) -> dict[str, Any]:
        """Returns the fault as a JSON object; ``Fault(**it)`` is the way back."""
        return asdict(self)


class Scripted:
    """A fault in the script, with what it has met so far."""

    def __init__(self, fault: Fault, identity: str) -> None:
        """Compiles what the fault is matched by."""
        self.fault = fault
        self.id = identity
        self.seen = 0
        self.hits = 0
        self._path = re.compile(fault.path or "")
        exact = ("provider", "method", "operation", "endpoint_id", "token")
        self._exact = [(name, getattr(fault, name)) for name in exact if getattr(fault, name) is not None]

    def claims(self, entry: Entry) -> bool:
        """Counts the request if it matches; returns whether the fault is to be applied to it."""
        if not self._matches(entry):
            return False
        self.seen += 1
        if self.seen <= self.fault.skip or self.hits == self.fault.count:
            return False
        self.hits += 1
        return True

    def _matches(self, entry: Entry) -> bool:
        return all(getattr(entry, name) == value for name, value in self._exact) and bool(self._path.search(entry.path))


class FaultScript:
    """The scripted faults in order; the first that claims a request is applied to it."""

    def __init__(self) -> None:
        self._scripted: list[Scripted] = []
        self._numbers = count(1)

    def add(self, fault: Fault) -> str:
        """Adds a fault at the end and returns its id."""
        scripted = Scripted(fault, f"fault-{next(self._numbers)}")
        self._scripted.append(scripted)
        return scripted.id

    def clear(self) -> None:
        """Takes all faults out; requests that one was applied to already keep it."""
        self._scripted.clear()

    def claim(self, entry: Entry) -> Fault | None:
        """Returns the fault for a request that has just arrived, and notes it in its entry."""
        for scripted in self._scripted:
            if scripted.claims(entry):
                entry.fault = scripted.id
                return scripted.fault
        return None

    def counts(self) -> list[dict[str, Any]]:
        """Returns id, matching requests and hits of every fault, in order."""
        return [{"id": item.id, "seen": item.seen, "hits": item.hits} for item in self._scripted]
