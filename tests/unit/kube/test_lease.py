from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_operator.kube import lease as module
from inference_operator.kube.lease import Lease, LeaseError, LeaseLost
from memory_api import Late, MemoryApi
from virtual_time import in_virtual_time, now

PATH = "/apis/coordination.k8s.io/v1/namespaces/home/leases/inference-operator"
LOST = aiohttp.ServerDisconnectedError()


def lease(api: MemoryApi, identity: str = "one", *, election: bool = True) -> Lease:
    return Lease(api, namespace="home", name="inference-operator", identity=identity, election=election, clock=now)


def holder(api: MemoryApi) -> str:
    return str(api.objects[PATH]["spec"]["holderIdentity"])


def run(scenario: Coroutine[Any, Any, None]) -> None:
    in_virtual_time(scenario)


@pytest.mark.parametrize("election", [True, False])
def test_the_first_process_ever_finds_no_lease_and_the_next_one_finds_its(*, election: bool) -> None:
    async def scenario() -> None:
        api = MemoryApi()
        first = lease(api, "one", election=election)
        assert first.acquired_at is None
        await first.acquire()
        assert first.acquired_at == 0
        assert not first.existed
        assert first.may_write()
        assert holder(api) == "one"
        await first.release()
        assert holder(api) == ""
        assert api.objects[PATH]["spec"]["leaseDurationSeconds"] == 1
        second = lease(api, "two", election=election)
        await second.acquire()
        assert second.existed
        assert holder(api) == "two"
        assert api.objects[PATH]["spec"]["leaseTransitions"] == 1
        assert now() == 0  # a released Lease is not waited for

    run(scenario())


def test_a_standby_takes_over_once_the_lease_has_not_changed_for_its_duration() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active, standby = lease(api, "one"), lease(api, "two")
        await active.acquire()
        keeping = asyncio.create_task(active.keep())
        waiting = asyncio.create_task(standby.acquire())
        await asyncio.sleep(100)
        assert not waiting.done()
        assert not standby.may_write()
        keeping.cancel()  # killed
        dead = now()
        while not waiting.done():
            # never both: the one stops before the other begins
            assert not (active.may_write() and standby.may_write())
            await asyncio.sleep(0.1)
        assert module.DURATION_SECONDS - 2 <= now() - dead <= module.DURATION_SECONDS + 4
        assert not active.may_write()
        assert standby.may_write()
        assert standby.existed
        assert standby.acquired_at is not None
        assert now() - standby.acquired_at < 1

    run(scenario())


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


def test_the_deadline_counts_from_the_question_and_not_from_the_answer() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        api.faults.extend([None, Late(2.5)])
        active = lease(api)
        await active.acquire()
        assert now() == 2.5
        await asyncio.sleep(module.DEADLINE_SECONDS - 2.6)
        assert active.may_write()
        await asyncio.sleep(0.1)
        assert not active.may_write()

    run(scenario())


def test_a_holder_whose_lease_was_taken_ends_at_once() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active = lease(api)
        await active.acquire()
        api.put(PATH, {**api.objects[PATH], "spec": {"holderIdentity": "two", "leaseDurationSeconds": 15}})
        with pytest.raises(LeaseLost, match="home/inference-operator"):
            await active.keep()
        assert now() == module.RETRY_SECONDS

    run(scenario())


@pytest.mark.parametrize("faults", [[LOST], [500, 503], [429], [4.0], [403], [LOST, LOST], [None, 409, 409]])
@pytest.mark.parametrize("election", [True, False])
def test_passing_troubles_do_not_cost_the_lease(faults: list[Any], *, election: bool) -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active = lease(api, election=election)
        await active.acquire()
        api.faults.extend(faults)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await active.keep()
        assert active.may_write()
        assert holder(api) == "one"
        assert not active.existed

    run(scenario())


def test_a_lease_that_somebody_edits_or_deletes_is_taken_up_again() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active = lease(api)
        await active.acquire()
        keeping = asyncio.create_task(active.keep())
        await asyncio.sleep(3)
        api.put(PATH, api.objects[PATH])
        await asyncio.sleep(3)
        del api.objects[PATH]
        await asyncio.sleep(3)
        assert not keeping.done()
        assert holder(api) == "one"
        keeping.cancel()

    run(scenario())


def test_without_election_two_processes_may_both_write() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        both = [lease(api, name, election=False) for name in ("one", "two")]
        for each in both:
            await each.acquire()
        keeping = [asyncio.create_task(each.keep()) for each in both]
        await asyncio.sleep(60)
        assert not any(task.done() for task in keeping)
        assert all(each.may_write() for each in both)
        assert [each.existed for each in both] == [False, True]
        for task in keeping:
            task.cancel()

    run(scenario())


def test_a_lost_answer_to_the_first_write_counts_as_a_predecessor() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        api.faults.extend([None, LOST])  # read: none; created, but the answer is lost
        only = lease(api)
        await only.acquire()
        assert only.existed  # too careful by one wait
        assert only.may_write()

    run(scenario())


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([403], "grant get, create and patch on leases.coordination.k8s.io there, or set --lease-namespace"),
        ([None, 404], "create the namespace, or set --lease-namespace"),
        ([None, 400], "told to"),
    ],
)
def test_what_waiting_does_not_cure_is_said_with_its_cure(faults: list[Any], message: str) -> None:
    async def scenario() -> None:
        api = MemoryApi()
        api.faults.extend(faults)
        with pytest.raises(LeaseError, match=message) as caught:
            await lease(api).acquire()
        assert "'inference-operator'" in str(caught.value)
        assert "'home'" in str(caught.value)

    run(scenario())


def test_acquiring_waits_for_an_api_server_that_is_away() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        api.faults.extend([503, 60.0, 409])
        await lease(api).acquire()
        assert holder(api) == "one"
        assert len(api.requests) == 5

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


Trouble = str | int | float | Exception
TROUBLES: list[Trouble] = ["kill the first", "kill the last", LOST, 500, 409, 3.5, 0.7, 20.0]


def cause(trouble: Trouble, api: MemoryApi, alive: list[asyncio.Task[None]]) -> None:
    match trouble:
        case "kill the first":
            alive[0].cancel()
        case "kill the last":
            alive[-1].cancel()
        case str():
            raise AssertionError(trouble)
        case _:
            api.faults.append(trouble)


@settings(max_examples=100, deadline=None)
@given(troubles=st.lists(st.tuples(st.integers(0, 199), st.sampled_from(TROUBLES)), max_size=30))
def test_never_two_at_a_time(troubles: list[tuple[int, Trouble]]) -> None:
    """Two candidates at any time, which die, hang and lose requests; whoever may write is alone at that moment."""

    async def candidate(each: Lease) -> None:
        with suppress(LeaseLost):
            await each.acquire()
            await each.keep()

    async def scenario() -> None:
        api = MemoryApi()
        ever: list[Lease] = []
        alive: list[asyncio.Task[None]] = []
        for step in range(300):
            if step == 200:
                api.faults.clear()
            alive = [task for task in alive if not task.done()]
            while len(alive) < 2:
                ever.append(lease(api, f"process {len(ever)}"))
                alive.append(asyncio.create_task(candidate(ever[-1])))
            for at, trouble in troubles:
                if at == step:
                    cause(trouble, api, alive)
            await asyncio.sleep(0.5)
            assert sum(each.may_write() for each in ever) <= 1
        assert any(each.may_write() for each in ever)  # there was no trouble for long enough
        for task in alive:
            task.cancel()

    run(scenario())
