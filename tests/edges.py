"""The Kubernetes edge alone, with a pass that only takes notes, before a real API server and somebody who edits."""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from inference_operator.api.names import API_VERSION, GROUP, KIND, PLURAL, VERSION
from inference_operator.core.model import Resource
from inference_operator.kube.access import Access
from inference_operator.kube.api import Api
from inference_operator.kube.client import KubernetesCluster
from inference_operator.kube.events import EventPoster
from inference_operator.kube.intake import Intake
from inference_operator.kube.lease import Lease
from inference_operator.kube.operator import Operator, Parts
from inference_operator.kube.queue import Trigger, WorkQueue
from inference_operator.kube.secrets import Secrets
from inference_operator.kube.store import Store
from inference_operator.kube.watching import Watcher
from inference_operator.playground.controlplane import ControlPlane
from planes import api_client
from rig import install_crd

EVERYWHERE, SOMEWHERE = "limited", "confined"
"""Users with no more rights than the edge needs, in the whole cluster and in single namespaces."""

RULES = [
    {"apiGroups": [GROUP], "resources": [PLURAL], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [GROUP], "resources": [f"{PLURAL}/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "patch"]},
]
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@contextmanager
def edge_plane() -> Iterator[ControlPlane]:
    """A control plane of one's own with our definition, and with users that have the rights of `RULES`."""
    users = {EVERYWHERE: [], SOMEWHERE: [], "editor": ["system:masters"]}
    with ControlPlane(users=users) as running, api_client(running) as admin:
        install_crd(admin)
        grant(admin)
        yield running


def grant(admin: httpx.Client) -> None:
    role = {"metadata": {"name": "edge"}, "rules": RULES}
    admin.post(f"{RBAC}/clusterroles", json=role).raise_for_status()
    binding = {"metadata": {"name": "edge"}, **bound_to(EVERYWHERE)}
    admin.post(f"{RBAC}/clusterrolebindings", json=binding).raise_for_status()


def bound_to(user: str) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "edge"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


@dataclass
class Editor:
    """Somebody who edits one namespace, and marks what is of interest to this test's operators."""

    http: httpx.AsyncClient
    namespace: str = field(default_factory=lambda: f"n-{uuid.uuid4().hex[:8]}")

    async def begin(self) -> None:
        await self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    @property
    def selector(self) -> str:
        return f"test={self.namespace}"

    def path(self, name: str = "") -> str:
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURAL}/{name}".rstrip("/")

    async def create(
        self, name: str, *, secret: str = "key", endpoint: str = "ep-1", **metadata: Any
    ) -> dict[str, Any]:
        spec = {"provider": "friendli", "endpointId": endpoint, "credentialsSecretRef": {"name": secret}}
        metadata = {"name": name, "labels": {"test": self.namespace}, **metadata}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {**spec, "friendli": {}}}
        return await self.ask("POST", self.path(), body)

    async def edit(self, name: str, **spec: Any) -> dict[str, Any]:
        return await self.merge(self.path(name), {"spec": spec})

    async def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        return await self.ask("PATCH", path, patch, {"Content-Type": "application/merge-patch+json"})

    async def delete(self, name: str) -> None:
        await self.ask("DELETE", self.path(name))

    async def secret(self, name: str, token: str, method: str = "POST", **more: Any) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/secrets" + ("" if method == "POST" else f"/{name}")
        body = {"metadata": {"name": name}, "data": {"token": b64encode(token.encode()).decode()}, **more}
        if method == "PATCH":
            await self.merge(path, body)
        else:
            await self.ask(method, path, None if method == "DELETE" else body)

    async def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return dict(answer.json())


@asynccontextmanager
async def editing(plane: ControlPlane) -> AsyncIterator[Editor]:
    async with httpx.AsyncClient(
        base_url=plane.url,
        headers={"Authorization": f"Bearer {plane.token_of('editor')}"},
        verify=ssl.create_default_context(cafile=plane.ca_file),
        trust_env=False,
    ) as http:
        made = Editor(http)
        await made.begin()
        yield made


@dataclass
class Pass:
    """One pass, as it found the resource."""

    at: float
    trigger: Trigger
    found: Resource | None


