"""What the Kubernetes fault proxy notes of each request, and the faults that it can be told to make."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

Commit = Literal["now", "never"]
Delivery = Literal["whole", "reset", "close", "stall", "truncate"]
Trick = Literal["swallow", "cut", "error"]

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
REASONS = {
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
_PATH = re.compile(
    r"/(?:api/[^/]+|apis/[^/]+/[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<resource>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>.+))?)?"
)


class Target(NamedTuple):
    """What a request is about, in the words of RBAC rules and of the audit log; empty where it names none."""

    verb: str
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


def target_of(method: str, path: str, query: Mapping[str, str]) -> Target:
    """Read a request as the API server does."""
    found = _PATH.fullmatch(path.rstrip("/"))
    if found is None:
        return Target(method.lower())
    parts = {key: value or "" for key, value in found.groupdict().items()}
    return Target(verb=_verb(method, bool(parts["name"]), query), **parts)


def _verb(method: str, named: bool, query: Mapping[str, str]) -> str:  # noqa: FBT001 - both sides of the table
    match method:
        case "GET" if query.get("watch") in {"1", "true"}:
            return "watch"
        case "GET":
            return "get" if named else "list"
        case "DELETE":
            return "delete" if named else "deletecollection"
        case _:
            return VERBS.get(method, method.lower())


@dataclass(slots=True, kw_only=True)
class Call:
    """One request of the operator.

    Attributes:
        number: Its place in the order of arrival, from 1.
        at: Arrival, monotonic seconds.
        target: What it is about.
        path: Path and query as sent.
        body: JSON as sent; None without one.
        served: Status that the API server answered; None if it never did, or was never asked.
        status: Status that the operator was told; None if it was told none.
        answered_at: When the answer had left, or the connection had ended, monotonic seconds.
        fault: Id of the fault that was applied.
    """

    number: int
    at: float = field(default_factory=time.monotonic)
    target: Target
    path: str
    body: Any = None
    served: int | None = None
    status: int | None = None
    answered_at: float | None = None
    fault: str | None = None

    @property
    def verb(self) -> str:
        return self.target.verb

    @property
    def resource(self) -> str:
        return self.target.resource

    @property
    def subresource(self) -> str:
        return self.target.subresource

    @property
    def namespace(self) -> str:
        return self.target.namespace

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def writes(self) -> bool:
        """Whether it asks for a change."""
        return self.verb in WRITES

    @property
    def committed(self) -> bool:
        """Whether it asked for a change and the API server made it."""
        return self.writes and self.served is not None and self.served < HTTPStatus.MULTIPLE_CHOICES


@dataclass(frozen=True, kw_only=True)
class KubeFault:
    """What happens to some requests. The words are those of the emulators' `Fault`, and mean the same.

    Which requests (all that are given must match):
        verb: As in RBAC rules: get, list, watch, create, update, patch, delete.
        resource: Plural, in lower case.
        subresource: Such as `status`; empty for the object itself.
        namespace, name: Regular expressions that match the whole of it.
        body: Regular expression, searched in the body as sent.
        skip: Matching requests that pass unharmed first.
        count: Matching requests that are hit after that; None for all.

    What happens to the request:
        gate_before: Name of a gate at which it is held before it is forwarded. One whose sender has died there is
            forwarded all the same when the gate is released, unless `commit` is `never`.
        delay_before: Seconds of waiting before it is forwarded.
        commit: `now`; `never`: it is not forwarded.

    What happens to the answer:
        delay_after: Seconds between the API server's answer and its delivery.
        gate_after: Name of a gate between the two.
        status: Answer this status with a `Status` object; says nothing about `commit`.
        retry_after: Seconds, as text, for the header Retry-After.
        message: Of the `Status` object.
        delivery: `whole`; `reset` (TCP RST, no answer); `close` (FIN, no answer); `stall` (no answer, for as long as
            the operator waits); `truncate` (`size` bytes of the body, then FIN).
        size: Bytes, see delivery.
    """

    verb: str | None = None
    resource: str | None = None
    subresource: str | None = None
    namespace: str | None = None
    name: str | None = None
    body: str | None = None
    skip: int = 0
    count: int | None = 1

    gate_before: str | None = None
    delay_before: float = 0.0
    commit: Commit = "now"

    delay_after: float = 0.0
    gate_after: str | None = None
    status: int | None = None
    retry_after: str | None = None
    message: str = "the fault script says so"
    delivery: Delivery = "whole"
    size: int = 0

    def __post_init__(self) -> None:
        """Refuse what could only be a mistake of the script."""
        if self.commit == "never" and self.status is None and self.delivery in {"whole", "truncate"}:
            raise ValueError("what is not forwarded has no answer: give a status, or a delivery without one")

    def matches(self, target: Target, body: str) -> bool:
        """Whether it is about such a request."""
        exact = (self.verb, target.verb), (self.resource, target.resource), (self.subresource, target.subresource)
        patterns = (self.namespace, target.namespace), (self.name, target.name)
        return (
            all(wanted in {None, found} for wanted, found in exact)
            and all(pattern is None or re.fullmatch(pattern, found) for pattern, found in patterns)
            and (self.body is None or re.search(self.body, body) is not None)
        )


@dataclass(frozen=True, kw_only=True)
class WatchFault:
    """What happens to some events of watches.

    Which events (all that are given must match):
        resource: Plural, in lower case.
        type: ADDED, MODIFIED, DELETED or BOOKMARK.
        namespace, name: Regular expressions that match the whole of the object's.
        skip: Matching events that pass unharmed first.
        count: Matching events that are hit after that; None for all.

    What happens to them:
        trick: `swallow` (the operator never hears of it); `cut` (half of its line, then the connection ends); `error`
            (an event ERROR with `status` in its place, then the end of the watch).
        status: See trick.
    """

    resource: str | None = None
    type: str | None = None
    namespace: str | None = None
    name: str | None = None
    skip: int = 0
    count: int | None = 1
    trick: Trick = "swallow"
    status: int = HTTPStatus.GONE

    def matches(self, resource: str, event: Mapping[str, Any]) -> bool:
        """Whether it is about such an event."""
        meta = event["object"].get("metadata", {})
        exact = (self.resource, resource), (self.type, event["type"])
        patterns = (self.namespace, meta.get("namespace", "")), (self.name, meta.get("name", ""))
        return all(wanted in {None, found} for wanted, found in exact) and all(
            pattern is None or re.fullmatch(pattern, found) for pattern, found in patterns
        )


class Limited(Protocol):
    """A fault that hits a number of what it matches."""

    @property
    def skip(self) -> int: ...
    @property
    def count(self) -> int | None: ...


F = TypeVar("F", bound=Limited)


@dataclass(slots=True)
class Scripted(Generic[F]):
    """A fault in the script, with what it has met so far."""

    id: str
    fault: F
    seen: int = 0
    hits: int = 0

    def claim(self) -> bool:
        """Count a match; whether the fault is to be applied to it."""
        self.seen += 1
        if self.seen <= self.fault.skip or self.hits == self.fault.count:
            return False
        self.hits += 1
        return True


class KubeScript:
    """The scripted faults in order; the first that claims a request or an event is applied to it."""

    def __init__(self) -> None:
        self._requests: list[Scripted[KubeFault]] = []
        self._events: list[Scripted[WatchFault]] = []
        self._numbers = count(1)

    def add(self, fault: KubeFault | WatchFault) -> str:
        """Add a fault at the end and return its id."""
        identity = f"fault-{next(self._numbers)}"
        if isinstance(fault, KubeFault):
            self._requests.append(Scripted(identity, fault))
        else:
            self._events.append(Scripted(identity, fault))
        return identity

    def clear(self) -> None:
        """Take all faults out; what one was applied to already keeps it."""
        self._requests.clear()
        self._events.clear()

    def claim(self, call: Call, body: str) -> KubeFault | None:
        """The fault for a request that has just arrived; noted in it."""
        for scripted in self._requests:
            if scripted.fault.matches(call.target, body) and scripted.claim():
                call.fault = scripted.id
                return scripted.fault
        return None

    def claim_event(self, resource: str, event: Mapping[str, Any]) -> WatchFault | None:
        """The fault for an event that is about to be passed on."""
        for scripted in self._events:
            if scripted.fault.matches(resource, event) and scripted.claim():
                return scripted.fault
        return None

    def hits(self) -> dict[str, int]:
        """How often each fault was applied, by id."""
        requests = {scripted.id: scripted.hits for scripted in self._requests}
        return requests | {scripted.id: scripted.hits for scripted in self._events}


def status_document(code: int, message: str) -> dict[str, Any]:
    """The object with which the API server refuses."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": REASONS.get(code, ""),
        "code": code,
    }
