"""Everything that a decision rests on, as values: what is wished, seen, remembered and allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from inference_operator.api.status import Effect, Operation
from inference_operator.core.claims import Rivalry
from inference_operator.core.compare import Agrees, Difference
from inference_operator.core.connection import ConnectionMap
from inference_operator.core.memory import Memory, age_seconds
from inference_operator.core.model import Desired, FieldPath, Observed, Snapshot
from inference_operator.core.schedule import Pace
from inference_operator.core.write import shows_sent
from inference_operator.errors import (
    CapacityUnavailable,
    CredentialsRejected,
    EndpointError,
    InvalidSpec,
    NotFound,
    Throttled,
)

Inputs = tuple[object, ...]
"""What wakes a refused write when it changes: generation, Secret versions, reapply request."""


@dataclass(frozen=True, slots=True)
class Policies:
    """What the resource and the settings allow, with defaults resolved.

    Attributes:
        observe: Report only (managementPolicy Observe, or the operator's own read-only mode).
        correct_drift: driftPolicy Correct.
        match: adoptionPolicy Match.
    """

    observe: bool = False
    correct_drift: bool = False
    match: bool = False


LASTING = InvalidSpec | CapacityUnavailable | CredentialsRejected | NotFound
"""What is refused for longer than a poll: only other inputs or much time mend it."""

PARKING = LASTING | Throttled
"""What a look is not repeated after before its time: the key's silence may be longer than a poll, too."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A write or a look that was refused; it is not tried again before `until` unless its inputs change."""

    error: EndpointError
    inputs: Inputs
    until: float
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Recollection:
    """What this process, not the resource, remembers; all of it may be lost at any moment. Times are monotonic.

    Attributes:
        failures: Errors in a row, for the backoff.
        failed_for: The inputs for which they were counted.
        holds: Looks in a row at a write that stayed undecided.
        seen: When this process first saw a write that it did not send itself, by operation id.
        gave_up: When this process's own write was acknowledged or given up, by operation id.
        uncommitted: Ids of the writes in a row that were judged not committed.
        uncommitted_at: When the last of them was.
        refusal: The last refused write.
        parked: The last look, if it was refused for longer than a poll, or for its key's silence.
        busy: The provider refused the last write because it was at work.
        drift: What the last look found, for the rule of two looks.
        drift_since: When that was first found.
        corrected_at: When this process last sent a correction.
        wrote: What this process last sent.
        wrote_at: When it had an answer, or gave up.
        wrote_in: How many seconds it had waited for that.
        applied: Tells the last settled write from the one before; None before the first pass.
        applied_since: Since when this process has seen that one; for ever for what it found at its first pass.
        first_look_at: This process's first clean look at the endpoint.
        looked_at: Its last clean look.
        listed: What lists would show of the endpoint, as last read by itself, where it was at rest.
        listed_at: When that was.
        whole_at: Its last look with everything that a look can carry.
        missing_since: Since when a Secret has been missing.
        refresh: The refresh annotation that was honoured.
        updates: The most updates that it has known to be begun.
        lapsed_at: When the status last told of fewer, since an older one was put back.
        succeeds_at: When it first saw an open write that a predecessor of the same name has left.
        rivalry: What it has seen of other resources that name the endpoint.
        bound: The connection that it last wrote, or found as it should be.
        warned: The hazards of a write that it has told of.
    """

    failures: int = 0
    failed_for: Inputs = ()
    holds: int = 0
    seen: Mapping[str, float] = field(default_factory=dict)
    gave_up: Mapping[str, float] = field(default_factory=dict)
    uncommitted: tuple[str, ...] = ()
    uncommitted_at: float = 0.0
    refusal: Refusal | None = None
    parked: Refusal | None = None
    busy: bool = False
    drift: tuple[Difference, ...] = ()
    drift_since: float = 0.0
    corrected_at: float | None = None
    wrote: Operation | None = None
    wrote_at: float | None = None
    wrote_in: float = 0.0
    applied: str | None = None
    applied_since: float = float("-inf")
    first_look_at: float | None = None
    looked_at: float | None = None
    listed: Any = field(default=None, repr=False, compare=False)
    listed_at: float = 0.0
    whole_at: float | None = None
    missing_since: float | None = None
    refresh: str | None = None
    updates: int = 0
    lapsed_at: float | None = None
    succeeds_at: float | None = None
    rivalry: Rivalry = field(default_factory=Rivalry)
    bound: ConnectionMap | None = None
    warned: tuple[str, ...] = ()

    def meets(self, memory: Memory, now: float) -> Recollection:
        """A pass begins with this in the status; which writes were open there before no longer matters.

        Unless fewer were begun than before: then an older status was put back, and it may hide one.
        """
        applied, write_id = _identity(memory), memory.write_id
        return replace(
            self,
            updates=max(self.updates, memory.updates),
            lapsed_at=now if memory.updates < self.updates else self.lapsed_at,
            applied=applied,
            applied_since=self.applied_since if self.applied in {None, applied} else now,
            seen={} if write_id is None else {write_id: self.seen.get(write_id, now)},
            holds=0 if write_id is None else self.holds,
        )

    def counted(self, updates: int) -> Recollection:
        """At least so many updates were begun."""
        return replace(self, updates=updates) if updates > self.updates else self

    def settled_at(self, write_id: str, pace: Pace) -> float | None:
        """From when on the write can no longer land unseen; None before this process has seen it.

        A process knows when it gave up its own write. Of another's it knows only since when it has seen it.
        """
        if write_id in self.gave_up:
            return self.gave_up[write_id] + pace.settle
        return self.seen[write_id] + pace.quiet if write_id in self.seen else None

    def looked(
        self, seen: Observed, *, begun: float, whole: bool, fresh: bool, drift: tuple[Difference, ...]
    ) -> Recollection:
        """A clean look ended in a decision."""
        listed, listed_at = (seen.listed, begun) if fresh else (self.listed, self.listed_at)
        since = self.drift_since if self.drift and self.drift == drift else begun
        return replace(
            self,
            parked=None,
            missing_since=None,
            drift=drift,
            drift_since=since,
            first_look_at=begun if self.first_look_at is None else self.first_look_at,
            looked_at=begun,
            listed=None if seen.state.in_transition else listed,
            listed_at=listed_at,
            whole_at=begun if whole else self.whole_at,
        )

    def judged(self, operation_id: str | None, *, committed: bool, now: float) -> Recollection:
        """A look decided what became of a write."""
        if committed or operation_id is None:
            return replace(self, uncommitted=(), holds=0)
        if operation_id in self.uncommitted:
            return self
        return replace(self, uncommitted=(*self.uncommitted, operation_id), uncommitted_at=now, holds=0)

    def calm(self) -> Recollection:
        """A pass came to its end without an error."""
        return replace(self, failures=0) if self.failures else self

    def failed(self, inputs: Inputs) -> Recollection:
        """A pass could not look, or a write was not carried out; counted afresh when the inputs change."""
        failures = self.failures + 1 if self.failed_for == inputs else 1
        return replace(self, failures=failures, failed_for=inputs)

    def took(self, write_id: str) -> float:
        """For how many seconds this process waited before it gave up this write; 0 for another's."""
        return self.wrote_in if self.wrote is not None and self.wrote.id == write_id else 0.0

    def sent(self, operation: Operation, *, begun: float, now: float) -> Recollection:
        """A write that was begun then was acknowledged or given up just now."""
        return replace(
            self,
            gave_up={operation.id: now},
            wrote=operation,
            wrote_at=now,
            wrote_in=now - begun,
            corrected_at=self.corrected_at if operation.corrections is None else now,
            refusal=None,
            busy=False,
        )

    def never_sent(self, operation_id: str) -> Recollection:
        """The intent of a write may be stored, but it was certainly not sent."""
        return replace(self, gave_up={**self.gave_up, operation_id: NEVER})

    def refused(self, error: EndpointError, inputs: Inputs, *, now: float, pace: Pace) -> Recollection:
        """The provider refused the write for good, as far as these inputs go."""
        again = self.refusal is not None and self.refusal.inputs == inputs
        attempt = self.refusal.attempt + 1 if again and self.refusal is not None else 0
        until = now + (pace.refused(attempt) if isinstance(error, InvalidSpec) else pace.slow)
        return replace(self, refusal=Refusal(error, inputs, until, attempt), busy=False)


NEVER = float("-inf")


def _identity(memory: Memory) -> str:
    applied = memory.applied
    return f"{applied.time} {applied.generation} {applied.hash}" if applied else ""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What surrounds the endpoint at the moment of deciding. Times are monotonic.

    Attributes:
        now: The time.
        wall: The same moment by the calendar, for what is stored and shown.
        look_begun: When the look began.
        whole: The look carried all that a write needs.
        uid: The resource's uid.
        generation: Its generation.
        reapply: Its reapply annotation; empty for none.
        inputs: What wakes a refused write.
        rival: Another resource that owns the endpoint, as a phrase for people; None when we do.
        first_write_at: Before this no resource without a write of its own may write.
        turn_at: Before this no write may begin, for the sake of other resources that name the endpoint.
        lapse_over_at: Before this no write may begin, for the sake of those that the status no longer tells of.
        brake: Why no further rollout may begin, as a phrase; None while one may.
    """

    now: float
    wall: datetime
    look_begun: float
    whole: bool
    uid: str
    generation: int
    reapply: str = ""
    inputs: Inputs = ()
    rival: str | None = None
    first_write_at: float = 0.0
    turn_at: float = 0.0
    lapse_over_at: float = 0.0
    brake: str | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """The arguments of `plan`."""

    desired: Desired
    observed: Observed
    memory: Memory
    recollection: Recollection
    around: Circumstances
    policies: Policies
    pace: Pace
    agrees: Agrees
    confidential: Callable[[FieldPath], bool]

    @property
    def before(self) -> Snapshot:
        """The state that a write would change: the newest version, not the live read beside it."""
        history = self.observed.history
        return history.entries[-1].snapshot if history and history.entries else self.observed.live

    @property
    def newest(self) -> int | None:
        """The newest version; None where this look carried no history."""
        return self.observed.history.newest if self.observed.history else None

    @property
    def is_young(self) -> bool:
        """Whether the look began before the last write was as old as the settle time, so that it may lag behind it."""
        applied, recollection, settle = self.memory.applied, self.recollection, self.pace.settle
        begun, now = self.around.look_begun, self.around.now
        if applied is None:
            return False
        if recollection.applied != _identity(self.memory) or begun - recollection.applied_since < settle:
            return True
        return self.stored_time_remaining(applied.time, settle + now - begun) > 0

    @property
    def is_succeeded(self) -> bool:
        """Whether this look shows a version after our last, which cannot be of before our last write."""
        return self.newest is not None and self.memory.version is not None and self.newest > self.memory.version

    @property
    def is_behind(self) -> bool:
        """Whether this look shows, or may show, the endpoint as it was before the last write.

        Reads may do so until the settle time is over, also after one that has shown the write. A write that
        rests on such a look would be judged by the wrong state: lost, it would be taken for done. Without versions
        only the process that has sent the last write can tell.
        """
        applied, wrote, version = self.memory.applied, self.recollection.wrote, self.memory.version
        if applied is None or not self.is_young:
            return False
        if version is not None:
            return self.newest is not None and self.newest < version
        if wrote is None or wrote.hash != applied.hash:
            return self.memory.has_written
        kept = {path: text for path, text in wrote.sent.items() if path not in applied.observed}
        return not shows_sent(Effect(sent=kept), self.observed.live, self.agrees, self.confidential)

    def stored_time_remaining(self, text: str, seconds: float) -> float:
        """How much is left of `seconds` since a stored time.

        A wrong clock cannot stretch this: counted from the process's first look it ends after `seconds` too.
        """
        first = self.recollection.first_look_at
        since_first = 0.0 if first is None else self.around.now - first
        return seconds - max(age_seconds(text, self.around.wall), since_first)
