"""Which of several resources that name one endpoint owns it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from inference_operator.core.model import Resource


def owner_besides(resource: Resource, others: Iterable[Resource], endpoint_id: str) -> str | None:
    """Why the resource must not manage the endpoint, as a sentence; None when it owns it.

    The oldest owns, then the lower uid. Only those whose key has read the endpoint count, which their
    status tells, so that nobody can take an endpoint away by merely naming it. Observing claims nothing.
    Nothing of another namespace is told.
    """
    rivals = [other for other in others if _claims(other, endpoint_id) and _seniority(other) < _seniority(resource)]
    if not rivals:
        return None
    owner = min(rivals, key=_seniority)
    where = f'"{owner.name}"' if owner.namespace == resource.namespace else "a resource of another namespace"
    return f"The endpoint {endpoint_id} is managed by {where}, which is older. Delete one of the two resources."


def _claims(other: Resource, endpoint_id: str) -> bool:
    return other.status.get("endpointId") == endpoint_id and other.spec.get("managementPolicy") != "Observe"


def _seniority(resource: Resource) -> tuple[datetime, str]:
    return resource.created_at, resource.uid
