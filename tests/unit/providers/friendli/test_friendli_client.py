from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from friendli_cases import DOCUMENT, document
from inference_operator.core.model import Credentials, EndpointRef, History, Look
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
from inference_operator.providers.friendli import DRIVER, client
from inference_operator.providers.friendli.driver import FriendliConnection
from inference_operator.providers.friendli.wire import Spec, Status
from inference_operator.providers.transport import Transport, TransportSettings
from peer import Connection, Peer, http, listening

REF = EndpointRef("friendli", "ep-1", "team-1")
ROOT = "/dedicated/beta/endpoint/ep-1"

Answers = Callable[[str, dict[str, str]], tuple[int, Any]]
"""From path and query to status and JSON body."""


class Silence:
    """Listens to no call."""

    def call(self, **_: Any) -> None:
        """Nothing."""


def versions(*numbers: int, **page: Any) -> dict[str, Any]:
    return {"data": {str(number): document(name=f"name-{number}") for number in numbers}, **page}


def well(path: str, _: dict[str, str]) -> tuple[int, Any]:
    """An endpoint that is well."""
    bodies = {ROOT: DOCUMENT, f"{ROOT}/status": {"status": "RUNNING"}, f"{ROOT}/version": versions(0, 1)}
    return 200, bodies[path]


@asynccontextmanager
async def connected(answers: Answers, burst: int = 1000) -> AsyncIterator[tuple[FriendliConnection, Peer]]:
    async def answer(connection: Connection, request: bytes) -> None:
        url = urlsplit(request.split(b" ")[1].decode())
        status, body = answers(url.path, {name: values[0] for name, values in parse_qs(url.query).items()})
        await connection.send(http(status, json.dumps(body).encode()))

    async with listening() as peer:
        peer.answering = answer
        settings = TransportSettings(request_timeout=5, calls_per_second=burst, calls_burst=burst)
        transport = Transport(settings, Silence())
        key = Credentials(SecretStr("flp_swordfish-0123456789"))
        try:
            yield DRIVER.connect(transport, origin=peer.origin, credentials=key, team=REF.team), peer
        finally:
            await transport.close()


async def history(pages: Callable[[str | None], Any], base: int | None = None) -> History:
    """The history behind pages, each given by the cursor that leads to it."""

    def answers(path: str, query: dict[str, str]) -> tuple[int, Any]:
        assert (path, query["limit"]) == (f"{ROOT}/version", "100")
        page = pages(query.get("cursor"))
        return page if isinstance(page, tuple) else (200, page)

    async with connected(answers) as (connection, _):
        return await connection.client.get_history("ep-1", base)


def numbers(read: History) -> list[int]:
    return [entry.number for entry in read.entries]


# ── requests ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_look_reads_what_it_is_asked_for() -> None:
    for look, paths in (
        (Look(), {ROOT, f"{ROOT}/status"}),
        (Look(limits=True), {ROOT, f"{ROOT}/status"}),
        (Look(history=True), {ROOT, f"{ROOT}/status", f"{ROOT}/version"}),
        (Look(history=True, listed=Status(status="RUNNING")), {ROOT, f"{ROOT}/version"}),
        (Look(listed=Status(status="RUNNING")), {ROOT}),
        (Look(history=True, document=Spec.model_validate(DOCUMENT)), {f"{ROOT}/status", f"{ROOT}/version"}),
    ):
        async with connected(well) as (connection, peer):
            seen = await connection.observe(REF, look)
            lines = [request.split(b"\r\n")[0].decode().split(" ") for request in peer.requests]
            assert {line[0] for line in lines} == {"GET"}
            assert sorted(line[1].partition("?")[0] for line in lines) == sorted(paths)
            assert all(b"X-Friendli-Team: team-1" in request for request in peer.requests)
            assert (seen.history is not None) == look.history


