import asyncio
import itertools
import time

import pytest
from pydantic import SecretStr

from inference_operator.core.model import Credentials, Urgency
from inference_operator.errors import Throttled
from inference_operator.providers import budget as module
from inference_operator.providers.budget import RECOVERY_SECONDS, Budget, Budgets
from virtual_time import in_virtual_time, now

ORIGIN = "https://api.example"


def key(token: str) -> Credentials:
    return Credentials(SecretStr(token))


async def seconds(budget: Budget, calls: int) -> float:
    started = time.monotonic()
    for _ in range(calls):
        await budget.take(Urgency.ROLLOUT)
    return time.monotonic() - started


async def test_a_burst_goes_out_at_once_and_the_rest_at_the_rate() -> None:
    budget = Budget(rate=20, burst=40)
    assert await seconds(budget, 40) < 1
    assert 0.4 < await seconds(budget, 10) < 5


async def test_a_burst_of_one_serves_reads_and_writes() -> None:
    budget = Budget(rate=100, burst=1)
    served = 0
    async with asyncio.timeout(5):
        for urgency in (Urgency.WRITE, Urgency.ROUTINE, Urgency.WRITE, Urgency.ROLLOUT):
            await budget.take(urgency)
            served += 1
    assert served == 4


async def test_of_the_calls_that_wait_the_most_urgent_goes_first_and_of_those_the_oldest() -> None:
    budget = Budget(rate=20, burst=1)
    await budget.take(Urgency.ROUTINE)
    order: list[str] = []

    async def call(urgency: Urgency, number: int) -> None:
        await budget.take(urgency)
        order.append(f"{urgency.name} {number}")

    async with asyncio.TaskGroup() as waiting:
        for number in range(2):
            for urgency in Urgency:
                waiting.create_task(call(urgency, number))
                await asyncio.sleep(0)
    assert order == ["WRITE 0", "WRITE 1", "ROLLOUT 0", "ROLLOUT 1", "ROUTINE 0", "ROUTINE 1"]


async def test_a_cancelled_waiter_costs_nobody_a_turn() -> None:
    budget = Budget(rate=20, burst=1)
    await budget.take(Urgency.ROLLOUT)
    gone = asyncio.create_task(budget.take(Urgency.WRITE))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait_for(budget.take(Urgency.ROLLOUT), 1)
    assert gone.cancelled()


async def test_a_moment_of_silence_is_sat_out() -> None:
    budget = Budget(rate=1000, burst=10)
    budget.pause(0.2)
    assert 0.19 < await seconds(budget, 1) < 5


async def test_a_longer_silence_is_an_error_at_once() -> None:
    budget = Budget(rate=1000, burst=10)
    budget.pause(30)
    started = time.monotonic()
    with pytest.raises(Throttled) as caught:
        await budget.take(Urgency.ROLLOUT)
    assert time.monotonic() - started < 0.5
    assert 29 < caught.value.retry_after <= 30
    assert not any(character.isdigit() for character in caught.value.message)  # it stands in status


async def test_whoever_waits_when_a_long_silence_begins_is_told() -> None:
    budget = Budget(rate=10, burst=1)
    await budget.take(Urgency.ROLLOUT)
    waiting = asyncio.create_task(budget.take(Urgency.WRITE))
    await asyncio.sleep(0)
    budget.pause(30)
    with pytest.raises(Throttled):
        await waiting


async def test_nobody_passes_during_a_silence_that_begins_while_waiting() -> None:
    budget = Budget(rate=20, burst=1)
    await budget.take(Urgency.ROLLOUT)
    waiting = asyncio.create_task(seconds(budget, 1))
    await asyncio.sleep(0)
    budget.pause(0.4)
    assert await waiting >= 0.39


async def test_a_silence_is_never_shortened() -> None:
    budget = Budget(rate=1000, burst=10)
    budget.pause(30)
    budget.pause(1)
    assert budget.silence > 29


