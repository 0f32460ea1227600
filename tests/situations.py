"""Situations to decide on, from a few words: what is wished, seen and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from inference_operator.api.status import Applied, HistoryEntry, Operation
from inference_operator.core.memory import Memory, rfc3339
from inference_operator.core.model import (
    Desired,
    EndpointRef,
    Field,
    History,
    Observed,
    Snapshot,
    State,
    Version,
)
from inference_operator.core.plan import (
    Plan,
    plan,
)
from inference_operator.core.schedule import Pace
from inference_operator.core.situation import Circumstances, Policies, Recollection, Situation

PACE = Pace(poll=60, transition_poll=10, settle=60, request_timeout=30, claim=5, drift_cooldown=600, scale_interval=60)
WALL = datetime(2026, 1, 2, tzinfo=UTC)
NOW = 100_000.0
UID = "uid"
SECRET = "p.envs[TOKEN]"
INPUTS = (2,)


def ago(seconds: float) -> str:
    return rfc3339(WALL - timedelta(seconds=seconds))


def confidential(path: str) -> bool:
    return path.startswith("p.envs[")


def lenient(path: str, wanted: Any, seen: Any) -> bool:
    """Texts agree whatever their case."""
    del path
    return bool(str(wanted).lower() == str(seen).lower())


def wish(
    *, secrets: Mapping[str, str] | None = None, unreadable: Mapping[str, Any] | None = None, **fields: Any
) -> Desired:
    declared = {path: Field(value) for path, value in fields.items()}
    declared |= {path: Field(value, readable=False) for path, value in (unreadable or {}).items()}
    return Desired(EndpointRef("p", "ep"), declared, secrets=secrets or {})


def seen(
    live: Mapping[str, Any], *versions: Mapping[str, Any], first: int = 5, state: State = State.RUNNING
) -> Observed:
    """A look; the versions are numbered from `first` on, none means that the provider keeps none."""
    entries = tuple(Version(number, Snapshot(values)) for number, values in enumerate(versions, start=first))
    history = History(entries[-1].number, entries) if entries else None
    return Observed(Snapshot(live), state, state.value, history=history)


def applied(wanted: Desired, **changes: Any) -> Applied:
    values = {"uid": UID, "hash": wanted.hash, "generation": 1, "time": ago(5000), "secrets": dict(wanted.secrets)}
    return Applied(**(values | changes))


def remembered(settled: Applied | None = None, *, version: int | None = None, **changes: Any) -> Memory:
    entry = HistoryEntry(version=version, generation=1, time=ago(5000), result="Applied")
    return Memory(applied=settled, version=version, history=(entry,) if settled else (), **changes)


def open_write(wanted: Desired, **changes: Any) -> Operation:
    values = {"uid": UID, "id": "op", "hash": wanted.hash, "generation": 2, "started_at": ago(10)}
    return Operation(**(values | {"secrets": dict(wanted.secrets)} | changes))


def known(memory: Memory, **changes: Any) -> Recollection:
    """What a process recollects that has watched the resource for a long time."""
    return replace(Recollection(first_look_at=0.0, looked_at=NOW - 60), **changes).meets(memory, NOW)


def decide(
    wanted: Desired, look: Observed, memory: Memory, recollection: Recollection | None = None, **changes: Any
) -> Plan:
    around: dict[str, Any] = {
        "now": NOW,
        "wall": WALL,
        "look_begun": NOW,
        "whole": True,
        "uid": UID,
        "generation": 2,
        "inputs": INPUTS,
    }
    given = {name: changes.pop(name) for name in tuple(changes) if name in {"policies", "agrees"}}
    return plan(
        Situation(
            desired=wanted,
            observed=look,
            memory=memory,
            recollection=recollection or known(memory),
            around=Circumstances(**(around | changes)),
            policies=given.get("policies", Policies()),
            pace=PACE,
            agrees=given.get("agrees", lambda _, one, other: bool(one == other)),
            confidential=confidential,
        )
    )


A1, A2 = wish(a=1), wish(a=2)


def replicas(count: int, **fields: Any) -> Desired:
    declared: dict[str, Any] = {"scaling.replicas": count, **fields}
    return wish(**declared)
