from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
from kubernetes.aio.client import Configuration

from inference_operator.kube import api as api_module
from inference_operator.kube.access import Access
from inference_operator.kube.api import Api, Refused, Unanswered, path_of, selector_of

STATUS = "/apis/inference-operator.io/v1alpha1/namespaces/team-a/inferenceendpoints/chat/status"
KNOWN = {"uid": "u1", "resourceVersion": "42", "name": "chat"}


class Request(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: Any


Answer = Callable[[Request], Awaitable[bytes | None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[Api, list[Request]]]:
    """An API client and what the server that it talks to has seen; an answer of None cuts the connection."""
    seen: list[Request] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await receive(reader):
                seen.append(request)
                response = await answer(request)
                if response is None:
                    break
                writer.write(response)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    access = Access(Configuration(host=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    try:
        yield Api(access), seen
    finally:
        await access.close()
        server.close()
        await asyncio.sleep(0)


async def receive(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, target, _ = first.split(" ")
    return Request(method, target, headers, json.loads(body) if body else None)


def says(status: int, document: Any, kind: str = "application/json") -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    async def answer(_: Request) -> bytes:
        return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    return answer


async def test_a_conditional_write_names_what_it_replaces_and_replaces_it_whole() -> None:
    async with serving(says(200, {"metadata": {"resourceVersion": "43"}})) as (api, seen):
        stored = await api.compare_and_swap(STATUS, KNOWN, field="status", value={"a": None, "b": []})
    assert stored == {"metadata": {"resourceVersion": "43"}}
    (request,) = seen
    assert (request.method, request.target) == ("PATCH", STATUS)
    assert request.headers["accept"] == "application/json"
    assert request.headers["content-type"] == "application/json-patch+json"
    assert request.headers["user-agent"].startswith("inference-operator/")
    assert request.body == [
        {"op": "test", "path": "/metadata/uid", "value": "u1"},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "42"},
        {"op": "add", "path": "/status", "value": {"a": None, "b": []}},
    ]


@pytest.mark.parametrize("warm", [True, False])
async def test_a_write_is_sent_once_even_if_the_connection_drops(*, warm: bool) -> None:
    async def answer(request: Request) -> bytes | None:
        return await says(200, {})(request) if request.method == "GET" else None

    async with serving(answer) as (api, seen):
        for _ in range(2):
            if warm:  # the connection is one that was kept alive
                await api.get("/version")
            with pytest.raises(Unanswered, match="could not be reached"):
                await api.compare_and_swap(STATUS, KNOWN, field="status", value={})
        with pytest.raises(Unanswered, match="could not be reached"):
            await api.create("/api/v1/namespaces/team-a/events", {"reason": "x"})
    assert [request.method for request in seen if request.method != "GET"] == ["PATCH", "PATCH", "POST"]


async def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    async def answer(_: Request) -> None:
        await asyncio.sleep(0.5)

    async with serving(answer) as (api, seen):
        with pytest.raises(Unanswered, match=r"did not answer within 0\.05 s") as caught:
            await api.create("/x", {"a": 1}, timeout_seconds=0.05)
        assert caught.value.__cause__ is None
    assert len(seen) == 1


async def test_few_requests_of_a_group_run_at_once_and_hold_up_no_other_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "AT_ONCE", 3)
    go_on = asyncio.Event()
    running, most = 0, 0

    async def answer(request: Request) -> bytes | None:
        nonlocal running, most
        if request.target == STATUS:
            running, most = running + 1, max(most, running + 1)
            await go_on.wait()
            running -= 1
        return await says(200, {})(request)

    async with serving(answer) as (api, seen), asyncio.TaskGroup() as group:
        for _ in range(9):
            group.create_task(api.get(STATUS))
        await api.get("/apis/coordination.k8s.io/v1/namespaces/x/leases/y", timeout_seconds=5)
        go_on.set()
    assert (most, len(seen)) == (3, 10)


async def test_a_server_that_is_not_there() -> None:
    closed = Access(Configuration(host="http://127.0.0.1:1"))
    with pytest.raises(Unanswered, match="could not be reached"):
        await Api(closed).get("/version")
    await closed.close()


@pytest.mark.parametrize(
    ("status", "document", "as_status", "message"),
    [
        (404, {"message": "nothing here"}, 404, "the API server answered 404: nothing here"),
        (429, {"message": "slow down"}, 429, "the API server answered 429: slow down"),
        (500, b"<html>", 500, "the API server answered 500: no reason was given"),
        (503, [], 503, "the API server answered 503: no reason was given"),
        (400, {"message": "x" * 10_000}, 400, "the API server answered 400: " + "x" * 500),
        (
            422,
            {"message": "bad", "details": {"causes": [{"field": "status"}]}},
            422,
            "the API server answered 422: bad",
        ),
        (422, {"message": "rejected", "details": {}}, 409, "the API server answered 409: the object is not the one"),
        (422, {"message": "admission webhook says no"}, 422, "the API server answered 422: admission webhook says no"),
    ],
)
async def test_a_refusal_keeps_the_words_of_the_server_and_is_not_tried_again(
    status: int, document: Any, as_status: int, message: str
) -> None:
    async with serving(says(status, document)) as (api, seen):
        with pytest.raises(Refused) as caught:
            await api.compare_and_swap(STATUS, KNOWN, field="status", value={})
        assert caught.value.status == as_status
        assert str(caught.value).startswith(message)
        assert len(str(caught.value)) < 600
    assert len(seen) == 1


def throttled(retry_after: str) -> bytes:
    return f"HTTP/1.1 429 X\r\nRetry-After: {retry_after}\r\nContent-Length: 2\r\n\r\n{{}}".encode()


@pytest.mark.covers("D10")
async def test_while_the_api_server_asks_for_silence_nothing_of_that_group_is_asked() -> None:
    async def answer(request: Request) -> bytes | None:
        return throttled("30") if request.method == "PATCH" else await says(200, {})(request)

    now = 0.0
    async with serving(answer) as (made, seen):
        api = Api(made._access, clock=lambda: now)
        for moment in (0.0, 5.0, 19.9):
            now = moment
            with pytest.raises(Refused, match="429"):
                await api.compare_and_swap(STATUS, KNOWN, field="status", value={})
        await api.get("/apis/coordination.k8s.io/v1/namespaces/x/leases/y")
        assert [request.method for request in seen] == ["PATCH", "GET"]
        now = 30.0
        await api.get(STATUS)
        assert len(seen) == 3


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [("0", 0), ("1", 1), ("100000", 60), ("-1", 0), ("", 0), ("soon", 0), ("\u00b2", 0)]
)
def test_only_whole_seconds_are_silence_and_not_for_ever(retry_after: str, seconds: float) -> None:
    assert api_module._seconds(retry_after) == seconds


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"null", b"[]", b"\xff", b'"text"', b'{"a": 1} {}', b'{"a": "\xff"}', b'{"a": ' * 10_000],
    ids=lambda document: repr(document[:16]),
)
async def test_a_success_that_cannot_be_read_is_no_answer(document: bytes) -> None:
    async with serving(says(200, document)) as (api, _):
        with pytest.raises(Unanswered, match="could not be read"):
            await api.create("/x", {"a": 1})


