"""What a stretch of a test has cost, by the books of those who paid: the provider's ledger and the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import audit
from inference_operator.api.names import PLURAL
from rig import Rig


@dataclass(frozen=True)
class Cost:
    """Requests of operators in one namespace; refused ones count as well.

    Attributes:
        mutations: Requests for a change at providers.
        writes: Kubernetes writes of resources and their status.
        events: Kubernetes Events posted.
        leases: Writes of Leases.
        others: Any other Kubernetes write.
    """

    mutations: int = 0
    writes: int = 0
    events: int = 0
    leases: int = 0
    others: int = 0

    def __sub__(self, earlier: Cost) -> Cost:
        return Cost(*(now - before for now, before in zip(self.figures, earlier.figures, strict=True)))

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(one + another for one, another in zip(self.figures, other.figures, strict=True)))

    @property
    def figures(self) -> tuple[int, ...]:
        return self.mutations, self.writes, self.events, self.leases, self.others


class Meter:
    """Tells what was spent since it was last asked."""

    def __init__(self, rig: Rig, endpoints: Iterable[str]) -> None:
        self._rig = rig
        self._endpoints = frozenset(endpoints)
        self._last = self._total()

    def spent(self) -> Cost:
        total = self._total()
        cost, self._last = total - self._last, total
        return cost

    def _total(self) -> Cost:
        audit.settle(self._rig.plane)
        kinds = [
            write.resource
            for write in audit.writes(self._rig.plane.audit_log, user="operator")
            if write.namespace == self._rig.namespace
        ]
        writes, events, leases = (kinds.count(kind) for kind in (PLURAL, "events", "leases"))
        mutations = sum(entry.endpoint_id in self._endpoints for entry in self._rig.emulators.mutations())
        return Cost(mutations, writes, events, leases, len(kinds) - writes - events - leases)


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; `pytest -s` shows it, and so does a failure."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = "\n".join(f"  {_row(line, widths)}" for line in lines)
    print(f"\n{title}\n{text}")


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first cell to the left, the others to the right."""
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
