from __future__ import annotations

import asyncio

import pytest

from inference_operator.kube import lease as module
from inference_operator.kube.lease import LeaseLost
from leases import PATH, holder, lease, run
from memory_api import Late, MemoryApi
from virtual_time import now


def test_a_holder_that_cannot_renew_stops_writing_and_ends() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active = lease(api)
        await active.acquire()
        api.faults.extend([60.0] * 100)
        with pytest.raises(LeaseLost):
            await active.keep()
        assert not active.may_write()
        assert module.DEADLINE_SECONDS <= now() <= module.DURATION_SECONDS

    run(scenario())


def test_a_holder_whose_lease_was_taken_ends_at_once() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active = lease(api)
        await active.acquire()
        api.put(PATH, {**api.objects[PATH], "spec": {"holderIdentity": "two", "leaseDurationSeconds": 15}})
        with pytest.raises(LeaseLost, match="home/inference-operator"):
            await active.keep()
        assert now() == module.RETRY_SECONDS  # long before its own deadline
        assert not active.may_write()
        await active.release()
        assert holder(api) == "two"

    run(scenario())


@pytest.mark.parametrize("election", [True, False])
def test_a_process_is_active_from_getting_its_lease_until_it_lets_go_of_it(*, election: bool) -> None:
    async def scenario() -> None:
        only = lease(MemoryApi(), election=election)
        seen = [only.may_write()]
        await only.acquire()
        seen.append(only.may_write())
        await only.release()
        seen.append(only.may_write())
        assert seen == [False, True, False]

    run(scenario())


def test_a_holder_without_an_answer_ends_at_its_deadline_after_four_attempts() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active = lease(api)
        await active.acquire()
        before = len(api.requests)
        api.faults.extend([60.0] * 100)
        with pytest.raises(LeaseLost):
            await active.keep()
        assert now() == module.DEADLINE_SECONDS
        assert len(api.requests) - before == 4

    run(scenario())


CUT_OFF = [Late(1.0), 1.0]


@pytest.mark.parametrize("fate", CUT_OFF, ids=["carried out", "not carried out"])
def test_a_renewal_that_is_cut_off_by_the_end_does_not_keep_the_lease(fate: Late | float) -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active = lease(api)
        await active.acquire()
        keeping = asyncio.create_task(active.keep())
        await asyncio.sleep(module.RETRY_SECONDS - 0.1)
        api.faults.append(fate)
        await asyncio.sleep(0.2)
        keeping.cancel()
        await active.release()
        assert holder(api) == ""

    run(scenario())


@pytest.mark.parametrize("fate", CUT_OFF, ids=["carried out", "not carried out"])
def test_a_standby_that_ends_while_it_takes_over_leaves_nothing_behind(fate: Late | float) -> None:
    async def scenario() -> None:
        api = MemoryApi()
        first, second, third = (lease(api, name) for name in ("one", "two", "three"))
        await first.acquire()
        await first.release()
        api.faults.extend([None, fate])
        taking = asyncio.create_task(second.acquire())
        await asyncio.sleep(0.5)
        taking.cancel()
        await second.release()
        assert not second.may_write()
        await third.acquire()
        assert now() < 1

    run(scenario())


def test_a_standby_that_ends_asks_nobody() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        first, second = lease(api, "one"), lease(api, "two")
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(0.5)
        waiting.cancel()
        before = len(api.requests)
        await second.release()
        assert len(api.requests) == before
        assert holder(api) == "one"

    run(scenario())


def test_failing_to_release_is_harmless() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active = lease(api)
        await active.release()  # never held
        await active.acquire()
        api.faults.append(500)
        await active.release()
        assert not active.may_write()
        assert holder(api) == "one"

    run(scenario())
