"""A provider that is late by the clock: commits land, and reads show them, up to the settle time later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from faults.pausing import pause
from inference_operator.core.model import Credentials, EndpointRef, FieldPath, Json, Look, Observed
from inference_operator.core.schedule import Pace
from inference_operator.errors import CredentialsRejected, EndpointError
from inference_operator.providers.memory.account import UPDATE, Call, MemoryAccount, Reading
from inference_operator.providers.memory.driver import MemoryConnection
from world import Connector

NEARLY = 0.95
"""Of the settle time: how long a commit and the reads of it may take together."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with one update.

    Attributes:
        error: What the caller gets; None: an ordinary answer.
        lands: Seconds after which it takes effect all the same; None: never.
    """

    error: EndpointError | None
    lands: float | None = None


IGNORED = Trouble(None)
"""The update is confirmed and not carried out."""


@dataclass(frozen=True, slots=True)
class Landed:
    """An entry of the ledger.

    Attributes:
        at: When it took effect.
        shown_by: When the last read shows it.
        number: The version that it made.
        sender: Who sent it; None for somebody else's change.
    """

    at: float
    shown_by: float
    endpoint_id: str
    number: int
    sender: object | None


@dataclass(frozen=True, slots=True)
class _UnderWay:
    call: Call
    lands_at: float
    shown_by: float
    sender: object


class TimedAccount(MemoryAccount):
    """Keeps a ledger of who has changed what and when.

    Attributes:
        read_lag: By how many seconds reads are behind.
        trouble: What goes wrong with the next update.
        blind: What goes wrong with the next look.
        ignored: Updates that were confirmed and not carried out.
        token: The only key that opens the account.
        ledger: All changes in the order in which they took effect.
        sending: Is told of each update that arrives, and says who has sent it.
        landed: Is told of each of our own changes.
    """

    def __init__(self, clock: Callable[[], float], pace: Pace, token: str) -> None:
        super().__init__()
        self.clock = clock
        self.latest = NEARLY * pace.settle
        self.read_lag = 0.0
        self.trouble: Trouble | None = None
        self.blind: EndpointError | None = None
        self.token = token
        self.ignored = 0
        self.ledger: list[Landed] = []
        self.landed: Callable[[Landed], None] = lambda _: None
        self.due: list[_UnderWay] = []
        self.sending: Callable[[Mapping[FieldPath, Json]], object] = lambda _: "us"

    def observe(self, endpoint_id: str) -> Reading:
        """Read an endpoint as it was `read_lag` seconds ago, but with all that must be shown by now."""
        self.land_due()
        if self.blind is not None:
            error, self.blind = self.blind, None
            raise error
        reading = super().observe(endpoint_id)
        now = self.clock()
        shown = 1 + max(
            (each.number for each in self.ledger if each.at + self.read_lag <= now or each.shown_by <= now), default=0
        )
        return Reading(reading.versions[:shown], reading.word, reading.failure, reading.rolling)

    def update(self, endpoint_id: str, values: Mapping[FieldPath, Json], comment: str) -> Mapping[FieldPath, Json]:
        """Change an endpoint, with the trouble that is set for the next update."""
        self.land_due()
        call, trouble, self.trouble = Call(UPDATE, endpoint_id, dict(values), comment), self.trouble, None
        self.calls.append(call)
        self.ignored += trouble == IGNORED
        trouble, sender = trouble or Trouble(None, lands=0.0), self.sending(values)
        if trouble.lands is not None:
            now = self.clock()
            self.due.append(_UnderWay(call, now + min(trouble.lands, self.latest), now + self.latest, sender))
            self.land_due()
        if trouble.error is not None:
            raise trouble.error
        return self.endpoints[endpoint_id].versions[-1]

    def land_due(self) -> None:
        """What was to take effect by now has."""
        now = self.clock()
        for each in sorted((one for one in self.due if one.lands_at <= now), key=lambda one: one.lands_at):
            self.due.remove(each)
            self._commit(each)

    def foreign(self, endpoint_id: str, values: Mapping[FieldPath, Json]) -> None:
        """Somebody else changes the endpoint."""
        self.land_due()
        now = self.clock()
        self.change(endpoint_id, values)
        self._enter(endpoint_id, now, now + self.latest, None)

    def _commit(self, write: _UnderWay) -> None:
        self.change(write.call.endpoint_id, write.call.values)
        self._enter(write.call.endpoint_id, write.lands_at, write.shown_by, write.sender)

    def _enter(self, endpoint_id: str, at: float, shown_by: float, sender: object | None) -> None:
        number = len(self.endpoints[endpoint_id].versions) - 1
        entry = Landed(at, shown_by, endpoint_id, number, sender)
        self.ledger.append(entry)
        if sender is not None:
            self.landed(entry)


@dataclass(frozen=True, slots=True)
class TimedConnection(MemoryConnection):
    """Speaks to the account with one key; every answer takes its time."""

    account: TimedAccount
    token: str
    history: bool

    async def observe(self, ref: EndpointRef, look: Look) -> Observed:
        """Read the endpoint."""
        self._open()
        observed = await MemoryConnection.observe(self, ref, look if self.history else replace(look, history=False))
        await pause()
        return observed

    async def update(self, ref: EndpointRef, body: Json) -> None:
        """Change it."""
        self._open()
        try:
            await MemoryConnection.update(self, ref, body)
        finally:
            await pause()

    def _open(self) -> None:
        if self.token != self.account.token:
            raise CredentialsRejected("HTTP 401")


@dataclass
class TimedConnector(Connector):
    """Hands out such connections."""

    account: TimedAccount

    def connect(self, provider: str, credentials: Credentials, team: str | None) -> TimedConnection:
        """A connection for one key."""
        del provider, team
        return TimedConnection(self.account, credentials.token.get_secret_value(), self.history)
