from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import kopf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.aio.client import Configuration

from inference_operator.kube import framework
from inference_operator.kube.access import Access
from inference_operator.kube.watching import LOGINS, Watcher
from virtual_time import in_virtual_time, now


def kopfs_tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if framework._is_of_kopf(task)]


async def test_kopf_ends_when_told_to_and_takes_nobody_elses_tasks_along() -> None:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def wait(**_: Any) -> None:
        await asyncio.Event().wait()

    stop, started = asyncio.Event(), asyncio.Event()
    ours = asyncio.create_task(asyncio.sleep(3600))
    run = framework.run(registry, framework.settings(), namespaces=(), stop=stop, on_started=started.set)
    running = asyncio.create_task(run)
    await started.wait()
    later = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0.1)
    assert len(kopfs_tasks()) > 5
    stop.set()
    await running
    assert kopfs_tasks() == []
    assert not ours.done()
    assert not later.done()
    ours.cancel()
    later.cancel()


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
        assert watcher._session is not None
        await watcher._session.close()
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
        watcher._take_resource({"type": "ADDED", "object": {"spec": {"text": "confidential"}}})
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


class Chunks:
    """A body as it comes, in pieces that fall anywhere."""

    def __init__(self, body: bytes, cuts: list[int]) -> None:
        places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
        self.pieces = [body[begin:end] for begin, end in itertools.pairwise(places)]

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        assert size > 0
        for piece in self.pieces:
            yield piece


def line(kind: str, number: int) -> dict[str, Any]:
    metadata = {"uid": "u-\N{SNOWMAN}", "resourceVersion": str(number)}
    return {"type": kind, "object": {"metadata": metadata, "spec": {"a": 1}}}


KINDS = st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "STRANGE"])


@given(kinds=st.lists(KINDS, max_size=8), cuts=st.lists(st.integers(0, 5000)), torn=st.sampled_from([b"", b'{"type']))
def test_of_each_event_kopf_is_told_how_far_it_leads_and_of_the_rest_everything(
    kinds: list[str], cuts: list[int], torn: bytes
) -> None:
    sent = [line(kind, number) for number, kind in enumerate(kinds)]
    body = b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in sent) + torn
    taken: list[kopf.RawEvent] = []

    async def read() -> bytes:
        content = cast("aiohttp.StreamReader", Chunks(body, cuts))
        return b"".join([chunk async for chunk in framework.Bookmarks(content, taken.append).iter_chunked(1 << 20)])

    *lines, rest = asyncio.run(read()).split(b"\n")
    events = [each for each in sent if each["type"] in {"ADDED", "MODIFIED", "DELETED"}]
    assert taken == events
    assert rest == b"", "a line that is cut off comes again"
    for each, seen in zip(sent, map(json.loads, lines), strict=True):
        version = {"metadata": {"resourceVersion": each["object"]["metadata"]["resourceVersion"]}}
        is_change = each["type"] in {"ADDED", "MODIFIED"}
        assert seen == ({"type": "BOOKMARK", "object": version} if is_change else each)
