"""Keeps all calls with one key within one rate, however many objects, passes and connections share the key.

The rate is the configured one until a provider answers 429: then it is halved, and recovers step by step. A limit that
is lower than what was configured is found so, instead of being run into for ever.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import hmac
import itertools
import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference_operator.errors import Throttled

if TYPE_CHECKING:
    from inference_operator.core.model import Credentials, Urgency

MOMENT = 1.0
"""Seconds of silence that a caller sits out; a longer one is an error at once, so that no pass hangs in it."""

SLOWEST = 1 / 16
"""Of the configured rate; never less, whatever the provider answers."""

RECOVERY_SECONDS = 60.0
"""Without a 429, after which rate and burst are doubled, up to what is configured."""

MANY = 1024
"""Budgets after which those at rest are dropped whenever a new key comes up; rotated keys never return."""

_HAIR = 1e-6
"""What may lack of a token: timers fire a hair early."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a key may call.

    Attributes:
        rate: Calls per second.
        burst: Calls that may be made at once after a rest; at least 1.
    """

    rate: float
    burst: float

    def slowed(self, configured: Pace) -> Pace:
        """What a 429 leaves of it."""
        return Pace(max(self.rate / 2, configured.rate * SLOWEST), 1)

    def recovered(self, configured: Pace, calm: float) -> Pace:
        """What it grows to in so many seconds without a 429."""
        growth = 2.0 ** min(max(calm, 0) // RECOVERY_SECONDS, 64)
        return Pace(min(self.rate * growth, configured.rate), min(self.burst * growth, configured.burst))


class Budget:
    """A token bucket that can be silenced, and is slower for a while after that.

    Args:
        rate: Calls per second.
        burst: Calls that may be made at once after a rest; at least 1.
        clock: Seconds, as the event loop counts them.
    """

    def __init__(self, *, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._configured = self._slowed = Pace(rate, burst)
        self._slowed_at = -math.inf
        self._silent_until = self._filled_at = clock()
        self._tokens = float(burst)
        self._waiting: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def silence(self) -> float:
        """Seconds until calls may be made again; 0 when they may now."""
        return max(0.0, self._silent_until - self._clock())

    @property
    def pace(self) -> Pace:
        """How fast calls may be made at the moment. Silence proves nothing, and is no recovery."""
        return self._slowed.recovered(self._configured, self._clock() - self._silent_until)

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return sum(not turn.done() for _, _, turn in self._waiting)

    @property
    def at_rest(self) -> bool:
        """Whether a fresh budget would behave the same."""
        self._fill()
        return not self.silence and self.pace == self._configured and self._tokens > self._configured.burst - _HAIR

    def pause(self, seconds: float, *, sent: float | None = None) -> None:
        """Let nobody call for so long, never shortening an earlier pause, and slow down.

        Calls that were sent before the last slowing say nothing about what it has left, so that the answers to one
        burst slow down once.

        Args:
            seconds: From now on.
            sent: When the call that was answered 429 was sent, by the clock; now where that is not known.
        """
        self._fill()
        now, pace = self._clock(), self.pace
        if sent is None or sent > self._slowed_at:
            pace, self._slowed_at = pace.slowed(self._configured), now
        self._slowed = pace
        self._silent_until = max(self._silent_until, now + seconds)
        self._tokens = min(self._tokens, pace.burst)
        if self.silence > MOMENT:
            self._wake_all()
        else:
            self._serve()

    def refuse_silence(self) -> None:
        """Refuse a call that would have to go out right now.

        Raises:
            Throttled: The budget is paused.
        """
        if (left := self.silence) > 0:
            raise Throttled("The provider has asked this key to slow down.", retry_after=left)

    async def take(self, urgency: Urgency) -> None:
        """Wait for the right to make one call; the most urgent of those that wait goes first.

        Raises:
            Throttled: The budget is paused for longer than a moment.
        """
        while True:
            if self.silence > MOMENT:
                self.refuse_silence()
            turn = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (-urgency, next(self._numbers), turn))
            self._serve()
            try:
                served = await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled() and turn.result():
                    self._tokens += 1
                    self._serve()
                raise
            if served and not self.silence:
                return  # else a token is lost: used after the pause, it would add to what has come in by then

    def _fill(self) -> None:
        now, pace = self._clock(), self.pace
        self._tokens = min(pace.burst, self._tokens + (now - self._filled_at) * pace.rate)
        self._filled_at = now

    def _serve(self) -> None:
        """Hand out the tokens that are there, and come back when there is another one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fill()
        while self._waiting:
            turn = self._waiting[0][2]
            if not turn.done():
                if self.silence or self._tokens < 1 - _HAIR:
                    break
                self._tokens -= 1
                turn.set_result(True)
            heapq.heappop(self._waiting)
        else:
            return
        due = max(self._silent_until, self._filled_at + (1 - self._tokens) / self.pace.rate)
        self._timer = turn.get_loop().call_at(due, self._serve)

    def _wake_all(self) -> None:
        for _, _, turn in self._waiting:
            if not turn.done():
                turn.set_result(False)
        self._waiting.clear()


class Budgets:
    """The budgets of all keys, found by digests that are worthless outside this process.

    Args:
        rate: Calls per second and key.
        burst: Calls that one key may make at once after a rest.
    """

    def __init__(self, *, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._salt = secrets.token_bytes(32)
        self._budgets: dict[tuple[str, bytes], Budget] = {}

    def of(self, origin: str, credentials: Credentials, scope: Iterable[tuple[str, str]]) -> Budget:
        """The budget of a key at an origin.

        Args:
            origin: Scheme and host.
            credentials: The key.
            scope: Headers that select what the key acts as (a team).
        """
        identity = repr((origin, credentials.token.get_secret_value(), sorted(scope)))
        key = origin, hmac.digest(self._salt, identity.encode(), hashlib.sha256)
        if key not in self._budgets:
            self._forget()
            self._budgets[key] = Budget(rate=self._rate, burst=self._burst)
        return self._budgets[key]

    def paused(self, origin: str) -> int:
        """How many keys of an origin are silenced."""
        return sum(budget.silence > 0 for budget in self._at(origin))

    def rate(self, origin: str) -> float:
        """Calls per second that the slowest key of an origin may make; the configured rate without any key."""
        return min((budget.pace.rate for budget in self._at(origin)), default=self._rate)

    def waiting(self, origin: str) -> int:
        """How many calls to an origin wait for their turn."""
        return sum(budget.waiting for budget in self._at(origin))

    def _at(self, origin: str) -> Iterator[Budget]:
        return (budget for (whose, _), budget in self._budgets.items() if whose == origin)

    def _forget(self) -> None:
        if len(self._budgets) >= MANY:
            self._budgets = {key: budget for key, budget in self._budgets.items() if not budget.at_rest}
