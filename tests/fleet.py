"""Many resources under one operator, so that slow cases pass side by side instead of one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from rig import PATIENCE, Rig, condition, rigged, wait_for

Finding = tuple[str, str] | None
"""Status and reason of a condition; None where the resource has no such condition."""


def wait_for_all(
    rig: Rig,
    names: Iterable[str],
    kind: str = "Synced",
    status: str = "True",
    reason: str | None = None,
    *,
    seconds: float = PATIENCE,
) -> dict[str, float]:
    """Wait until every resource has the condition; returns when each was first seen with it (monotonic).

    `True` counts only for the newest generation.
    """
    wanted, seen = set(names), dict[str, float]()

    def all_seen() -> bool:
        for resource in rig.list():
            name = resource["metadata"]["name"]
            if name in wanted and name not in seen and _holds(resource, kind, status, reason):
                seen[name] = time.monotonic()
        return len(seen) == len(wanted)

    def missing() -> dict[str, Any]:
        return {each: found for each, found in conditions(rig, kind).items() if each in wanted - seen.keys()}

    wait_for(all_seen, what=f"{kind}={status}/{reason}", seconds=seconds, state=missing, log=rig.processes[-1].log)
    return seen


def _holds(resource: dict[str, Any], kind: str, status: str, reason: str | None) -> bool:
    found = condition(resource, kind)
    current = resource["status"].get("observedGeneration") == resource["metadata"]["generation"]
    return found is not None and found[0] == status and reason in {None, found[1]} and (current or status != "True")


def conditions(rig: Rig, kind: str) -> dict[str, Finding]:
    """The condition of every resource by name."""
    return {resource["metadata"]["name"]: condition(resource, kind) for resource in rig.list()}


def message(resource: Mapping[str, Any], kind: str) -> str:
    """What a condition says to people."""
    return next(str(found["message"]) for found in resource["status"]["conditions"] if found["type"] == kind)


def patient_operator(plane: ControlPlane, emulators: EmulatorControl, folder: Path) -> Iterator[Rig]:
    """A rig whose operator looks once a minute: whatever it sends earlier has another reason than the time.

    The providers echo the key in whatever they refuse; afterwards nobody may have shown it.
    """
    providers = [name for name in emulators.urls() if name != "control"]
    with rigged(plane, emulators, folder) as rig:
        for provider in providers:
            emulators.set_knobs(provider, echo_headers=True)
        try:
            rig.start(poll_seconds=60)
            yield rig
        finally:
            for provider in providers:
                emulators.set_knobs(provider, echo_headers=False)
