from __future__ import annotations

import asyncio
import logging
from typing import Any

import kopf
import pytest
from kubernetes.aio.client import Configuration

from inference_operator.kube import framework
from inference_operator.kube.access import Access
from inference_operator.kube.watching import LOGINS, Watcher
from virtual_time import in_virtual_time, now


async def forever() -> None:
    await asyncio.Event().wait()


async def test_kopf_may_end_its_own_tasks_and_nobody_elses() -> None:
    others = framework.TasksOfOthers()
    ours = asyncio.create_task(forever())
    kopfs = await kopf.spawn_tasks(
        registry=kopf.OperatorRegistry(), clusterwide=True, standalone=True, settings=framework.settings()
    )
    assert ours in others
    assert ours in list(others)
    assert len(others) >= 2  # and this one
    assert len(kopfs) > 5
    assert not any(task in others for task in kopfs)
    for task in (ours, *kopfs):
        task.cancel()
    await asyncio.gather(ours, *kopfs, return_exceptions=True)


def test_kopf_is_told_to_write_nothing() -> None:
    chosen = framework.settings(label_selector="shard=1")
    assert not chosen.posting.enabled
    assert chosen.scanning.disabled
    assert chosen.process.ultimate_exiting_timeout is None
    assert list(chosen.watching.label_selectors.values()) == ["shard=1"]
    assert not framework.settings().watching.label_selectors
    body = kopf.Body({"spec": {"a": 1}})
    assert chosen.persistence.diffbase_storage.build(body=body) == {}
    assert chosen.persistence.diffbase_storage.fetch(body=body) is None
    patch = kopf.Patch()
    chosen.persistence.progress_storage.touch(body=body, patch=patch, value="x")
    assert patch == {}


def test_a_refused_credential_is_offered_again_with_growing_pauses_and_not_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> list[float]:
        access = Access(Configuration(host="http://127.0.0.1:1"))
        watcher = Watcher(access, on_resource=lambda *_: None, on_secret=None)
        times = []
        while await watcher._login():
            times.append(now())
        for session in watcher._sessions:
            await session.close()
        await access.close()
        return times

    times = in_virtual_time(scenario())
    assert len(times) == len(LOGINS)
    assert times[:4] == [0, 1, 3, 7]
    assert "keeps refusing" in caplog.text


async def test_an_event_that_cannot_be_taken_in_is_made_up_for(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("of no interest")

    access = Access(Configuration(host="http://127.0.0.1:1"))
    watcher = Watcher(access, on_resource=fail, on_secret=None)
    with caplog.at_level(logging.ERROR):
        await watcher._take_resource({"type": "ADDED", "object": {"spec": {"text": "confidential"}}})
    assert watcher.gap.is_set()
    assert "could not be taken in" in caplog.text
    assert "confidential" not in caplog.text
    await access.close()


@pytest.mark.parametrize("namespaces", [(), ("a", "b")])
async def test_it_is_established_once_every_watch_stands(namespaces: tuple[str, ...]) -> None:
    access = Access(Configuration(host="http://127.0.0.1:1/behind/a/proxy"))
    watcher = Watcher(access, on_resource=lambda *_: None, on_secret=lambda *_: None, namespaces=namespaces)
    streams = sorted(watcher._streams)
    assert len(streams) == 2 * max(1, len(namespaces))
    assert all(stream.startswith("/behind/a/proxy/api") for stream in streams)
    for stream in streams:
        assert not watcher.established.is_set()
        watcher._hear(stream, watching=False)
        assert not watcher.established.is_set()
        watcher._hear(stream, watching=True)
    assert watcher.established.is_set()
    assert not watcher.gap.is_set()
    watcher._hear(streams[0], watching=True)
    assert not watcher.gap.is_set()
    watcher._hear(streams[0], watching=False)
    assert watcher.gap.is_set()
    await access.close()