async def test_a_list_is_read_to_its_end() -> None:
    async def answer(request: Request) -> bytes:
        last = "continue=" in request.target
        items = [{"n": 3}] if last else [{"n": 1}, {"n": 2}]
        return await says(200, {"metadata": {} if last else {"continue": "a+b/c=="}, "items": items})(request) or b""

    async with serving(answer) as (api, seen):
        found = [item["n"] async for item in api.items("/x", query={"labelSelector": "a=b,c!=d"})]
    assert found == [1, 2, 3]
    assert [dict(parse_qsl(urlsplit(request.target).query)) for request in seen] == [
        {"labelSelector": "a=b,c!=d", "limit": "200"},
        {"labelSelector": "a=b,c!=d", "limit": "200", "continue": "a+b/c=="},
    ]


@pytest.mark.parametrize(
    ("segments", "path"),
    [
        (("api", "v1"), "/api/v1"),
        (("a", "../b"), "/a/..%2Fb"),
        (("a", "b?c#d e%"), "/a/b%3Fc%23d%20e%25"),
    ],
)
def test_paths(segments: tuple[str, ...], path: str) -> None:
    assert path_of(*segments) == path


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_no_path_leads_up(segment: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        path_of("api", segment)


def test_field_selectors_hold_any_value() -> None:
    assert selector_of([("a", "x"), ("b", "1,c=2\\")]) == "a=x,b=1\\,c\\=2\\\\"
