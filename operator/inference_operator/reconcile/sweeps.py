"""Watches whole accounts by their lists, so that an endpoint at rest is read only when something about it has moved.

Each account that has endpoints at rest is a key of the same queue as the resources are: one turn reads one page. The
pages of a list are spread over a poll, and over more than that where the account is too large for the key's budget.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import structlog

from inference_operator.core.port import Connection
from inference_operator.core.roster import Roster
from inference_operator.core.schedule import Pace
from inference_operator.errors import EndpointError
from inference_operator.reconcile.work import Clock, Rest

log = structlog.get_logger(__name__)

PREFIX: Final = "account "
"""Of the keys of accounts; no uid has a space."""


class _Due(NamedTuple):
    """When everything has to be read again: so many intervals, as long as they are by then, after a time."""

    since: float
    intervals: float


@dataclass(slots=True)
class _Account:
    connection: Connection
    roster: Roster = field(default_factory=Roster)
    polled: set[str] = field(default_factory=set)
    due: dict[str, _Due] = field(default_factory=dict)
    resting: dict[str, Rest] = field(default_factory=dict)
    cursor: str | None = None
    begun: float = 0.0
    pages: int = 0
    pages_before: int = 1
    failures: int = 0


class Sweeps:
    """Knows which resources need not look by themselves, and wakes them when they do."""

    def __init__(self, *, pace: Pace, clock: Clock, add: Callable[[str, float], None]) -> None:
        """Begin without accounts.

        Args:
            pace: How often what is read.
            clock: Tells the time.
            add: Asks for a turn of a key (an account, or the uid of a resource) after so many seconds.
        """
        self._pace = pace
        self._clock = clock
        self._add = add
        self._accounts: dict[str, _Account] = {}
        self._account_of: dict[str, str] = {}

    def rest(self, uid: str, rest: Rest) -> float:
        """A pass has found the endpoint at rest; returns the seconds until it has to look by itself."""
        if rest.listed is None:
            self.leave(uid)
            return self._pace.spread(self._pace.poll, self._clock.jitter())
        key = f"{PREFIX}{rest.account}"
        if self._account_of.get(uid) != key:
            self.leave(uid)
        account, now, jitter = self._account(key, rest.connection), self._clock.now(), self._clock.jitter()
        self._account_of[uid] = key
        followed = account.roster.join(uid, rest.ref.endpoint_id, rest.listed, rest.begun, now=now)
        if uid not in account.due:
            account.due[uid] = _Due(now, jitter)  # the first time at any moment, so that a fleet spreads itself
        elif rest.whole:
            self._put_off(account, uid)
        account.resting[uid] = rest.after(account.resting.get(uid))
        if followed and not rest.restless:
            account.polled.discard(uid)
            return self._due_in(account, uid)
        if uid in account.polled:
            return self._next_look(account, uid)
        account.polled.add(uid)  # and then at any moment of a poll: many may have come to rest at the same time
        return self._at_a_step(account, jitter * self._pace.polling(len(account.polled)))

    def leave(self, uid: str) -> None:
        """Something is under way at the endpoint, or it cannot be looked at, or the resource is gone."""
        account = self._accounts.get(self._account_of.pop(uid, ""))
        if account is not None:
            account.roster.leave(uid)
            account.polled.discard(uid)
            account.due.pop(uid, None)
            account.resting.pop(uid, None)

    def resting(self, uid: str) -> Rest | None:
        """What the last pass has found at rest, if lists have shown it so ever since; else None."""
        account = self._accounts.get(self._account_of.get(uid, ""))
        rest = None if account is None else account.resting.get(uid)
        return rest if rest is not None and self.confirmed(uid, rest.account) is not None else None

    def rest_on(self, uid: str, *, whole: bool) -> float | None:
        """The endpoint is still at rest; returns the seconds until it has to look by itself, None where it has left.

        Args:
            uid: Of the resource.
            whole: Everything was read.
        """
        account = self._accounts.get(self._account_of.get(uid, ""))
        if account is None:
            return None
        if whole:
            self._put_off(account, uid)
        return self._next_look(account, uid)

    def confirmed(self, uid: str, account: int) -> Any:
        """`Observed.listed` of the endpoint's last look, if it is known to be still so; else None."""
        found = self._accounts.get(f"{PREFIX}{account}")
        if found is None or self._account_of.get(uid) != f"{PREFIX}{account}":
            return None
        round_seconds = max(self._pace.poll, found.pages_before * self._pace.paging(found.pages_before))
        return found.roster.confirmed(uid, self._clock.now() - 2 * round_seconds)

    def shown_at(self, uid: str) -> float | None:
        """When the endpoint was last seen to be as its last look has shown it; None where no list is asked."""
        account = self._accounts.get(self._account_of.get(uid, ""))
        return None if account is None else account.roster.shown_at(uid)

    def has_moved(self, uid: str) -> bool:
        """Whether a list has shown the endpoint otherwise than its last look."""
        account = self._accounts.get(self._account_of.get(uid, ""))
        return account is not None and account.roster.has_moved(uid)

    def is_followed(self, uid: str) -> bool:
        """Whether the endpoint is at rest, so that everything is read only when that is due."""
        account = self._accounts.get(self._account_of.get(uid, ""))
        return account is not None and uid in account.due

    def is_due(self, uid: str) -> bool:
        """Whether everything has to be read again of an endpoint at rest, whatever lists show."""
        account = self._accounts.get(self._account_of.get(uid, ""))
        return account is not None and uid in account.due and self._due_in(account, uid) <= 0

    def is_account(self, key: str) -> bool:
        """Whether a key of the queue is one of ours."""
        return key.startswith(PREFIX)

    async def turn(self, key: str) -> float | None:
        """Read one page of an account's list; returns the seconds until the next one, None for none."""
        account = self._accounts.get(key)
        if account is None or not (account.roster or account.polled):
            self._accounts.pop(key, None)
            return None
        asked = self._clock.now()
        if account.cursor is None:
            account.begun = asked
        try:
            page = await account.connection.page(account.cursor, account.roster.wanted)
        except EndpointError as error:
            return self._blind(account, error)
        account.failures = 0
        self._wake(account.roster.note(page.entries, asked))
        account.pages += 1
        account.cursor = page.cursor
        if page.cursor is not None:
            return self._pace.paging(max(account.pages + 1, account.pages_before))
        self._wake(account.roster.complete(account.begun))
        account.pages, account.pages_before = 0, account.pages
        return max(self._pace.paging(account.pages_before), account.begun + self._pace.poll - self._clock.now())

    def _account(self, key: str, connection: Connection) -> _Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(connection)
            self._add(key, self._pace.spread(self._pace.poll, self._clock.jitter()))
        account.connection = connection
        return account

    def _next_look(self, account: _Account, uid: str) -> float:
        if uid not in account.polled:
            return self._due_in(account, uid)
        seconds = self._pace.polling(len(account.polled))
        return self._at_a_step(account, self._pace.spread(seconds, self._clock.jitter()))

    def _at_a_step(self, account: _Account, seconds: float) -> float:
        """So many seconds, and up to when some polls happen at the same time."""
        now, step = self._clock.now(), self._pace.polled_together(len(account.polled))
        return step * math.ceil((now + seconds) / step) - now

    def _put_off(self, account: _Account, uid: str) -> None:
        """Everything was read just now."""
        account.due[uid] = _Due(self._clock.now(), self._pace.spread(1, self._clock.jitter()))

    def _due_in(self, account: _Account, uid: str) -> float:
        due = account.due[uid]
        return due.since + due.intervals * self._pace.drifting(len(account.due)) - self._clock.now()

    def _blind(self, account: _Account, error: EndpointError) -> float:
        """Until a list can be read again everybody looks by themselves, and says what is wrong."""
        level = logging.DEBUG if account.failures else logging.WARNING
        log.log(level, "the list of endpoints cannot be read", error=error.message)
        account.failures += 1
        account.cursor, account.pages = None, 0
        for uid in account.roster.blind():
            self._add(uid, self._pace.poll * self._clock.jitter())
        return max(self._pace.poll, self._pace.after(error, account.failures - 1, self._clock.jitter()))

    def _wake(self, uids: list[str]) -> None:
        for uid in uids:
            self._add(uid, 0.0)
