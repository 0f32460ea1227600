"""What both emulated providers have in common: endpoints that belong to accounts, knobs, and a table of operations."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from inference_operator.playground.emulators.exchange import Call, Refused, Reply
from inference_operator.playground.emulators.timeline import State
from inference_operator.playground.emulators.validate import Problem, load

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from inference_operator.playground.emulators.timeline import Interval, Timeline


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """Behaviour that can be turned while the emulator runs, for a provider or for one endpoint.

    Attributes:
        rollout_seconds: How long a change takes to reach the replicas.
        rollout_error: Error with which rollouts end from now on; None lets them succeed.
        read_lag_seconds: Reads show the state as it was this long ago.
        clamp_replicas: The largest maximum of replicas that is kept, whatever is asked.
        busy_in_transition: Writes are refused while a rollout is under way.
        echo_headers: Error answers show the request's headers, Authorization included.
    """

    rollout_seconds: float = 0.0
    rollout_error: str | None = None
    read_lag_seconds: float = 0.0
    clamp_replicas: int | None = None
    busy_in_transition: bool = False
    echo_headers: bool = False


JSON_CONTENT_TYPE = "application/json"


class Route(NamedTuple):
    """One operation of a provider: where it is found and whether it changes anything."""

    operation: str
    method: str
    pattern: re.Pattern[str]
    mutates: bool = False
    takes_body: bool = False


class Refusal(NamedTuple):
    """A refusal before provider-specific words are found for it.

    Attributes:
        status: HTTP status.
        reason: Short name of the cause.
        message: The cause in words.
    """

    status: int
    reason: str
    message: str


S = TypeVar("S", bound=State)
K = TypeVar("K", bound=Knobs)


@dataclass(kw_only=True)
class Endpoint(Generic[S]):
    """An endpoint: its owner, the history of its states, and knobs of its own."""

    id: str
    account: str
    team: str
    timeline: Timeline[S]
    overrides: dict[str, Any] = field(default_factory=dict)


class Provider(ABC, Generic[S, K]):
    """A provider's control API without its transport."""

    name: ClassVar[str]
    routes: ClassVar[tuple[Route, ...]]
    not_found: ClassVar[Refusal]
    busy: ClassVar[Refusal]

    def __init__(self, knobs: K) -> None:
        """Starts without endpoints."""
        self.knobs = knobs
        self.endpoints: dict[str, Endpoint[S]] = {}
        self._schemas = load(self.name)
        self._operations = self.operations()
        self._numbers = count(1)
        self._epoch = time.time() - time.monotonic()

    @abstractmethod
    def operations(self) -> Mapping[str, Callable[[Call], Reply]]:
        """Returns the function that carries out each operation."""

    @abstractmethod
    def refusal(self, refusal: Refusal) -> Reply:
        """Puts a refusal into the provider's words."""

    @abstractmethod
    def invalid(self, place: str, problems: list[Problem]) -> Reply:
        """Answers a request whose ``place`` (``body`` or ``query``) breaks its schema."""

    @abstractmethod
    def identify(self, match: re.Match[str], query: Mapping[str, str], body: Any) -> str | None:
        """Returns the endpoint id that a request names."""

    @abstractmethod
    def content_type_problem(self, route: Route, content_type: str) -> Problem | None:
        """Returns what is wrong with the content type of a request for an operation."""

    @abstractmethod
    def place(self, *, endpoint_id: str, account: str, team: str, spec: Mapping[str, Any]) -> None:
        """Puts an endpoint there as though it had always existed; ``spec`` is laid over a complete example.

        Raises:
            ValueError: If the result is not a valid create request.
        """

    @abstractmethod
    def turn(self, endpoint_id: str, at: float, change: Mapping[str, Any]) -> None:
        """Changes what the outside world sees of an endpoint at once: ``state``, ``replicas``, ``error``."""

    @abstractmethod
    def internals(self, endpoint_id: str, at: float) -> dict[str, Any]:
        """Returns everything that is kept about an endpoint, write-only fields included, as JSON."""

    def find_route(self, method: str, path: str) -> tuple[Route | None, re.Match[str] | None]:
        """Returns the operation at a path; the match alone where the path exists with another method."""
        found: re.Match[str] | None = None
        for route in self.routes:
            match = route.pattern.fullmatch(path)
            if match is None:
                continue
            if route.method == method:
                return route, match
            found = match
        return None, found

    def execute(self, call: Call) -> Reply:
        """Carries an operation out."""
        try:
            reply = self._operations[call.operation](call)
        except Refused as refused:
            reply = refused.reply
        reply.endpoint_id = reply.endpoint_id or call.endpoint_id
        return reply

    def knobs_of(self, endpoint: Endpoint[S]) -> K:
        """Returns the knobs that hold for an endpoint: its own, then the provider's."""
        return replace(self.knobs, **endpoint.overrides) if endpoint.overrides else self.knobs

    def set_knobs(self, endpoint_id: str | None, values: Mapping[str, Any]) -> None:
        """Turns knobs of the provider, or of one endpoint only.

        Raises:
            ValueError: For a knob that does not exist.
            LookupError: For an endpoint that does not exist.
        """
        known = {knob.name for knob in fields(self.knobs)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"no such knob: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        if endpoint_id is None:
            self.knobs = replace(self.knobs, **values)
        else:
            self.endpoint(endpoint_id).overrides.update(values)

    def endpoint(self, endpoint_id: str) -> Endpoint[S]:
        """Returns an endpoint whoever owns it.

        Raises:
            LookupError: If there never was one of that id.
        """
        if endpoint_id not in self.endpoints:
            raise LookupError(f"{self.name} has no endpoint {endpoint_id!r}")
        return self.endpoints[endpoint_id]

    def intervals(self, since: float) -> Iterator[Interval]:
        """Yields every time an endpoint was in transition after ``since``."""
        for endpoint in self.endpoints.values():
            yield from endpoint.timeline.intervals(since)

    def sees(self, call: Call, endpoint: Endpoint[S]) -> bool:
        """Tells whether the caller may know of an endpoint."""
        return call.account.name == endpoint.account

    def visible(self, call: Call) -> Iterable[Endpoint[S]]:
        """Returns the endpoints the caller may know of, oldest first."""
        return (endpoint for endpoint in self.endpoints.values() if self.sees(call, endpoint))

    def reading(self, call: Call) -> tuple[Endpoint[S], S, float]:
        """Returns the endpoint a read names, its state, and the (lagging) time at which to look at it.

        Raises:
            Refused: If the caller cannot see it.
        """
        endpoint = self._visible_endpoint(call)
        at = call.at - self.knobs_of(endpoint).read_lag_seconds
        state = endpoint.timeline.as_of(at)
        if state is None or state.deleted:
            raise Refused(self.refusal(self.not_found))
        return endpoint, state, at

    def writing(self, call: Call) -> tuple[Endpoint[S], S]:
        """Returns the endpoint a write names and its newest state.

        Raises:
            Refused: If the caller cannot see it, or if it is busy and its knobs say that this matters.
        """
        endpoint = self._visible_endpoint(call)
        state = endpoint.timeline.latest
        if state.deleted:
            raise Refused(self.refusal(self.not_found))
        if state.ends > call.at and self.knobs_of(endpoint).busy_in_transition:
            raise Refused(self.refusal(self.busy))
        return endpoint, state

    def _visible_endpoint(self, call: Call) -> Endpoint[S]:
        endpoint = self.endpoints.get(call.endpoint_id or "")
        if endpoint is None or not self.sees(call, endpoint):
            raise Refused(self.refusal(self.not_found))
        return endpoint

    def wall_clock(self, at: float) -> float:
        """Returns the seconds since the epoch at a monotonic time."""
        return self._epoch + at

    def new_id(self, prefix: str) -> str:
        """Returns an id that no endpoint has."""
        return next(name for number in self._numbers if (name := f"{prefix}{number:06d}") not in self.endpoints)

    def check_body(self, definition: str, body: Any) -> None:
        """Refuses a body that breaks the named definition of the schema.

        Raises:
            Refused: With the provider's validation error.
        """
        if problems := self._schemas.problems(definition, body):
            raise Refused(self.invalid("body", problems))

    def deny(self, status: int, reason: str, message: str) -> Refused:
        """Returns the exception that refuses an operation in the provider's words."""
        return Refused(self.refusal(Refusal(status, reason, message)))


def overlaid(example: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the example with the members of ``spec`` in place of its own, objects merged one level deep."""
    return {**example, **{key: _merged(example.get(key), value) for key, value in spec.items()}}


def _merged(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new
