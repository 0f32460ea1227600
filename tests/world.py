"""A whole world in memory: an API server, a provider account and any number of operators, with a clock of its own."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from inference_operator.api.status import InferenceEndpointStatus
from inference_operator.core.connection import ConnectionMap
from inference_operator.core.model import Credentials, EndpointRef, Look, Observed, Resource, SecretData
from inference_operator.core.port import Authority, Connection, PassObserver, ResourceGone, StatusConflict
from inference_operator.core.rollouts import Rollouts
from inference_operator.core.schedule import Pace
from inference_operator.errors import EndpointError, Unavailable
from inference_operator.providers.memory.account import UPDATE, MemoryAccount
from inference_operator.providers.memory.driver import MemoryConnection, MemoryDriver
from inference_operator.reconcile import Clock, Options, Reconciler, Sweeps

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
PACE = Pace(poll=60, transition_poll=10, settle=60, request_timeout=30, claim=5, scale_interval=60)


@dataclass
class ApiServer:
    """Objects with resourceVersions, generations and guarded status writes."""

    objects: dict[str, Resource] = field(default_factory=dict)
    secrets: dict[tuple[str, str], SecretData] = field(default_factory=dict)
    writes: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    connections: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    connections_asked: list[ConnectionMap] = field(default_factory=list)
    refuse_connections: EndpointError | None = None
    prune: tuple[str, ...] = ()
    before_write: list[Any] = field(default_factory=list)
    lose_answers: int = 0
    _versions: Any = field(default_factory=lambda: itertools.count(1))

    def version(self) -> str:
        return str(next(self._versions))

    def apply(self, name: str, spec: Mapping[str, Any], **meta: Any) -> Resource:
        """Create, or edit; the generation moves when the spec does."""
        before = next((each for each in self.objects.values() if each.name == name), None)
        if before is None:
            made = Resource(
                namespace=meta.get("namespace", "team"),
                name=name,
                uid=meta.get("uid", f"uid-{name}"),
                generation=1,
                resource_version=self.version(),
                created_at=meta.get("created_at", EPOCH + timedelta(seconds=len(self.objects))),
                deleting=False,
                annotations=meta.get("annotations", {}),
                spec=copy.deepcopy(dict(spec)),
                status={"observedGeneration": -1},
            )
        else:
            made = replace(
                before,
                generation=before.generation + (before.spec != spec),
                resource_version=self.version(),
                annotations=meta.get("annotations", before.annotations),
                spec=copy.deepcopy(dict(spec)),
            )
        self.objects[made.uid] = made
        return made

    def secret(self, name: str, **data: str) -> None:
        values = {key: value.encode() for key, value in data.items()}
        self.secrets["team", name] = SecretData(self.version(), values)


@dataclass
class View:
    """One operator's view of the API server; `Cluster` and `SecretReader` of its reconciler."""

    server: ApiServer
    removed: dict[tuple[str, str], float] = field(default_factory=dict)
    stale: dict[str, Resource] = field(default_factory=dict)

    def current(self, uid: str) -> Resource | None:
        return self.stale.get(uid) or self.server.objects.get(uid)

    async def read(self, resource: Resource) -> Resource | None:
        self.stale.pop(resource.uid, None)
        return self.server.objects.get(resource.uid)

    async def write_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource:
        for hook in list(self.server.before_write):
            hook(resource, status)
        stored = self.server.objects.get(resource.uid)
        if stored is None:
            raise ResourceGone
        if stored.resource_version != resource.resource_version:
            raise StatusConflict
        kept = {key: value for key, value in json.loads(json.dumps(status)).items() if key not in self.server.prune}
        stored = replace(stored, status=kept, resource_version=self.server.version())
        self.server.objects[resource.uid] = stored
        self.server.writes.append((resource.uid, kept))
        if self.server.lose_answers:
            self.server.lose_answers -= 1
            raise Unavailable("the answer was lost")
        return stored

    def rivals(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        return [
            each
            for each in self.server.objects.values()
            if each.uid != resource.uid
            and each.spec.get("provider") == provider
            and each.spec.get("endpointId") == endpoint_id
        ]

    def claim_removed_at(self, provider: str, endpoint_id: str) -> float | None:
        return self.removed.get((provider, endpoint_id))

    async def claims(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        return self.rivals(resource, provider, endpoint_id)

    async def write_connection(self, resource: Resource, connection: ConnectionMap) -> None:
        self.server.connections_asked.append(connection)
        if self.server.refuse_connections is not None:
            raise self.server.refuse_connections
        self.server.connections[resource.namespace, connection.name] = dict(connection.data)

    def event(self, resource: Resource, *, warning: bool, reason: str, message: str) -> None:
        del message
        self.server.events.append((resource.name, "Warning" if warning else "Normal", reason))


@dataclass
class SecretsOf:
    server: ApiServer
    reads: int = 0

    async def read(self, namespace: str, name: str, *, fresh: bool = False) -> SecretData | None:
        del fresh
        self.reads += 1
        return self.server.secrets.get((namespace, name))


class WithoutHistory(MemoryConnection):
    """A provider that keeps no versions."""

    async def observe(self, ref: EndpointRef, look: Look) -> Observed:
        return await super().observe(ref, replace(look, history=False))


@dataclass
class Connector:
    account: MemoryAccount
    history: bool = True
    connections: list[Credentials] = field(default_factory=list)

    def connect(self, provider: str, credentials: Credentials, team: str | None) -> Connection:
        del provider, team
        self.connections.append(credentials)
        return MemoryConnection(self.account) if self.history else WithoutHistory(self.account)


class Silent:
    """An observer that keeps counts."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.outcomes: list[str] = []
        self.settlements: list[str] = []

    def passed(self, *, result: str, seconds: float) -> None:
        del seconds
        self.results.append(result)

    def wrote(self, *, provider: str, outcome: str) -> None:
        del provider
        self.outcomes.append(outcome)

    def reported(self, resource: Resource, status: InferenceEndpointStatus, observed: Observed | None) -> None:
        pass

    def settled(self, *, provider: str, result: str) -> None:
        del provider
        self.settlements.append(result)

    def gone(self, uid: str) -> None:
        pass


@dataclass
class Allowed:
    allowed: bool = True
    succeeded_at: float | None = None

    def may_write(self) -> bool:
        return self.allowed


class World:
    """Brings everything together; time moves only when told."""

    def __init__(
        self,
        *,
        pace: Pace = PACE,
        max_rollouts: int = 25,
        options: Options | None = None,
        history: bool = True,
        server: ApiServer | None = None,
        account: MemoryAccount | None = None,
    ) -> None:
        self.time = 1000.0
        self.wall_offset = 0.0
        self.pace = pace
        self.max_rollouts = max_rollouts
        self.history = history
        self.server = server or ApiServer()
        self.account = account or MemoryAccount()
        self.driver = MemoryDriver(self.account)
        self.authority = Allowed()
        self.options = options or Options()
        self.server.secret("key", token="flp_0123456789")
        self.woken: list[str] = []
        self.asked: list[tuple[str, float]] = []
        self.clock = Clock(lambda: self.time, self.wall, lambda: 0.5, lambda say: say())
        self.behind_since = self.time
        self.changed_at = self.time
        self.restart()

    def restart(self) -> None:
        """The process dies and another takes its place: all recollection is lost."""
        self.reconciler, self.view, self.observer = self.another()

    def another(self) -> tuple[Reconciler, View, Silent]:
        view, observer = View(self.server), Silent()
        return self.reconciler_of(view, observer, Connector(self.account, self.history), self.authority), view, observer

    def reconciler_of(
        self, view: View, observer: PassObserver, connector: Connector, authority: Authority
    ) -> Reconciler:
        """A process that has just started, with nothing to recollect."""
        self.sweeps = Sweeps(pace=self.pace, clock=self.clock, add=self._ask_for)
        return Reconciler(
            cluster=view,
            secrets=SecretsOf(self.server),
            drivers={"memory": self.driver},
            connector=connector,
            authority=authority,
            rollouts=Rollouts(self.max_rollouts, self.woken.append),
            sweeps=self.sweeps,
            pace=self.pace,
            options=self.options,
            clock=self.clock,
            observer=observer,
        )

    def _ask_for(self, key: str, after: float) -> None:
        self.asked.append((key, after))

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.time + self.wall_offset)

    def _tick(self) -> None:
        """What a provider may do late, it has done before the settle time is over."""
        if not self.account.is_behind:
            self.behind_since = self.time
        elif self.time - self.behind_since > 0.8 * self.pace.settle:
            self.account.land()
            for endpoint in self.account.endpoints.values():
                endpoint.lagging = 0

    def fall_back(self, endpoint_id: str, looks: int) -> None:
        """Let the next looks show the version before the newest, if that is no longer ago than reads may lag."""
        endpoint = self.account.endpoints[endpoint_id]
        if self.time - self.changed_at < 0.1 * self.pace.settle and not self.account.is_behind:
            endpoint.visible, endpoint.lagging = max(1, len(endpoint.versions) - 1), looks

    async def run(self, uid: str, *, reconciler: Reconciler | None = None, limit: int = 50) -> float | None:
        """Passes until the resource need not be looked at again at once."""
        for _ in range(limit):
            self._tick()
            before = self._versions_of_all()
            delay = await (reconciler or self.reconciler).reconcile(uid)
            if self._versions_of_all() != before:
                self.changed_at = self.time
            if delay is None or delay > 0:
                return delay
        raise AssertionError("a hot loop")

    async def settle(self, uid: str, seconds: float, *, reconciler: Reconciler | None = None) -> None:
        """Let time pass, and run a pass whenever one is due."""
        end = self.time + seconds
        while True:
            delay = await self.run(uid, reconciler=reconciler)
            if delay is None or self.time + delay > end:
                self.time = end
                return
            self.time += max(delay, 0.01)

    def status(self, uid: str) -> InferenceEndpointStatus:
        return InferenceEndpointStatus.model_validate(dict(self.server.objects[uid].status))

    def condition(self, uid: str, kind: str) -> tuple[str, str] | None:
        found = [each for each in self.status(uid).conditions if each.type == kind]
        return (found[0].status, found[0].reason) if found else None

    @property
    def updates(self) -> int:
        return sum(call.operation == UPDATE for call in self.account.calls)

    def _versions_of_all(self) -> int:
        return sum(len(endpoint.versions) for endpoint in self.account.endpoints.values())

    def versions(self, endpoint_id: str = "ep-1") -> int:
        return len(self.account.endpoints[endpoint_id].versions) - 1


def spec(**changes: Any) -> dict[str, Any]:
    """A resource on the in-memory provider."""
    base: dict[str, Any] = {
        "provider": "memory",
        "endpointId": "ep-1",
        "credentialsSecretRef": {"name": "key"},
        "memory": {"size": 1},
    }
    return base | changes
