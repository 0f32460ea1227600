"""Resources at rest under the lists of their account: who looks, when, and at what price."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from inference_operator.core.model import EndpointRef, Look, Observed, Replicas, Resource, State
from inference_operator.core.schedule import Pace
from inference_operator.errors import CredentialsRejected, InvalidSpec, Unavailable
from inference_operator.providers.memory import driver as memory
from inference_operator.providers.memory.account import LIST, OBSERVE, UPDATE, Fault
from inference_operator.providers.memory.driver import MemoryConnection
from inference_operator.reconcile import Options
from world import PACE, View, World, spec


class Fleet(World):
    """Resources and accounts that share one queue, as in the process."""

    def __init__(
        self,
        *,
        resources: int = 3,
        page: int = 100,
        pace: Pace = PACE,
        options: Options | None = None,
        history: bool = True,
    ) -> None:
        super().__init__(pace=pace, options=options, history=history)
        self.account.lists = page
        self.due: dict[str, float] = {}
        self.listed_at: list[float] = []
        self.looks: list[Look] = []
        self.replicas: dict[str, int] = {}
        self.uids = [f"uid-{number}" for number in range(resources)]
        for number, uid in enumerate(self.uids):
            self.account.add(f"ep-{number}", {"memory.size": 1})
            self.server.apply(str(number), spec(endpointId=f"ep-{number}"))
            self.due[uid] = self.time

    async def live(self, seconds: float) -> None:
        """Let time pass, and take every turn when it is due."""
        end = self.time + seconds
        while True:
            self._take_in()
            key, at = min(self.due.items(), key=lambda item: item[1], default=("", end + 1))
            if at > end:
                self.time = end
                return
            self.time = max(self.time, at)
            del self.due[key]
            if self.sweeps.is_account(key):
                self.listed_at.append(self.time)
                delay = await self.sweeps.turn(key)
            else:
                delay = await self.reconciler.reconcile(key)
            if delay is not None:
                self.due[key] = min(self.due.get(key, float("inf")), self.time + max(delay, 0.001))

    async def look_while_no_list_is_read(self, *, unreadable: bool) -> None:
        """For some polls lists have no turn, or cannot be read, and everybody looks; then they are back."""
        lists = [key for key in self.due if self.sweeps.is_account(key)]
        if unreadable:
            self.account.faults |= {(LIST, number): Fault(Unavailable("HTTP 500")) for number in range(1, 1000)}
        else:
            for key in lists:
                del self.due[key]
        await self.live(3 * PACE.poll)
        self.due |= dict.fromkeys(self.uids, self.time)
        await self.live(0.5)
        self.account.faults.clear()
        self.due |= dict.fromkeys(lists, self.time)
        await self.live(2 * PACE.poll)

    def _take_in(self) -> None:
        asked, self.asked = self.asked, []
        for key, after in asked:
            self.due[key] = min(self.due.get(key, float("inf")), self.time + after)

    def edit(self, number: int, **memory: int) -> None:
        self.server.apply(str(number), spec(endpointId=f"ep-{number}", memory=memory))
        self.due[self.uids[number]] = self.time

    def calls(self) -> Counter[str]:
        return Counter(call.operation for call in self.account.calls)

    def forget_calls(self) -> None:
        self.account.calls.clear()

    def looks_at(self, endpoint_id: str) -> int:
        return sum(call.operation == OBSERVE and call.endpoint_id == endpoint_id for call in self.account.calls)


@pytest.fixture
async def fleet() -> Fleet:
    """Three resources that have come to rest, and are listed."""
    found = Fleet()
    await found.live(6 * PACE.poll)
    found.forget_calls()
    return found


async def test_what_rests_is_listed_once_a_poll_and_read_whole_once_a_drift_interval(fleet: Fleet) -> None:
    writes = len(fleet.server.writes)
    await fleet.live(10 * PACE.drift)
    calls = fleet.calls()
    assert calls[LIST] == pytest.approx(10 * PACE.drift / PACE.poll, abs=1)
    assert calls[OBSERVE] == pytest.approx(3 * 10, abs=3)
    assert calls[UPDATE] == 0
    assert len(fleet.server.writes) == writes


@pytest.mark.parametrize("history", [True, False])
async def test_what_is_only_observed_is_listed_like_anything_else(*, history: bool) -> None:
    fleet = Fleet(options=Options(read_only=True), history=history)
    await fleet.live(6 * PACE.poll)
    fleet.forget_calls()
    await fleet.live(10 * PACE.drift)
    calls = fleet.calls()
    assert calls[LIST] == pytest.approx(10 * PACE.drift / PACE.poll, abs=1)
    assert calls[OBSERVE] == pytest.approx(3 * 10, abs=3)
    fleet.forget_calls()
    fleet.due[fleet.uids[0]] = fleet.time
    await fleet.live(0.5)
    assert not fleet.calls()


@pytest.mark.parametrize("read_only", [True, False])
async def test_what_rests_is_looked_at_once_a_secret_has_changed(*, read_only: bool) -> None:
    """Its value may be part of what is wished, which no list tells of."""
    fleet = Fleet(options=Options(read_only=read_only))
    await fleet.live(6 * PACE.poll)
    fleet.forget_calls()
    fleet.server.secret("key", token="flp_0123456789")
    fleet.due |= dict.fromkeys(fleet.uids, fleet.time)
    await fleet.live(0.5)
    assert fleet.calls() == {OBSERVE: 3}


async def test_what_moves_is_looked_at_within_a_poll_and_nothing_else_is(fleet: Fleet) -> None:
    fleet.account.endpoints["ep-1"].word = State.SLEEPING
    await fleet.live(PACE.poll)
    assert fleet.status("uid-1").state == State.SLEEPING
    assert (fleet.looks_at("ep-0"), fleet.looks_at("ep-2")) == (0, 0)


async def test_a_change_of_the_spec_spares_what_a_list_has_confirmed_and_is_sent_at_once(fleet: Fleet) -> None:
    fleet.edit(0, size=2)
    await fleet.live(0.5)
    assert fleet.calls() == {OBSERVE: 2, UPDATE: 1}
    assert fleet.status("uid-0").version == 1


async def test_the_look_after_an_update_is_followed_by_another_one(fleet: Fleet) -> None:
    fleet.edit(0, size=2)
    await fleet.live(1.2 * PACE.poll)
    assert fleet.looks_at("ep-0") == 3


async def test_a_change_by_others_right_after_ours_is_seen_once_reads_must_show_it() -> None:
    pace = replace(PACE, settle=150)
    fleet = Fleet(history=False, pace=pace)
    await fleet.live(10 * pace.poll)
    fleet.edit(0, size=2)
    await fleet.live(70)
    fleet.account.change("ep-0", {"memory.size": 9})
    await fleet.live(70)
    assert fleet.status("uid-0").drift == []
    await fleet.live(3 * pace.poll)
    assert [each.field for each in fleet.status("uid-0").drift] == ["memory.size"]


async def test_a_version_made_during_a_rollout_of_others_is_seen_when_it_is_over(fleet: Fleet) -> None:
    fleet.server.apply("0", spec(endpointId="ep-0", memory={"size": 1, "model": "a"}))
    fleet.due["uid-0"] = fleet.time
    await fleet.live(6 * PACE.poll)
    fleet.account.rollout = 3
    fleet.account.change("ep-0", {"memory.model": "b"})
    await fleet.live(3 * PACE.poll)
    assert [each.field for each in fleet.status("uid-0").drift] == ["version"]


async def test_a_refusal_while_the_provider_is_at_work_is_not_repeated_on_what_was_known_before(fleet: Fleet) -> None:
    fleet.account.endpoints["ep-0"].word = State.UPDATING
    fleet.account.faults[UPDATE, 1] = Fault(InvalidSpec("busy", maybe_busy=True))
    fleet.edit(0, size=2)
    await fleet.live(0.9 * PACE.poll)
    assert fleet.calls()[UPDATE] == 1
    fleet.account.endpoints["ep-0"].word = State.RUNNING
    await fleet.live(PACE.poll)
    assert fleet.calls()[UPDATE] == 2


async def test_what_a_list_does_not_name_is_polled_by_itself(fleet: Fleet) -> None:
    gone = fleet.account.endpoints.pop("ep-1")
    await fleet.live(1.2 * PACE.poll)
    assert fleet.status("uid-1").conditions[-1].reason == "EndpointNotFound"
    fleet.account.endpoints["ep-1"] = gone
    await fleet.live(12 * PACE.poll)
    assert all(each.type != "Stalled" for each in fleet.status("uid-1").conditions)


async def test_without_lists_everybody_looks_and_says_what_is_wrong() -> None:
    fleet = Fleet()
    await fleet.live(6 * PACE.poll)
    fleet.forget_calls()
    numbers = range(1, 1000)
    fleet.account.faults |= {(LIST, number): Fault(Unavailable("HTTP 500")) for number in numbers}
    fleet.account.faults |= {(OBSERVE, number): Fault(Unavailable("HTTP 500")) for number in numbers}
    await fleet.live(1.8 * PACE.poll)
    assert fleet.calls()[OBSERVE] >= 2 * len(fleet.uids)
    ready = {each.status for uid in fleet.uids for each in fleet.status(uid).conditions if each.type == "Ready"}
    assert ready == {"True"}, "what was known within three polls is still known"
    await fleet.live(3 * PACE.poll)
    ready = {each.reason for uid in fleet.uids for each in fleet.status(uid).conditions if each.type == "Ready"}
    assert ready == {"ProviderUnavailable"}
    fleet.account.faults.clear()
    await fleet.live(3 * PACE.poll)
    fleet.forget_calls()
    await fleet.live(PACE.drift)
    assert fleet.calls()[OBSERVE] <= 2 * len(fleet.uids), "lists vouch for them again"


async def test_a_key_that_may_not_list_costs_nothing_but_lists() -> None:
    fleet = Fleet()
    fleet.account.faults |= {(LIST, number): Fault(CredentialsRejected("HTTP 403")) for number in range(1, 1000)}
    await fleet.live(10 * PACE.poll)
    fleet.forget_calls()
    await fleet.live(10 * PACE.poll)
    assert fleet.calls()[OBSERVE] == pytest.approx(3 * 10, abs=3), "polled as without lists"
    assert fleet.calls()[LIST] <= 3, "a refused key asks slowly"
    assert {fleet.status(uid).conditions[0].status for uid in fleet.uids} == {"True"}


async def test_pages_are_spread_over_a_poll() -> None:
    fleet = Fleet(resources=12, page=2)
    await fleet.live(12 * PACE.poll)
    before = len(fleet.listed_at)
    await fleet.live(3 * PACE.poll)
    moments = fleet.listed_at[before:]
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert len(moments) == pytest.approx(18, abs=1)
    assert max(gaps) <= 1.01 * PACE.poll / 6
    assert min(gaps) >= 0.99 * PACE.poll / 6


async def test_a_fleet_beyond_its_budget_is_listed_and_read_more_slowly() -> None:
    pace = replace(PACE, rate=0.05)
    fleet = Fleet(resources=12, page=2, pace=pace)
    await fleet.live(40 * pace.poll)
    fleet.forget_calls()
    seconds = 3 * pace.drifting(12)
    await fleet.live(seconds)
    assert fleet.calls()[LIST] / seconds <= 1.1 * pace.rate / 4
    assert fleet.calls()[OBSERVE] * 2 / seconds <= 1.1 * pace.rate / 32


@pytest.fixture
async def restless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Three resources at rest whose replicas may move by themselves, which lists do not show; not so for False."""
    original, found, moves = MemoryConnection.observe, Fleet(), getattr(request, "param", True)

    async def observe(self: MemoryConnection, ref: EndpointRef, look: Look) -> Observed:
        found.looks.append(look)
        replicas = Replicas(current=found.replicas.get(ref.endpoint_id, 1))
        return replace(await original(self, ref, look), restless=moves, replicas=replicas)

    monkeypatch.setattr(MemoryConnection, "observe", observe)
    await found.live(6 * PACE.poll)
    found.forget_calls()
    found.observer.results.clear()
    found.looks.clear()
    return found


