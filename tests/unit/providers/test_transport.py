import asyncio
import base64
import gzip
import json
import time
import traceback
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from inference_operator.core.credentials import credentials_from
from inference_operator.core.model import Urgency
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
from inference_operator.providers import exchange
from inference_operator.providers.transport import Channel, Transport, TransportSettings, segment
from peer import Connection, Peer, http, listening

TOKEN = "flp_Zq8xW3vT6yLm0PnRb5Kd"
HASTE = 0.5
"""Seconds after which an answer that never comes is given up, in tests about just that."""
BODY = {"name": "x"}


@dataclass
class Calls:
    """Remembers what the observer was told."""

    told: list[tuple[str, str, str]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)

    def call(
        self, *, provider: str, operation: str, outcome: str, seconds: float, waited: float, status: int | None
    ) -> None:
        assert 0 <= seconds < 30
        self.told.append((provider, operation, outcome))
        self.waits.append(waited)
        self.statuses.append(status)


def nothing(status: int, document: Any) -> EndpointError | None:  # noqa: ARG001 - the signature of a refinement
    return None


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with listening() as peer:
        yield peer


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
async def transport(calls: Calls) -> AsyncIterator[Transport]:
    async with closing(Transport(TransportSettings(10, calls_per_second=1000, calls_burst=1000), calls)) as transport:
        yield transport


@pytest.fixture
async def hasty(calls: Calls) -> AsyncIterator[Transport]:
    async with closing(Transport(TransportSettings(HASTE, 1000, 1000), calls)) as transport:
        yield transport


@asynccontextmanager
async def closing(transport: Transport) -> AsyncIterator[Transport]:
    try:
        yield transport
    finally:
        await transport.close()


@pytest.fixture
def channel(transport: Transport, peer: Peer) -> Channel:
    return channel_of(transport, peer.origin)


def channel_of(transport: Transport, origin: str, **changes: Any) -> Channel:
    arguments = {
        "provider": "friendli",
        "origin": origin,
        "credentials": credentials_from(TOKEN.encode()),
        "headers": {"X-Team": "team-1"},
        "refine": nothing,
    }
    return transport.channel(**{**arguments, **changes})


def read(channel: Channel) -> Any:
    return channel.read("get_spec", "/endpoint/a")


def write(channel: Channel, **options: bool) -> Any:
    return channel.write("update", "PUT", "/endpoint/a", body=BODY, **options)


def assert_clean(error: BaseException) -> None:
    """Nothing of the HTTP stack, and above all not the key, is in what may be printed of an error."""
    text = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    assert TOKEN not in text
    assert "httpx" not in text
    assert "httpcore" not in text
    assert error.__cause__ is None
    assert error.__context__ is None


# ── what is sent ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_read_is_one_get_with_key_headers_and_query(channel: Channel, peer: Peer, calls: Calls) -> None:
    peer.answer(http(200, b'{"a": [1, null]}'))
    assert await channel.read("list", "/x", params={"cursor": "a/b?c&d=é", "limit": "100"}) == {"a": [1, None]}
    head = peer.requests[0].decode().lower().split("\r\n")
    assert head[0] == "get /x?cursor=a%2fb%3fc%26d%3d%c3%a9&limit=100 http/1.1"
    assert f"authorization: bearer {TOKEN}".lower() in head
    assert {"x-team: team-1", "accept-encoding: identity", "accept: application/json"} <= set(head)
    assert calls.told == [("friendli", "list", "ok")]


async def test_a_write_sends_its_body_as_json_once(channel: Channel, peer: Peer, calls: Calls) -> None:
    peer.answer(http(200, b'{"b": 2}'))
    assert await channel.write("update", "PUT", "/x", body={"b": 1, "a": "é"}) == {"b": 2}
    assert len(peer.requests) == 1
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /x HTTP/1.1")
    assert b"content-type: application/json" in head.lower()
    assert body == '{"a":"é","b":1}'.encode()
    assert calls.told == [("friendli", "update", "ok")]


async def test_connections_are_kept_and_shared_by_all_channels_of_an_origin(transport: Transport, peer: Peer) -> None:
    peer.answer(http(200, b"{}"))
    for token in (b"key-number-one", b"key-number-two"):
        await read(channel_of(transport, peer.origin + "/", credentials=credentials_from(token)))
    assert (len(peer.requests), peer.connections) == (2, 1)


