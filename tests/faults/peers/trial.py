"""One subject through one ordeal: ten resources, one change each, and the counts afterwards."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import httpx

import audit
from faults.comparison import Counts
from faults.peers.ordeals import End, Ordeal
from faults.peers.subject import POLL_SECONDS, Subject
from faults.peers.wish import Wish
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.ledger import Entry
from rig import wait_for

WATCHED_SECONDS: Final = 12.0
"""How long everybody is watched after the last thing went wrong: six polls."""

PATIENCE_SECONDS: Final = 60.0
"""How much longer those are watched that are not in sync by then: the longest back-off of any subject."""

IN_FLIGHT_SECONDS: Final = 0.25
"""A request so soon after a 429 was on its way already, and is not counted as too early."""

CLAIM_SECONDS: Final = 2 * POLL_SECONDS + 1
"""A claim that has been untrue for longer than this is false: two polls would have shown it."""

_LOOK_SECONDS = 0.5
_READY_SECONDS = 60.0


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """The comparison was given up meanwhile."""


class Look(NamedTuple):
    """What was seen of one resource at one moment, the status before the provider."""

    at: float
    exists: bool
    claimed: bool
    held: bool

    @property
    def right(self) -> bool:
        return self.claimed and self.held


@dataclass
class Trial:
    """A subject, what befalls it, and what was seen.

    Attributes:
        subject: Nobody else works in its control plane or at its emulator.
        ordeal: What happens.
        resources: How many resources it happens to.
        seed: Decides at which moments of a poll the resources are changed.
        stop: Once it is set, the trial ends with `Stopped`.
        wishes: What each resource asks for now.
        rivals: What others ask for of the same endpoints.
    """

    subject: Subject
    ordeal: Ordeal
    resources: int
    seed: int
    stop: threading.Event
    wishes: dict[str, Wish] = field(default_factory=dict)
    rivals: dict[str, Wish] = field(default_factory=dict)
    _looks: dict[str, list[Look]] = field(default_factory=dict)
    _changed: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rig, self.emulators = self.subject.rig, self.subject.rig.emulators

    def run(self) -> Counts:
        """Everything from the first start to the last count; leaves no resource behind."""
        self._settle()
        written, mark = self._written(), self._last()
        self._looks.clear()
        self.ordeal.before(self)
        self._change()
        self.ordeal.meanwhile(self)
        self.watch(WATCHED_SECONDS)
        self._wait_for_the_slow()
        counts = self._count(self.emulators.ledger(after=mark), self._written() - written)
        self.subject.kill()
        self.subject.discard()
        return counts

    # ── what ordeals do ───────────────────────────────────────────────────────────────────────────────

    def afflict(self, fault: Fault) -> None:
        """Let every endpoint meet a fault of its own."""
        for wish in self.wishes.values():
            self.emulators.add_fault(replace(fault, endpoint_id=wish.endpoint_id))

    def watch(self, seconds: float) -> None:
        """Let time pass, looking at every resource and at the provider."""
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline:
            self._look()
            if self.stop.wait(min(now + _LOOK_SECONDS, deadline) - time.monotonic()):
                raise Stopped

    def wait_for_updates_held(self) -> None:
        """Wait until an update of every endpoint is at the gate."""
        self.emulators.wait_for_gate("held", requests=self.resources)

    def restart_until_first_request(self) -> None:
        """Start the subject and wait until it has asked the provider for anything."""
        mark = self._last()
        self.subject.start()
        wait_for(lambda: self.emulators.ledger(after=mark), what=f"a request of {self.subject.profile.title}")

    def wish(self, name: str) -> Wish:
        """What a resource asks for now."""
        return self.wishes[name]

    # ── the steps ─────────────────────────────────────────────────────────────────────────────────────

    def _settle(self) -> None:
        """Resources that are in sync, on endpoints that are as they want them."""
        for _ in range(self.ordeal.copies):
            self.subject.start()
        for number in range(self.resources):
            self.wishes[f"r{number}"] = Wish(self.rig.endpoint("friendli"), correct=self.ordeal.correct)
        for name, wish in self.wishes.items():
            self.subject.apply(name, wish)
        title = f"{self.subject.profile.title} to have its resources in sync"
        wait_for(self._all_right, what=title, seconds=_READY_SECONDS, log=self.rig.processes[-1].log)
        time.sleep(POLL_SECONDS)

    def _wait_for_the_slow(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.ordeal.end is End.HELD and not self._all_right() and time.monotonic() < deadline:
            self.watch(1)

    def _all_right(self) -> bool:
        self._look()
        return all(self._looks[name][-1].right for name in self.wishes)

    def _change(self) -> None:
        """Change every resource at a moment of its own within one poll, unless all are to be hit at once."""
        draw = random.Random(f"{self.seed} {self.ordeal.name}")  # noqa: S311 - the same moments for every subject
        spread = 0.0 if self.ordeal.together else POLL_SECONDS
        moments = sorted(draw.uniform(0, spread) for _ in self.wishes)
        began = time.monotonic()
        for moment, (name, wish) in zip(moments, list(self.wishes.items()), strict=True):
            self._changed[name] = began
            if self.ordeal.change is not None:
                time.sleep(max(0.0, began + moment - time.monotonic()))
                self.wishes[name] = self.ordeal.change(wish)
                self._changed[name] = time.monotonic()
                self.subject.apply(name, self.wishes[name])

    def _look(self) -> None:
        found = self.subject.resources()
        for name, wish in (self.wishes | self.rivals).items():
            claimed = name in found and self.subject.claims(found[name])
            held = wish.is_held_by(self.emulators.get_endpoint("friendli", wish.endpoint_id))
            self._looks.setdefault(name, []).append(Look(time.monotonic(), name in found, claimed, held))

    def _last(self) -> int:
        return max((entry.seq for entry in self.emulators.ledger()), default=0)

    def _written(self) -> int:
        """Every Kubernetes write of the subject so far, Leases apart."""
        audit.settle(self.rig.plane)
        writes = audit.writes(self.rig.plane.audit_log, user="operator")
        return sum(write.namespace == self.rig.namespace and write.resource != "leases" for write in writes)

    # ── the counts ────────────────────────────────────────────────────────────────────────────────────

    def _count(self, ledger: Sequence[Entry], writes: int) -> Counts:
        ends = [self._looks[name][-1] for name in self.wishes]
        end, updates = self.ordeal.end, [entry for entry in ledger if entry.kind == "mutations"]
        took = [seconds for name in self.wishes if (seconds := self._took(name)) is not None]
        return Counts(
            extra=sum(self._extra(updates, wish.endpoint_id) for wish in self.wishes.values()),
            lost=sum(not look.held for look in ends) if end is End.HELD else None,
            stuck=None if end is End.REFUSED else sum(self._is_stuck(look) for look in ends),
            false=None if end is End.GONE else sum(map(is_false, self._looks.values())),
            sent=len(updates),
            writes=writes,
            early=self._early(ledger),
            seconds=round(statistics.median(took), 1) if len(took) == len(ends) else None,
        )

    def _extra(self, updates: Sequence[Entry], endpoint_id: str) -> int:
        made = sum(entry.committed and entry.endpoint_id == endpoint_id for entry in updates)
        return max(0, made - self.ordeal.versions)

    def _is_stuck(self, look: Look) -> bool:
        return look.exists if self.ordeal.end is End.GONE else not look.claimed

    def _took(self, name: str) -> float | None:
        """Seconds from the change until the status said so for good, and rightly; None if it does not."""
        if self.ordeal.change is None and self.ordeal.versions == 0:
            return None
        wrong = [look.at for look in self._looks[name] if not look.right]
        first = next((look.at for look in self._looks[name] if not wrong or look.at > wrong[-1]), None)
        return None if first is None else first - self._changed[name]

    def _early(self, ledger: Sequence[Entry]) -> int | None:
        """Requests about an endpoint that came before the time which a 429 about it had asked for had passed."""
        if self.ordeal.retry_after is None:
            return None
        asked = [entry for entry in ledger if entry.status == httpx.codes.TOO_MANY_REQUESTS]
        waits = [
            (each.endpoint_id, each.answered_at + IN_FLIGHT_SECONDS, each.answered_at + self.ordeal.retry_after)
            for each in asked
            if each.answered_at
        ]
        return sum(
            any(entry.endpoint_id == about and begin < entry.at < end for about, begin, end in waits)
            for entry in ledger
        )


def is_false(looks: Sequence[Look]) -> bool:
    """Whether the newest generation was claimed while the provider held something else, for too long to be excused."""
    since: float | None = None
    for look in looks:
        if not look.claimed or look.held:
            since = None
        elif since is None:
            since = look.at
        elif look.at - since > CLAIM_SECONDS:
            return True
    return False
