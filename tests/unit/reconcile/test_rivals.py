"""Two resources on one endpoint: every order in which two first passes can mix, and how the endpoint changes hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from inference_operator.errors import Ambiguous, CredentialsRejected, Unavailable
from inference_operator.providers.memory.account import OBSERVE, UPDATE, Commit, Fault
from rivals import JUNIOR, SENIOR, SIZES, Rivals, Step

CONFLICT = ("True", "Conflict")
APPLIED = ("True", "Applied")


# ── every order ───────────────────────────────────────────────────────────────────────────────────────


def orders(begin: Callable[[], tuple[Any, dict[str, Coroutine[Any, Any, Any]]]]) -> Iterator[tuple[str, Any]]:
    """Run actors in every order of their steps; gives the order and what `begin` has made, after each run."""
    plan: list[int] = []
    while True:
        world, actors = begin()
        widths, trail = list[int](), ""
        while actors:
            names = sorted(actors)
            choice = plan[len(widths)] if len(widths) < len(plan) else 0
            widths.append(len(names))
            plan[len(widths) - 1 :] = plan[len(widths) - 1 :] or [choice]
            trail += names[choice]
            try:
                actors[names[choice]].send(None)
            except StopIteration:
                del actors[names[choice]]
        yield trail, world
        while plan and plan[-1] + 1 >= widths[len(plan) - 1]:
            plan.pop()
        if not plan:
            return
        plan[-1] += 1


def test_the_search_meets_every_order_once() -> None:
    async def actor(steps: int) -> None:
        for _ in range(steps):
            await Step()

    found = [trail for trail, _ in orders(lambda: (None, {"a": actor(2), "b": actor(1)}))]
    assert len(found) == len(set(found)) == 10  # three moves among five


async def appear(world: Rivals) -> None:
    """The senior is created at any moment; its process looks at once."""
    await Step()
    world.create(SENIOR)
    await world.passes(SENIOR)


def mixed(*, shards: bool, apart: float, late: bool) -> Iterator[tuple[str, Rivals]]:
    def begin() -> tuple[Rivals, dict[str, Coroutine[Any, Any, Any]]]:
        world = Rivals(shards=shards, apart=apart, senior=not late)
        world.stepping(True)
        return world, {"s": appear(world) if late else world.passes(SENIOR), "j": world.passes(JUNIOR)}

    yield from orders(begin)


@pytest.mark.covers("E4")
@pytest.mark.parametrize("shards", [False, True], ids=["one process", "two shards"])
@pytest.mark.parametrize("apart", [5, 0], ids=["older", "of one second"])
@pytest.mark.parametrize("late", [False, True], ids=["both there", "the senior appears"])
def test_two_first_passes_in_any_order_make_one_writer(*, shards: bool, apart: float, late: bool) -> None:
    count, firsts, states = 0, dict.fromkeys(SIZES, 0), set()
    for trail, world in mixed(shards=shards, apart=apart, late=late):
        count += 1
        if (state := world.digest()) in states:
            continue
        states.add(state)
        world.stepping(False)
        asyncio.run(world.live(world.pace.drift + world.pace.quiet))
        writers = world.ledger.writers
        firsts[writers[0]] += 1
        owner = writers[-1]
        assert not world.ledger.overlaps(), trail
        assert world.standing(owner) == APPLIED, trail
        assert {world.standing(uid) for uid in SIZES} == {APPLIED, CONFLICT}, trail
        assert world.account.endpoints["ep-1"].versions[-1]["memory.size"] == SIZES[owner]
        if not late:
            assert writers == [SENIOR], trail
        elif apart:  # it is the older one even where the other had written before it came
            assert writers in ([SENIOR], [JUNIOR, SENIOR]), trail
        else:
            assert len(writers) == 1, trail
    print(f"{count} orders end in {len(states)} states; first to write: {firsts}")
    assert count > 100


# ── how an endpoint changes hands ─────────────────────────────────────────────────────────────────────


SHARDS = pytest.mark.parametrize("shards", [False, True], ids=["one process", "two shards"])


async def in_conflict(*, shards: bool) -> Rivals:
    """The senior has written, and the junior knows that it must not."""
    world = Rivals(shards=shards)
    await world.live(2 * world.pace.quiet)
    assert world.ledger.writers == [SENIOR]
    assert (world.standing(SENIOR), world.standing(JUNIOR)) == (APPLIED, CONFLICT)
    return world


async def noticed(world: Rivals) -> float:
    """Lives until the junior no longer says that it is in conflict; returns the time of that."""
    while world.standing(JUNIOR) == CONFLICT:
        await world.live(1)
    return world.time


def leave_by_deletion(world: Rivals) -> None:
    world.delete(SENIOR)


def leave_by_observing(world: Rivals) -> None:
    world.edit(SENIOR, managementPolicy="Observe")


def leave_in_part(world: Rivals) -> None:
    """Somebody's finalizer keeps it."""
    world.server.objects[SENIOR] = replace(world.server.objects[SENIOR], deleting=True)


