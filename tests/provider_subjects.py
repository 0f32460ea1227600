"""Every provider as the contract suite needs it: a driver, a connection, a whole spec, and a view of the books.

The shipped providers are spoken to over HTTP with their emulators behind, the in-memory one directly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
from pydantic import SecretStr

from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.model import (
    Credentials,
    Desired,
    EndpointRef,
    Look,
    Observed,
    SecretData,
    SecretValues,
    State,
)
from inference_operator.core.port import Connection, Driver
from inference_operator.errors import Ambiguous, CredentialsRejected, InvalidSpec
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.server import Emulators
from inference_operator.playground.emulators.world import World
from inference_operator.providers import friendli, memory, novita
from inference_operator.providers.memory.account import LIST, OBSERVE, UPDATE, Commit, MemoryAccount
from inference_operator.providers.memory.account import Fault as MemoryFault
from inference_operator.providers.memory.driver import MemoryDriver
from inference_operator.providers.transport import Transport, TransportSettings

ENDPOINT = "ep-1"
TOKEN = "flp_swordfish-0123456789"
ENV_SECRET = "hf_marmalade-9876543210"

WHOLE_LOOK = Look(history=True, limits=True)


class Books(Protocol):
    """What the provider itself knows and does, beside what it tells."""

    def kept(self) -> Any:
        """Everything about the endpoint, write-only fields and versions included."""

    def updates(self) -> int:
        """How many updates have arrived, with whatever end."""

    async def say(self, word: str) -> None:
        """Makes the next look show another word for the state."""

    def lose_answer(self, *, commit: bool) -> None:
        """Makes the next update end without an answer."""

    def refuse_update(self) -> None:
        """Makes the next update be refused as invalid, in words that repeat the request and its key."""

    def refuse_key(self) -> None:
        """Makes the next read be refused for its key."""

    def refuse_list(self) -> None:
        """Makes the next list be refused for its key."""

    def fall_asleep(self) -> None:
        """Lets the endpoint change its state."""

    def add(self, endpoint_ids: Iterable[str]) -> None:
        """Creates more endpoints in the account."""

    async def tell_numbers_as_text(self) -> None:
        """Makes the next look show every number as text."""


@dataclass
class Calls:
    """Records what the transport tells of its calls."""

    seen: list[tuple[str, str, str]] = field(default_factory=list)

    def call(self, *, provider: str, operation: str, outcome: str, seconds: float, **_: Any) -> None:
        assert seconds >= 0
        self.seen.append((provider, operation, outcome))


@dataclass
class Subject:
    """One provider under test; its endpoint differs from the spec in every readable field."""

    driver: Driver
    connection: Connection
    spec: Mapping[str, Any]
    books: Books
    calls: Calls = field(default_factory=Calls)
    secrets: SecretValues = field(
        default_factory=lambda: SecretValues({"hf": SecretData("1", {"token": ENV_SECRET.encode()})})
    )

    @property
    def ref(self) -> EndpointRef:
        return EndpointRef(self.driver.name, ENDPOINT)

    def desired(self, spec: Mapping[str, Any] | None = None) -> Desired:
        spec = self.spec if spec is None else spec
        options = self.driver.options.model_validate(spec[self.driver.name])
        return self.driver.desired(InferenceEndpointSpec.model_validate(spec), options, self.secrets)

    async def look(self, look: Look = WHOLE_LOOK) -> Observed:
        return await self.connection.observe(self.ref, look)

    async def update(self, spec: Mapping[str, Any] | None = None, comment: str = "by the contract suite") -> None:
        body = self.driver.render(self.desired(spec), await self.look(), comment)
        await self.connection.reserve()
        await self.connection.update(self.ref, body)


def a_spec(provider: str, block: Mapping[str, Any], **neutral: Any) -> dict[str, Any]:
    return {
        "provider": provider,
        "endpointId": ENDPOINT,
        "credentialsSecretRef": {"name": "key"},
        provider: dict(block),
        **neutral,
    }


FRIENDLI_SPEC = a_spec(
    "friendli",
    {
        "name": "llama-chat",
        "hfModelRepo": "meta-llama/Llama-3.1-70B-Instruct",
        "hfModelRepoRevision": "0e9e39f",
        "advanced": {
            "tokenizerSkipSpecialTokens": False,
            "tokenizerAddSpecialTokens": False,
            "maxBatchSize": 64,
            "maxTokenCount": 8192,
            "maxInputLength": 4096,
            "enableContentLogging": True,
        },
    },
    gpu={"type": "H200", "count": 4},
    scaling={"minReplicas": 2, "maxReplicas": 5, "cooldownSeconds": 77},
)

NOVITA_SPEC = a_spec(
    "novita",
    {
        "name": "sdxl",
        "clusterID": "cluster-1",
        "workerConfig": {"maxConcurrent": 4, "requestTimeout": 60},
        "port": 9000,
        "policy": {"type": "concurrency", "value": 12},
        "image": {"image": "registry.example.test/sdxl:2", "authId": "7", "command": "serve"},
        "volumeMounts": [
            {"type": "network", "id": "disk-1", "mountPath": "/models"},
            {"type": "local", "mountPath": "/cache"},
        ],
        "envs": [
            {"name": "MODE", "value": "fast"},
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}},
        ],
        "healthy": {"path": "/ready"},
    },
    gpu={"count": 2},
    scaling={"minReplicas": 1, "maxReplicas": 5, "cooldownSeconds": 77},
)

MEMORY_SPEC = a_spec(
    "memory",
    {"name": "model-b", "model": "repo/b", "size": 12},
    scaling={"minReplicas": 2, "maxReplicas": 5, "cooldownSeconds": 77},
)


@dataclass(frozen=True)
class EmulatedBooks:
    """The books of an emulator."""

    world: World
    provider: str
    origin: str
    reads: Mapping[str, str]
    """The operations that a look at the endpoint uses, and their paths and queries."""

    def kept(self) -> Any:
        return self.world.get_endpoint(self.provider, ENDPOINT)

    def updates(self) -> int:
        return len(self.world.mutations(ENDPOINT))

    async def say(self, word: str) -> None:
        await self._rewrite(lambda document: renamed(document, word))

    def lose_answer(self, *, commit: bool) -> None:
        self._add(operation="update", delivery="reset", commit="now" if commit else "never")

    def refuse_update(self) -> None:
        said = f"no: {TOKEN} {ENV_SECRET}"
        document = {"code": 400, "reason": "VALIDATOR_PARAM", "message": said, "metadata": {}}
        self._add(operation="update", commit="never", status=400, json=document)

    def refuse_key(self) -> None:
        self._add(method="GET", status=401, count=len(self.reads))

    def refuse_list(self) -> None:
        self._add(operation="list", status=401)

    def fall_asleep(self) -> None:
        state = "SLEEPING" if self.provider == friendli.DRIVER.name else "stopped"
        self.world.set_endpoint(self.provider, ENDPOINT, state=state)

    def add(self, endpoint_ids: Iterable[str]) -> None:
        for endpoint_id in endpoint_ids:
            self.world.create_endpoint(self.provider, endpoint_id, "us")

    async def tell_numbers_as_text(self) -> None:
        await self._rewrite(as_text)

    def _add(self, **what: Any) -> None:
        self.world.add_fault(Fault(provider=self.provider, **what))

    async def _rewrite(self, change: Callable[[Any], Any]) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        async with httpx.AsyncClient(base_url=self.origin, headers=headers, trust_env=False) as client:
            answers = {operation: (await client.get(path)).json() for operation, path in self.reads.items()}
        for operation, answer in answers.items():
            self._add(operation=operation, json=change(answer))


@dataclass
class MemoryBooks:
    """The books of the in-memory provider."""

    account: MemoryAccount

    def kept(self) -> Any:
        endpoint = self.account.endpoints[ENDPOINT]
        return deepcopy((endpoint.versions, endpoint.word, endpoint.failure))

    def updates(self) -> int:
        return sum(call.operation == UPDATE for call in self.account.calls)

    async def say(self, word: str) -> None:
        self.account.endpoints[ENDPOINT].word = word

    def lose_answer(self, *, commit: bool) -> None:
        when = Commit.NOW if commit else Commit.NEVER
        self._next(UPDATE, MemoryFault(Ambiguous("no answer"), when))

    def refuse_update(self) -> None:
        self._next(UPDATE, MemoryFault(InvalidSpec("no")))

    def refuse_key(self) -> None:
        self._next(OBSERVE, MemoryFault(CredentialsRejected("no")))

    def refuse_list(self) -> None:
        self._next(LIST, MemoryFault(CredentialsRejected("no")))

    def fall_asleep(self) -> None:
        self.account.endpoints[ENDPOINT].word = State.SLEEPING

    def add(self, endpoint_ids: Iterable[str]) -> None:
        for endpoint_id in endpoint_ids:
            self.account.add(endpoint_id, {})

    async def tell_numbers_as_text(self) -> None:
        """Nothing is told in text within a process."""

    def _next(self, operation: str, fault: MemoryFault) -> None:
        done = sum(call.operation == operation for call in self.account.calls)
        self.account.faults[operation, done + 1] = fault


def renamed(document: Any, word: str) -> Any:
    """The document with another word for the endpoint's state, wherever one stands."""
    if "endpoint" in document:
        return {"endpoint": document["endpoint"] | {"state": {"state": word, "error": "", "message": ""}}}
    return document | {"status": word} if "status" in document else document