async def test_no_cookie_is_kept(transport: Transport, peer: Peer) -> None:
    peer.answer(http(200, b"{}", "Set-Cookie: session=other-tenant; Path=/"))
    for _ in range(2):
        await read(channel_of(transport, peer.origin))
    assert all(b"cookie" not in request.lower() for request in peer.requests)


@pytest.mark.covers("B13")
async def test_the_environment_names_no_proxy_and_no_password(
    monkeypatch: pytest.MonkeyPatch, transport: Transport, peer: Peer, tmp_path: Any
) -> None:
    async with listening() as trap:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, trap.origin)
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login other password other\n")
        monkeypatch.setenv("NETRC", str(netrc))
        peer.answer(http(200, b"{}"))
        await read(channel_of(transport, peer.origin))
        assert trap.connections == 0
        assert f"Bearer {TOKEN}".encode() in peer.requests[0]


# ── what is answered ──────────────────────────────────────────────────────────────────────────────────

GOOD = b'{"a": 1}'
HTML = b"<html>please sign in</html>"
BOMB = zlib.compressobj(9, wbits=31)
BOMBED = BOMB.compress(b'{"a": "' + b" " * (64 << 20) + b'"}') + BOMB.flush()
DETAIL = b'{"detail": "because"}'

COMPLETE: dict[str, tuple[bytes, type[EndpointError], type[EndpointError]]] = {
    # answer, what a read makes of it, what a write makes of it
    "200 without a body": (http(200), Unavailable, Ambiguous),
    "200 HTML": (http(200, HTML), Unavailable, Ambiguous),
    "200 list": (http(200, b"[]"), Unavailable, Ambiguous),
    "200 null": (http(200, b"null"), Unavailable, Ambiguous),
    "200 number": (http(200, b"1"), Unavailable, Ambiguous),
    "200 truncated JSON": (http(200, b'{"a": '), Unavailable, Ambiguous),
    "200 NaN": (http(200, b'{"a": NaN}'), Unavailable, Ambiguous),
    "200 duplicate names": (http(200, b'{"a": 1, "a": 2}'), Unavailable, Ambiguous),
    "200 deep": (http(200, b'{"a":' + b"[" * 500_000), Unavailable, Ambiguous),
    "200 bad UTF-8": (http(200, b'{"a": "\xff"}'), Unavailable, Ambiguous),
    "200 in a strange encoding": (http(200, GOOD, "Content-Encoding: br"), Unavailable, Ambiguous),
    "200 packed and cut": (http(200, gzip.compress(GOOD)[:-4], "Content-Encoding: gzip"), Unavailable, Ambiguous),
    "200 not packed": (http(200, GOOD, "Content-Encoding: gzip"), Unavailable, Ambiguous),
    "200 packed twice over": (http(200, gzip.compress(GOOD) * 2, "Content-Encoding: gzip"), Unavailable, Ambiguous),
    "200 bomb": (http(200, BOMBED, "Content-Encoding: gzip"), Unavailable, Ambiguous),
    "200 huge": (http(200, GOOD + b" " * (1 << 20)), Unavailable, Ambiguous),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Unavailable, Ambiguous),
    "301": (http(301, DETAIL, "Location: /elsewhere"), Unavailable, Ambiguous),
    "303": (http(303, b"", "Location: /elsewhere"), Unavailable, Ambiguous),
    "307": (http(307, b"", "Location: http://169.254.169.254/latest"), Unavailable, Ambiguous),
    "308": (http(308, b"", "Location: /endpoint/a"), Unavailable, Ambiguous),
    "400": (http(400, DETAIL), InvalidSpec, InvalidSpec),
    "400 HTML": (http(400, HTML), InvalidSpec, InvalidSpec),
    "401": (http(401, DETAIL), CredentialsRejected, CredentialsRejected),
    "403": (http(403, DETAIL), CredentialsRejected, CredentialsRejected),
    "404": (http(404, DETAIL), NotFound, NotFound),
    "405": (http(405, DETAIL), Unavailable, InvalidSpec),
    "408": (http(408, DETAIL), Unavailable, Ambiguous),
    "409": (http(409, DETAIL), Unavailable, InvalidSpec),
    "422": (http(422, DETAIL), InvalidSpec, InvalidSpec),
    "429": (http(429, DETAIL), Throttled, Throttled),
    "499": (http(499, DETAIL), Unavailable, InvalidSpec),
    "500": (http(500, DETAIL), Unavailable, Ambiguous),
    "502 HTML": (http(502, HTML), Unavailable, Ambiguous),
    "503": (http(503, DETAIL, "Retry-After: 5"), Unavailable, Ambiguous),
    "599": (http(599), Unavailable, Ambiguous),
    "999": (http(999), Unavailable, Ambiguous),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", Unavailable, Ambiguous),
    "head of 1 MB": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n", Unavailable, Ambiguous),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nContent-Length: 9\r\n\r\n" + GOOD,
        Unavailable,
        Ambiguous,
    ),
}


