"""The brake: a wrong value in a chart must not become five hundred rollouts at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Rollout:
    account: Hashable
    begun: float
    deadline: float


class Rollouts:
    """Which endpoints are in a transition that our own write began, by account.

    An account is one key at one provider. A rollout that outlives its deadline no longer holds others back.
    """

    def __init__(self, limit: int, wake: Callable[[str], None]) -> None:
        """Create a brake.

        Args:
            limit: Rollouts per account; 0 for no limit.
            wake: Called with the uid of a resource that waits, when a place has become free.
        """
        self._limit = limit
        self._wake = wake
        self._rollouts: dict[str, _Rollout] = {}
        self._waiting: dict[str, Hashable] = {}

    def brake(self, uid: str, account: Hashable, now: float) -> str | None:
        """Why no further rollout may begin on the account; None where one may."""
        if self._limit == 0 or uid in self._rollouts or self._count(account, now) < self._limit:
            return None
        return f"{self._limit} rollouts are under way with this key (MAX_ROLLOUTS); waiting for one to end."

    def wait(self, uid: str, account: Hashable) -> None:
        """The resource wants to begin a rollout and the brake holds it; it is woken when a place is free."""
        self._waiting.setdefault(uid, account)

    def begin(self, uid: str, account: Hashable, *, now: float, deadline: float) -> None:
        """A write is about to begin a rollout. `deadline` in seconds is progressDeadlineSeconds."""
        self._waiting.pop(uid, None)
        self._rollouts[uid] = _Rollout(account, now, deadline)

    def end(self, uid: str) -> None:
        """The rollout is over, or the write was not carried out; also fine where there was none."""
        rollout = self._rollouts.pop(uid, None)
        if rollout is None:
            return
        next_uid = next((each for each, account in self._waiting.items() if account == rollout.account), None)
        if next_uid is not None:
            del self._waiting[next_uid]
            self._wake(next_uid)

    def forget(self, uid: str) -> None:
        """The resource is gone."""
        self._waiting.pop(uid, None)
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