async def test_after_a_silence_no_more_than_a_burst_goes_out() -> None:
    budget = Budget(rate=20, burst=5)
    budget.pause(0.5)
    passed: list[float] = []

    async def call() -> None:
        await budget.take(Urgency.ROLLOUT)
        passed.append(time.monotonic())

    await asyncio.gather(*(call() for _ in range(15)))
    assert sum(at - passed[0] < 0.03 for at in passed) <= 6


async def test_a_call_that_is_given_up_as_it_gets_its_turn_hands_it_on() -> None:
    budget = Budget(rate=0.01, burst=1)
    await budget.take(Urgency.ROUTINE)
    gone = asyncio.create_task(budget.take(Urgency.WRITE))
    await asyncio.sleep(0)
    budget._tokens = 1.0
    budget._serve()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(budget.take(Urgency.ROUTINE), 5)


# ── slower after a 429 ────────────────────────────────────────────────────────────────────────────────


async def test_each_429_halves_the_rate_down_to_a_sixteenth_and_leaves_no_burst() -> None:
    budget = Budget(rate=16, burst=20)
    paces = []
    for _ in range(6):
        budget.pause(0.0)
        paces.append((budget.pace.rate, budget.pace.burst))
    assert paces == [(8, 1), (4, 1), (2, 1), (1, 1), (1, 1), (1, 1)]


async def test_the_answers_to_one_burst_slow_down_once() -> None:
    budget = Budget(rate=16, burst=20)
    sent = time.monotonic()
    for _ in range(9):
        budget.pause(30, sent=sent)
    assert budget.pace.rate == 8
    budget.pause(30, sent=time.monotonic())
    assert budget.pace.rate == 4


def test_a_429_to_an_old_call_halves_nothing_but_is_no_calm() -> None:
    async def scenario() -> list[float]:
        budget = Budget(rate=16, burst=20, clock=now)
        budget.pause(1, sent=now())
        await asyncio.sleep(RECOVERY_SECONDS - 1)
        budget.pause(1, sent=-1.0)
        rates = [budget.pace.rate]
        for seconds in (RECOVERY_SECONDS, 2):
            await asyncio.sleep(seconds)
            rates.append(budget.pace.rate)
        return rates

    assert in_virtual_time(scenario()) == [8, 8, 16]


def test_rate_and_burst_are_doubled_with_every_minute_after_the_silence_until_they_are_as_configured() -> None:
    async def scenario() -> list[tuple[float, float]]:
        budget = Budget(rate=16, burst=5, clock=now)
        for _ in range(2):
            budget.pause(600)
        paces = []
        for seconds in (599, RECOVERY_SECONDS, 2, RECOVERY_SECONDS, RECOVERY_SECONDS, RECOVERY_SECONDS, 10**5):
            await asyncio.sleep(seconds)
            paces.append((budget.pace.rate, budget.pace.burst))
        return paces

    assert in_virtual_time(scenario()) == [(4, 1), (4, 1), (8, 2), (16, 4), (16, 5), (16, 5), (16, 5)]


def test_calls_go_out_at_the_pace_of_the_moment() -> None:
    """A rest of a minute between the calls would fill a bucket of 20, but after a 429 it holds one."""

    async def scenario() -> list[float]:
        budget = Budget(rate=4, burst=20, clock=now)
        budget.pause(1)
        times = []
        for _ in range(4):
            await budget.take(Urgency.ROLLOUT)
            times.append(now())
        await asyncio.sleep(3 * RECOVERY_SECONDS)
        for _ in range(10):
            await budget.take(Urgency.ROLLOUT)
            times.append(now() - 3 * RECOVERY_SECONDS)
        return times

    gaps = [after - before for before, after in itertools.pairwise([0.0, *in_virtual_time(scenario())])]
    assert gaps == pytest.approx([1, 0.5, 0.5, 0.5, *[0] * 8, 0.25, 0.25], abs=0.001)