@pytest.mark.parametrize(("answer", "error", "_"), COMPLETE.values(), ids=COMPLETE)
async def test_a_read_fails_as_the_table_says(
    answer: bytes, error: type[EndpointError], _: type[EndpointError], channel: Channel, peer: Peer, calls: Calls
) -> None:
    peer.answer(answer)
    with pytest.raises(EndpointError) as caught:
        await read(channel)
    assert type(caught.value) is error
    assert not getattr(caught.value, "maybe_busy", False)
    assert caught.value.message.startswith("friendli get_spec: ")
    assert_clean(caught.value)
    assert len(peer.requests) == 1
    assert [outcome for *_, outcome in calls.told] != ["ok"]


@pytest.mark.parametrize(("answer", "_", "error"), COMPLETE.values(), ids=COMPLETE)
async def test_a_write_fails_as_the_table_says(
    answer: bytes, _: type[EndpointError], error: type[EndpointError], channel: Channel, peer: Peer
) -> None:
    peer.answer(answer)
    with pytest.raises(EndpointError) as caught:
        await write(channel)
    assert type(caught.value) is error
    assert getattr(caught.value, "maybe_busy", False) == (b" 400 " in answer or b" 409 " in answer)
    assert_clean(caught.value)
    assert len(peer.requests) == 1


async def reset(connection: Connection, _: bytes) -> None:
    connection.reset()


async def close(connection: Connection, _: bytes) -> None:
    connection.close()


async def stall(*_: Any) -> None:
    await asyncio.sleep(60)


async def reset_within(connection: Connection, _: bytes) -> None:
    await connection.send(http(200, GOOD)[:-3])
    connection.reset()


async def close_within(connection: Connection, _: bytes) -> None:
    await connection.send(http(422, DETAIL)[:-3])
    connection.close()


async def drip_head(connection: Connection, _: bytes) -> None:
    for byte in http(200, GOOD):
        await connection.send(bytes([byte]))
        await asyncio.sleep(0.05)


async def drip_body(connection: Connection, _: bytes) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await connection.send(b" ")
        await asyncio.sleep(0.05)


async def endless_chunks(connection: Connection, _: bytes) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await connection.send(b"400\r\n" + b" " * 1024 + b"\r\n")


async def endless_interim_answers(connection: Connection, _: bytes) -> None:
    while True:
        await connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.01)


BROKEN = [
    reset,
    close,
    stall,
    reset_within,
    close_within,
    drip_head,
    drip_body,
    endless_chunks,
    endless_interim_answers,
]


@pytest.mark.covers("B7", "B8", "B9")
@pytest.mark.parametrize("answering", BROKEN)
async def test_an_answer_that_does_not_arrive_whole_leaves_a_write_undecided(
    answering: Any, hasty: Transport, peer: Peer
) -> None:
    channel, peer.answering = channel_of(hasty, peer.origin), answering
    for call, error in ((read, Unavailable), (write, Ambiguous)):
        async with asyncio.timeout(HASTE + 5):
            with pytest.raises(EndpointError) as caught:
                await call(channel)
        assert type(caught.value) is error
        assert_clean(caught.value)
    assert len(peer.requests) == 2


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n" + GOOD + b"\r\n0\r\nA: b\r\n\r\n"

