from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from inference_operator.core.model import Credentials, EndpointRef, Look, Observed
from inference_operator.errors import (
    Ambiguous,
    CapacityUnavailable,
    CredentialsRejected,
    EndpointError,
    InvalidSpec,
    NotFound,
    Throttled,
    Unavailable,
)
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.server import Emulators
from inference_operator.playground.emulators.world import World
from inference_operator.providers.answers import CURES
from inference_operator.providers.novita.client import refine
from inference_operator.providers.novita.driver import NovitaConnection, NovitaDriver
from inference_operator.providers.novita.words import quotes
from inference_operator.providers.transport import Transport, TransportSettings
from novita_cases import SPEC, a_document, a_spec, desired
from provider_subjects import Calls

REF = EndpointRef("novita", "ep-1")
SETTINGS = TransportSettings(request_timeout=5.0, calls_per_second=1000.0, calls_burst=1000)


@pytest.fixture
async def emulators() -> AsyncIterator[Emulators]:
    async with Emulators() as running:
        running.world.add_account("us", ["token-of-us"])
        running.world.create_endpoint("novita", "ep-1", "us")
        yield running


@pytest.fixture
def world(emulators: Emulators) -> World:
    return emulators.world


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(SETTINGS, Calls())
    yield transport
    await transport.close()


@pytest.fixture
def driver() -> NovitaDriver:
    return NovitaDriver()


@pytest.fixture
def connection(driver: NovitaDriver, transport: Transport, emulators: Emulators) -> NovitaConnection:
    return connect(driver, transport, emulators)


def connect(
    driver: NovitaDriver, transport: Transport, emulators: Emulators, token: str = "token-of-us"
) -> NovitaConnection:
    key = Credentials(SecretStr(token))
    return driver.connect(transport, origin=emulators.novita_url, credentials=key, team=None)


def operations(world: World) -> list[str | None]:
    return [entry.operation for entry in world.ledger()]


def says(world: World, document: Any, **more: Any) -> None:
    world.add_fault(Fault(operation="get", json=document, **more))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("SERVERLESS_ENDPOINT_NOT_FOUND", NotFound),
        ("RESOURCE_NOT_FOUND", NotFound),
        ("VALIDATOR_PARAM", InvalidSpec),
        ("INVALID_COMMAND_PARAM", InvalidSpec),
        ("REQUEST", InvalidSpec),
        ("CONFLICT", InvalidSpec),
        ("SERVERLESS_PRODUCT_NOT_FOUND", InvalidSpec),
        ("IMAGE_NOT_FOUND", InvalidSpec),
        ("NETWORK_STORAGE_NOT_FOUND", InvalidSpec),
        ("CUR_CLUSTER_NETWORK_STORAGE_NOT_SUPPORT", InvalidSpec),
        ("INSUFFICIENT_RESOURCE", CapacityUnavailable),
        ("OPERATION_LIMIT", CapacityUnavailable),
        ("CLUSTER_STATUS", CapacityUnavailable),
        ("NODE_STATUS", CapacityUnavailable),
        ("DEPENDENT_RESOURCE_STATE", CapacityUnavailable),
        ("NETWORK_STORAGE_UNAVAILABLE", CapacityUnavailable),
        ("NETWORK_STORAGE_IN_USE", CapacityUnavailable),
        ("BALANCE_NOT_ENOUGH", CapacityUnavailable),
        ("EXPIRED_OR_BALANCE_NOT_ENOUGH", CapacityUnavailable),
        ("NOT_ENOUGH_BALANCE", CapacityUnavailable),
        ("UNAUTHORIZED", CredentialsRejected),
        ("FORBIDDEN", CredentialsRejected),
        ("BANNED_USER", CredentialsRejected),
        ("RATE_LIMIT_EXCEEDED", Throttled),
    ],
)
@pytest.mark.parametrize("status", [400, 403, 409, 429])
def test_a_refusal_means_what_its_reason_says_whatever_its_status(
    status: int, reason: str, kind: type[EndpointError]
) -> None:
    error = refine(status, {"code": status, "reason": reason, "message": "no\nway", "metadata": {}})
    assert type(error) is kind
    assert error is not None
    cure = f". {CURES[kind]}" if kind in CURES else ""
    assert error.message == f"novita: HTTP {status}: {reason}: no way{cure}"
    assert getattr(error, "maybe_busy", False) is (reason in {"REQUEST", "CONFLICT"})


