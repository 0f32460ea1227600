"""Writes down every request in order: the witness that tests and demonstrations ask what really happened."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any, Literal

Kind = Literal["mutations", "reads", "foreign"]


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request, from its arrival to its answer. All values are JSON.

    Attributes:
        seq: Position in the ledger, from 1; it goes on counting when the ledger is emptied.
        at: Arrival, monotonic seconds (comparable between processes of one machine).
        wall: Arrival, seconds since the epoch.
        provider: ``friendli`` or ``novita``.
        method: HTTP method.
        path: Path and query as they came on the wire.
        operation: Which operation of the provider it is; None for a path that the provider does not have.
        mutates: Whether that operation is one that changes something.
        endpoint_id: The endpoint it concerns; after a create, the new one.
        token: Fingerprint of the bearer token (never the token), empty without one.
        team: Value of X-Friendli-Team.
        body: The JSON body, None without one.
        errors: What was wrong with the request.
        status: Status of the answer; None while there is none, and where a fault kept it from leaving (delivery
            ``reset``, ``close``, ``stall`` or ``raw``).
        committed: Whether the provider's state was changed by it.
        committed_at: When, monotonic seconds.
        version: Number of the version it made, on providers that have versions.
        answered_at: When the answer (or the end of the connection) left, monotonic seconds.
        fault: Id of the scripted fault that was applied.
        foreign: Whether it was written by the control API in the name of someone else.
    """

    seq: int
    provider: str
    method: str
    path: str
    at: float = field(default_factory=time.monotonic)
    wall: float = field(default_factory=time.time)
    operation: str | None = None
    mutates: bool = False
    endpoint_id: str | None = None
    token: str = ""
    team: str | None = None
    body: Any = None
    errors: list[str] = field(default_factory=list)
    status: int | None = None
    committed: bool = False
    committed_at: float | None = None
    version: int | None = None
    answered_at: float | None = None
    fault: str | None = None
    foreign: bool = False

    def as_json(self) -> dict[str, Any]:
        """Returns the entry as a JSON object; ``Entry(**it)`` is the way back."""
        return {name.name: getattr(self, name.name) for name in fields(self)}

    @property
    def kind(self) -> Kind:
        """Whether it is a mutation of ours, a read of ours, or a write of someone else."""
        if self.foreign:
            return "foreign"
        return "mutations" if self.mutates else "reads"


class Ledger:
    """Every request to either provider, in order of arrival."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._numbers = count(1)
        self.since = time.monotonic()

    def open(self, **known: Any) -> Entry:
        """Starts the entry of a request that has just arrived."""
        entry = Entry(seq=next(self._numbers), **known)
        self._entries.append(entry)
        return entry

    def entries(
        self,
        *,
        provider: str | None = None,
        endpoint_id: str | None = None,
        kind: Kind | None = None,
        after: int = 0,
    ) -> list[Entry]:
        """Returns entries in order; each argument narrows the choice, ``after`` to those above a ``seq``."""
        return [
            entry
            for entry in self._entries
            if entry.seq > after
            and provider in (None, entry.provider)
            and endpoint_id in (None, entry.endpoint_id)
            and kind in (None, entry.kind)
        ]

    def counts(self) -> dict[str, int]:
        """Returns how many entries there are: ``mutations``, those ``committed``, ``reads`` and ``foreign``."""
        counts = dict.fromkeys(("mutations", "committed", "reads", "foreign"), 0)
        for entry in self._entries:
            counts[entry.kind] += 1
            counts["committed"] += entry.committed and not entry.foreign
        return counts

    def clear(self) -> None:
        """Forgets all entries; counts of transitions start anew as well."""
        self._entries.clear()
        self.since = time.monotonic()