SUCCESS = {
    "200": (http(200, GOOD), False, {"a": 1}),
    "201": (http(201, GOOD), False, {"a": 1}),
    "packed": (http(200, gzip.compress(GOOD), "Content-Encoding: gzip"), False, {"a": 1}),
    "nothing, packed": (http(200, b"", "Content-Encoding: gzip"), True, {}),
    "white space": (http(200, b" \n"), True, {}),
    "an empty object": (http(200, b"{}"), True, {}),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", True, {}),
    "an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\n" + http(200, GOOD), False, {"a": 1}),
    "chunks with a trailer": (CHUNKED, False, {"a": 1}),
}


@pytest.mark.parametrize(("answer", "empty_is_success", "document"), SUCCESS.values(), ids=SUCCESS)
async def test_what_a_write_takes_for_success(
    answer: bytes,
    empty_is_success: bool,  # noqa: FBT001 - a parameter of the table
    document: object,
    channel: Channel,
    peer: Peer,
) -> None:
    peer.answer(answer)
    assert await write(channel, empty_is_success=empty_is_success) == document


@pytest.mark.parametrize("answer", [http(200, HTML), http(200, b"[]"), http(302), http(500)], ids=range(4))
async def test_that_an_empty_answer_is_success_makes_no_other_one_a_success(
    answer: bytes, channel: Channel, peer: Peer
) -> None:
    peer.answer(answer)
    with pytest.raises(Ambiguous):
        await write(channel, empty_is_success=True)


@pytest.mark.parametrize("status", [201, 202, 206])
async def test_a_read_takes_only_200(status: int, channel: Channel, peer: Peer) -> None:
    peer.answer(http(status, GOOD))
    with pytest.raises(Unavailable):
        await read(channel)


@pytest.mark.covers("B10")
async def test_a_redirect_is_never_followed(channel: Channel, peer: Peer) -> None:
    async with listening() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            peer.answer(http(status, b"", f"Location: {elsewhere.origin}/"))
            with pytest.raises(Ambiguous):
                await write(channel)
        assert elsewhere.connections == 0
    assert all(request.startswith(b"PUT /endpoint/a ") for request in peer.requests)


@pytest.mark.covers("B11")
async def test_a_connection_that_is_closed_under_a_write_is_not_tried_again(channel: Channel, peer: Peer) -> None:
    async def close_on_second(connection: Connection, _: bytes) -> None:
        if connection.served == 1:
            await connection.send(http(200, GOOD))
        else:
            connection.close()

    peer.answering = close_on_second
    await read(channel)
    with pytest.raises(Ambiguous):
        await write(channel)
    assert (len(peer.requests), peer.connections) == (2, 1)


async def test_no_failure_loses_a_connection_for_ever(
    monkeypatch: pytest.MonkeyPatch, hasty: Transport, peer: Peer
) -> None:
    monkeypatch.setattr(exchange, "MAX_CONNECTIONS", 1)
    channel = channel_of(hasty, peer.origin)
    for answering in BROKEN:
        peer.answering = answering
        with pytest.raises(Unavailable):
            await read(channel)
        peer.answer(http(200, GOOD))
        assert await read(channel) == {"a": 1}


# ── what was never sent ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.covers("B4")
async def test_a_refused_connection_proves_that_nothing_was_sent(transport: Transport) -> None:
    async with listening() as closed:
        origin = closed.origin
    with pytest.raises(Unavailable, match="the connection was refused") as caught:
        await write(channel_of(transport, origin))
    assert_clean(caught.value)


@pytest.mark.covers("B4")
async def test_an_unknown_host_proves_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch, transport: Transport
) -> None:
    async def unknown(*_: Any, **__: Any) -> None:
        import socket  # noqa: PLC0415 - the error under test

        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    with pytest.raises(Unavailable, match="could not be resolved") as caught:
        await write(channel_of(transport, "https://api.provider.example"))
    assert_clean(caught.value)


