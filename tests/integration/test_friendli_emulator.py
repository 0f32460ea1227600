"""Friendli's driver against the emulator as a process of its own: the whole way from a spec to the provider's books."""

from __future__ import annotations

import asyncio
import itertools
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from friendli_cases import ADVANCED, SPEC, spec
from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.compare import differences
from inference_operator.core.credentials import credentials_from
from inference_operator.core.model import Desired, EndpointRef, Look, Observed, Replicas, SecretValues, Snapshot, State
from inference_operator.errors import (
    Ambiguous,
    CredentialsRejected,
    EndpointError,
    InvalidSpec,
    NotFound,
    Throttled,
    Unavailable,
)
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.process import emulator_process
from inference_operator.providers.friendli import DRIVER
from inference_operator.providers.friendli.driver import FriendliConnection
from inference_operator.providers.friendli.options import FriendliOptions
from inference_operator.providers.friendli.translate import snapshot
from inference_operator.providers.transport import Transport, TransportSettings

TOKEN = "flp_Zq8xW3vT6yLm0PnRb5Kd"
TEAM = "team-1"
TIMEOUT = 1.0
HISTORY = Look(history=True)

NUMBERS = itertools.count()


class Silence:
    """Listens to no call."""

    def call(self, **_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def emulators() -> Iterator[EmulatorControl]:
    with emulator_process() as control:
        control.add_account("a", [TOKEN], teams=[TEAM, "team-2"])
        yield control


@pytest.fixture
def ref(emulators: EmulatorControl) -> EndpointRef:
    """An endpoint of its own for each test."""
    endpoint_id = f"ep-{next(NUMBERS)}"
    emulators.clear_faults()
    emulators.create_endpoint("friendli", endpoint_id, "a")
    return EndpointRef("friendli", endpoint_id, TEAM)


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(TransportSettings(TIMEOUT, calls_per_second=500, calls_burst=500), Silence())
    yield transport
    await transport.close()


@pytest.fixture
def connection(transport: Transport, emulators: EmulatorControl) -> FriendliConnection:
    return connect(transport, emulators)


def connect(
    transport: Transport, emulators: EmulatorControl, token: str = TOKEN, team: str | None = TEAM
) -> FriendliConnection:
    origin = emulators.urls()["friendli"]
    return DRIVER.connect(transport, origin=origin, credentials=credentials_from(token.encode()), team=team)


def wish(raw: Mapping[str, Any], ref: EndpointRef) -> Desired:
    declared = InferenceEndpointSpec.model_validate({**raw, "endpointId": ref.endpoint_id})
    return DRIVER.desired(declared, FriendliOptions.model_validate(raw["friendli"]), SecretValues())


async def apply(connection: FriendliConnection, ref: EndpointRef, raw: Mapping[str, Any]) -> Snapshot:
    """One write, as a pass makes it."""
    seen = await connection.observe(ref, HISTORY)
    await connection.reserve()
    return snapshot(await connection.update(ref, DRIVER.render(wish(raw, ref), seen, "by a test")))


def contradicts(seen: Snapshot, raw: Mapping[str, Any], ref: EndpointRef) -> set[str]:
    return {each.path for each in differences(wish(raw, ref), seen, DRIVER.agrees)}


async def look_until(connection: FriendliConnection, ref: EndpointRef, state: State) -> Observed:
    async with asyncio.timeout(10):
        while True:
            seen = await connection.observe(ref, HISTORY)
            if seen.state is state:
                return seen
            await asyncio.sleep(0.05)


async def test_a_whole_spec_arrives_as_one_version_and_reads_back(
    connection: FriendliConnection, ref: EndpointRef, emulators: EmulatorControl
) -> None:
    acknowledged = await apply(connection, ref, SPEC)
    assert acknowledged is not None
    assert contradicts(acknowledged, SPEC, ref) == set()
    seen = await connection.observe(ref, Look(history=True, base=0))
    assert contradicts(seen.live, SPEC, ref) == set()
    assert seen.history is not None
    assert [entry.number for entry in seen.history.entries] == [0, 1]
    (entry,) = emulators.mutations(ref.endpoint_id)
    assert (entry.committed, entry.version, entry.errors, entry.team) == (True, 1, [], TEAM)
    config = emulators.get_endpoint("friendli", ref.endpoint_id)["config"]
    assert config["hf_model_repo"] == SPEC["friendli"]["hfModelRepo"]
    assert (config["max_token_count"], config["enable_content_logging"]) == (8192, False)


async def test_what_a_spec_leaves_out_stays(
    connection: FriendliConnection, ref: EndpointRef, emulators: EmulatorControl
) -> None:
    await apply(connection, ref, SPEC)
    before = emulators.get_endpoint("friendli", ref.endpoint_id)["config"]
    whole = {"maxTokenCount": 8192, "enableContentLogging": False}  # what cannot be read back has to be declared
    flags = {"tokenizerSkipSpecialTokens": False, "tokenizerAddSpecialTokens": True}
    part = spec({"advanced": {**flags, **whole}}, scaling={"minReplicas": 0, "maxReplicas": 4})
    await apply(connection, ref, part)
    after = emulators.get_endpoint("friendli", ref.endpoint_id)["config"]
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"tokenizer_skip_special_tokens", "autoscaling_min"}