@pytest.mark.covers("E4")
@SHARDS
@pytest.mark.parametrize("leave", [leave_by_deletion, leave_by_observing, leave_in_part])
async def test_the_loser_takes_over_q_after_it_has_seen_the_winner_go(
    leave: Callable[[Rivals], None], *, shards: bool
) -> None:
    world = await in_conflict(shards=shards)
    leave(world)
    seen = await noticed(world)
    await world.live(world.pace.quiet - world.pace.poll / 6)
    assert world.ledger.writers == [SENIOR]
    assert world.standing(JUNIOR) == ("False", "Waiting")
    await world.live(world.pace.poll)
    assert world.ledger.writers == [SENIOR, JUNIOR]
    assert world.standing(JUNIOR) == APPLIED
    assert world.time - seen < 2 * world.pace.quiet


@pytest.mark.covers("E4")
@SHARDS
async def test_what_the_winner_has_lost_lands_before_the_loser_writes(*, shards: bool) -> None:
    world = await in_conflict(shards=shards)
    world.account.faults[UPDATE, 2] = Fault(Ambiguous("lost"), Commit.LATER)
    world.edit(SENIOR, memory={"size": 9})
    await world.passes(SENIOR)
    world.delete(SENIOR)
    await noticed(world)
    await world.live(world.pace.quiet + world.pace.poll)
    sizes = [version["memory.size"] for version in world.account.endpoints["ep-1"].versions]
    assert sizes == [1, SIZES[SENIOR], 9, SIZES[JUNIOR]]
    assert world.standing(JUNIOR) == APPLIED


@pytest.mark.covers("E4")
@SHARDS
async def test_a_process_that_starts_after_the_winner_has_left_waits_as_well(*, shards: bool) -> None:
    world = await in_conflict(shards=shards)
    del world.server.objects[SENIOR]
    world.start()
    await world.live(world.pace.quiet - world.pace.poll / 6)
    assert world.ledger.writers == [SENIOR]
    await world.live(world.pace.poll)
    assert world.ledger.writers == [SENIOR, JUNIOR]


@pytest.mark.covers("E4")
@SHARDS
async def test_the_loser_writes_nothing_whatever_is_asked_of_it(*, shards: bool) -> None:
    world = await in_conflict(shards=shards)
    for size in (7, 8):
        world.edit(JUNIOR, memory={"size": size}, driftPolicy="Correct")
        await world.live(world.pace.drift)
    world.start()
    await world.live(world.pace.drift)
    assert (world.ledger.writers, world.standing(JUNIOR)) == ([SENIOR], CONFLICT)


@SHARDS
async def test_whoever_has_only_adopted_asks_before_its_first_write(*, shards: bool) -> None:
    """Two that agree with the endpoint and each other write nothing, so that neither of two shards has asked."""
    world = Rivals(shards=shards)
    for uid in SIZES:
        world.edit(uid, memory={"size": 1})
    await world.live(world.pace.quiet)
    assert world.standing(SENIOR) == ("True", "Matched")
    world.edit(JUNIOR, memory={"size": 5})
    await world.live(world.pace.quiet)
    assert (world.ledger.writers, world.standing(JUNIOR)) == ([], CONFLICT)
    world.edit(SENIOR, memory={"size": 6})
    await world.live(world.pace.quiet)
    assert (world.ledger.writers, world.standing(SENIOR)) == ([SENIOR], APPLIED)


# ── the first to write is not the owner ───────────────────────────────────────────────────────────────


@pytest.mark.covers("E4")
@SHARDS
@pytest.mark.parametrize("commit", [Commit.NEVER, Commit.LATER])
async def test_a_senior_that_appears_waits_until_the_open_write_of_the_other_is_decided(
    commit: Commit, *, shards: bool
) -> None:
    world = Rivals(shards=shards, senior=False)
    world.account.faults[UPDATE, 1] = Fault(Ambiguous("lost"), commit)
    await world.passes(JUNIOR)
    assert world.standing(JUNIOR) == ("Unknown", "WriteUndecided")
    world.create(SENIOR)
    await world.live(world.pace.drift + 2 * world.pace.quiet)
    assert world.ledger.writers == [JUNIOR, SENIOR]
    assert not world.ledger.overlaps()
    assert (world.standing(SENIOR), world.standing(JUNIOR)) == (APPLIED, CONFLICT)
    assert world.status(JUNIOR).operation is None
    assert (world.status(JUNIOR).applied is None) == (commit is Commit.NEVER)
    assert world.account.endpoints["ep-1"].versions[-1]["memory.size"] == SIZES[SENIOR]


@SHARDS
async def test_a_write_that_nobody_decides_holds_the_senior_for_q(*, shards: bool) -> None:
    world = Rivals(shards=shards, senior=False)
    world.account.faults[UPDATE, 1] = Fault(Ambiguous("lost"), Commit.LATER)
    await world.passes(JUNIOR)
    world.create(SENIOR)
    await world.live(world.pace.quiet - world.pace.transition_poll, only=[SENIOR])
    assert world.ledger.writers == [JUNIOR]
    await world.live(2 * world.pace.transition_poll, only=[SENIOR])
    assert world.ledger.writers == [JUNIOR, SENIOR]
    sizes = [version["memory.size"] for version in world.account.endpoints["ep-1"].versions]
    assert sizes == [1, SIZES[JUNIOR], SIZES[SENIOR]]


