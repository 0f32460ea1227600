"""The Kubernetes edge and a real API server: nothing is missed or overwritten, and at rest nothing is written."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import statistics
import time
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from audit import settle, writes
from inference_operator.api.names import API_VERSION, GROUP, KIND, PLURAL, VERSION
from inference_operator.core.model import Resource
from inference_operator.core.port import ResourceGone, StatusConflict
from inference_operator.errors import Unavailable
from inference_operator.kube.access import Access
from inference_operator.kube.api import Api
from inference_operator.kube.client import KubernetesCluster
from inference_operator.kube.events import EventPoster
from inference_operator.kube.intake import Intake
from inference_operator.kube.lease import Lease, LeaseError
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


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane for the tests of this file, which restart it."""
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

    async def secret(self, name: str, token: str, method: str = "POST") -> None:
        path = f"/api/v1/namespaces/{self.namespace}/secrets" + ("" if method == "POST" else f"/{name}")
        body = {"metadata": {"name": name}, "data": {"token": b64encode(token.encode()).decode()}}
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


@pytest.fixture
async def editor(plane: ControlPlane) -> AsyncIterator[Editor]:
    async with editing(plane) as found:
        yield found


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
        intake = Intake(self.store, self.secrets, self.queue)
        on_secret = intake.take_secret if secrets else None
        self.watcher = Watcher(access, on_resource=intake.take_resource, on_secret=on_secret, **scope)
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


async def test_a_change_reaches_its_pass_at_once(plane: ControlPlane, editor: Editor) -> None:
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor) as running:
        uid = uid_of(await editor.create("a"))
        await running.passed(uid, 1)
        delays = []
        for number in range(20):
            asked = time.monotonic()
            await editor.edit("a", scaling={"minReplicas": 0, "maxReplicas": 1, "cooldownSeconds": number + 1})
            delays.append((await running.passed(uid, number + 2)).at - asked)
        await editor.delete("a")
        assert (await running.passed(uid, 22)).found is None
        assert running.triggers(uid) == ["SPEC"] * 21 + ["DELETION"]
        assert running.watcher.silence < 20
    assert statistics.median(delays) < 0.1


async def test_a_hundred_quick_edits_are_a_few_passes_and_the_last_one_counts(
    plane: ControlPlane, editor: Editor
) -> None:
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor) as running:
        busy = set()

        async def work(found: Resource) -> None:
            assert found.uid not in busy
            busy.add(found.uid)
            await asyncio.sleep(0.3)
            busy.remove(found.uid)

        running.work = work
        uid = uid_of(await editor.create("a"))
        began = time.monotonic()
        for number in range(100):
            await editor.edit("a", versionComment=f"edit {number}")
        took = time.monotonic() - began
        await until(lambda: (last := running.passes[uid][-1].found) and last.generation == 101)
        await asyncio.sleep(0.5)
        last = running.passes[uid][-1].found
        assert last is not None
        assert last.spec["versionComment"] == "edit 99"
        assert len(running.passes[uid]) <= took / 0.3 + 3


async def test_a_status_is_replaced_whole_if_nobody_else_was_faster(plane: ControlPlane, editor: Editor) -> None:
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor) as running:
        uid = uid_of(await editor.create("a"))
        first = (await running.passed(uid, 1)).found
        assert first is not None
        assert first.status == {"observedGeneration": -1}
        status = {
            "observedGeneration": 1,
            "state": "Running",
            "unverifiable": ["friendli.hfModelRepo", "friendli.name"],
            "applied": {
                "uid": uid,
                "hash": "v1:x:-",
                "generation": 1,
                "time": "2026-01-01T00:00:00Z",
                "observed": {"scaling.maxReplicas": "4", "gpu": '{"count":1}'},
            },
        }
        second = await running.cluster.write_status(first, status)
        assert second.status == status
        assert second == running.cluster.current(uid)
        third = await running.cluster.write_status(second, {"observedGeneration": 1, "unverifiable": []})
        assert third.status == {"observedGeneration": 1, "unverifiable": []}
        with pytest.raises(StatusConflict):
            await running.cluster.write_status(second, status)
        await editor.edit("a", suspend=True)
        with pytest.raises(StatusConflict):
            await running.cluster.write_status(third, status)
        fresh = await running.cluster.read(third)
        assert fresh is not None
        with pytest.raises(Unavailable, match=r"was not written: .*observedGeneration"):
            await running.cluster.write_status(fresh, {"observedGeneration": "one"})
        await editor.delete("a")
        with pytest.raises(ResourceGone):
            await running.cluster.write_status(fresh, status)
        await editor.create("a")
        with pytest.raises(StatusConflict):
            await running.cluster.write_status(fresh, status)
        assert await running.cluster.read(fresh) is None
        assert (await editor.ask("GET", editor.path("a")))["status"] == {"observedGeneration": -1}