@pytest.mark.parametrize(
    "document", [None, [], "VALIDATOR_PARAM", {}, {"reason": None}, {"reason": ["CONFLICT"]}, {"reason": "NEW_REASON"}]
)
def test_what_the_table_does_not_list_is_left_to_the_general_one(document: Any) -> None:
    assert refine(400, document) is None


@pytest.mark.parametrize("said", [None, "", 7])
def test_a_refusal_may_be_wordless(said: Any) -> None:
    error = refine(400, {"reason": "CONFLICT", "message": said})
    assert error is not None
    assert error.message == "novita: HTTP 400: CONFLICT"


class TestReading:
    @pytest.mark.parametrize(
        ("endpoint", "words"),
        [
            ({"endpoint": None}, "endpoint"),
            ({}, "endpoint"),
            ({"endpoint": {}}, "endpoint.id"),
            ({"endpoint": a_document(workerConfig={"minNum": "many"})}, "endpoint.workerConfig.minNum"),
            ({"endpoint": a_document(workerConfig={"gpuNum": True})}, "endpoint.workerConfig.gpuNum"),
            ({"endpoint": a_document(policy=None)}, "endpoint.policy"),
            ({"endpoint": a_document(id="ep-2")}, "another endpoint"),
        ],
    )
    async def test_what_is_not_the_document_is_no_read(
        self, world: World, connection: NovitaConnection, endpoint: Any, words: str
    ) -> None:
        says(world, endpoint)
        with pytest.raises(Unavailable, match=words) as raised:
            await connection.observe(REF, Look())
        assert "swordfish" not in raised.value.message
        assert raised.value.__suppress_context__ or raised.value.__context__ is None

    async def test_a_document_of_endless_depth_is_no_read(self, world: World, connection: NovitaConnection) -> None:
        deep: Any = None
        for _ in range(100):
            deep = [deep]
        says(world, {"endpoint": a_document(unknown=deep)})
        with pytest.raises(Unavailable):
            await connection.observe(REF, Look())

    async def test_a_not_found_in_a_bad_request_is_one(self, world: World, connection: NovitaConnection) -> None:
        world.foreign_write("novita", "ep-1", operation="delete")
        with pytest.raises(NotFound, match="SERVERLESS_ENDPOINT_NOT_FOUND"):
            await connection.observe(REF, Look())

    async def test_an_id_that_is_no_id_is_not_sent(self, world: World, connection: NovitaConnection) -> None:
        with pytest.raises(InvalidSpec):
            await connection.observe(EndpointRef("novita", "../x?id=y"), Look())
        assert operations(world) == []


