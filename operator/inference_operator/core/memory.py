"""What a resource's status remembers of its writes, and the only functions that change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from inference_operator.api.status import (
    Applied,
    Corrections,
    HistoryEntry,
    InferenceEndpointStatus,
    Operation,
)
from inference_operator.core.model import Desired, FieldPath
from inference_operator.core.write import Committed, acknowledged

MAX_HISTORY = 10

VERSION_FIELD = "version"
"""The entry of `status.drift` for a version made by others."""

APPLIED = "Applied"
APPLIED_UNVERIFIED = "AppliedUnverified"
MATCHED = "Matched"
NOT_CONVERGING = "NotConverging"


@dataclass(frozen=True, slots=True)
class AppliedAs:
    """As what an endpoint that needed no write is remembered: by whom, when, and at which newest version."""

    uid: str
    generation: int
    newest: int | None
    time: datetime
    reapply: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one resource, by its own uid; what another uid left is dropped on reading.

    Attributes:
        applied: The last settled or acknowledged write.
        operation: The open one.
        updates: How many were begun so far.
        version: The newest provider version that is accounted for.
        comment: The comment sent with that version.
        history: Settled writes, newest first.
        foreign_version: A newer version made by others that counts as drift, as last reported.
        drifted: Fields that differed from the spec, as last reported.
    """

    applied: Applied | None = None
    operation: Operation | None = None
    updates: int = 0
    version: int | None = None
    comment: str | None = None
    history: tuple[HistoryEntry, ...] = ()
    foreign_version: int | None = None
    drifted: frozenset[FieldPath] = frozenset()

    @staticmethod
    def of(status: InferenceEndpointStatus, uid: str) -> Memory:
        """The memory in a status, without what a predecessor of the same name left there."""
        return Memory(
            applied=status.applied if status.applied and status.applied.uid == uid else None,
            operation=status.operation if status.operation and status.operation.uid == uid else None,
            updates=status.updates or 0,
            version=status.version,
            comment=status.version_comment,
            history=tuple(status.history),
            foreign_version=next((each.observed for each in status.drift if each.field == VERSION_FIELD), None),
            drifted=frozenset(each.field for each in status.drift),
        )

    @property
    def write_id(self) -> str | None:
        """The id of the write that is open, or acknowledged and not yet visible."""
        if self.operation is not None:
            return self.operation.id
        return self.applied.settling.id if self.applied and self.applied.settling else None

    @property
    def base_version(self) -> int | None:
        """The newest version before that write."""
        if self.operation is not None:
            return self.operation.base_version
        return self.applied.base_version if self.applied and self.applied.settling else None

    @property
    def has_written(self) -> bool:
        """Whether the resource has ever changed the endpoint; adopting it as it was is no change."""
        return self.applied is not None and self.result != MATCHED

    @property
    def result(self) -> str:
        """How the last write was settled: Applied, AppliedUnverified, Matched or NotConverging."""
        return self.history[0].result if self.history and self.applied else APPLIED

    def opened(self, operation: Operation) -> Memory:
        """The intent of a write is stored."""
        return replace(self, operation=operation, updates=self.updates + 1)

    def counted(self, updates: int) -> Memory:
        """At least so many updates were begun, whatever the status tells."""
        return replace(self, updates=updates) if updates > self.updates else self

    def cleared(self) -> Memory:
        """The open write certainly has not happened."""
        return self if self.operation is None else replace(self, operation=None)

    def confirmed(self, *, time: datetime) -> Memory:
        """The provider has confirmed the open write; its reads may not show it yet."""
        if self.operation is None:
            return self
        applied = acknowledged(self.operation, time=rfc3339(time))
        entry = self._entry(self.operation.comment, applied, APPLIED, version=None)
        return replace(self, applied=applied, operation=None, history=self._with(entry))

    def settled(self, committed: Committed, *, time: datetime) -> Memory:
        """The open or acknowledged write is in the provider's books."""
        memory = self if self.operation is None else self.confirmed(time=time)
        if memory.applied is None or not memory.history:
            return memory
        comment = memory.history[0].comment
        result = APPLIED_UNVERIFIED if committed.unverified else APPLIED
        if committed.differing:
            result = NOT_CONVERGING
        applied = memory.applied.model_copy(update={"settling": None, "observed": dict(committed.differing)})
        entry = memory.history[0].model_copy(update={"version": committed.version, "result": result})
        return replace(
            memory,
            applied=applied,
            version=memory.version if committed.version is None else committed.version,
            comment=comment,
            history=(entry, *memory.history[1:]),
            foreign_version=None,
        )

    def adopted(self, desired: Desired, applied_as: AppliedAs) -> Memory:
        """The endpoint already holds what the spec declares; nothing was sent."""
        applied = Applied(
            uid=applied_as.uid,
            hash=desired.hash,
            generation=applied_as.generation,
            time=rfc3339(applied_as.time),
            base_version=applied_as.newest,
            secrets=dict(desired.secrets),
            reapply=applied_as.reapply or None,
        )
        newest = applied_as.newest
        entry = self._entry("", applied, MATCHED, version=newest)
        return replace(self, applied=applied, operation=None, version=newest, comment=None, history=self._with(entry))

    def seen_version(self, newest: int | None) -> Memory:
        """Others made a version, and nothing that is declared can have changed by it."""
        if newest is None or (self.version is not None and newest <= self.version):
            return self  # versions only grow: a lower one is a look at the past
        return replace(self, version=newest, comment=None)

    def noted(self, desired: Desired) -> Memory:
        """The same payload under another Secret version or hash scheme; nothing was sent."""
        if self.applied is None:
            return self
        update = {"hash": desired.hash, "secrets": dict(desired.secrets)}
        return replace(self, applied=self.applied.model_copy(update=update))

    def converged(self, observed: Mapping[FieldPath, str]) -> Memory:
        """Fields that the provider once settled differently now read as wished; `observed` are the others."""
        if self.applied is None:
            return self
        history = self.history
        if not observed and history and history[0].result == NOT_CONVERGING:
            history = (history[0].model_copy(update={"result": APPLIED}), *history[1:])
        return replace(self, applied=self.applied.model_copy(update={"observed": dict(observed)}), history=history)

    def calm(self) -> Memory:
        """Corrections of drift are forgotten after a day in sync."""
        if self.applied is None or self.applied.corrections is None:
            return self
        return replace(self, applied=self.applied.model_copy(update={"corrections": None}))

    def next_correction(self, *, time: datetime) -> Corrections:
        """The count that a correction sent now would carry."""
        done = self.applied.corrections.count if self.applied and self.applied.corrections else 0
        return Corrections(count=done + 1, time=rfc3339(time))

    def _with(self, entry: HistoryEntry) -> tuple[HistoryEntry, ...]:
        return (entry, *self.history)[:MAX_HISTORY]

    @staticmethod
    def _entry(comment: str, applied: Applied, result: str, *, version: int | None) -> HistoryEntry:
        return HistoryEntry(
            version=version, comment=comment, generation=applied.generation, time=applied.time, result=result
        )


def rfc3339(time: datetime) -> str:
    """Seconds precision, UTC, as Kubernetes writes times."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def age_seconds(text: str, now: datetime) -> float:
    """How long ago a stored time was; 0 for one in the future or unreadable (stored times only inform)."""
    try:
        return max(0.0, (now - datetime.fromisoformat(text)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
