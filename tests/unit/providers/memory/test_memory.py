from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.model import (
    Credentials,
    Desired,
    EndpointRef,
    Failure,
    Look,
    Replicas,
    SecretValues,
    State,
)
from inference_operator.core.port import Connection
from inference_operator.errors import Ambiguous, InvalidSpec, NotFound, Unavailable
from inference_operator.providers.memory.account import OBSERVE, UPDATE, Call, Commit, Fault, MemoryAccount
from inference_operator.providers.memory.driver import MemoryDriver
from inference_operator.providers.memory.options import MemoryOptions

REF = EndpointRef("memory", "ep-1")
VALUES = {"memory.name": "a", "memory.model": "m", "memory.size": 1}


@pytest.fixture
def account() -> MemoryAccount:
    account = MemoryAccount()
    account.add("ep-1", VALUES)
    return account


@pytest.fixture
def driver(account: MemoryAccount) -> MemoryDriver:
    return MemoryDriver(account)


@pytest.fixture
def connection(driver: MemoryDriver) -> Connection:
    return driver.connect(None, origin=driver.origin, credentials=Credentials(SecretStr("any")), team=None)


def desired(driver: MemoryDriver, block: dict[str, Any], **neutral: Any) -> Desired:
    spec = {"provider": "memory", "endpointId": "ep-1", "credentialsSecretRef": {"name": "k"}, **neutral}
    return driver.desired(
        InferenceEndpointSpec.model_validate(spec), MemoryOptions.model_validate(block), SecretValues()
    )


async def size(connection: Connection) -> Any:
    return (await connection.observe(REF, Look())).live.values["memory.size"]


def change(value: int) -> dict[str, Any]:
    return {"values": {"memory.size": value}, "comment": ""}


async def test_a_write_only_field_is_kept_and_never_shown(account: MemoryAccount, connection: Connection) -> None:
    await connection.update(REF, {"values": {"memory.model": "n"}, "comment": "to n"})
    assert account.endpoints["ep-1"].versions[-1]["memory.model"] == "n"
    assert account.calls == [Call(UPDATE, "ep-1", {"memory.model": "n"}, "to n")]
    seen = await connection.observe(REF, Look(history=True, base=0))
    assert seen.history is not None
    shown = [seen.live, *(each.snapshot for each in seen.history.entries)]
    assert all("memory.model" not in snapshot.values for snapshot in shown)


def test_what_cannot_be_read_back_is_declared_so(driver: MemoryDriver) -> None:
    assert desired(driver, {"name": "a", "model": "m"}).unverifiable == ("memory.model",)


def test_a_gpu_is_refused(driver: MemoryDriver) -> None:
    with pytest.raises(InvalidSpec, match="gpu"):
        desired(driver, {}, gpu={"count": 1})


async def test_every_update_makes_a_version_even_of_nothing(connection: Connection) -> None:
    for _ in range(3):
        await connection.update(REF, {"values": {}, "comment": ""})
    history = (await connection.observe(REF, Look(history=True))).history
    assert history is not None
    assert history.newest == 3


@pytest.mark.parametrize(("base", "numbers"), [(None, [3]), (0, [0, 1, 2, 3]), (2, [2, 3]), (3, [3]), (9, [3])])
async def test_a_history_begins_at_the_base(connection: Connection, base: int | None, numbers: list[int]) -> None:
    for value in range(3):
        await connection.update(REF, change(value))
    history = (await connection.observe(REF, Look(history=True, base=base))).history
    assert history is not None
    assert (history.newest, [each.number for each in history.entries]) == (3, numbers)


async def test_reads_lag_behind_by_so_many_looks(account: MemoryAccount, connection: Connection) -> None:
    account.lag = 2
    await connection.update(REF, change(7))
    assert [await size(connection) for _ in range(4)] == [1, 1, 7, 7]


async def test_a_rollout_shows_for_so_many_looks(account: MemoryAccount, connection: Connection) -> None:
    account.rollout = 1
    await connection.update(REF, change(7))
    looks = [await connection.observe(REF, Look()) for _ in range(2)]
    assert [(each.state, each.replicas.updated) for each in looks] == [(State.UPDATING, 0), (State.RUNNING, 1)]


async def test_values_are_clamped(account: MemoryAccount, connection: Connection) -> None:
    account.clamp["memory.size"] = 5
    await connection.update(REF, change(7))
    assert await size(connection) == 5


@pytest.mark.parametrize(
    ("commit", "before", "after"), [(Commit.NEVER, 1, 1), (Commit.NOW, 7, 7), (Commit.LATER, 1, 7)]
)
async def test_a_lost_answer_tells_nothing_of_the_commit(
    account: MemoryAccount, connection: Connection, commit: Commit, before: int, after: int
) -> None:
    account.faults[UPDATE, 1] = Fault(Ambiguous("no answer"), commit)
    with pytest.raises(Ambiguous):
        await connection.update(REF, change(7))
    assert await size(connection) == before
    account.land()
    account.land()
    assert await size(connection) == after
    assert len(account.endpoints["ep-1"].versions) == (1 if commit is Commit.NEVER else 2)


async def test_a_fault_hits_the_call_that_it_is_set_for(account: MemoryAccount, connection: Connection) -> None:
    account.faults[OBSERVE, 2] = Fault(Unavailable("away"))
    assert await size(connection) == 1
    with pytest.raises(Unavailable):
        await size(connection)
    assert await size(connection) == 1


async def test_a_foreign_change_makes_a_version_and_is_no_call(account: MemoryAccount, connection: Connection) -> None:
    account.change("ep-1", {"memory.size": 9})
    assert account.calls == []
    assert await size(connection) == 9


async def test_an_endpoint_that_is_gone_is_not_found(account: MemoryAccount, connection: Connection) -> None:
    del account.endpoints["ep-1"]
    with pytest.raises(NotFound):
        await size(connection)
    with pytest.raises(NotFound):
        await connection.update(REF, change(7))


@pytest.mark.parametrize(
    ("word", "failure", "state", "replicas"),
    [
        ("Running", None, State.RUNNING, Replicas(2, 2, 2)),
        ("Sleeping", None, State.SLEEPING, Replicas(0, 2, 0)),
        ("Snoring", None, State.UNKNOWN, Replicas(2, 2, 2)),
        ("Running", Failure("OOM", "buy more"), State.FAILED, Replicas(2, 2, 2)),
    ],
)
async def test_states(
    account: MemoryAccount,
    connection: Connection,
    word: str,
    failure: Failure | None,
    state: State,
    replicas: Replicas,
) -> None:
    endpoint = account.add("ep-1", {"scaling.minReplicas": 2, "scaling.maxReplicas": 2})
    endpoint.word, endpoint.failure = word, failure
    seen = await connection.observe(REF, Look())
    assert (seen.state, seen.provider_state, seen.failure, seen.replicas) == (state, word, failure, replicas)


def test_two_drivers_have_two_accounts() -> None:
    MemoryDriver().account.add("ep-1", {})
    assert MemoryDriver().account.endpoints == {}