async def test_the_echo_of_our_own_status_is_no_news(plane: ControlPlane, editor: Editor) -> None:
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor) as running:

        async def work(found: Resource) -> None:
            if found.status["observedGeneration"] != found.generation:
                await running.cluster.write_status(found, {"observedGeneration": found.generation})

        running.work = work
        uid = uid_of(await editor.create("a"))
        await running.passed(uid, 1)
        await editor.merge(editor.path("a"), {"metadata": {"annotations": {"note": "nothing to us"}}})
        await editor.merge(editor.path("a") + "/status", {"status": {"state": "Running"}})
        await editor.edit("a", suspend=True)
        await running.passed(uid, 2)
        await asyncio.sleep(0.5)
        assert running.triggers(uid) == ["SPEC", "SPEC"]
        await editor.merge(editor.path("a"), {"metadata": {"annotations": {f"{GROUP}/refresh-requested-at": "now"}}})
        await running.passed(uid, 3)


async def test_a_rotated_secret_wakes_who_refers_to_it_within_a_second(
    plane: ControlPlane, editor: Editor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)  # of all libraries too
    await editor.secret("others", "NobodysToken")
    await editor.secret("key", "FirstToken")
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor) as running:
        tokens = []

        async def work(found: Resource) -> None:
            data = await running.secrets.read(found.namespace, found.spec["credentialsSecretRef"]["name"])
            tokens.append(data and data.data["token"])

        running.work = work
        uids = [uid_of(await editor.create(name, endpoint=f"ep-{name}")) for name in ("a", "b")]
        waiting = uid_of(await editor.create("c", secret="late"))
        for uid in (*uids, waiting):
            await running.passed(uid, 1)
        await until(lambda: tokens == [b"FirstToken", b"FirstToken", None])
        for count, (method, token) in enumerate([("PATCH", "NextToken"), ("DELETE", ""), ("POST", "LastToken")], 2):
            tokens.clear()
            asked = time.monotonic()
            await editor.secret("key", token, method)
            for uid in uids:
                assert (await running.passed(uid, count)).at - asked < 1
            await until(lambda: len(tokens) == 2)
            assert tokens == [token.encode() or None] * 2
        await editor.secret("others", "NobodysToken2", "PATCH")
        await editor.secret("late", "LateToken")
        assert (await running.passed(waiting, 2)).trigger is Trigger.SECRET
        await asyncio.sleep(0.3)
        assert running.triggers(uids[0]) == ["SPEC", "SECRET", "SECRET", "SECRET"]
    for token in ("NobodysToken", "FirstToken", "NextToken", "LastToken", "LateToken"):
        assert token not in caplog.text
        assert b64encode(token.encode()).decode() not in caplog.text


async def test_without_a_watch_secrets_are_never_listed(plane: ControlPlane, editor: Editor) -> None:
    await editor.secret("key", "FirstToken")
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor, secrets=False) as running:
        uid = uid_of(await editor.create("a"))
        await running.passed(uid, 1)
        await editor.secret("key", "NextToken", "PATCH")
        data = await running.secrets.read(editor.namespace, "key", fresh=True)
        assert data is not None
        assert data.data == {"token": b"NextToken"}
        await asyncio.sleep(0.3)
        assert running.triggers(uid) == ["SPEC"]


async def test_in_single_namespaces_rights_in_those_are_enough(plane: ControlPlane, editor: Editor) -> None:
    async with editing(plane) as second, editing(plane) as outside:
        for allowed in (editor, second):
            path = f"{RBAC}/namespaces/{allowed.namespace}/rolebindings"
            await editor.ask("POST", path, {"metadata": {"name": "edge"}, **bound_to(SOMEWHERE)})
        namespaces = (editor.namespace, second.namespace)
        uids = [uid_of(await each.create("a")) for each in (editor, second, outside)]
        async with edge(plane.kubeconfig_of(SOMEWHERE), editor, namespaces=namespaces, label_selector=None) as running:
            assert len(running.store) == 2
            await running.passed(uids[0], 1)
            await running.passed(uids[1], 1)
            first = running.cluster.current(uids[0])
            assert first is not None
            assert [claim.uid for claim in await running.cluster.claims(first, "friendli", "ep-1")] == [uids[1]]
            assert await running.cluster.claims(first, "friendli", "ep-2") == []
            await outside.edit("a", suspend=True)
            await second.edit("a", suspend=True)
            await second.secret("key", "token")
            await running.passed(uids[1], 3)
            assert uids[2] not in running.passes


