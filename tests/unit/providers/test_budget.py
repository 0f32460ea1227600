import asyncio
import time

import pytest
from pydantic import SecretStr

from inference_operator.core.model import Credentials
from inference_operator.errors import Throttled
from inference_operator.providers import budget as module
from inference_operator.providers.budget import Budget, Budgets

ORIGIN = "https://api.example"


def key(token: str) -> Credentials:
    return Credentials(SecretStr(token))


async def seconds(budget: Budget, calls: int) -> float:
    started = time.monotonic()
    for _ in range(calls):
        await budget.take(write=False)
    return time.monotonic() - started


async def test_a_burst_goes_out_at_once_and_the_rest_at_the_rate() -> None:
    budget = Budget(rate=20, burst=40)
    assert await seconds(budget, 40) < 1
    assert 0.4 < await seconds(budget, 10) < 5


async def test_a_burst_of_one_serves_reads_and_writes() -> None:
    budget = Budget(rate=100, burst=1)
    served = 0
    async with asyncio.timeout(5):
        for write in (True, False, True, False):
            await budget.take(write=write)
            served += 1
    assert served == 4


async def test_waiting_writes_go_before_waiting_reads() -> None:
    budget = Budget(rate=4, burst=1)
    await budget.take(write=False)
    order: list[str] = []

    async def call(name: str, *, write: bool) -> None:
        await budget.take(write=write)
        order.append(name)

    reads = [asyncio.create_task(call(f"read {n}", write=False)) for n in range(3)]
    await asyncio.sleep(0)
    writes = [asyncio.create_task(call(f"write {n}", write=True)) for n in range(3)]
    await asyncio.gather(*reads, *writes)
    assert order == ["write 0", "write 1", "write 2", "read 0", "read 1", "read 2"]


async def test_a_cancelled_waiter_costs_nobody_a_turn() -> None:
    budget = Budget(rate=20, burst=1)
    await budget.take(write=False)
    gone = asyncio.create_task(budget.take(write=True))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait_for(budget.take(write=False), 1)
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
        await budget.take(write=False)
    assert time.monotonic() - started < 0.5
    assert 29 < caught.value.retry_after <= 30
    assert not any(character.isdigit() for character in caught.value.message)  # it stands in status


async def test_whoever_waits_when_a_long_silence_begins_is_told() -> None:
    budget = Budget(rate=10, burst=1)
    await budget.take(write=False)
    waiting = asyncio.create_task(budget.take(write=True))
    await asyncio.sleep(0)
    budget.pause(30)
    with pytest.raises(Throttled):
        await waiting


async def test_nobody_passes_during_a_silence_that_begins_while_waiting() -> None:
    budget = Budget(rate=20, burst=1)
    await budget.take(write=False)
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
        await budget.take(write=False)
        passed.append(time.monotonic())

    await asyncio.gather(*(call() for _ in range(15)))
    assert sum(at - passed[0] < 0.03 for at in passed) <= 6


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


async def test_budgets_at_rest_are_dropped_and_those_in_use_or_silent_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY", 3)
    budgets = Budgets(rate=5, burst=20)
    silent, used, idle = (budgets.of(ORIGIN, key(name), {}.items()) for name in ("silent", "used", "idle"))
    silent.pause(30)
    await used.take(write=False)
    budgets.of(ORIGIN, key("new"), {}.items())
    assert budgets.of(ORIGIN, key("silent"), {}.items()) is silent
    assert budgets.of(ORIGIN, key("used"), {}.items()) is used
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