@SHARDS
async def test_whoever_is_no_longer_the_oldest_stops(*, shards: bool) -> None:
    """At once where one process sees both; a shard asks from time to time, and before it corrects anything."""
    world = Rivals(shards=shards, senior=False)
    world.edit(JUNIOR, driftPolicy="Correct")
    await world.live(world.pace.quiet)
    world.create(SENIOR)
    await world.live(10 * world.pace.drift)
    world.edit(JUNIOR, memory={"size": 8})
    await world.live(world.pace.drift)
    assert world.ledger.writers == [JUNIOR, SENIOR]
    assert (world.standing(SENIOR), world.standing(JUNIOR)) == (APPLIED, CONFLICT)


# ── an older one that does not come to read the endpoint ──────────────────────────────────────────────


@pytest.mark.covers("E4")
@SHARDS
async def test_an_older_one_that_cannot_read_the_endpoint_takes_nothing_away(*, shards: bool) -> None:
    world = Rivals(shards=shards)
    for number in range(1, 50):
        world.account.faults[OBSERVE, number] = Fault(CredentialsRejected("no"))
    await world.passes(SENIOR)
    world.account.faults.clear()
    await world.live(world.pace.transition_poll, only=[JUNIOR])
    assert world.ledger.writers == [JUNIOR]
    assert world.standing(JUNIOR) == APPLIED


@SHARDS
async def test_an_older_one_that_nobody_looks_at_holds_the_younger_for_q(*, shards: bool) -> None:
    world = Rivals(shards=shards)
    await world.live(world.pace.quiet - world.pace.transition_poll, only=[JUNIOR])
    assert (world.ledger.writers, world.standing(JUNIOR)) == ([], ("False", "Waiting"))
    await world.live(2 * world.pace.transition_poll, only=[JUNIOR])
    assert (world.ledger.writers, world.standing(JUNIOR)) == ([JUNIOR], APPLIED)


@SHARDS
async def test_what_has_passed_is_no_longer_waited_for(*, shards: bool) -> None:
    world = Rivals(shards=shards)
    await world.live(2 * world.pace.transition_poll, only=[JUNIOR])
    assert world.standing(JUNIOR) == ("False", "Waiting")
    looks = sum(call.operation == OBSERVE for call in world.account.calls)
    world.account.faults[OBSERVE, looks + 1] = Fault(CredentialsRejected("no"))
    await world.passes(SENIOR)
    await world.live(1.5 * world.pace.transition_poll, only=[JUNIOR])
    assert (world.ledger.writers, world.standing(JUNIOR)) == ([JUNIOR], APPLIED)


async def test_an_older_one_that_the_provider_keeps_waiting_holds_the_younger() -> None:
    world = Rivals(shards=True)
    world.account.faults[OBSERVE, 1] = Fault(Unavailable("HTTP 503"))
    await world.passes(SENIOR)
    await world.live(world.pace.quiet)
    assert (world.ledger.writers, world.standing(JUNIOR)) == ([SENIOR], CONFLICT)


@pytest.mark.covers("E7")
@SHARDS
@pytest.mark.parametrize("erased", list(SIZES))
async def test_whoever_erases_a_status_takes_the_endpoint_from_nobody(erased: str, *, shards: bool) -> None:
    world = await in_conflict(shards=shards)
    for _ in range(3):
        world.server.objects[erased] = replace(
            world.server.objects[erased], status={}, resource_version=world.server.version()
        )
        await world.live(3 * world.pace.quiet)
    assert world.ledger.writers == [SENIOR]
    settled = ("True", "Matched") if erased == SENIOR else APPLIED
    assert (world.standing(SENIOR), world.standing(JUNIOR)) == (settled, CONFLICT)


# ── what it costs ─────────────────────────────────────────────────────────────────────────────────────


@SHARDS
async def test_only_first_writes_ask_the_api_server(*, shards: bool) -> None:
    world = Rivals(shards=shards, senior=False)
    view = world.of[JUNIOR][1]
    await world.live(1)
    assert (view.lists, len(world.server.writes)) == (2, 2)
    for number in range(4, 8):
        world.edit(JUNIOR, memory={"size": number})
        await world.live(1)
    assert (view.lists, len(world.server.writes), world.updates) == (2, 10, 5)
    await world.live(5.5 * world.pace.drift)
    assert view.lists == 2 + (5 if shards else 0)


@pytest.mark.parametrize("number", [1, 2], ids=["before the intent", "after the intent"])
async def test_an_api_server_that_does_not_tell_the_others_costs_no_write(number: int) -> None:
    world = Rivals(shards=True, senior=False)
    world.of[JUNIOR][1].lost_lists = frozenset({number})
    await world.passes(JUNIOR)
    assert world.ledger.writers == []
    await world.live(world.pace.transition_poll)
    assert (world.ledger.writers, world.standing(JUNIOR)) == ([JUNIOR], APPLIED)
    assert len(world.server.writes) <= 4