async def test_restless_endpoints_are_polled_and_their_state_is_spared(restless: Fleet) -> None:
    await restless.live(5 * PACE.poll)
    assert restless.calls()[OBSERVE] == pytest.approx(3 * 5, abs=3)
    assert all(look.listed is not None for look in restless.looks)


async def test_a_poll_that_shows_nothing_new_is_no_pass(restless: Fleet) -> None:
    writes = len(restless.server.writes)
    await restless.live(PACE.drift + 2 * PACE.poll)
    results = Counter(restless.observer.results)
    assert results.keys() == {"unchanged"}
    assert results["unchanged"] == pytest.approx(3 * (PACE.drift / PACE.poll + 1), abs=6)
    assert restless.calls()[OBSERVE] == results.total()
    assert Counter(look.history for look in restless.looks)[True] == 3, "each was read whole once"
    assert len(restless.server.writes) == writes


@pytest.mark.parametrize("restless", [True, False], indirect=True)
async def test_a_whole_look_that_shows_nothing_new_is_no_pass(restless: Fleet) -> None:
    await restless.live(3 * PACE.drift)
    assert set(restless.observer.results) == {"unchanged"}
    assert Counter(look.history for look in restless.looks)[True] == pytest.approx(9, abs=1)


@pytest.mark.parametrize("restless", [True, False], indirect=True)
@pytest.mark.parametrize("unreadable", [True, False])
async def test_a_whole_look_is_compared_although_lists_were_late_before(restless: Fleet, *, unreadable: bool) -> None:
    """Without lists a pass looks by itself, and not whole."""
    await restless.look_while_no_list_is_read(unreadable=unreadable)
    assert Counter(look.history for look in restless.looks)[True] == 0
    restless.observer.results.clear()
    await restless.live(1.2 * PACE.drift)
    assert set(restless.observer.results) == {"unchanged"}
    assert Counter(look.history for look in restless.looks)[True] == pytest.approx(3, abs=1)