async def test_a_block_that_leaves_out_what_cannot_be_read_is_warned_of_for_a_reason(
    connection: FriendliConnection, ref: EndpointRef, emulators: EmulatorControl
) -> None:
    await apply(connection, ref, SPEC)
    less = {name: value for name, value in ADVANCED.items() if name != "maxTokenCount"}
    assert wish(spec({"advanced": less}), ref).warnings
    await apply(connection, ref, spec({"advanced": less}))
    assert emulators.get_endpoint("friendli", ref.endpoint_id)["config"]["max_token_count"] == 2560


async def test_a_fixed_count_replaces_bounds_and_back(connection: FriendliConnection, ref: EndpointRef) -> None:
    for scaling in ({"replicas": 3}, {"minReplicas": 0, "maxReplicas": 2}, {"replicas": 1}):
        raw = spec(scaling=scaling)
        await apply(connection, ref, raw)
        seen = await connection.observe(ref, Look())
        assert contradicts(seen.live, raw, ref) == set()
        assert seen.minimum == scaling.get("replicas", scaling.get("minReplicas"))


async def test_a_rollout_is_seen_from_its_beginning_to_its_end(
    connection: FriendliConnection, ref: EndpointRef, emulators: EmulatorControl
) -> None:
    emulators.set_knobs("friendli", ref.endpoint_id, rollout_seconds=1.0)
    await apply(connection, ref, spec(scaling={"replicas": 2}))
    rolling = await connection.observe(ref, Look())
    assert (rolling.state, rolling.provider_state) == (State.UPDATING, "UPDATING")
    assert rolling.replicas.updated != rolling.replicas.desired
    done = await look_until(connection, ref, State.RUNNING)
    assert done.replicas == Replicas(2, 2, 2)


@pytest.mark.parametrize(
    ("word", "state"),
    [("SLEEPING", State.SLEEPING), ("TERMINATED", State.STOPPED), ("AWAKING", State.WAKING), ("READY", State.RUNNING)],
)
async def test_states_are_told(
    word: str, state: State, connection: FriendliConnection, ref: EndpointRef, emulators: EmulatorControl
) -> None:
    emulators.set_endpoint("friendli", ref.endpoint_id, state=word)
    assert (await connection.observe(ref, Look())).state is state


async def test_a_failure_is_told_with_its_cure(
    connection: FriendliConnection, ref: EndpointRef, emulators: EmulatorControl
) -> None:
    emulators.set_endpoint("friendli", ref.endpoint_id, state="FAILED", error="INFERENCE_ENGINE_MEMORY_ERROR")
    seen = await connection.observe(ref, Look())
    assert seen.failure is not None
    assert seen.failure.code == "INFERENCE_ENGINE_MEMORY_ERROR"
    assert "larger gpu shape" in seen.failure.message
    assert seen.provider_state == "FAILED/INFERENCE_ENGINE_MEMORY_ERROR"


@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_history_of_many_pages_is_read_whole(
    newest_first: bool,  # noqa: FBT001 - a parameter of the table
    connection: FriendliConnection,
    ref: EndpointRef,
    emulators: EmulatorControl,
) -> None:
    emulators.set_knobs("friendli", ref.endpoint_id, newest_version_first=newest_first)
    for number in range(1, 121):
        emulators.foreign_write("friendli", ref.endpoint_id, {"name": f"name-{number}"})
    seen = await connection.observe(ref, Look(history=True, base=99))
    assert seen.history is not None
    assert seen.history.newest == 120
    assert [entry.number for entry in seen.history.entries] == list(range(99, 121))
    assert seen.history.entries[0].snapshot.values["friendli.name"] == "name-99"