@pytest.mark.parametrize("count", [0, 700])
async def test_everything_is_known_before_the_first_pass(plane: ControlPlane, editor: Editor, count: int) -> None:
    made = [uid_of(await editor.create(f"r{number}", endpoint=f"ep-{number}")) for number in range(count)]
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor) as running:
        known: list[int] = []

        async def work(_: Resource) -> None:
            known.append(len(running.store))

        running.work = work
        assert len(running.store) == count
        if not count:
            made = [uid_of(await editor.create("late"))]
        for uid in made:
            await running.passed(uid, 1)
        assert min(known) == len(made)
        assert {len(passes) for passes in running.passes.values()} == {1}
        assert running.passes.keys() == set(made)


async def test_claims_are_found_beyond_our_labels(plane: ControlPlane, editor: Editor) -> None:
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor) as running:
        ours = uid_of(await editor.create("ours", endpoint=f"ep-{editor.namespace}"))
        other = uid_of(await editor.create("other", endpoint=f"ep-{editor.namespace}", labels={"test": "elsewhere"}))
        found = (await running.passed(ours, 1)).found
        assert found is not None
        claims = await running.cluster.claims(found, "friendli", f"ep-{editor.namespace}")
        assert [claim.uid for claim in claims] == [other]
        assert running.cluster.current(other) is None
        # A label that leads into our scope, and out again.
        await editor.merge(editor.path("other"), {"metadata": {"labels": {"test": editor.namespace}}})
        await running.passed(other, 1)
        assert running.store.claimants("friendli", f"ep-{editor.namespace}") == {ours, other}
        await editor.merge(editor.path("other"), {"metadata": {"labels": {"test": "elsewhere"}}})
        assert (await running.passed(other, 2)).found is None
        await running.passed(ours, 2)  # its rival is gone
        assert running.store.last_claim_removed("friendli", f"ep-{editor.namespace}") is not None


async def test_an_api_server_that_comes_back_is_watched_again(plane: ControlPlane, editor: Editor) -> None:
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor) as running:
        uid = uid_of(await editor.create("a"))
        found = (await running.passed(uid, 1)).found
        assert found is not None
        plane.kill_apiserver()
        killed = time.monotonic()
        with pytest.raises(Unavailable, match="may or may not have been written"):
            await running.cluster.write_status(found, {"observedGeneration": 1})
        await asyncio.sleep(2)
        assert running.watcher.silence > 2
        await asyncio.to_thread(plane.restart_apiserver)
        restarted = time.monotonic()
        await editor.edit("a", suspend=True)
        await running.passed(uid, 2)
        await until(lambda: running.watcher.silence < time.monotonic() - killed)
        assert time.monotonic() - restarted < 10
        stored = await running.cluster.read(found)
        assert stored is not None
        await running.cluster.write_status(stored, {"observedGeneration": 2})


async def test_what_vanished_while_nobody_was_watching_is_noticed(
    plane: ControlPlane, editor: Editor, tmp_path: Path
) -> None:
    """The API server forgets its history meanwhile, so that no event will ever tell."""
    async with gate(plane, tmp_path) as (kubeconfig, gateway):
        uid = uid_of(await editor.create("a"))
        async with edge(kubeconfig, editor) as running:
            await running.passed(uid, 1)
            gateway.close()
            await editor.delete("a")
            kept = uid_of(await editor.create("b"))
            await editor.delete("b")
            await asyncio.to_thread(plane.restart_apiserver)
            await editor.ask("POST", f"/api/v1/namespaces/{editor.namespace}/configmaps", {"metadata": {"name": "x"}})
            gateway.open()
            assert (await running.passed(uid, 2)).found is None
            assert running.triggers(uid)[1] == "DELETION"
            assert kept not in running.passes
            assert len(running.store) == 0


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
async def gate(plane: ControlPlane, folder: Path) -> AsyncIterator[tuple[Path, Gateway]]:
    """A gateway, and the kubeconfig that leads through it under a name that only `tls-server-name` makes right."""
    gateway = Gateway(int(plane.url.rpartition(":")[2]))
    server = await asyncio.start_server(gateway.serve, "127.0.0.2", 0)
    config = yaml.safe_load(plane.kubeconfig_of(EVERYWHERE).read_text())
    cluster = config["clusters"][0]["cluster"]
    cluster["server"] = f"https://127.0.0.2:{server.sockets[0].getsockname()[1]}"
    cluster["tls-server-name"] = "kubernetes.default"
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    yield path, gateway
    gateway.close()
    server.close()


