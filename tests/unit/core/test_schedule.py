"""How long to wait: every pause by its formula."""

from __future__ import annotations

import pytest

from inference_operator.core.schedule import Pace
from inference_operator.errors import (
    CapacityUnavailable,
    CredentialsRejected,
    EndpointError,
    InvalidSpec,
    NotFound,
    Throttled,
    Unavailable,
)

PACE = Pace(poll=60, transition_poll=10, settle=70, request_timeout=30, claim=5)


def test_the_durations_that_follow_from_others() -> None:
    assert PACE.quiet == 5 + 30 + 70
    assert PACE.slow == 300
    assert PACE.known_for == 180
    assert PACE.within_a_poll == pytest.approx(48)


def test_settling_may_take_exactly_as_long_as_a_call() -> None:
    assert Pace(settle=30, request_timeout=30).quiet == 65


@pytest.mark.parametrize(("jitter", "seconds"), [(0, 90), (0.5, 100), (1, 110)])
def test_polls_are_spread_by_a_tenth_to_either_side(jitter: float, seconds: float) -> None:
    assert PACE.spread(100, jitter) == pytest.approx(seconds)


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 1), (1, 2), (5, 32), (6, 60), (40, 60), (10_000, 60)])
def test_the_backoff_doubles_up_to_a_poll_with_full_jitter(attempt: int, seconds: float) -> None:
    assert PACE.backoff(attempt, 1.0) == seconds
    assert PACE.backoff(attempt, 0.5) == seconds / 2
    assert PACE.backoff(attempt, 0.0) == 0


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 0.25), (1, 0.5), (5, 8), (6, 10), (10_000, 10)])
def test_a_write_is_looked_for_eagerly_at_first(attempt: int, seconds: float) -> None:
    assert PACE.eager(attempt) == seconds


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 300), (1, 600), (3, 2400), (4, 3600), (10_000, 3600)])
def test_a_refused_write_waits_up_to_an_hour(attempt: int, seconds: float) -> None:
    assert PACE.refused(attempt) == seconds


def test_a_refused_write_never_waits_less_than_slow() -> None:
    assert Pace(poll=2000, settle=60, request_timeout=30).refused(3) == 10_000


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Throttled("x", retry_after=7), 7 + 2),
        (Unavailable("x"), 2),
        (InvalidSpec("x"), 1200),
        (CapacityUnavailable("x"), 300),
        (CredentialsRejected("x"), 300),
        (NotFound("x"), 300),
    ],
)
def test_each_error_has_its_pause(error: EndpointError, seconds: float) -> None:
    assert PACE.after(error, 2, 0.5) == pytest.approx(seconds)


def test_slow_pauses_are_spread_and_doubling_ones_are_not() -> None:
    assert PACE.after(NotFound("x"), 0, 1.0) == pytest.approx(330)
    assert PACE.after(InvalidSpec("x"), 0, 1.0) == 300


@pytest.mark.parametrize(
    ("looks", "remaining", "took", "pause"),
    [
        pytest.param(1, 60.0, 10.0, 10.0, id="soon after a long wait"),
        pytest.param(1, 4.0, 10.0, 4.0, id="not after the end"),
        pytest.param(2, 50.0, 10.0, 50.0, id="then at the end"),
        pytest.param(1, 60.0, 9.9, 60.0, id="only at the end after a short wait"),
        pytest.param(1, 95.0, 0.0, 95.0, id="another's only at the end"),
        pytest.param(2, 0.5, 0.0, 0.5, id="the last half second counts"),
        pytest.param(2, 0.0, 10.0, 10.0, id="the end was missed by a moment"),
        pytest.param(1, -1.0, 0.0, 10.0, id="the end was missed by a moment, another's"),
    ],
)
def test_an_undecided_write_is_looked_at_when_a_look_may_tell(
    looks: int,
    remaining: float,
    took: float,
    pause: float,
) -> None:
    assert Pace(transition_poll=10).holding(looks, remaining, took=took) == pause


@pytest.mark.parametrize(("resources", "seconds"), [(0, 1), (1, 1), (480, 1), (960, 0.5), (4800, 0.1)])
def test_about_eight_polls_happen_at_the_same_time_and_never_those_of_more_than_a_second(
    resources: int, seconds: float
) -> None:
    assert Pace(rate=10_000).polled_together(resources) == pytest.approx(seconds)


def test_polls_that_a_budget_stretches_happen_together_no_longer() -> None:
    assert Pace(rate=2).polled_together(1000) == 1