@pytest.mark.parametrize(
    ("fault", "commits", "error"),
    [
        (Fault(delivery="reset"), True, Ambiguous),
        (Fault(delivery="close"), True, Ambiguous),
        (Fault(commit="never", delivery="reset"), False, Ambiguous),
        (Fault(delivery="truncate", size=20), True, Ambiguous),
        (Fault(delivery="stall"), True, Ambiguous),
        (Fault(delivery="stall", size=60, interval=0.2), True, Ambiguous),
        (Fault(delivery="endless", interval=0.01), True, Ambiguous),
        (Fault(delivery="huge", size=2 << 20), True, Ambiguous),
        (Fault(delivery="gzip_bomb", size=64 << 20), True, Ambiguous),
        (Fault(delivery="raw", body="not HTTP"), True, Ambiguous),
        (Fault(status=502), True, Ambiguous),
        (Fault(commit="never", status=503), False, Ambiguous),
        (Fault(commit="never", status=408), False, Ambiguous),
        (Fault(status=307, headers={"Location": "http://127.0.0.1:1/"}), True, Ambiguous),
        (Fault(body="<html>"), True, Ambiguous),
        (Fault(body=""), True, Ambiguous),
        (Fault(json={"name": "only"}), True, Ambiguous),
        (Fault(commit="never", status=400), False, InvalidSpec),
        (Fault(commit="never", status=422), False, InvalidSpec),
        (Fault(commit="never", status=401), False, CredentialsRejected),
        (Fault(commit="never", status=404), False, NotFound),
    ],
    ids=lambda value: f"{value.delivery} {value.status} {value.commit}" if isinstance(value, Fault) else None,
)
async def test_a_write_with_a_fault_is_sent_once_and_judged_rightly(
    fault: Fault,
    commits: bool,  # noqa: FBT001 - a parameter of the table
    error: type[EndpointError],
    connection: FriendliConnection,
    ref: EndpointRef,
    emulators: EmulatorControl,
) -> None:
    emulators.add_fault(Fault(**{**fault.as_json(), "operation": "update", "endpoint_id": ref.endpoint_id}))
    with pytest.raises(EndpointError) as caught:
        await apply(connection, ref, spec({"name": "renamed"}))
    assert type(caught.value) is error
    (entry,) = emulators.mutations(ref.endpoint_id)
    assert entry.committed is commits
    seen = await connection.observe(ref, HISTORY)
    assert seen.history is not None
    assert seen.history.newest == int(commits)


@pytest.mark.parametrize("operation", ["get_spec", "get_status", "get_version_history"])
async def test_a_read_with_a_fault_is_unavailable(
    operation: str, connection: FriendliConnection, ref: EndpointRef, emulators: EmulatorControl
) -> None:
    for fault in (
        Fault(delivery="reset"),
        Fault(status=500),
        Fault(body="[]"),
        Fault(delivery="gzip_bomb", size=1 << 23),
    ):
        emulators.add_fault(Fault(**{**fault.as_json(), "operation": operation, "endpoint_id": ref.endpoint_id}))
        with pytest.raises(Unavailable):
            await connection.observe(ref, HISTORY)
    await connection.observe(ref, HISTORY)
    assert emulators.mutations(ref.endpoint_id) == []


async def test_an_endpoint_of_another_team_or_key_is_not_found_or_refused(
    transport: Transport, ref: EndpointRef, emulators: EmulatorControl
) -> None:
    with pytest.raises(NotFound, match="or this key cannot see it"):
        await connect(transport, emulators, team="team-2").observe(ref, HISTORY)
    with pytest.raises(CredentialsRejected):
        await connect(transport, emulators, token="flp_another_key").observe(ref, HISTORY)
    await connect(transport, emulators, team=None).observe(ref, HISTORY)


async def test_a_provider_that_echoes_the_key_does_not_get_it_into_an_error(
    connection: FriendliConnection, ref: EndpointRef, emulators: EmulatorControl
) -> None:
    emulators.set_knobs("friendli", ref.endpoint_id, echo_headers=True)
    for status in (400, 401, 404, 422, 500):
        emulators.add_fault(Fault(status=status, commit="never", endpoint_id=ref.endpoint_id, operation="update"))
        with pytest.raises(EndpointError) as caught:
            await connection.update(ref, {"name": "x"})
        text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert TOKEN not in text
        assert TOKEN[4:12] not in text


async def test_the_rate_that_the_provider_allows_is_kept(emulators: EmulatorControl) -> None:
    # the provider counts arrivals, which come a little unevenly: hence its greater burst
    emulators.add_account("limited", ["flp_limited"], teams=[TEAM], rate=20, burst=8)
    emulators.create_endpoint("friendli", "ep-limited", "limited")
    ref = EndpointRef("friendli", "ep-limited", TEAM)
    transport = Transport(TransportSettings(5, calls_per_second=19, calls_burst=5), Silence())
    connection = connect(transport, emulators, token="flp_limited")
    try:
        await asyncio.gather(*(connection.observe(ref, HISTORY) for _ in range(12)))
    finally:
        await transport.close()
    entries = emulators.reads("ep-limited")
    assert len(entries) == 36
    assert {entry.status for entry in entries} == {200}


async def test_nothing_is_sent_before_a_retry_after_has_passed(
    emulators: EmulatorControl, transport: Transport
) -> None:
    emulators.add_account("throttled", ["flp_throttled"], teams=[TEAM])
    emulators.create_endpoint("friendli", "ep-throttled", "throttled")
    ref = EndpointRef("friendli", "ep-throttled", TEAM)
    connection = connect(transport, emulators, token="flp_throttled")
    emulators.add_fault(Fault(status=429, headers={"Retry-After": "2"}, endpoint_id="ep-throttled"))
    with pytest.raises(Throttled):
        await connection.client.get_spec(ref.endpoint_id)
    started, refusals = time.monotonic(), 0
    while time.monotonic() < started + 4:
        try:
            await connection.client.get_spec(ref.endpoint_id)
            break
        except Throttled:
            refusals += 1
            await asyncio.sleep(0.05)
    first, second = emulators.reads("ep-throttled")
    assert (first.status, second.status) == (429, 200)
    assert first.answered_at is not None
    assert second.at >= first.answered_at + 2
    assert refusals > 10