class Edge:
    """The whole edge with a pass that only takes notes, unless `work` is replaced."""

    def __init__(
        self, access: Access, lease_namespace: str, *, secrets: bool = True, election: bool = False, **scope: Any
    ) -> None:
        api = Api(access)
        self.store = Store()
        self.events = EventPoster(api, instance="test")
        self.cluster = KubernetesCluster(api, self.store, self.events, **scope)
        self.secrets = Secrets(api, keep_seconds=600, referenced=lambda key: bool(self.store.dependents(key)))
        self.queue: WorkQueue[str] = WorkQueue(workers=8, on_error=self.fail)
        intake = Intake(self.store, self.secrets, self.queue, poll_seconds=60)
        self.shown: dict[str, set[str]] = {}

        def on_secret(kind: str | None, document: Mapping[str, Any]) -> None:
            self.shown[document["metadata"]["name"]] = set(document)
            intake.take_secret(kind, document)

        self.watcher = Watcher(
            access, on_resource=intake.take_resource, on_secret=on_secret if secrets else None, **scope
        )
        self.lease = Lease(api, namespace=lease_namespace, name="edge", identity=uuid.uuid4().hex, election=election)
        parts = Parts(
            cluster=self.cluster,
            events=self.events,
            intake=intake,
            lease=self.lease,
            queue=self.queue,
            watcher=self.watcher,
        )
        self.operator = Operator(parts, self.reconcile, drain_seconds=5)
        self.stop = asyncio.Event()
        self.passes: dict[str, list[Pass]] = {}
        self.errors: list[Exception] = []
        self.work: Callable[[Resource], Any] = self.rest

    def fail(self, _: str, error: Exception) -> None:
        self.errors.append(error)

    async def rest(self, _: Resource) -> None:
        return None

    async def reconcile(self, uid: str, trigger: Trigger) -> float | None:
        found = self.cluster.current(uid)
        self.passes.setdefault(uid, []).append(Pass(time.monotonic(), trigger, found))
        if found:
            await self.work(found)
        return None

    def triggers(self, uid: str) -> list[str]:
        return [each.trigger.name for each in self.passes.get(uid, [])]

    async def passed(self, uid: str, count: int) -> Pass:
        """Wait for so many passes; the last of them."""
        await until(lambda: len(self.passes.get(uid, ())) >= count)
        return self.passes[uid][-1]


@asynccontextmanager
async def edge(kubeconfig: Path, editor: Editor, **options: Any) -> AsyncIterator[Edge]:
    """An edge that is at work."""
    access = await Access.find(str(kubeconfig))
    made = Edge(access, editor.namespace, **{"label_selector": editor.selector, **options})
    running = asyncio.create_task(made.operator.run(made.stop))
    try:
        active = asyncio.create_task(made.operator.active.wait())
        await asyncio.wait([running, active], return_when=asyncio.FIRST_COMPLETED, timeout=30)
        active.cancel()
        if running.done():
            await running
        yield made
        made.stop.set()
        await running
        assert made.errors == []
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await running
        await closed(access)


async def closed(access: Access) -> None:
    """Close it, and let TLS connections of watches say goodbye, which nobody else waits for."""
    await access.close()
    await asyncio.sleep(0.2)


async def until(check: Callable[[], Any], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def uid_of(document: dict[str, Any]) -> str:
    return str(document["metadata"]["uid"])


class Gateway:
    """A way to the API server that can be closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = True
        self._writers: set[asyncio.StreamWriter] = set()

    def open(self) -> None:
        self._open = True

    def close(self) -> None:
        self._open = False
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def gate(
    plane: ControlPlane, folder: Path, user: dict[str, str] | None = None
) -> AsyncIterator[tuple[Path, Gateway]]:
    """A gateway, and the kubeconfig that leads through it under a name that only `tls-server-name` makes right."""
    gateway = Gateway(int(plane.url.rpartition(":")[2]))
    server = await asyncio.start_server(gateway.serve, "127.0.0.2", 0)
    config = yaml.safe_load(plane.kubeconfig_of(EVERYWHERE).read_text())
    cluster = config["clusters"][0]["cluster"]
    cluster["server"] = f"https://127.0.0.2:{server.sockets[0].getsockname()[1]}"
    cluster["tls-server-name"] = "kubernetes.default"
    config["users"][0]["user"] = user or config["users"][0]["user"]
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    yield path, gateway
    gateway.close()
    server.close()