async def test_at_rest_nothing_is_written(plane: ControlPlane, editor: Editor) -> None:
    for number in range(20):
        await editor.create(f"r{number}", endpoint=f"ep-{number}")
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor) as running:
        await until(lambda: len(running.passes) == 20)
        settle(plane)
        before = len(writes(plane.audit_log, user=EVERYWHERE))
        await asyncio.sleep(11)
        settle(plane)
        since = writes(plane.audit_log, user=EVERYWHERE)[before:]
        assert {(write.verb, write.resource, write.code) for write in since} == {("patch", "leases", 200)}
        assert len(since) == 2  # every five seconds


async def test_a_standby_knows_everything_and_begins_when_the_active_one_ends(
    plane: ControlPlane, editor: Editor
) -> None:
    uid = uid_of(await editor.create("a"))
    access = await Access.find(str(plane.kubeconfig_of(EVERYWHERE)))
    active = Lease(Api(access), namespace=editor.namespace, name="edge", identity="other", election=True)
    await active.acquire()
    assert not active.existed
    keeping = asyncio.create_task(active.keep())
    standby = Edge(access, editor.namespace, election=True, label_selector=editor.selector)
    running = asyncio.create_task(standby.operator.run(standby.stop))
    await asyncio.wait_for(standby.operator.listed.wait(), 10)
    await asyncio.sleep(3)
    assert len(standby.store) == 1
    assert not standby.operator.active.is_set()
    assert not standby.passes
    assert not standby.lease.may_write()
    keeping.cancel()
    await active.release()
    ended = time.monotonic()
    await standby.passed(uid, 1)
    assert time.monotonic() - ended < 3
    assert standby.lease.existed
    assert standby.lease.may_write()
    standby.stop.set()
    await running
    await closed(access)


async def test_a_lease_that_cannot_be_kept_ends_the_process_with_the_cure(plane: ControlPlane, editor: Editor) -> None:
    access = await Access.find(str(plane.kubeconfig_of(EVERYWHERE)))
    made = Edge(access, "no-such-namespace", label_selector=editor.selector)
    with pytest.raises(LeaseError, match="create the namespace, or set --lease-namespace"):
        await asyncio.wait_for(made.operator.run(made.stop), 20)
    await closed(access)
    access = await Access.find(str(plane.kubeconfig_of(SOMEWHERE)))
    lease = Lease(Api(access), namespace="kube-system", name="edge", identity="x", election=False)
    with pytest.raises(LeaseError, match=r'"confined" cannot get .*; grant get, create and patch on leases'):
        await lease.acquire()
    await closed(access)


async def test_sigterm_is_ours_and_lets_passes_finish(plane: ControlPlane, editor: Editor) -> None:
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor) as running:
        finished = []

        async def work(found: Resource) -> None:
            await asyncio.sleep(1)
            stored = await running.cluster.write_status(found, {"observedGeneration": found.generation})
            running.cluster.event(stored, warning=False, reason="Applied", message="done in time")
            finished.append(found.uid)

        running.work = work
        uid = uid_of(await editor.create("a"))
        await running.passed(uid, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running.stop.wait(), 1)
        await editor.create("b", endpoint="ep-2")
        await until(lambda: finished == [uid])
    assert list(running.passes) == [uid]
    assert (await editor.ask("GET", editor.path("a")))["status"] == {"observedGeneration": 1}
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{editor.namespace}/leases/edge"
    assert (await editor.ask("GET", leases))["spec"]["holderIdentity"] == ""
    events = await editor.ask("GET", f"/apis/events.k8s.io/v1/namespaces/{editor.namespace}/events")
    assert [(event["reason"], event["note"]) for event in events["items"]] == [("Applied", "done in time")]


async def test_a_missing_definition_is_waited_for_and_a_removed_one_ends_the_process() -> None:
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
    async with ControlPlane(users={"editor": ["system:masters"]}) as plane, editing(plane) as editor:
        access = await Access.find(str(plane.kubeconfig))
        made = Edge(access, editor.namespace)
        finished = []

        async def work(found: Resource) -> None:
            await asyncio.sleep(2)
            finished.append(found.uid)

        made.work = work
        running = asyncio.create_task(made.operator.run(made.stop))
        await asyncio.sleep(1)
        assert not made.operator.listed.is_set()
        with api_client(plane) as admin:
            await asyncio.to_thread(install_crd, admin)
        await asyncio.wait_for(made.operator.active.wait(), 10)
        uid = uid_of(await editor.create("a"))
        await made.passed(uid, 1)
        await editor.ask("DELETE", definition)
        with pytest.raises(Exception, match=r"not found|could not find"):
            await asyncio.wait_for(running, 30)
        assert finished == [uid]  # a pass under way is not cut off
        await closed(access)
