"""A process that takes over in the middle of many rollouts begins none beyond the brake."""

from __future__ import annotations

import pytest

import world as worlds
from inference_operator.core.rollouts import Rollouts
from inference_operator.errors import Ambiguous, CredentialsRejected
from inference_operator.providers.memory.account import OBSERVE, UPDATE, Commit, Fault
from world import World, spec

LIMIT = 3
MANY = 12
LOOKS = 30
"""How many looks a rollout lasts."""


class Fleet(World):
    """Many resources of one key; each process knows from the beginning what its predecessor has left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(worlds, "Rollouts", self._rollouts)
        super().__init__(max_rollouts=LIMIT)
        self.account.rollout = LOOKS
        self.uids = [f"uid-r{number:02d}" for number in range(MANY)]
        for uid in self.uids:
            self.account.add(f"ep-{uid}", {"memory.size": 1})
            self.server.apply(uid[4:], spec(endpointId=f"ep-{uid}", memory={"size": 2}))

    def _rollouts(self, limit: int, wake: object) -> Rollouts:
        del wake
        return Rollouts(limit, self.woken.append, lambda: list(self.server.objects.values()))

    async def pass_over(self, uids: list[str]) -> None:
        for uid in uids:
            await self.run(uid)

    @property
    def rolling(self) -> int:
        return sum(endpoint.rolling > 0 for endpoint in self.account.endpoints.values())


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(monkeypatch)


async def test_those_that_wait_do_not_slip_through_before_the_others_are_looked_at(fleet: Fleet) -> None:
    await fleet.pass_over(fleet.uids)
    assert (fleet.updates, fleet.rolling) == (LIMIT, LIMIT)
    fleet.restart()
    await fleet.pass_over(fleet.uids[::-1])  # those that wait come first
    await fleet.pass_over(fleet.uids)
    assert (fleet.updates, fleet.rolling) == (LIMIT, LIMIT)


async def test_all_get_their_turn_however_often_the_process_starts_anew(fleet: Fleet) -> None:
    peak = 0
    for number in range(400):
        if number % 7 == 3:
            fleet.restart()
        fleet.time += 10
        await fleet.pass_over(fleet.uids[::-1] if number % 2 else fleet.uids)
        peak = max(peak, fleet.rolling)
    assert (peak, fleet.updates) == (LIMIT, MANY)
    assert {fleet.condition(uid, "Ready") for uid in fleet.uids} == {("True", "Serving")}


@pytest.mark.parametrize("commit", list(Commit))
async def test_a_write_that_was_open_counts_as_well(fleet: Fleet, commit: Commit) -> None:
    fleet.account.faults[UPDATE, LIMIT] = Fault(Ambiguous("lost"), commit)
    await fleet.pass_over(fleet.uids[: LIMIT - 1])
    fleet.server.lose_answers = 0
    await fleet.pass_over(fleet.uids[LIMIT - 1 : LIMIT])
    fleet.restart()
    await fleet.pass_over(fleet.uids[::-1])
    assert fleet.updates == LIMIT


async def test_what_cannot_be_looked_at_counts_until_its_deadline(fleet: Fleet) -> None:
    await fleet.pass_over(fleet.uids)
    fleet.restart()
    looks = sum(call.operation == OBSERVE for call in fleet.account.calls)
    fleet.account.faults |= {
        (OBSERVE, looks + number): Fault(CredentialsRejected("no")) for number in range(1, LIMIT + 1)
    }
    await fleet.pass_over(fleet.uids)
    assert fleet.updates == LIMIT
    fleet.time += 1801
    await fleet.pass_over(fleet.uids[LIMIT:])
    assert fleet.updates == 2 * LIMIT


async def test_what_is_older_than_its_deadline_holds_nobody_back(fleet: Fleet) -> None:
    await fleet.pass_over(fleet.uids)
    fleet.time += 1801
    fleet.restart()
    await fleet.pass_over(fleet.uids)
    assert fleet.updates == 2 * LIMIT