async def test_a_429_spares_the_reads_that_still_wait_for_their_turn() -> None:
    async with connected(lambda *_: (429, {}), burst=1) as (connection, peer):
        with pytest.raises(Throttled):
            await connection.observe(REF, Look(history=True))
        assert connection.client.channel.budget.waiting == 0
        assert [request.split(b" ")[1].decode() for request in peer.requests] == [ROOT]


async def test_what_came_before_a_429_names_the_error() -> None:
    def answers(path: str, _: dict[str, str]) -> tuple[int, Any]:
        return {ROOT: 403, f"{ROOT}/status": 429}.get(path, 200), {}

    async with connected(answers) as (connection, _):
        with pytest.raises(CredentialsRejected):
            await connection.observe(REF, Look(history=True))


async def test_no_team_is_no_header() -> None:
    async with listening() as peer:
        peer.answer(http(200, json.dumps({"status": "RUNNING"}).encode()))
        transport = Transport(TransportSettings(5, 1000, 1000), Silence())
        connection = DRIVER.connect(
            transport, origin=peer.origin, credentials=Credentials(SecretStr("flp_key")), team=None
        )
        await connection.client.get_status("ep-1")
        assert b"x-friendli-team" not in peer.requests[0].lower()
        await transport.close()


async def test_an_update_is_one_put_and_returns_what_was_acknowledged() -> None:
    async with connected(well) as (connection, peer):
        acknowledged = await connection.update(REF, {"name": "x"})
        assert [request.split(b" HTTP")[0] for request in peer.requests] == [f"PUT {ROOT}".encode()]
        assert peer.requests[0].endswith(b'{"name":"x"}')
        assert acknowledged.name == "endpoint-name"


@pytest.mark.parametrize("endpoint_id", ["../other", "a/status", "a?b=c", ""])
async def test_an_id_that_is_no_segment_is_never_sent(endpoint_id: str) -> None:
    async with connected(well) as (connection, peer):
        ref = EndpointRef("friendli", endpoint_id)
        with pytest.raises(InvalidSpec):
            await connection.observe(ref, Look(history=True))
        with pytest.raises(InvalidSpec):
            await connection.update(ref, {})
        assert peer.requests == []


# ── documents ─────────────────────────────────────────────────────────────────────────────────────────

REQUIRED = [
    *("name", "gpuType", "numGpu", "projectId", "creatorId", "teamId", "autoscalingMin", "autoscalingMax"),
    *("autoscalingCooldown", "maxBatchSize", "tokenizerSkipSpecialTokens", "tokenizerAddSpecialTokens"),
]

UNUSABLE: dict[str, tuple[Any, str]] = {
    **{f"without {name}": (document(**{name: None}), name) for name in REQUIRED},
    "nothing": ({}, "gpuType"),
    "a number that is none": (document(numGpu="two"), "numGpu"),
    "a number beyond all bounds": (document(autoscalingMax=2**40), "autoscalingMax"),
    "half a number": (document(autoscalingMax=1.5), "autoscalingMax"),
    "a list for a number": (document(maxBatchSize=[1]), "maxBatchSize"),
    "a number for a name": (document(name=7), "name"),
    "a flag that is none": (document(tokenizerSkipSpecialTokens="perhaps"), "tokenizerSkipSpecialTokens"),
}


@pytest.mark.parametrize(("body", "field"), UNUSABLE.values(), ids=UNUSABLE)
async def test_a_document_that_is_not_as_documented_is_no_read_and_no_acknowledgement(body: Any, field: str) -> None:
    def answers(path: str, query: dict[str, str]) -> tuple[int, Any]:
        return (200, body) if path == ROOT else well(path, query)

    async with connected(answers) as (connection, _):
        with pytest.raises(Unavailable, match=field) as unread:
            await connection.observe(REF, Look())
        with pytest.raises(Ambiguous, match=field) as unacknowledged:
            await connection.update(REF, {"name": "x"})
    for caught in (unread.value, unacknowledged.value):
        assert "endpoint-name" not in caught.message
        assert (caught.__cause__, caught.__context__) == (None, None)