def test_a_limit_far_below_the_configured_rate_is_found_and_kept_to() -> None:
    """Three calls belong together, and each 429 undoes what they had: at 5 calls a second nobody would ever finish."""

    async def scenario() -> tuple[list[float], int]:
        budget = Budget(rate=5, burst=20, clock=now)
        free_at, refused, finished = 0.0, 0, []

        async def call() -> None:
            nonlocal free_at, refused
            await budget.take(Urgency.ROLLOUT)
            sent = now()
            await asyncio.sleep(0.05)
            if sent < free_at:
                refused += 1
                budget.pause(1, sent=sent)
                raise ConnectionRefusedError
            free_at = sent + 1

        async def look() -> None:
            while True:
                results = await asyncio.gather(call(), call(), call(), return_exceptions=True)
                if not any(results):
                    break
                await asyncio.sleep(1)
            finished.append(now())

        await asyncio.gather(look(), look(), look())
        return finished, refused

    finished, refused = in_virtual_time(scenario())
    assert len(finished) == 3
    assert max(finished) < 60
    assert refused <= 12  # the 8 of the first burst, and one or so for each halving


async def test_one_key_has_one_budget_and_another_key_team_or_origin_has_its_own() -> None:
    budgets = Budgets(rate=5, burst=20)
    one = budgets.of(ORIGIN, key("a"), {}.items())
    assert budgets.of(ORIGIN, key("a"), {}.items()) is one
    others = [
        budgets.of(ORIGIN, key("b"), {}.items()),
        budgets.of("https://api.example:444", key("a"), {}.items()),
        budgets.of(ORIGIN, key("a"), {"Team": "t"}.items()),
    ]
    assert len({id(each) for each in [one, *others]}) == 4


async def test_nothing_that_is_kept_shows_the_key() -> None:
    budgets = Budgets(rate=5, burst=20)
    budgets.of(ORIGIN, key("flp_secret_value"), {}.items())
    assert "flp_secret" not in repr(vars(budgets))


async def test_budgets_at_rest_are_dropped_and_those_that_would_not_behave_like_new_ones_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MANY", 4)
    budgets = Budgets(rate=5, burst=20)
    silent, used, slow, idle = (
        budgets.of(ORIGIN, key(name), {}.items()) for name in ("silent", "used", "slow", "idle")
    )
    silent.pause(30)
    await used.take(Urgency.ROLLOUT)
    slow.pause(0.0)
    budgets.of(ORIGIN, key("new"), {}.items())
    assert budgets.of(ORIGIN, key("silent"), {}.items()) is silent
    assert budgets.of(ORIGIN, key("used"), {}.items()) is used
    assert budgets.of(ORIGIN, key("slow"), {}.items()) is slow
    assert budgets.of(ORIGIN, key("idle"), {}.items()) is not idle


async def test_the_paused_keys_of_an_origin_are_counted() -> None:
    budgets = Budgets(rate=5, burst=20)
    one, other, elsewhere = (
        budgets.of(ORIGIN, key("a"), {}.items()),
        budgets.of(ORIGIN, key("b"), {}.items()),
        budgets.of("https://api.example:444", key("a"), {}.items()),
    )
    assert budgets.paused(ORIGIN) == 0
    for budget in (one, other, elsewhere):
        budget.pause(30)
    assert budgets.paused(ORIGIN) == 2
    other.pause(0.0)  # never shortens
    assert budgets.paused("https://api.example:444") == 1
    assert budgets.paused("https://nobody.example") == 0


async def test_the_slowest_key_of_an_origin_and_the_calls_that_wait_are_told() -> None:
    budgets = Budgets(rate=5, burst=1)
    assert (budgets.rate(ORIGIN), budgets.waiting(ORIGIN)) == (5, 0)
    one, other = (budgets.of(ORIGIN, key(name), {}.items()) for name in "ab")
    budgets.of("https://api.example:444", key("a"), {}.items()).pause(30)
    assert (budgets.rate(ORIGIN), budgets.waiting(ORIGIN)) == (5, 0)
    other.pause(0.0)
    for budget in (one, other):
        await budget.take(Urgency.WRITE)
    waiting = [asyncio.create_task(budget.take(Urgency.WRITE)) for budget in (one, other, other)]
    await asyncio.sleep(0)
    assert (budgets.rate(ORIGIN), budgets.waiting(ORIGIN)) == (2.5, 3)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert budgets.waiting(ORIGIN) == 0
