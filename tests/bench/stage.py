"""A subject at work, in sync and at rest, and those who watch it."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.editing import Kind
from bench.observer import Writes, wait_until
from faults.peers.subject import Subject
from faults.peers.wish import Wish

PATIENCE_SECONDS: Final = 120.0

REST_SECONDS: Final = 1.5
"""A subject that writes nothing for so long is at rest."""


@dataclass
class Stage:
    """A subject at work, in sync and at rest, and those who watch it.

    Attributes:
        subject: Who.
        wishes: What each resource asks for now.
        writes: Counts its Kubernetes writes.
        draw: The same numbers for every subject of a block.
        watched: Seconds for which resources at rest are watched, where the run asks for others than the phase.
        kinds: Of the endpoints, by name of the resource; empty where all are of the usual kind.
    """

    subject: Subject
    wishes: dict[str, Wish]
    writes: Writes
    draw: random.Random
    watched: float | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return [process.popen.pid for process in self.subject.rig.processes if process.popen.poll() is None]

    def reset(self) -> None:
        """Forget what was counted."""
        self.subject.rig.emulators.reset_ledger()
        self.writes.reset()

    def claiming(self) -> int:
        """How many resources claim their newest generation."""
        found = self.subject.resources()
        return sum(
            name in found and found[name].get("status") is not None and self.subject.claims(found[name])
            for name in self.wishes
        )

    def all_claim(self) -> bool:
        """Whether every resource claims its newest generation."""
        return self.claiming() == len(self.wishes)

    def let_rest(self) -> None:
        """Wait until nothing is written any more: Events are posted in the background."""
        for _ in range(round(PATIENCE_SECONDS / REST_SECONDS)):
            self.reset()
            time.sleep(REST_SECONDS)
            written = self.writes.count(self.subject.plural)
            if not any(count for kind, count in written.items() if kind != "leases"):
                return

    def start_afresh(self) -> None:
        """Kill the subject and start it anew, counting from then on."""
        self.subject.kill()
        self.subject.rig.processes.clear()
        self.reset()
        self.subject.start()

    def wait_until_looked(self, seconds: float) -> bool:
        """Wait until the provider was asked about every endpoint by its id; False if that does not come in time."""
        emulators = self.subject.rig.emulators
        wanted = {wish.endpoint_id for wish in self.wishes.values()}
        return wait_until(lambda: wanted <= {entry.endpoint_id for entry in emulators.ledger()}, seconds)


@dataclass(frozen=True)
class Outcome:
    """What a phase has seen.

    Attributes:
        changes: How many edits were made.
        samples: Values by name.
        counts: Counts by name.
    """

    changes: int
    samples: Mapping[str, Sequence[float]]
    counts: Mapping[str, int]
