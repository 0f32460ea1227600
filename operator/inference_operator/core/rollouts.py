"""The brake: a wrong value in a chart must not become five hundred rollouts at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime

from inference_operator.core.memory import Memory, age_seconds
from inference_operator.core.model import Resource, State

ROLLING = frozenset({"Updating", "Waking", "Starting", "WriteUndecided"})
"""Reasons of `Reconciling` behind which a rollout of our own may be."""


def may_be_rolling(resource: Resource) -> bool:
    """Whether the status tells of a write that is open, or of an endpoint that is being rolled out."""
    status = resource.status
    reasons = [each.get("reason") for each in status.get("conditions") or () if each.get("type") == "Reconciling"]
    told = status.get("state") == State.UPDATING or not ROLLING.isdisjoint(reasons)
    return told or "operation" in status


def write_age(memory: Memory, wall: datetime) -> float | None:
    """How many seconds ago the last write of the resource began, as far as stored times tell; None without one."""
    if memory.operation is not None:
        return age_seconds(memory.operation.started_at, wall)
    if memory.applied is not None and memory.has_written:
        return age_seconds(memory.applied.time, wall)
    return None


@dataclass(slots=True)
class _Rollout:
    account: Hashable
    begun: float
    deadline: float


class Rollouts:
    """Which endpoints are in a transition that our own write began, by account.

    An account is one key at one provider. A rollout that outlives its deadline no longer holds others back.
    What an earlier process has left is counted before anything is sent: until the first pass over such a resource its
    account is not known, and it counts for every account.
    """

    def __init__(
        self, limit: int, wake: Callable[[str], None], resources: Callable[[], Iterable[Resource]] = tuple
    ) -> None:
        """Create a brake.

        Args:
            limit: Rollouts per account; 0 for no limit.
            wake: Called with the uid of a resource that waits, when a place has become free.
            resources: All resources in scope, as an earlier process has left them.
        """
        self._limit = limit
        self._wake = wake
        self._resources: Callable[[], Iterable[Resource]] | None = resources
        self._rollouts: dict[str, _Rollout] = {}
        self._waiting: dict[str, Hashable] = {}
        self._expected: set[str] = set()

    def brake(self, uid: str, account: Hashable, now: float) -> str | None:
        """Why no further rollout may begin on the account; None where one may."""
        if self._limit == 0 or uid in self._rollouts or len(self._expected) + self._count(account, now) < self._limit:
            return None
        return f"{self._limit} rollouts are under way with this key (MAX_ROLLOUTS); waiting for one to end."

    def wait(self, uid: str, account: Hashable) -> None:
        """The resource wants to begin a rollout and the brake holds it; it is woken when a place is free."""
        self._waiting.setdefault(uid, account)

    def inherit(self) -> None:
        """This process begins to work: expect the rollouts that an earlier one began; only the first call counts."""
        if self._resources is not None:
            self._expected = {resource.uid for resource in self._resources() if may_be_rolling(resource)}
            self._resources = None

    def resume(self, uid: str, account: Hashable, *, begun: float, deadline: float) -> None:
        """A rollout that an earlier process began is under way."""
        self._expected.discard(uid)
        self._rollouts.setdefault(uid, _Rollout(account, begun, deadline))

    def meet(self, uid: str) -> None:
        """A pass over the resource has ended; what it did not resume is not expected any longer."""
        if uid in self._expected:
            self._expected.remove(uid)
            self._wake_next(next(iter(self._waiting.values()), None))

    def begin(self, uid: str, account: Hashable, *, now: float, deadline: float) -> None:
        """A write is about to begin a rollout. `deadline` in seconds is progressDeadlineSeconds."""
        self._waiting.pop(uid, None)
        self._rollouts[uid] = _Rollout(account, now, deadline)

    def end(self, uid: str) -> None:
        """The rollout is over, or the write was not carried out; also fine where there was none."""
        rollout = self._rollouts.pop(uid, None)
        if rollout is None:
            return
        self._wake_next(rollout.account)

    def _wake_next(self, free: Hashable) -> None:
        next_uid = next((each for each, account in self._waiting.items() if account == free), None)
        if next_uid is not None:
            del self._waiting[next_uid]
            self._wake(next_uid)

    def forget(self, uid: str) -> None:
        """The resource is gone."""
        self._waiting.pop(uid, None)
        self.meet(uid)
        self.end(uid)

    def is_ours(self, uid: str) -> bool:
        """Whether the transition of the endpoint was begun by our write."""
        return uid in self._rollouts

    def is_overdue(self, uid: str, now: float) -> bool:
        """Whether it takes longer than its deadline."""
        rollout = self._rollouts.get(uid)
        return rollout is not None and now - rollout.begun > rollout.deadline

    def _count(self, account: Hashable, now: float) -> int:
        return sum(
            1
            for rollout in self._rollouts.values()
            if rollout.account == account and now - rollout.begun <= rollout.deadline
        )