async def test_a_write_that_waits_in_vain_for_a_connection_was_not_sent(
    monkeypatch: pytest.MonkeyPatch, hasty: Transport, peer: Peer
) -> None:
    monkeypatch.setattr(exchange, "MAX_CONNECTIONS", 1)
    channel, peer.answering = channel_of(hasty, peer.origin), stall
    blocking = asyncio.create_task(read(channel))
    await peer.arrived.wait()
    monkeypatch.setattr(channel.exchange, "_timeout", 0.1)
    with pytest.raises(Unavailable):
        await write(channel)
    assert len(peer.requests) == 1
    with pytest.raises(Unavailable):
        await blocking


async def test_a_closed_transport_sends_nothing(transport: Transport, channel: Channel, peer: Peer) -> None:
    await transport.close()
    with pytest.raises(Unavailable):
        await write(channel)
    assert peer.connections == 0


async def test_cancelling_a_write_is_passed_on_and_told(channel: Channel, peer: Peer, calls: Calls) -> None:
    peer.answering = stall
    task = asyncio.create_task(write(channel))
    await peer.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls.told == [("friendli", "update", "cancelled")]
    peer.answer(http(200, GOOD))
    assert await write(channel) == {"a": 1}


async def test_a_connection_that_was_given_up_is_reset(hasty: Transport, peer: Peer) -> None:
    with pytest.raises(Ambiguous):
        await write(channel_of(hasty, peer.origin))
    async with asyncio.timeout(5):
        await peer.ended.wait()
    assert peer.ends == ["reset"]


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────


async def test_the_providers_own_meaning_goes_before_the_table(transport: Transport, peer: Peer) -> None:
    def by_reason(status: int, document: Any) -> EndpointError | None:
        assert status == 400
        return CapacityUnavailable("no stock") if document == {"reason": "STOCK"} else None

    channel = channel_of(transport, peer.origin, refine=by_reason)
    peer.answer(http(400, b'{"reason": "STOCK"}'))
    for call in (read, write):
        with pytest.raises(CapacityUnavailable, match="no stock"):
            await call(channel)
    peer.answer(http(400, b'{"reason": "OTHER"}'))
    with pytest.raises(InvalidSpec, match="OTHER"):
        await write(channel)


@pytest.mark.parametrize("status", [302, 408, 500, 503])
async def test_no_meaning_makes_an_undecided_write_definite(status: int, transport: Transport, peer: Peer) -> None:
    def always(status: int, document: Any) -> EndpointError | None:  # noqa: ARG001 - the signature of a refinement
        return InvalidSpec("surely")

    peer.answer(http(status, b"{}"))
    with pytest.raises(Ambiguous):
        await write(channel_of(transport, peer.origin, refine=always))


@pytest.mark.parametrize(
    "echo",
    [TOKEN, f"Bearer {TOKEN}", TOKEN[4:12], base64.b64encode(TOKEN.encode()).decode(), TOKEN.encode().hex()],
)
async def test_a_provider_that_echoes_the_key_is_not_quoted(echo: str, transport: Transport, peer: Peer) -> None:
    def quoting(status: int, document: Any) -> EndpointError | None:
        return InvalidSpec(f"said {document}") if status == 422 else None

    channel = channel_of(transport, peer.origin, refine=quoting)
    for status in (400, 401, 404, 422, 429, 500):
        peer.answer(http(status, json.dumps({"message": f"you sent {echo}"}).encode()))
        with pytest.raises(EndpointError) as caught:
            await (write(channel) if status != 429 else read(channel))
        assert_clean(caught.value)
        assert type(caught.value) is COMPLETE[str(status)][1 if status == 429 else 2]
        assert echo not in caught.value.message
        assert "you sent" not in caught.value.message


@pytest.mark.covers("C1", "C15")
async def test_too_many_calls_silence_the_whole_key_but_no_other(transport: Transport, peer: Peer) -> None:
    peer.answer(http(429, DETAIL, "Retry-After: 30"))
    with pytest.raises(Throttled) as caught:
        await read(channel_of(transport, peer.origin))
    assert caught.value.retry_after == 30
    peer.answer(http(200, GOOD))
    again = channel_of(transport, peer.origin)
    for call in (read(again), write(again), again.reserve_write()):
        with pytest.raises(Throttled) as caught:
            await call
        assert 29 < caught.value.retry_after <= 30
    assert len(peer.requests) == 1
    other = channel_of(transport, peer.origin, credentials=credentials_from(b"another-key"))
    assert await read(other) == {"a": 1}