class TestLimits:
    def limits(self, seen: Observed) -> Any:
        return seen.document.limits

    async def test_are_read_only_when_they_are_wanted(self, world: World, connection: NovitaConnection) -> None:
        assert self.limits(await connection.observe(REF, Look())) is None
        assert operations(world) == ["get"]

    async def test_are_read_once_for_all_connections_of_a_key(
        self, world: World, driver: NovitaDriver, transport: Transport, emulators: Emulators
    ) -> None:
        for _ in range(2):
            seen = await connect(driver, transport, emulators).observe(REF, Look(limits=True))
            assert self.limits(seen)["maxWorkerNum"] == 100
        assert operations(world) == ["get", "limit", "get"]

    async def test_of_one_key_are_not_those_of_another(
        self, world: World, driver: NovitaDriver, transport: Transport, emulators: Emulators
    ) -> None:
        world.add_account("us", ["token-of-us", "second-token"])
        for token in ("token-of-us", "second-token"):
            await connect(driver, transport, emulators, token).observe(REF, Look(limits=True))
        assert operations(world) == ["get", "limit", "get", "limit"]

    async def test_are_read_again_when_they_are_old(self, world: World, connection: NovitaConnection) -> None:
        await connection.observe(REF, Look(limits=True))
        world.set_limits(maxWorkerNum=5)
        assert self.limits(await connection.observe(REF, Look(limits=True)))["maxWorkerNum"] == 100
        connection.limits.until = 0.0
        assert self.limits(await connection.observe(REF, Look(limits=True)))["maxWorkerNum"] == 5

    async def test_that_cannot_be_read_hold_nothing_up(self, world: World, connection: NovitaConnection) -> None:
        world.add_fault(Fault(operation="limit", status=500))
        for _ in range(2):
            assert self.limits(await connection.observe(REF, Look(limits=True))) is None
        assert operations(world) == ["get", "limit", "get"]


class TestUpdating:
    async def body(self, connection: NovitaConnection, driver: NovitaDriver, spec: Any = SPEC) -> Any:
        return driver.render(desired(spec), await connection.observe(REF, Look(limits=True)), "a comment")

    @pytest.mark.parametrize("empty", [True, False])
    async def test_any_kind_of_success_will_do(
        self,
        world: World,
        driver: NovitaDriver,
        connection: NovitaConnection,
        empty: bool,  # noqa: FBT001 - both sides of the table
    ) -> None:
        world.set_knobs("novita", empty_update_answer=empty)
        await connection.update(REF, await self.body(connection, driver))
        assert world.get_endpoint("novita", "ep-1")["config"]["name"] == "sdxl"

    async def test_an_older_server_is_not_given_an_invented_time_out(
        self, world: World, driver: NovitaDriver, connection: NovitaConnection
    ) -> None:
        world.set_knobs("novita", omit_request_timeout=True)
        with pytest.raises(InvalidSpec, match=r"novita\.workerConfig\.requestTimeout"):
            await self.body(connection, driver, a_spec(name="other"))
        assert await self.body(connection, driver, a_spec(workerConfig={"requestTimeout": 60}))

    async def test_a_server_error_may_have_changed_something(
        self, world: World, driver: NovitaDriver, connection: NovitaConnection
    ) -> None:
        document = {"code": 500, "reason": "INSUFFICIENT_RESOURCE", "message": "x", "metadata": {}}
        world.add_fault(Fault(operation="update", status=500, json=document))
        with pytest.raises(Ambiguous):
            await connection.update(REF, await self.body(connection, driver))

    @pytest.mark.parametrize("shown", ["hf-swordfish", "wordfish and no", "hf-swor\n"])
    async def test_words_that_quote_an_environment_variable_are_not_passed_on(
        self, world: World, driver: NovitaDriver, connection: NovitaConnection, shown: str
    ) -> None:
        document = {"code": 400, "reason": "CLUSTER_STATUS", "message": f"bad env: {shown}", "metadata": {}}
        world.add_fault(Fault(operation="update", commit="never", status=400, json=document))
        with pytest.raises(CapacityUnavailable) as raised:
            await connection.update(REF, await self.body(connection, driver))
        hidden = shown != "hf-swor\n"
        assert ("not shown" in raised.value.message) is hidden
        assert ("bad env" in str(raised.value)) is not hidden


@pytest.mark.parametrize(
    ("message", "values", "quoted"),
    [
        ("the value is abcde", ["abcde"], True),
        ("the value is abcd", ["abcd"], False),
        ("the value is 12345678", ["xx123456789xx"], True),
        ("the value is 1234567", ["xx123456789xx"], False),
        ("", ["abcde"], False),
        ("anything", [], False),
    ],
)
def test_a_quotation(message: str, values: list[str], quoted: bool) -> None:  # noqa: FBT001 - a column of the table
    assert quotes(message, values) is quoted
