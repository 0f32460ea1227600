"""The only author of the status: merges what a pass has found into what was last reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inference_operator.api.names import selector
from inference_operator.api.status import Condition, Drift, InferenceEndpointStatus
from inference_operator.core.compare import Difference
from inference_operator.core.findings import FALSE, TRUE, UNKNOWN, Finding, Findings
from inference_operator.core.memory import MATCHED, Memory, rfc3339
from inference_operator.core.model import FieldPath, Observed

MAX_DRIFT = 256
MAX_FIELD_LENGTH = 512


@dataclass(frozen=True, slots=True)
class View:
    """What a pass has seen, as far as it got; None keeps what was last reported.

    Attributes:
        observed: The look.
        drift: What was found to differ.
        unverifiable: Declared fields that cannot be read back.
    """

    observed: Observed | None = None
    drift: tuple[Difference, ...] | None = None
    unverifiable: tuple[FieldPath, ...] | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """Which object, at which generation, at what time the report is about."""

    uid: str
    generation: int
    endpoint_id: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Notice:
    """An Event to post."""

    warning: bool
    reason: str
    message: str


def report(
    previous: InferenceEndpointStatus,
    subject: Subject,
    memory: Memory,
    findings: Findings | None,
    view: View,
    confidential: Callable[[FieldPath], bool],
) -> InferenceEndpointStatus:
    """The new status. Equal inputs give an equal status, so that an unchanged one is not written."""
    update: dict[str, Any] = {
        "applied": memory.applied,
        "operation": memory.operation,
        "updates": memory.updates or None,
        "version": memory.version,
        "version_comment": memory.comment,
        "history": list(memory.history),
        "selector": selector(subject.uid),
    }
    if view.observed is not None:
        update |= _seen(view.observed, subject)
    if view.drift is not None:
        update["drift"] = [_drift(each, confidential) for each in view.drift][:MAX_DRIFT]
    if view.unverifiable is not None:
        update["unverifiable"] = list(view.unverifiable)
    if findings is not None:
        generation = subject.generation if findings.handled else previous.observed_generation
        update["observed_generation"] = generation
        update["conditions"] = _conditions(previous, findings, generation, rfc3339(subject.now))
    return previous.model_copy(update=update)


def _seen(observed: Observed, subject: Subject) -> dict[str, Any]:
    return {
        "endpoint_id": subject.endpoint_id,
        "state": observed.state.value,
        "provider_state": observed.provider_state,
        "curr_replica_cnt": observed.replicas.current,
        "desired_replica_cnt": observed.replicas.desired,
        "updated_replica_cnt": observed.replicas.updated,
        "gpu": observed.gpu,
    }


def _drift(difference: Difference, confidential: Callable[[FieldPath], bool]) -> Drift:
    path = difference.path[:MAX_FIELD_LENGTH]
    if confidential(difference.path):
        return Drift(field=path)
    return Drift(field=path, desired=difference.wanted, observed=difference.seen)


def _conditions(previous: InferenceEndpointStatus, findings: Findings, generation: int, now: str) -> list[Condition]:
    before = {condition.type: condition for condition in previous.conditions}
    pending = Finding(UNKNOWN, "Pending", "Nothing was read from the provider yet.")
    wanted = {
        "Synced": findings.synced or _kept(before.get("Synced")) or pending,
        "Ready": findings.ready or _kept(before.get("Ready")) or pending,
        "Reconciling": findings.reconciling,
        "Stalled": findings.stalled,
        "Suspended": findings.suspended,
    }
    return [
        _condition(kind, finding, before.get(kind), generation, now)
        for kind, finding in wanted.items()
        if finding is not None
    ]


def _kept(condition: Condition | None) -> Finding | None:
    return Finding(condition.status, condition.reason, condition.message) if condition else None


def _condition(kind: str, finding: Finding, before: Condition | None, generation: int, now: str) -> Condition:
    unchanged = before is not None and before.status == finding.status
    return Condition(
        type=kind,
        status=finding.status,
        reason=finding.reason,
        message=finding.message,
        last_transition_time=before.last_transition_time if before is not None and unchanged else now,
        observed_generation=generation if generation >= 0 else None,
    )


def notices(previous: InferenceEndpointStatus, status: InferenceEndpointStatus) -> tuple[Notice, ...]:
    """Events for the conditions whose status or reason changed; one per reason, a warning if it is one for any."""
    before = {condition.type: (condition.status, condition.reason) for condition in previous.conditions}
    changed: dict[str, Notice] = {}
    for condition in (*status.conditions[::-1],):
        if before.get(condition.type) != (condition.status, condition.reason):
            warned = condition.reason in changed and changed[condition.reason].warning
            changed[condition.reason] = Notice(warned or _is_warning(condition), condition.reason, condition.message)
    return tuple(changed.values())


def newly_settled(previous: InferenceEndpointStatus, status: InferenceEndpointStatus) -> str | None:
    """The result of an update that is known to have taken effect now and was not before; None without one."""
    if status.operation is not None or status.applied is None or status.applied.settling is not None:
        return None
    newest = status.history[0] if status.history else None
    if newest is None or newest.result == MATCHED:
        return None
    was_settling = previous.applied is not None and previous.applied.settling is not None
    return newest.result if was_settling or _entry_of(previous) != _entry_of(status) else None


def _entry_of(status: InferenceEndpointStatus) -> tuple[Any, ...]:
    """What tells the newest entry of the history from the one before it."""
    return (len(status.history), *((each.time, each.generation, each.comment) for each in status.history[:1]))


def _is_warning(condition: Condition) -> bool:
    if condition.type == "Stalled":
        return condition.status == TRUE
    quiet = {"Waiting", "NotSynced", "Starting", "Suspended"}
    return condition.type in {"Synced", "Ready"} and condition.status == FALSE and condition.reason not in quiet


def dump(status: InferenceEndpointStatus) -> dict[str, Any]:
    """The status as it is written: camelCase, nothing that is None or empty."""
    document = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: _without_empty(value) for key, value in document.items() if value not in ({}, [])}


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(each) for key, each in value.items() if each not in ({}, [])}
    return value