async def test_too_many_calls_without_a_time_silence_the_key_for_a_moment(channel: Channel, peer: Peer) -> None:
    peer.answer(http(429))
    with pytest.raises(Throttled) as caught:
        await read(channel)
    assert caught.value.retry_after == 1  # who tries again earlier would wait for a turn before all others
    assert 0.5 < channel.budget.silence <= 1
    peer.answer(http(200, GOOD))
    assert await read(channel) == {"a": 1}


async def test_the_429s_that_answer_one_burst_halve_the_rate_of_the_key_once(transport: Transport, peer: Peer) -> None:
    channel = channel_of(transport, peer.origin)
    assert transport.rates() == {"friendli": 1000}
    peer.answer(http(429))
    failures = await asyncio.gather(*(read(channel) for _ in range(20)), return_exceptions=True)
    assert {type(each) for each in failures} == {Throttled}
    assert transport.rates() == {"friendli": 500}
    with pytest.raises(Throttled):
        await read(channel)  # which sits out the moment that the first ones cost
    assert len(peer.requests) == 21
    assert transport.rates() == {"friendli": 250}


async def test_a_refinement_can_tell_throttling_too(transport: Transport, peer: Peer) -> None:
    def too_fast(status: int, document: Any) -> EndpointError | None:  # noqa: ARG001 - the signature of a refinement
        return Throttled("slow down")

    peer.answer(http(400, b"{}", "Retry-After: 7"))
    with pytest.raises(Throttled, match="slow down") as caught:
        await read(channel_of(transport, peer.origin, refine=too_fast))
    assert caught.value.retry_after == 7


# ── reservations ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_reserved_write_does_not_wait_for_the_budget(peer: Peer, calls: Calls) -> None:
    async with closing(Transport(TransportSettings(10, calls_per_second=0.05, calls_burst=1), calls)) as transport:
        channel = channel_of(transport, peer.origin)
        peer.answer(http(200, GOOD))
        await channel.reserve_write()
        async with asyncio.timeout(5):
            await write(channel)
        waiting = asyncio.create_task(write(channel))  # the reservation is used up
        await asyncio.sleep(0.2)
        assert len(peer.requests) == 1
        waiting.cancel()


async def test_a_silence_that_begins_after_the_reservation_refuses_the_write(channel: Channel, peer: Peer) -> None:
    await channel.reserve_write()
    channel.budget.pause(0.5)
    with pytest.raises(Throttled):
        await write(channel)
    assert peer.requests == []


@pytest.mark.covers("A11")
async def test_a_write_whose_process_was_frozen_since_the_reservation_is_not_sent(
    channel: Channel, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await channel.reserve_write()
    frozen = time.monotonic() + 3600
    monkeypatch.setattr(exchange, "time", SimpleNamespace(monotonic=lambda: frozen))
    with pytest.raises(Unavailable):  # and not Ambiguous: nothing has left
        await write(channel)
    assert peer.requests == []


# ── urgency ───────────────────────────────────────────────────────────────────────────────────────────


async def test_the_most_urgent_of_the_calls_that_wait_for_the_budget_goes_out_first(peer: Peer, calls: Calls) -> None:
    async with closing(Transport(TransportSettings(10, calls_per_second=20, calls_burst=1), calls)) as transport:
        channel = channel_of(transport, peer.origin)
        peer.answer(http(200, GOOD))
        await read(channel)
        async with asyncio.TaskGroup() as waiting:
            waiting.create_task(channel.read("drift", "/drift", urgency=Urgency.ROUTINE))
            waiting.create_task(channel.read("rollout", "/rollout"))
            waiting.create_task(write(channel))
            waiting.create_task(channel.read("before", "/before", urgency=Urgency.WRITE))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert transport.waiting() == {"friendli": 4}
        assert transport.waiting() == {"friendli": 0}
    paths = [request.split()[1].decode() for request in peer.requests]
    assert paths == ["/endpoint/a", "/endpoint/a", "/before", "/rollout", "/drift"]


# ── what users and administrators write ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", ["a", "ep-1", "A.b_c-9", "x" * 128, "a..b"])
def test_an_id_is_its_own_segment(value: str) -> None:
    assert segment(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "%2f",
        "a%2fb",
        "a?b",
        "a#b",
        "a@b",
        "a\r\nb",
        "a\n",
        "a b",
        "-a",
        "é",
        "‥",
        "٣",
        "x" * 129,
    ],
)
def test_what_could_be_more_than_a_segment_is_refused(value: str) -> None:
    with pytest.raises(InvalidSpec):
        segment(value)


