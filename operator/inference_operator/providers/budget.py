"""Keeps all calls with one key within one rate, however many objects, passes and connections share the key."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

from inference_operator.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inference_operator.core.model import Credentials

READ = 1.0
WRITE = 1.0 - 1e-9
"""What a write takes: a hair less than a read, because the limiter serves the smallest waiting amount first."""

MOMENT = 1.0
"""Seconds of silence that a caller sits out; a longer one is an error at once, so that no pass hangs in it."""

MANY = 1024
"""Budgets after which those at rest are dropped whenever a new key comes up; rotated keys never return."""


class Budget:
    """A token bucket that can be silenced.

    Args:
        rate: Calls per second.
        burst: Calls that may be made at once after a rest; at least 1.
    """

    def __init__(self, *, rate: float, burst: int) -> None:
        self._limiter = AsyncLimiter(burst, burst / rate)
        self._silent_until = 0.0

    @property
    def silence(self) -> float:
        """Seconds until calls may be made again; 0 when they may now."""
        return max(0.0, self._silent_until - time.monotonic())

    @property
    def at_rest(self) -> bool:
        """Whether a fresh budget would behave the same."""
        return not self.silence and self._limiter.has_capacity(self._limiter.max_rate)

    def pause(self, seconds: float) -> None:
        """Let nobody call for so long; never shortens an earlier pause."""
        self._silent_until = max(self._silent_until, time.monotonic() + seconds)

    def refuse_silence(self) -> None:
        """Refuse a call that would have to go out right now.

        Raises:
            Throttled: The budget is paused.
        """
        if (left := self.silence) > 0:
            raise Throttled("The provider has asked this key to slow down.", retry_after=left)

    async def take(self, *, write: bool) -> None:
        """Wait for the right to make one call; waiting writes go before waiting reads.

        Raises:
            Throttled: The budget is paused for longer than a moment.
        """
        await self._sit_out()
        while True:
            await self._limiter.acquire(WRITE if write else READ)
            if not self.silence:
                return
            await self._sit_out()  # the token is lost: used after the pause, it would add to a full bucket

    async def _sit_out(self) -> None:
        while (left := self.silence) > 0:
            if left > MOMENT:
                self.refuse_silence()
            await asyncio.sleep(left)


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
        return sum(budget.silence > 0 for (whose, _), budget in self._budgets.items() if whose == origin)

    def _forget(self) -> None:
        if len(self._budgets) >= MANY:
            self._budgets = {key: budget for key, budget in self._budgets.items() if not budget.at_rest}