async def test_a_version_that_shows_nothing_else_is_told_although_lists_were_late_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_listed", lambda seen: (None, seen.word, seen.failure, seen.rolling))
    fleet = Fleet()
    await fleet.live(6 * PACE.poll)
    fleet.account.change("ep-1", {})
    await fleet.look_while_no_list_is_read(unreadable=False)
    assert [fleet.status(uid).version for uid in fleet.uids] == [0, 0, 0]
    await fleet.live(1.2 * PACE.drift)
    assert [fleet.status(uid).version for uid in fleet.uids] == [0, 1, 0]


async def test_a_version_that_shows_nothing_else_is_told_by_a_whole_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_listed", lambda seen: (None, seen.word, seen.failure, seen.rolling))
    fleet = Fleet()
    await fleet.live(6 * PACE.poll)
    fleet.observer.results.clear()
    fleet.account.change("ep-1", {})
    await fleet.live(1.2 * PACE.drift)
    assert [fleet.status(uid).version for uid in fleet.uids] == [0, 1, 0]
    assert Counter(fleet.observer.results)["nothing"] == 1
    fleet.observer.results.clear()
    await fleet.live(2 * PACE.drift)
    assert set(fleet.observer.results) == {"unchanged"}


async def test_a_connection_is_looked_after_with_every_whole_look() -> None:
    fleet = Fleet()
    fleet.server.apply("0", spec(endpointId="ep-0", writeConnectionTo={"configMapName": "here"}))
    await fleet.live(6 * PACE.poll)
    assert fleet.server.connections
    fleet.server.connections.clear()
    await fleet.live(1.2 * PACE.drift)
    assert [name for _, name in fleet.server.connections] == ["here"]


