"""The externally visible steps of a workload: what the operator asks of the API server and of a provider.

Reads are left out: to die before, in or after a read is, for everybody else, to die between the two writes beside it.
Renewals of the Lease are left out as well, which come by the clock and not by the workload.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faults.kubescript import Call, KubeFault
from inference_operator.api.names import PLURAL
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.ledger import Entry

LEASE, INTENT, UNDECIDED, OUTCOME, UPDATE = "lease", "intent", "undecided", "outcome", "update"
EVENT = "event-"

_STATUS = {"verb": "patch", "resource": PLURAL, "subresource": "status"}
_OPEN = r'"operation": ?\{'


@dataclass(frozen=True)
class Step:
    """One write.

    Attributes:
        label: What it is: `lease`, `intent`, `undecided`, `outcome`, `update`, or `event-` and its reason.
        skip: How many writes that look the same to a fault script come before it.
    """

    label: str
    skip: int = 0

    @property
    def at_provider(self) -> bool:
        return self.label == UPDATE

    @property
    def is_status(self) -> bool:
        return self.label in {INTENT, UNDECIDED, OUTCOME}

    def kube_fault(self, **fate: Any) -> KubeFault:
        """A fault that hits this step at the API server."""
        return KubeFault(**_look(self.label), skip=self.skip, **fate)

    def fault(self, **fate: Any) -> Fault:
        """A fault that hits this step at the provider."""
        return Fault(operation="update", skip=self.skip, **fate)


def _look(label: str) -> dict[str, Any]:
    """What a step looks like to the fault script of the API server."""
    match label:
        case "lease":
            return {"verb": "create", "resource": "leases"}
        case "intent" | "undecided":
            return {**_STATUS, "body": _OPEN}
        case "outcome":
            return {**_STATUS, "body": rf"\A(?!.*{_OPEN})"}
        case _:
            return {"verb": "create", "resource": "events", "body": rf'"reason": ?"{label.removeprefix(EVENT)}"'}


def steps_of(labels: Iterable[str]) -> list[Step]:
    """The steps of a workload by what they are."""
    seen, steps = Counter[str](), []
    for label in labels:
        look = json.dumps(_look(label)) if label != UPDATE else UPDATE
        steps.append(Step(label, seen[look]))
        seen[look] += 1
    return steps


def labels_of(calls: Sequence[Call], entries: Sequence[Entry]) -> list[str]:
    """What an operator has done, in order; Events, which are posted beside it, come last."""
    known = set[str]()
    written = [(call.at, label) for call in calls if call.writes and (label := _label(call, known))]
    updated = [(entry.at, UPDATE) for entry in entries if entry.kind == "mutations"]
    labels = [label for _, label in sorted([*written, *updated])]
    return sorted(labels, key=lambda label: label.startswith(EVENT))


def _label(call: Call, known: set[str]) -> str:
    """What a write is; empty for one that is no step. `known` are the operations met so far."""
    match call.verb, call.resource:
        case "create", "leases":
            return LEASE
        case "create", "events":
            return f"{EVENT}{call.body['reason']}"
        case "patch", "leases":
            return ""
        case _:
            return _label_of_status(status_of(call), known)


def _label_of_status(status: Mapping[str, Any], known: set[str]) -> str:
    operation = status.get("operation")
    if operation is None:
        return OUTCOME
    if operation["id"] in known:
        return UNDECIDED
    known.add(operation["id"])
    return INTENT


def status_of(call: Call) -> Mapping[str, Any]:
    """The status that a write of it carries; empty for other writes."""
    if call.resource != PLURAL or not isinstance(call.body, list):
        return {}
    found: Mapping[str, Any] = next((change["value"] for change in call.body if change["path"] == "/status"), {})
    return found
