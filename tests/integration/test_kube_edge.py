"""The Kubernetes edge and a real API server: nothing is missed or overwritten, and at rest nothing is written."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from audit import settle, writes
from edges import (
    EVERYWHERE,
    RBAC,
    SOMEWHERE,
    Editor,
    bound_to,
    edge,
    edge_plane,
    editing,
    uid_of,
    until,
)
from inference_operator.api.names import GROUP
from inference_operator.core.model import Resource
from inference_operator.core.port import ResourceGone, StatusConflict
from inference_operator.errors import Unavailable
from inference_operator.kube.queue import Trigger
from inference_operator.playground.controlplane import ControlPlane


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with edge_plane() as running:
        yield running


@pytest.fixture
async def editor(plane: ControlPlane) -> AsyncIterator[Editor]:
    async with editing(plane) as made:
        yield made


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
        assert running.watcher.oldest_watch_age < 20
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
                with suppress(StatusConflict):  # a view that is a moment behind, which a real pass decides again
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
    await editor.secret("release-before", "x", type="helm.sh/release.v1")
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
        await editor.secret("release-since", "x", type="helm.sh/release.v1")
        await editor.secret("late", "LateToken")
        assert (await running.passed(waiting, 2)).trigger is Trigger.SECRET
        await asyncio.sleep(0.3)
        assert running.triggers(uids[0]) == ["SPEC", "SECRET", "SECRET", "SECRET"]
        # Nothing but metadata of any Secret, and of a release not even that.
        assert {"others", "key", "late"} <= running.shown.keys()
        assert {field for fields in running.shown.values() for field in fields} == {"apiVersion", "kind", "metadata"}
        assert not {"release-before", "release-since"} & running.shown.keys()
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
