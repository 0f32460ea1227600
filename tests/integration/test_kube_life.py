"""The life of the process: outages, election, signals, and what ends it, against a real API server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from edges import (
    EVERYWHERE,
    SOMEWHERE,
    Edge,
    Editor,
    closed,
    edge,
    edge_plane,
    editing,
    gate,
    uid_of,
    until,
)
from inference_operator.api.names import GROUP, PLURAL
from inference_operator.core.model import Resource
from inference_operator.errors import Unavailable
from inference_operator.kube.access import Access
from inference_operator.kube.api import Api
from inference_operator.kube.lease import Lease, LeaseError
from inference_operator.playground.controlplane import ControlPlane
from planes import api_client
from rig import install_crd


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with edge_plane() as running:
        yield running


@pytest.fixture
async def editor(plane: ControlPlane) -> AsyncIterator[Editor]:
    async with editing(plane) as made:
        yield made


@pytest.mark.covers("D1")
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
        assert running.watcher.oldest_watch_age > 2
        await asyncio.to_thread(plane.restart_apiserver)
        restarted = time.monotonic()
        await editor.edit("a", suspend=True)
        await running.passed(uid, 2)
        await until(lambda: running.watcher.oldest_watch_age < time.monotonic() - killed)
        assert time.monotonic() - restarted < 10
        stored = await running.cluster.read(found)
        assert stored is not None
        await running.cluster.write_status(stored, {"observedGeneration": 2})


@pytest.mark.covers("D7")
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


@pytest.mark.covers("D11")
async def test_a_refused_credential_is_read_again(
    plane: ControlPlane, editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_operator.kube.access.REREAD_SECONDS", 0.0)
    token = tmp_path / "token"
    token.write_text(plane.token_of(EVERYWHERE))
    async with gate(plane, tmp_path, {"tokenFile": str(token)}) as (kubeconfig, gateway):
        uid = uid_of(await editor.create("a"))
        async with edge(kubeconfig, editor) as running:
            await running.passed(uid, 1)
            token.write_text("revoked")
            gateway.close()
            gateway.open()
            found = running.cluster.current(uid)
            assert found is not None
            with pytest.raises(Unavailable, match="answered 401"):
                await running.cluster.read(found)
            await asyncio.sleep(2)
            token.write_text(plane.token_of(EVERYWHERE))
            await editor.edit("a", suspend=True)
            await running.passed(uid, 2)
            assert len(running.watcher._logins) > 1


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


async def test_sigterm_is_ours_and_lets_passes_finish_under_the_lease(
    plane: ControlPlane, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_operator.kube.lease.RETRY_SECONDS", 0.1)
    monkeypatch.setattr("inference_operator.kube.lease.DEADLINE_SECONDS", 0.7)
    async with edge(plane.kubeconfig_of(EVERYWHERE), editor, election=True) as running:
        finished = []

        async def work(found: Resource) -> None:
            await asyncio.sleep(1.5)
            stored = await running.cluster.write_status(found, {"observedGeneration": found.generation})
            running.cluster.event(stored, warning=False, reason="Applied", message="done in time")
            finished.append((found.uid, running.lease.may_write()))

        running.work = work
        uid = uid_of(await editor.create("a"))
        await running.passed(uid, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running.stop.wait(), 1)
        await editor.create("b", endpoint="ep-2")
        await until(lambda: finished)
        assert finished == [(uid, True)]
    assert list(running.passes) == [uid]
    assert (await editor.ask("GET", editor.path("a")))["status"] == {"observedGeneration": 1}
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{editor.namespace}/leases/edge"
    assert (await editor.ask("GET", leases))["spec"]["holderIdentity"] == ""
    events = await editor.ask("GET", f"/apis/events.k8s.io/v1/namespaces/{editor.namespace}/events")
    assert [(event["reason"], event["note"]) for event in events["items"]] == [("Applied", "done in time")]


async def test_an_operator_that_never_came_to_watch_ends_at_once(tmp_path: Path, editor: Editor) -> None:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    access = await Access.find(str(tmp_path / "kubeconfig"))
    made = Edge(access, editor.namespace)
    running = asyncio.create_task(made.operator.run(made.stop))
    await asyncio.sleep(0.5)
    made.stop.set()
    asked = time.monotonic()
    await running
    assert time.monotonic() - asked < 1
    await closed(access)


@pytest.mark.covers("D12")
async def test_a_missing_definition_is_waited_for_and_a_removed_one_ends_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
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
        assert "install it" in caplog.text
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