@pytest.mark.parametrize(
    "body",
    [
        document(numGpu="1", autoscalingMin="0", autoscalingMax="1", maxBatchSize="10", currReplicaCnt="1"),
        document(numGpu=1.0, tokenizerSkipSpecialTokens="true", tokenizerAddSpecialTokens=1),
        {**DOCUMENT, "maxContextLength": 4096, "aNewField": {"deep": [None]}},
    ],
)
async def test_spelling_and_new_fields_make_no_difference(body: dict[str, Any]) -> None:
    def answers(path: str, query: dict[str, str]) -> tuple[int, Any]:
        return (200, body) if path == ROOT else well(path, query)

    async with connected(well) as (plain, _), connected(answers) as (other, _):
        assert (await other.observe(REF, Look())) == (await plain.observe(REF, Look()))


@pytest.mark.parametrize("absent", ["instanceId", "maxInputLength", "currReplicaCnt", "desiredReplicaCnt"])
@pytest.mark.parametrize("null", [True, False])
async def test_optional_fields_may_be_null_or_absent(
    absent: str,
    null: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    body = {**DOCUMENT, absent: None} if null else document(**{absent: None})

    def answers(path: str, query: dict[str, str]) -> tuple[int, Any]:
        return (200, body) if path == ROOT else well(path, query)

    async with connected(well) as (plain, _), connected(answers) as (other, _):
        seen, usual = await other.observe(REF, Look()), await plain.observe(REF, Look())
    assert (seen.state, seen.history) == (usual.state, usual.history)


@pytest.mark.parametrize("body", [{}, {"status": None}, {"phase": "DOWNLOADING_MODEL"}])
async def test_a_status_without_a_status_is_none(body: Any) -> None:
    def answers(path: str, query: dict[str, str]) -> tuple[int, Any]:
        return (200, body) if path.endswith("/status") else well(path, query)

    async with connected(answers) as (connection, _):
        with pytest.raises(Unavailable, match="status"):
            await connection.observe(REF, Look())


# ── the history ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.covers("C12")
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("base", [None, 0, 9, 10, 11, 12])
async def test_the_newest_version_is_the_greatest_number_of_all_pages(
    newest_first: bool,  # noqa: FBT001 - a parameter of the table
    base: int | None,
) -> None:
    order = sorted(range(12), reverse=newest_first)
    chunks = [order[at : at + 5] for at in range(0, 12, 5)]

    def pages(cursor: str | None) -> Any:
        at = int(cursor or 0)
        return versions(*chunks[at], nextCursor=str(at + 1) if at + 1 < len(chunks) else None)

    read = await history(pages, base)
    assert read.newest == 11
    assert numbers(read) == ([11] if base is None else list(range(base, 12)))
    assert all(entry.snapshot.values["friendli.name"] == f"name-{entry.number}" for entry in read.entries)


@pytest.mark.covers("C12")
@pytest.mark.parametrize("end", [{}, {"nextCursor": None}, {"nextCursor": ""}])
async def test_a_history_may_be_empty(end: dict[str, Any]) -> None:
    assert await history(lambda _: {"data": {}, **end}) == History(-1, ())


async def test_an_empty_page_is_not_the_end() -> None:
    pages = {None: {"data": {}, "nextCursor": "a"}, "a": versions(3)}
    assert (await history(pages.__getitem__)).newest == 3


async def test_a_cursor_is_handed_back_as_it_came() -> None:
    strange = "a b/c?d=e&f#g%2F+é"
    pages = {None: versions(0, nextCursor=strange), strange: versions(1)}
    assert (await history(pages.__getitem__, 0)).newest == 1


async def test_bodies_below_the_base_are_not_looked_at() -> None:
    page = versions(5, 6)
    page["data"]["4"] = {"as it was": "in an older API"}
    assert numbers(await history(lambda _: page, 5)) == [5, 6]
    with pytest.raises(Unavailable, match="gpuType"):
        await history(lambda _: page, 4)


@pytest.mark.covers("C12")
@pytest.mark.parametrize(
    "page",
    [
        {},
        {"data": []},
        {"data": None},
        {"data": {"v1": DOCUMENT}},
        {"data": {"-1": DOCUMENT}},
        {"data": {"1.0": DOCUMENT}},
        {"data": {"1_0": DOCUMENT}},
        {"data": {"٣": DOCUMENT}},
        {"data": {"9" * 30: DOCUMENT}},
        {"data": {"1": None}},
        {"data": {"1": {"name": "x"}}},
        {"data": {"1": DOCUMENT}, "nextCursor": 7},
        {"data": {"1": DOCUMENT}, "nextCursor": "x" * 5000},
        (500, {"detail": "sorry"}),
        (302, {}),
    ],
    ids=lambda page: str(page)[:24],
)
async def test_a_page_that_is_none_makes_the_history_unreadable(page: Any) -> None:
    def second(cursor: str | None) -> Any:
        return versions(0, nextCursor="second") if cursor is None else page

    with pytest.raises(Unavailable):
        await history(second)


async def test_pages_that_go_in_a_circle_end() -> None:
    circle = {None: "a", "a": "b", "b": "a"}
    with pytest.raises(Unavailable, match="do not end"):
        await history(lambda cursor: versions(1, nextCursor=circle[cursor]))


async def test_pages_that_never_end_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_PAGES", 5)
    asked: list[str | None] = []

    def pages(cursor: str | None) -> Any:
        asked.append(cursor)
        return versions(len(asked), nextCursor=f"page-{len(asked)}")

    with pytest.raises(Unavailable, match="do not end"):
        await history(pages)
    assert len(asked) == 6


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "read", "write"),
    [
        (400, InvalidSpec, InvalidSpec),
        (401, CredentialsRejected, CredentialsRejected),
        (402, CapacityUnavailable, CapacityUnavailable),
        (403, CredentialsRejected, CredentialsRejected),
        (404, NotFound, NotFound),
        (409, Unavailable, InvalidSpec),
        (421, Unavailable, InvalidSpec),
        (422, InvalidSpec, InvalidSpec),
        (429, Throttled, Throttled),
        (500, Unavailable, Ambiguous),
    ],
)
async def test_errors_mean_what_the_table_says(
    status: int, read: type[EndpointError], write: type[EndpointError]
) -> None:
    async with connected(lambda *_: (status, {"detail": "because"})) as (connection, _):
        with pytest.raises(EndpointError) as caught:
            await connection.update(REF, {})
        assert type(caught.value) is write
        assert getattr(caught.value, "maybe_busy", False) == (status in {400, 409})
    async with connected(lambda *_: (status, {"detail": "because"})) as (connection, _):
        with pytest.raises(EndpointError) as caught:
            await connection.observe(REF, Look(history=True))
        assert type(caught.value) is read


@pytest.mark.parametrize("failing", ["status", "version"])
async def test_one_unclean_read_makes_the_whole_look_unclean(failing: str) -> None:
    def answers(path: str, query: dict[str, str]) -> tuple[int, Any]:
        return (503, {}) if path.endswith(failing) else well(path, query)

    async with connected(answers) as (connection, _):
        with pytest.raises(Unavailable):
            await connection.observe(REF, Look(history=True))


async def test_which_of_several_errors_is_told_does_not_depend_on_the_order_of_answers() -> None:
    def answers(path: str, _: dict[str, str]) -> tuple[int, Any]:
        return {ROOT: 503, f"{ROOT}/status": 404, f"{ROOT}/version": 500}[path], {}

    for _ in range(10):
        async with connected(answers) as (connection, _peer):
            with pytest.raises(Unavailable, match="get_spec: HTTP 503"):
                await connection.observe(REF, Look(history=True))
