"""When to look again: the paces, the backoff and the deadlines. Time and randomness come in as values."""

from __future__ import annotations

from dataclasses import dataclass

from inference_operator.errors import CapacityUnavailable, EndpointError, InvalidSpec, Throttled, Unavailable

SLOW_FACTOR = 5
"""`slow` is this many polls (design of the error table)."""

SLOWEST_SECONDS = 3600.0
"""The longest pause between two tries of a refused write."""

FIRST_BACKOFF_SECONDS = 1.0
POLL_SPREAD = 0.1
"""Polls are spread by this fraction to either side, so that a fleet does not poll in step."""

MISSED_POLLS = 3
"""After so many polls without a read, what was last seen no longer counts as known."""

LIST_SHARE = 1 / 4
POLL_SHARE = 1 / 2
DRIFT_SHARE = 1 / 40
"""How much of a key's budget each kind of routine read may take; the rest is for what people have changed."""

POLLS_TOGETHER = 8
"""How many polls happen at the same moment, about."""

LONGEST_STEP = 1.0
"""Seconds between two moments for polls, so that calls stay spread from second to second."""

READS_OF_A_WHOLE_LOOK = 2
"""Calls of a look that a list has spared what it can."""

_MAX_DOUBLINGS = 32


@dataclass(frozen=True, slots=True)
class Pace:
    """All durations, in seconds; what each means stands with the setting of the same name.

    Attributes:
        rate: Calls per second that one key may make.

    Raises:
        ValueError: `settle` is shorter than `request_timeout`: a write could land after it was given up.
    """

    poll: float = 60.0
    transition_poll: float = 10.0
    settle: float = 60.0
    request_timeout: float = 30.0
    claim: float = 5.0
    drift: float = 600.0
    drift_cooldown: float = 600.0
    secret_grace: float = 120.0
    scale_interval: float = 60.0
    rate: float = 5.0

    def __post_init__(self) -> None:
        if self.settle < self.request_timeout:
            raise ValueError("settle must not be shorter than request_timeout")

    @property
    def quiet(self) -> float:
        """Q: after so long no write that anybody has begun can still land unseen."""
        return self.claim + self.request_timeout + self.settle

    @property
    def slow(self) -> float:
        """The pace for what only people or time can mend."""
        return SLOW_FACTOR * self.poll

    @property
    def within_a_poll(self) -> float:
        """A pause after which what has changed unwatched is still acted on within one poll."""
        return (1 - 2 * POLL_SPREAD) * self.poll

    @property
    def known_for(self) -> float:
        """How long a last look may stand in for a present one."""
        return MISSED_POLLS * self.poll

    def spread(self, seconds: float, jitter: float) -> float:
        """`seconds`, moved by up to a tenth to either side; `jitter` is uniform in [0, 1)."""
        return seconds * (1 + POLL_SPREAD * (2 * jitter - 1))

    def paging(self, pages: int) -> float:
        """The pause between two pages of an account's list: a list takes a poll, or as long as the budget wants."""
        return max(self.poll / max(1, pages), 1 / (LIST_SHARE * self.rate))

    def polling(self, resources: int) -> float:
        """How often an endpoint is polled by itself, one of so many of its account."""
        return max(self.poll, resources / (POLL_SHARE * self.rate))

    def polled_together(self, resources: int) -> float:
        """The moments for polls of so many endpoints are multiples of this, so that some happen at the same time.

        One after the other, each would find a processor that has done something else meanwhile, which doubles its cost.
        Many at once would hold up what is more urgent.
        """
        return min(LONGEST_STEP, POLLS_TOGETHER * self.polling(resources) / max(1, resources))

    def drifting(self, resources: int) -> float:
        """How often an endpoint at rest is read whole, one of so many of its account."""
        return max(self.drift, resources * READS_OF_A_WHOLE_LOOK / (DRIFT_SHARE * self.rate))

    def backoff(self, attempt: int, jitter: float) -> float:
        """Full jitter below 1 s, 2 s, 4 s, … up to one poll; `attempt` counts from 0."""
        return jitter * min(self.poll, FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt, _MAX_DOUBLINGS))

    def eager(self, attempt: int) -> float:
        """0.25 s, 0.5 s, … up to one transition poll: for a write whose effect should show any moment."""
        return min(self.transition_poll, FIRST_BACKOFF_SECONDS / 4 * 2.0 ** min(attempt, _MAX_DOUBLINGS))

    def holding(self, looks: int, remaining: float, *, took: float) -> float:
        """The pause after the `looks`-th look at an undecided write, which can land for `remaining` seconds more.

        What arrived shows at once. Where this process waited long before it gave up, which `took` so many seconds,
        the provider may only be slow, and one more look soon may tell; else only the look at the end can.
        """
        if remaining <= 0:
            return self.transition_poll
        soon = took >= self.transition_poll and looks <= 1
        return min(self.transition_poll, remaining) if soon else remaining

    def refused(self, attempt: int) -> float:
        """The pause before a refused write is tried once more: slow, doubling to an hour."""
        return max(self.slow, min(SLOWEST_SECONDS, self.slow * 2.0 ** min(attempt, _MAX_DOUBLINGS)))

    def after(self, error: EndpointError, attempt: int, jitter: float) -> float:
        """The pause after an error, for the `attempt`-th time in a row, counted from 0."""
        match error:
            case Throttled():
                return error.retry_after + self.backoff(attempt, jitter)
            case Unavailable():
                return self.backoff(attempt, jitter)
            case InvalidSpec():
                return self.refused(attempt)
            case CapacityUnavailable() | EndpointError():
                return self.spread(self.slow, jitter)
