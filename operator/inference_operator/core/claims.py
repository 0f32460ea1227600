"""Which of several resources that name one endpoint owns it, and what its owner has to let pass before a write.

The oldest owns. Times of creation have no fractions, so that two resources may be equally old; then the one that has
written owns, and else the lower uid. Only those whose key has read the endpoint count, which their status tells, so
that nobody can take an endpoint away by merely naming it.

Two processes that do not see each other's work may begin at the same moment. Each stores its intent, which is evidence
as well, and only then looks at what others have stored, so that at least one of them sees the other and sends nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from inference_operator.core.memory import MATCHED, age_seconds
from inference_operator.core.model import Resource

PASSING = frozenset({"ProviderUnavailable", "Throttled"})
"""Reasons of `Synced` that do not tell yet whether a key can read the endpoint."""


def owner_besides(resource: Resource, others: Iterable[Resource], endpoint_id: str) -> str | None:
    """Why the resource must not manage the endpoint, as a sentence; None when it owns it.

    Observing claims nothing, and neither does what is being deleted. Nothing of another namespace is told.
    """
    rivals = [other for other in others if _claims(other, endpoint_id) and _seniority(other) < _seniority(resource)]
    if not rivals:
        return None
    owner = min(rivals, key=_seniority)
    where = f'"{owner.name}"' if owner.namespace == resource.namespace else "a resource of another namespace"
    return f"The endpoint {endpoint_id} is managed by {where}, whose claim is older. Delete one of the two resources."


def unsettled(
    resource: Resource, others: Iterable[Resource], endpoint_id: str, *, wall: datetime, settle: float
) -> frozenset[str]:
    """What of others a write to the endpoint has to let pass, each by a text that tells it from all else.

    Args:
        resource: The one that wants to write.
        others: The others that name the endpoint.
        endpoint_id: The endpoint.
        wall: The time; stored times only inform, so that the caller bounds the waiting by a steady clock.
        settle: How long reads may lag behind a write, in seconds.
    """
    return frozenset(key for other in others for key in _matters(resource, other, endpoint_id, wall, settle))


def _matters(resource: Resource, other: Resource, endpoint_id: str, wall: datetime, settle: float) -> Iterator[str]:
    operation, applied = _own(other, "operation"), _own(other, "applied")
    if operation is not None:
        yield f"write {operation.get('id')}"
    if applied is not None and _has_written(other):
        time = str(applied.get("time"))
        if "settling" in applied or age_seconds(time, wall) < settle:
            yield f"change {other.uid} {time} {applied.get('hash')}"
    undecided = _may_claim(other) and not _claims(other, endpoint_id) and not _is_judged(other)
    if undecided and _seniority(other) < _seniority(resource):
        yield f"claim {other.uid}"


def _claims(other: Resource, endpoint_id: str) -> bool:
    return _may_claim(other) and other.status.get("endpointId") == endpoint_id


def _may_claim(other: Resource) -> bool:
    return not other.deleting and other.spec.get("managementPolicy") != "Observe"


def _is_judged(other: Resource) -> bool:
    """Whether somebody has tried to read the endpoint with its key, and could tell."""
    reasons = [each.get("reason") for each in other.status.get("conditions") or () if each.get("type") == "Synced"]
    return bool(reasons) and PASSING.isdisjoint(reasons)


def _seniority(resource: Resource) -> tuple[datetime, bool, str]:
    return resource.created_at, not _has_written(resource), resource.uid


def _has_written(resource: Resource) -> bool:
    history = resource.status.get("history") or [{}]
    return _own(resource, "applied") is not None and history[0].get("result") != MATCHED


def _own(resource: Resource, name: str) -> Mapping[str, Any] | None:
    """A part of the status that the resource itself has left there, not another one of its name."""
    found = resource.status.get(name)
    return found if isinstance(found, dict) and found.get("uid") == resource.uid else None


@dataclass(frozen=True, slots=True)
class Rivalry:
    """What this process has seen of others that name the endpoint of one resource. Times are monotonic.

    Attributes:
        owner: Why another one owns the endpoint, as a sentence; None when this one does.
        waiting: Since when each thing has been seen that a write lets pass.
        freed_at: When the former owner was first seen to own it no longer; its last write may still land after that.
        asked_at: When the API server was last asked, which also knows those that this process does not watch.
    """

    owner: str | None = None
    waiting: Mapping[str, float] = field(default_factory=dict)
    freed_at: float | None = None
    asked_at: float | None = None

    def meets(self, owner: str | None, matters: Iterable[str], *, lost: bool, now: float) -> Rivalry:
        """Take note of the others as they are now; `lost` tells that until now another one owned the endpoint."""
        freed_at = self.freed_at
        if owner is not None:
            freed_at = None
        elif lost and freed_at is None:
            freed_at = now
        return Rivalry(owner, {key: self.waiting.get(key, now) for key in matters}, freed_at, self.asked_at)

    def misses(self, matters: Collection[str], since: float) -> bool:
        """Whether something is not among these that was waited for only after `since`, and so still is."""
        return any(seen > since and key not in matters for key, seen in self.waiting.items())

    def turn_at(self, quiet: float) -> float:
        """Before this nothing may be written: `quiet` seconds after it was seen, whatever others do has passed."""
        seen = [*self.waiting.values(), *([] if self.freed_at is None else [self.freed_at])]
        return max((moment + quiet for moment in seen), default=0.0)
