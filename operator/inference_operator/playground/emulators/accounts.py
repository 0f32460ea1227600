"""Knows who calls: accounts, their tokens (as hashes only) and how fast each token may go."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

FINGERPRINT_LENGTH = 12


def fingerprint(token: str) -> str:
    """Returns the short name under which a token appears in the ledger: the head of its SHA-256."""
    return _digest(token)[:FINGERPRINT_LENGTH]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Bucket:
    """A token bucket that tells how long to wait."""

    __slots__ = ("_burst", "_level", "_rate", "_updated")

    def __init__(self, rate: float, burst: int, at: float) -> None:
        """Starts full.

        Args:
            rate: Requests per second that are given back.
            burst: Requests that may come at once.
            at: When it starts, monotonic seconds.
        """
        self._rate = rate
        self._burst = float(burst)
        self._level = float(burst)
        self._updated = at

    def take(self, at: float) -> float:
        """Takes one request; returns 0, or the seconds until there is one to take."""
        elapsed = max(at - self._updated, 0.0)
        self._level = min(self._burst, self._level + elapsed * self._rate)
        self._updated += elapsed
        if self._level < 1:
            return (1 - self._level) / self._rate
        self._level -= 1
        return 0.0


@dataclass(slots=True)
class Account:
    """A customer of a provider.

    Attributes:
        name: Name of the account, used by the control API.
        teams: Teams that its tokens may act as; the first is the default.
        buckets: Rate limit of each token, by fingerprint; absent means unlimited.
        tokens: Full hashes of the tokens that are accepted now.
        rate: Requests per second for each token, 0 for no limit.
        burst: Requests of each token that may come at once.
    """

    name: str
    teams: tuple[str, ...]
    rate: float = 0.0
    burst: int = 0
    tokens: frozenset[str] = frozenset()
    buckets: dict[str, Bucket] = field(default_factory=dict)


class Accounts:
    """All accounts of the emulated providers. No token is kept, only hashes."""

    def __init__(self) -> None:
        self._by_name: dict[str, Account] = {}
        self._by_token: dict[str, Account] = {}

    def __getitem__(self, name: str) -> Account:
        if name not in self._by_name:
            raise LookupError(f"there is no account {name!r}; add it first")
        return self._by_name[name]

    def add(self, account: Account, tokens: list[str]) -> None:
        """Adds an account, or replaces the one of that name."""
        self._by_name[account.name] = account
        self.set_tokens(account.name, tokens)

    def set_tokens(self, name: str, tokens: list[str]) -> None:
        """Replaces the tokens of an account; those that are not named are refused from now on."""
        account = self[name]
        account.tokens = frozenset(_digest(token) for token in tokens)
        self._by_token = {token: owner for owner in self._by_name.values() for token in owner.tokens}

    def set_rate(self, name: str, rate: float, burst: int) -> None:
        """Limits each token of an account to a rate per second (0: no limit) and a burst."""
        account = self[name]
        account.rate, account.burst, account.buckets = rate, burst, {}

    def identify(self, token: str) -> tuple[str, Account | None]:
        """Returns the fingerprint of a token and the account it belongs to, None where it is not accepted."""
        digest = _digest(token)
        return digest[:FINGERPRINT_LENGTH], self._by_token.get(digest)

    @staticmethod
    def wait_seconds(account: Account, token: str, at: float) -> float:
        """Counts one request of a token against its limit; returns 0, or the seconds it has to wait."""
        if not account.rate:
            return 0.0
        if token not in account.buckets:
            account.buckets[token] = Bucket(account.rate, account.burst, at)
        return account.buckets[token].take(at)