@pytest.mark.covers("F5")
@pytest.mark.parametrize("secret", [b"flp_x", b"flp_x\n", b"  flp_x \r\n", b"\tflp_x"])
def test_white_space_around_a_key_is_taken_away(secret: bytes) -> None:
    assert credentials_from(secret).token.get_secret_value() == "flp_x"


@pytest.mark.covers("F6")
@pytest.mark.parametrize(
    ("secret", "complaint"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"Bearer flp_hidden", "without that word"),
        (b"bearer\tflp_hidden", "without that word"),
        (b"Authorization: Bearer flp_hidden", "without that word"),
        (b"flp_hidden flp_hidden", "white space"),
        (b"flp_hid\r\nX-Evil: 1", "white space"),
        (b"flp_hid\x00den", "printable"),
        ("flp_hidd\N{LATIN SMALL LETTER E WITH ACUTE}n".encode(), "printable"),
        (b"\xef\xbb\xbfflp_hidden", "printable"),
        (b"hidden" * (1 << 18), "longer"),
    ],
)
def test_what_cannot_be_a_key_is_refused_without_quoting_it(secret: bytes, complaint: str) -> None:
    with pytest.raises(CredentialsRejected, match=complaint) as caught:
        credentials_from(secret)
    assert "hid" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("origin", ["http://api.example", "https://user:pass@api.example", "api.example"])
def test_a_key_goes_to_an_origin_only(origin: str, transport: Transport) -> None:
    with pytest.raises(ValueError, match="https://"):
        channel_of(transport, origin)


@pytest.mark.parametrize("value", ["", "a\r\nX-Evil: 1", "é", "a\x00"])
def test_a_header_that_cannot_be_sent_is_refused(value: str, transport: Transport) -> None:
    with pytest.raises(InvalidSpec, match="X-Friendli-Team"):
        channel_of(transport, "https://api.example", headers={"X-Friendli-Team": value})


def test_no_repr_shows_key_or_proxy_password(transport: Transport) -> None:
    channel = channel_of(transport, "https://api.example")
    settings = TransportSettings(1, 1, 1, proxy_url="http://user:pass@proxy.example")
    text = repr(channel) + repr(vars(transport)) + repr(channel.credentials) + repr(settings)
    assert TOKEN not in text
    assert "pass" not in text


# ── what is told of calls ─────────────────────────────────────────────────────────────────────────────


async def test_the_status_of_each_answer_is_told_and_none_where_there_was_none(
    channel: Channel, peer: Peer, calls: Calls
) -> None:
    peer.answer(http(200, b"{}"))
    await read(channel)
    peer.answer(http(404, b"{}"))
    with pytest.raises(NotFound):
        await read(channel)
    peer.answer(b"nonsense")
    with pytest.raises(Unavailable):
        await read(channel)
    assert calls.statuses == [200, 404, None]


async def test_the_time_that_a_call_waited_for_its_budget_is_told(peer: Peer, calls: Calls) -> None:
    async with closing(Transport(TransportSettings(10, calls_per_second=10, calls_burst=1), calls)) as transport:
        channel = channel_of(transport, peer.origin)
        for _ in range(3):
            peer.answer(http(200, b"{}"))
        await read(channel)
        await read(channel)
        await channel.reserve_write()
        await write(channel)
    assert calls.waits[0] < 0.05 < min(calls.waits[1:])


async def test_the_paused_keys_are_counted_by_provider(transport: Transport, channel: Channel, peer: Peer) -> None:
    assert transport.paused() == {"friendli": 0}
    peer.answer(http(429, b"{}", "Retry-After: 30"))
    with pytest.raises(Throttled):
        await read(channel)
    assert transport.paused() == {"friendli": 1}
