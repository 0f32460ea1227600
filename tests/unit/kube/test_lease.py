from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest

from inference_operator.kube import lease as module
from inference_operator.kube.lease import Lease, LeaseError
from leases import LOST, PATH, holder, lease, run
from memory_api import Late, MemoryApi
from virtual_time import now


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


def test_the_deadline_counts_from_the_question_and_not_from_the_answer() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        api.faults.extend([None, Late(1.25)])
        active = lease(api)
        await active.acquire()
        assert now() == 1.25
        await asyncio.sleep(module.DEADLINE_SECONDS - 1.5)
        assert active.may_write()
        await asyncio.sleep(0.25)
        assert not active.may_write()

    run(scenario())


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.999])
def test_a_lease_is_taken_over_at_most_a_look_later_than_its_duration(phase: float) -> None:
    """Whenever the last sign of life came between two looks."""

    async def scenario() -> None:
        api = MemoryApi()
        active, standby = lease(api, "one"), lease(api, "two")
        await active.acquire()
        waiting = asyncio.create_task(standby.acquire())
        await asyncio.sleep(4 + phase)
        api.put(PATH, api.objects[PATH])  # renewed for the last time
        last = now()
        await waiting
        assert module.DURATION_SECONDS <= now() - last <= module.DURATION_SECONDS + module.LOOK_SECONDS

    run(scenario())


def test_nobody_can_shorten_the_life_of_a_lease_for_others() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active, standby = lease(api, "one"), lease(api, "two")
        await active.acquire()
        api.put(PATH, {**api.objects[PATH], "spec": {"holderIdentity": "one", "leaseDurationSeconds": 1}})
        await standby.acquire()
        assert now() >= module.DURATION_SECONDS

    run(scenario())


def test_a_lease_that_vanishes_before_a_standby_is_not_free_yet() -> None:
    async def scenario() -> None:
        api = MemoryApi()
        active, standby = lease(api, "one"), lease(api, "two")
        await active.acquire()
        waiting = asyncio.create_task(standby.acquire())
        await asyncio.sleep(1)
        del api.objects[PATH]
        await waiting
        assert now() >= 1 + module.DURATION_SECONDS
        assert not active.may_write()
        assert standby.existed

    run(scenario())


def test_every_failed_attempt_is_told() -> None:
    async def scenario() -> None:
        api, failures = MemoryApi(), list[float]()
        active = Lease(
            api,
            namespace="home",
            name="inference-operator",
            identity="one",
            election=True,
            clock=now,
            on_failure=lambda: failures.append(now()),
        )
        await active.acquire()
        api.faults.extend([503, None, LOST])
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                await active.keep()
        assert failures == [2, 6]

    run(scenario())


class WrongClock(datetime):
    """A wall clock that is up to ten years wrong, and wrong in another way each time it is asked."""

    jumps = itertools.cycle([-3600, 3600, -315360000, 315360000, 0])

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override] # a plain datetime is all that is wanted
        return datetime(2026, 11, 22, tzinfo=tz) + timedelta(seconds=next(cls.jumps))


@pytest.mark.covers("E2")
def test_wall_clocks_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With wall clocks that jump by years, a holder keeps its Lease, and a standby takes it over at the usual time."""
    monkeypatch.setattr(module, "datetime", WrongClock)
    monkeypatch.setattr(time, "time", lambda: next(WrongClock.jumps))

    async def scenario() -> None:
        api = MemoryApi()
        active, standby = lease(api, "one"), lease(api, "two")
        await active.acquire()
        keeping = asyncio.create_task(active.keep())
        waiting = asyncio.create_task(standby.acquire())
        shown = set()
        for _ in range(100):
            await asyncio.sleep(1)
            shown.add(api.objects[PATH]["spec"]["renewTime"][:4])
            assert active.may_write()
        assert shown >= {"2016", "2036"}
        assert not waiting.done()
        keeping.cancel()
        dead = now()
        await waiting
        assert now() - dead >= module.DURATION_SECONDS - module.RETRY_SECONDS
        assert now() - dead <= module.DURATION_SECONDS + module.LOOK_SECONDS

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
