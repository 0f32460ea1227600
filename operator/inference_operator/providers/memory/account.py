"""An account at a provider that exists in this process only: endpoints with versions, and faults on request.

It behaves as badly as a real provider may: reads that lag, values that are clamped, answers that get lost
before or after the change took effect, and changes that take effect long after the caller gave up. Nothing
depends on time; whatever lasts is counted in looks, so that a test decides when it ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from inference_operator.core.model import Failure, FieldPath, Json, State
from inference_operator.errors import EndpointError, NotFound

OBSERVE = "observe"
LIST = "list"
UPDATE = "update"


class Commit(Enum):
    """When an update with a fault takes effect."""

    NEVER = auto()
    NOW = auto()
    LATER = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call.

    Attributes:
        error: What the caller gets instead of an answer.
        commit: When an update takes effect all the same; `LATER` is when `MemoryAccount.land` is called.
    """

    error: EndpointError
    commit: Commit = Commit.NEVER


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the account saw it; `values` are those of an update."""

    operation: str
    endpoint_id: str
    values: Mapping[FieldPath, Json] = field(default_factory=dict)
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look shows: all visible versions, oldest first and numbered from 0, and the state."""

    versions: tuple[Mapping[FieldPath, Json], ...]
    word: str
    failure: Failure | None
    rolling: bool


@dataclass(slots=True)
class MemoryEndpoint:
    """One endpoint.

    Attributes:
        versions: Whole configurations, oldest first; the position is the version's number.
        word: The provider's word for the state.
        failure: Set while the provider reports one.
        visible: How many versions reads show.
        lagging: Looks left that show no newer version.
        rolling: Looks left that show a rollout.
    """

    versions: list[Mapping[FieldPath, Json]]
    word: str = State.RUNNING
    failure: Failure | None = None
    visible: int = 1
    lagging: int = 0
    rolling: int = 0

    def glance(self) -> Reading:
        """Show the endpoint as its next look would."""
        visible = self.visible if self.lagging else len(self.versions)
        return Reading(tuple(self.versions[:visible]), self.word, self.failure, self.rolling > 0)

    def look(self) -> Reading:
        """Show the endpoint, and be one look further on."""
        if self.lagging:
            self.lagging -= 1
        else:
            self.visible = len(self.versions)
        rolling = self.rolling > 0
        self.rolling -= rolling
        return Reading(tuple(self.versions[: self.visible]), self.word, self.failure, rolling)


@dataclass(slots=True)
class MemoryAccount:
    """All endpoints of an account, the knobs that spoil its behaviour, and a ledger of calls.

    Attributes:
        lag: Looks after a change that still show the state before it.
        rollout: Looks after a change that show a rollout.
        clamp: The greatest number that is kept for a field, whatever is asked.
        lists: How many endpoints one page of its list shows; 0 for an account that has no list.
        faults: What goes wrong, by operation and number of the call, counted from 1.
        calls: Every call in order.
        endpoints: Endpoints by id.
    """

    lag: int = 0
    rollout: int = 0
    clamp: dict[FieldPath, int] = field(default_factory=dict)
    lists: int = 0
    faults: dict[tuple[str, int], Fault] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    endpoints: dict[str, MemoryEndpoint] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _under_way: list[Call] = field(default_factory=list)

    def add(self, endpoint_id: str, values: Mapping[FieldPath, Json]) -> MemoryEndpoint:
        """Create an endpoint whose version 0 has the given configuration."""
        self.endpoints[endpoint_id] = MemoryEndpoint([dict(values)])
        return self.endpoints[endpoint_id]

    def observe(self, endpoint_id: str) -> Reading:
        """Read an endpoint.

        Raises:
            NotFound: There is no such endpoint.
            EndpointError: The fault that is set for this call.
        """
        if fault := self._count(Call(OBSERVE, endpoint_id)):
            raise fault.error
        return self._endpoint(endpoint_id).look()

    def page(self, first: int) -> tuple[Mapping[str, Reading], int | None]:
        """Show the endpoints from the `first` on, as many as one page holds, and tell where the next page begins.

        Raises:
            EndpointError: The fault that is set for this call.
        """
        if fault := self._count(Call(LIST, "")):
            raise fault.error
        ids = list(self.endpoints)
        after = first + self.lists
        return {each: self.endpoints[each].glance() for each in ids[first:after]}, after if after < len(ids) else None

    def update(self, endpoint_id: str, values: Mapping[FieldPath, Json], comment: str) -> Mapping[FieldPath, Json]:
        """Lay values over the newest version, which makes a new one, whether anything changes or not.

        Returns:
            The new version.

        Raises:
            NotFound: There is no such endpoint.
            EndpointError: The fault that is set for this call.
        """
        call = Call(UPDATE, endpoint_id, dict(values), comment)
        if fault := self._count(call):
            if fault.commit is Commit.NOW:
                self.change(endpoint_id, call.values)
            elif fault.commit is Commit.LATER:
                self._under_way.append(call)
            raise fault.error
        return self.change(endpoint_id, call.values)

    @property
    def is_behind(self) -> bool:
        """Whether an update is still under way, or reads do not show the newest version."""
        return bool(self._under_way) or any(endpoint.lagging for endpoint in self.endpoints.values())

    def land(self) -> None:
        """Let the updates take effect that are still under way."""
        while self._under_way:
            call = self._under_way.pop(0)
            self.change(call.endpoint_id, call.values)

    def change(self, endpoint_id: str, values: Mapping[FieldPath, Json]) -> Mapping[FieldPath, Json]:
        """Make a version without a call, as somebody else would; returns it."""
        endpoint = self._endpoint(endpoint_id)
        clamped = {path: self._clamped(path, value) for path, value in values.items()}
        version = {**endpoint.versions[-1], **clamped}
        endpoint.versions.append(version)
        endpoint.lagging, endpoint.rolling = self.lag, self.rollout
        return version

    def _clamped(self, path: FieldPath, value: Json) -> Json:
        return min(value, self.clamp[path]) if path in self.clamp else value

    def _count(self, call: Call) -> Fault | None:
        self.calls.append(call)
        self._counts[call.operation] += 1
        return self.faults.get((call.operation, self._counts[call.operation]))

    def _endpoint(self, endpoint_id: str) -> MemoryEndpoint:
        try:
            return self.endpoints[endpoint_id]
        except KeyError:
            raise NotFound(f"there is no endpoint {endpoint_id}") from None