def as_text(value: Any) -> Any:
    """The same document with every number as text."""
    if isinstance(value, dict):
        return {key: as_text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_text(each) for each in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@asynccontextmanager
async def emulated(driver: Driver, spec: Mapping[str, Any], reads: Mapping[str, str]) -> AsyncIterator[Subject]:
    settings = TransportSettings(request_timeout=5.0, calls_per_second=1000.0, calls_burst=1000)
    calls = Calls()
    async with Emulators() as emulators:
        emulators.world.add_account("us", [TOKEN])
        emulators.world.create_endpoint(driver.name, ENDPOINT, "us")
        origin = emulators.urls[driver.name]
        transport = Transport(settings, calls)
        try:
            key = Credentials(SecretStr(TOKEN))
            connection = driver.connect(transport, origin=origin, credentials=key, team=None)
            yield Subject(driver, connection, spec, EmulatedBooks(emulators.world, driver.name, origin, reads), calls)
        finally:
            await transport.close()


def friendli_subject() -> AbstractAsyncContextManager[Subject]:
    root = f"/dedicated/beta/endpoint/{ENDPOINT}"
    reads = {"get_spec": root, "get_status": f"{root}/status", "get_version_history": f"{root}/version"}
    return emulated(friendli.DRIVER, FRIENDLI_SPEC, reads)


def novita_subject() -> AbstractAsyncContextManager[Subject]:
    root = "/gpu-instance/openapi/v1/endpoint"
    return emulated(novita.DRIVER, NOVITA_SPEC, {"get": f"{root}?id={ENDPOINT}", "limit": f"{root}/limit"})


@asynccontextmanager
async def memory_subject() -> AsyncIterator[Subject]:
    driver = MemoryDriver(MemoryAccount(lists=100))
    driver.account.add(
        ENDPOINT,
        {
            "memory.name": "model-a",
            "memory.model": "repo/a",
            "memory.size": 1,
            "scaling.minReplicas": 1,
            "scaling.maxReplicas": 1,
            "scaling.cooldownSeconds": 1,
        },
    )
    key = Credentials(SecretStr(TOKEN))
    connection = driver.connect(None, origin=driver.origin, credentials=key, team=None)
    yield Subject(driver, connection, MEMORY_SPEC, MemoryBooks(driver.account))


SUBJECTS: dict[str, Callable[[], AbstractAsyncContextManager[Subject]]] = {
    friendli.DRIVER.name: friendli_subject,
    novita.DRIVER.name: novita_subject,
    memory.DRIVER.name: memory_subject,
}