async def test_a_shard_asks_who_else_names_an_endpoint_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = View.claims

    async def claims(self: View, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        asked.append(endpoint_id)
        return await original(self, resource, provider, endpoint_id)

    monkeypatch.setattr(View, "claims", claims)
    fleet = Fleet(options=Options(sharded=True))
    await fleet.live(6 * PACE.poll)
    asked.clear()
    await fleet.live(8 * PACE.drift)
    assert min(Counter(asked)[f"ep-{number}"] for number in range(3)) >= 4


async def test_replicas_that_move_are_told_within_a_poll(restless: Fleet) -> None:
    restless.replicas["ep-1"] = 5
    await restless.live(1.2 * PACE.poll)
    assert [restless.status(uid).curr_replica_cnt for uid in restless.uids] == [1, 5, 1]
    assert Counter(restless.observer.results)["nothing"] == 1
    restless.observer.results.clear()
    await restless.live(3 * PACE.poll)
    assert set(restless.observer.results) == {"unchanged"}


async def test_a_poll_that_fails_is_looked_into_and_told(restless: Fleet) -> None:
    faults = {(OBSERVE, number): Fault(InvalidSpec("HTTP 422")) for number in range(1, 100)}
    restless.account.faults |= faults
    await restless.live(1.2 * PACE.poll)
    assert {each.reason for each in restless.status("uid-0").conditions if each.type == "Stalled"} == {"InvalidSpec"}


async def test_a_poll_with_another_secret_is_a_pass(restless: Fleet) -> None:
    restless.server.secret("key", token="flp_0123456789")
    await restless.live(1.2 * PACE.poll)
    assert Counter(restless.observer.results)["nothing"] == 3
    restless.observer.results.clear()
    await restless.live(2 * PACE.poll)
    assert set(restless.observer.results) == {"unchanged"}


async def test_a_poll_without_its_secret_is_a_pass(restless: Fleet) -> None:
    restless.server.secrets.clear()
    await restless.live(1.2 * PACE.poll)
    assert set(restless.observer.results) == {"SecretMissing"}


@pytest.mark.parametrize("jitter", [0.1, 0.25, 0.99])
async def test_what_comes_to_rest_is_first_polled_at_any_moment(restless: Fleet, jitter: float) -> None:
    """A fleet that was changed at once would otherwise be read at once from then on."""
    restless.sweeps._clock = replace(restless.clock, jitter=lambda: jitter)
    restless.sweeps.leave("uid-0")
    restless.due["uid-0"], began = restless.time, restless.time
    await restless.live(0.001)
    assert restless.due["uid-0"] == pytest.approx(began + jitter * PACE.poll, abs=1)
    await restless.live(PACE.poll)
    assert restless.due["uid-0"] - began > PACE.poll


async def test_some_polls_happen_at_the_same_time(restless: Fleet) -> None:
    """So that they share what a process has to fetch when it wakes up."""
    jitters = itertools.cycle([0.13, 0.37, 0.61])
    restless.sweeps._clock = replace(restless.clock, jitter=lambda: next(jitters))
    await restless.live(3 * PACE.poll)
    moments = {uid: restless.due[uid] for uid in restless.uids}
    assert all(moment == pytest.approx(round(moment)) for moment in moments.values())
    assert len(set(moments.values())) > 1, "spread over a poll all the same"


async def test_unwatched_secrets_are_read_at_every_poll_without_a_call() -> None:
    fleet = Fleet(options=Options(reread_secrets=True))
    await fleet.live(6 * PACE.poll)
    fleet.forget_calls()
    secrets = fleet.reconciler._secrets
    before = secrets.reads  # type: ignore[attr-defined]
    await fleet.live(5 * PACE.poll)
    assert secrets.reads - before >= 3 * 5  # type: ignore[attr-defined]
    assert fleet.calls()[OBSERVE] <= 3 + 1


async def test_a_status_that_somebody_has_edited_is_corrected_at_the_next_pass(fleet: Fleet) -> None:
    edited = {**fleet.server.objects["uid-0"].status, "state": "Sleeping"}
    fleet.server.objects["uid-0"] = replace(
        fleet.server.objects["uid-0"], status=edited, resource_version=fleet.server.version()
    )
    fleet.due["uid-0"] = fleet.time
    await fleet.live(1)
    assert fleet.status("uid-0").state == State.RUNNING
    assert fleet.looks_at("ep-0") == 1


async def test_a_pass_without_a_reason_ends_without_a_call(fleet: Fleet) -> None:
    fleet.due["uid-0"] = fleet.time
    await fleet.live(1)
    assert fleet.calls() == {}


async def test_a_pass_over_what_has_drifted_looks_again(fleet: Fleet) -> None:
    fleet.account.change("ep-0", {"memory.size": 9})
    await fleet.live(1.2 * PACE.drift)
    assert [each.field for each in fleet.status("uid-0").drift] == ["memory.size"]
    fleet.forget_calls()
    fleet.due["uid-0"] = fleet.time
    await fleet.live(1)
    assert fleet.calls() == {OBSERVE: 1}


async def test_an_account_without_resources_is_not_listed(fleet: Fleet) -> None:
    for uid in fleet.uids:
        fleet.server.objects[uid] = replace(fleet.server.objects[uid], deleting=True)
        fleet.due[uid] = fleet.time
    await fleet.live(2 * PACE.poll)
    fleet.forget_calls()
    await fleet.live(5 * PACE.poll)
    assert fleet.calls()[LIST] == 0


async def test_turns_of_an_account_that_is_gone_end() -> None:
    assert await asyncio.wait_for(Fleet().sweeps.turn("account 1"), 1) is None
