import asyncio
import base64
import contextlib
import gc
import gzip
import os
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from yarl import URL

from inference_operator import __version__
from inference_operator.providers import exchange as exchange_module
from inference_operator.providers.answers import Answer, NoAnswer
from inference_operator.providers.connection import Connection as Client
from inference_operator.providers.connection import Route, _close_hard, host_of
from inference_operator.providers.exchange import Exchange, trust
from peer import Connection, Peer, http, listening

REMOTE = "https://api.provider.example"
HEADERS = {"Authorization": "Bearer flp_Zq8xW3vT6yLm0PnRb5Kd"}


def test_a_ca_file_that_holds_none_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises(ValueError, match=path.name):
            trust(path)


def test_a_socket_is_told_to_close_hard() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connected:
        _close_hard(connected, 12.5)
        linger = connected.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert linger == (1).to_bytes(4, "little") + bytes(4)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_500
    _close_hard(connected, 1)  # a socket that is gone already is no error


# ── TLS ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of self-signed certificates and their keys."""
    folder = tmp_path_factory.mktemp("tls")
    for name, subject in (("right", "IP:127.0.0.1"), ("wrong", "IP:127.0.0.2"), ("remote", "DNS:api.provider.example")):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={subject}"),
                *("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")),
            ],
            check=True,
            capture_output=True,
        )
    return folder


@contextlib.asynccontextmanager
async def serving_tls(folder: Path, name: str) -> AsyncIterator[Peer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    async with listening(context) as peer:
        peer.answer(http(200, b"{}"))
        yield peer


async def get(
    origin: str, ca_file: Path | None, proxy_url: str | None = None, *, seconds: float = 10
) -> Answer | NoAnswer:
    exchange = Exchange(origin, timeout=seconds, tls=trust(ca_file), proxy_url=proxy_url)
    try:
        return await exchange.run("GET", "/", headers=HEADERS)
    finally:
        await exchange.close()


async def test_a_trusted_certificate_is_accepted(certificate: Path) -> None:
    async with serving_tls(certificate, "right") as peer:
        assert await get(peer.origin, certificate / "right.pem") == Answer(200, b"{}")


async def test_a_connection_with_tls_is_used_again(certificate: Path) -> None:
    async with serving_tls(certificate, "right") as peer:
        exchange = Exchange(peer.origin, timeout=10, tls=trust(certificate / "right.pem"), proxy_url=None)
        for _ in range(3):
            assert await exchange.run("GET", "/", headers=HEADERS) == Answer(200, b"{}")
            await asyncio.sleep(0.02)
        assert (len(peer.requests), peer.connections) == (3, 1)
        await exchange.close()


@pytest.mark.covers("B5")
@pytest.mark.parametrize(
    ("server", "trusted", "why"),
    [("right", None, "self-signed"), ("right", "wrong", "self-signed"), ("wrong", "wrong", "IP address mismatch")],
)
async def test_any_other_certificate_is_not_and_the_key_is_not_sent(
    server: str, trusted: str | None, why: str, certificate: Path
) -> None:
    async with serving_tls(certificate, server) as peer:
        result = await get(peer.origin, certificate / f"{trusted}.pem" if trusted else None)
        assert isinstance(result, NoAnswer)
        assert not result.sent
        assert "the TLS certificate was not accepted" in result.why
        assert why in result.why
        assert peer.requests == []


@pytest.mark.covers("B5")
async def test_a_server_without_tls_is_not_spoken_to_in_clear(certificate: Path) -> None:
    async with listening() as peer:
        result = await get(peer.origin.replace("http:", "https:"), certificate / "right.pem", seconds=0.5)
        assert isinstance(result, NoAnswer)
        assert not result.sent
        assert peer.requests == []


# ── proxies ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_proxy_that_refuses_has_not_seen_the_key() -> None:
    async with listening() as proxy:
        proxy.answer(http(407, b"", "Proxy-Authenticate: Basic"))
        result = await get(REMOTE, None, proxy.origin)
        assert isinstance(result, NoAnswer)
        assert (result.sent, result.why) == (False, "the proxy refused the connection")
        assert proxy.requests[0].startswith(b"CONNECT api.provider.example:443 ")
        assert b"flp_" not in b"".join(proxy.requests)


async def test_a_proxy_that_speaks_before_the_origin_can_is_not_trusted_with_anything() -> None:
    async with listening() as proxy:
        proxy.answer(b"HTTP/1.1 200 Connected\r\n\r\n220 mail.example ESMTP\r\n")
        result = await get(REMOTE, None, proxy.origin, seconds=2)
        assert result == NoAnswer("the proxy refused the connection", sent=False)


@contextlib.asynccontextmanager
async def tunnelling_to(peer: Peer, ends: list[str]) -> AsyncIterator[str]:
    """A proxy that carries every tunnel to the peer, and notes how the client's end of it ended."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", int(peer.origin.rpartition(":")[2]))
        back = asyncio.create_task(carry(inner_reader, writer))
        try:
            await carry(reader, inner_writer)
            ends.append("closed")
        except ConnectionResetError:
            ends.append("reset")
        back.cancel()
        inner_writer.transport.abort()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()


@pytest.mark.parametrize("ending", ["close", "stall", "no TLS"])
async def test_a_tunnel_whose_handshake_fails_loses_no_connection_for_ever(
    ending: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "MAX_CONNECTIONS", 1)

    async def connect_only(connection: Connection, _: bytes) -> None:
        await connection.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        if ending == "close":
            connection.close()
        if ending == "no TLS":
            await connection.send(b"220 mail.example ESMTP\r\n")

    async with listening() as proxy:
        proxy.answering = connect_only
        exchange = Exchange(REMOTE, timeout=0.3, tls=trust(certificate / "remote.pem"), proxy_url=proxy.origin)
        for count in range(1, 4):
            result = await exchange.run("GET", "/", headers=HEADERS)
            assert isinstance(result, NoAnswer)
            assert not result.sent
            assert proxy.connections == count
        await exchange.close()


async def test_what_went_into_a_tunnel_may_have_arrived_and_the_tunnel_is_closed_hard(certificate: Path) -> None:
    ends: list[str] = []
    async with serving_tls(certificate, "remote") as peer, tunnelling_to(peer, ends) as proxy_url:
        assert await get(REMOTE, certificate / "remote.pem", proxy_url) == Answer(200, b"{}")
        assert peer.requests[0].startswith(b"GET / HTTP/1.1")

        async def stall(*_: object) -> None:
            await asyncio.sleep(60)

        peer.answering = stall
        result = await get(REMOTE, certificate / "remote.pem", proxy_url, seconds=2)
        assert result == NoAnswer("no complete answer within 2 s", sent=True)
        await asyncio.sleep(0.2)
    assert ends == ["reset", "reset"]


async def test_a_proxy_is_not_used_for_this_machine() -> None:
    async with listening() as proxy, listening() as peer:
        peer.answer(http(200, b"{}"))
        assert await get(peer.origin, None, proxy.origin) == Answer(200, b"{}")
        assert proxy.connections == 0


async def burst(exchange: Exchange, requests: int) -> None:
    answers = await asyncio.gather(*(exchange.run("GET", "/", headers=HEADERS) for _ in range(requests)))
    assert set(answers) == {Answer(200, b"{}")}


async def test_connections_of_a_burst_are_used_again_and_no_more_are_open_than_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_module, "MAX_CONNECTIONS", 30)
    async with listening() as peer:
        peer.answer(http(200, b"{}"))
        exchange = Exchange(peer.origin, timeout=10, tls=trust(None), proxy_url=None)
        for _ in range(3):
            await burst(exchange, 60)
        assert peer.connections <= 30
        await exchange.close()


async def test_connections_that_nobody_uses_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as peer:
        peer.answer(http(200, b"{}"))
        exchange = Exchange(peer.origin, timeout=10, tls=trust(None), proxy_url=None)
        await burst(exchange, 10)
        opened = peer.connections
        monkeypatch.setattr(exchange_module, "KEEP_SECONDS", 0.05)
        await asyncio.sleep(0.1)
        await burst(exchange, 1)
        await asyncio.sleep(0.1)
        assert (len(peer.ends), peer.connections) == (opened, opened + 1)
        await exchange.close()


async def test_reads_take_turns_on_what_is_kept_and_a_write_goes_where_somebody_just_answered() -> None:
    served, both = list[int](), asyncio.Barrier(2)

    async def answer(connection: Connection, _: bytes) -> None:
        if len(peer.requests) <= both.parties:
            await both.wait()
        else:
            served.append(peer.open.index(connection))
        await connection.send(http(200, b"{}"))

    async with listening() as peer:
        peer.answering = answer
        exchange = Exchange(peer.origin, timeout=10, tls=trust(None), proxy_url=None)
        await burst(exchange, 2)
        for method in ("GET", "GET", "GET", "PUT", "PUT", "GET"):
            content = b"{}" if method == "PUT" else None
            assert await exchange.run(method, "/", headers=HEADERS, content=content) == Answer(200, b"{}")
        first, second = served[0], 1 - served[0]
        assert served == [first, second, first, first, first, second]
        assert peer.connections == 2
        await exchange.close()


async def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used() -> None:
    """A write on it would have an unknown outcome."""

    async def answer_and_close(connection: Connection, _: bytes) -> None:
        await connection.send(http(200, b"{}"))
        connection.close()

    async with listening() as peer:
        peer.answering = answer_and_close
        exchange = Exchange(peer.origin, timeout=10, tls=trust(None), proxy_url=None)
        for count in range(1, 4):
            assert await exchange.run("PUT", "/", headers=HEADERS, content=b"{}") == Answer(200, b"{}")
            await asyncio.sleep(0.05)
            assert (len(peer.requests), peer.connections) == (count, count)
        await exchange.close()


# ── what goes over the wire ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1", "127.0.0.1"),
        ("http://LocalHost", "localhost"),
    ],
)
async def test_a_request_is_these_bytes(origin: str, host: str) -> None:
    async with listening() as peer:
        peer.answer(http(200, b"{}"))
        port = peer.origin.rpartition(":")[2]
        exchange = Exchange(f"{origin}:{port}", timeout=10, tls=trust(None), proxy_url=None)
        params = {"cursor": "a/b?c&d=\N{LATIN SMALL LETTER E WITH ACUTE} +~*", "limit": "100", "empty": ""}
        await exchange.run("GET", "/a-b_c.9", headers={"X-Team": "t 1"}, params=params)
        await exchange.run("GET", "/a", headers=HEADERS, params={})
        await exchange.run("POST", "/a", headers=HEADERS, content=b'{"a":1}')
        await exchange.close()
    usual = [
        f"Host: {host}:{port}",
        "Connection: keep-alive",
        "Accept: application/json",
        "Accept-Encoding: identity",
        f"User-Agent: inference-operator/{__version__}",
    ]
    key = f"Authorization: {HEADERS['Authorization']}"
    assert [request.decode().split("\r\n") for request in peer.requests] == [
        ["GET /a-b_c.9?cursor=a%2Fb%3Fc%26d%3D%C3%A9+%2B~%2A&limit=100&empty= HTTP/1.1", *usual, "X-Team: t 1", "", ""],
        ["GET /a HTTP/1.1", *usual, key, "", ""],
        ["POST /a HTTP/1.1", *usual, key, "Content-Length: 7", "", '{"a":1}'],
    ]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://API.Provider.example", "api.provider.example"),
        ("https://api.provider.example:443", "api.provider.example"),
        ("https://api.provider.example:444", "api.provider.example:444"),
        ("https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "xn--bcher-kva.example"),
        ("http://[::1]:9001", "[::1]:9001"),
        ("http://localhost", "localhost"),
    ],
)
def test_the_host_header_names_the_port_only_where_it_is_not_the_usual_one(origin: str, host: str) -> None:
    assert host_of(URL(origin)) == host


@pytest.mark.parametrize(
    ("user", "credentials"),
    [("", None), ("u:p@", "u:p"), ("u%40x:p%2Fw@", "u@x:p/w"), ("u@", "u:"), (":p@", ":p")],
)
async def test_a_proxy_is_given_the_password_of_its_address_and_nothing_else(
    user: str, credentials: str | None
) -> None:
    async with listening() as proxy:
        proxy.answer(http(407))
        await get("https://api.provider.example:444", None, proxy.origin.replace("//", f"//{user}") + "/ignored")
    head = ["CONNECT api.provider.example:444 HTTP/1.1", "Host: api.provider.example:444", "Accept: */*"]
    if credentials is not None:
        head.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}")
    assert proxy.requests[0].decode().split("\r\n") == [*head, "", ""]


# ── a process that was frozen ─────────────────────────────────────────────────────────────────────────


@pytest.mark.covers("A11")
async def test_what_goes_on_after_its_time_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after SIGSTOP: the clock has moved on, and no timer has come to say so."""
    connect, late = Route.connect, 0.0

    async def freeze(route: Route) -> Client:
        nonlocal late
        connection = await connect(route)
        late = 3600.0
        return connection

    monkeypatch.setattr(Route, "connect", freeze)
    monkeypatch.setattr(exchange_module, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + late))
    async with listening() as peer:
        peer.answer(http(200, b"{}"))
        exchange = Exchange(peer.origin, timeout=10, tls=trust(None), proxy_url=None)
        result = await exchange.run("PUT", "/", headers=HEADERS, content=b"{}")
        await exchange.close()
        await peer.ended.wait()
        assert result == NoAnswer("no complete answer within 10 s", sent=False)
        assert peer.requests == []


async def test_what_is_still_connecting_when_everything_is_closed_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = Route.connect

    async def close(route: Route) -> Client:
        connection = await connect(route)
        await exchange.close()
        return connection

    monkeypatch.setattr(Route, "connect", close)
    async with listening() as peer:
        peer.answer(http(200, b"{}"))
        exchange = Exchange(peer.origin, timeout=10, tls=trust(None), proxy_url=None)
        result = await exchange.run("PUT", "/", headers=HEADERS, content=b"{}")
        assert result == NoAnswer("the process is ending", sent=False)
        await peer.ended.wait()
        assert peer.requests == []


PIECES = 500


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"", id="a body in many pieces"),
        pytest.param(b"HTTP/1.1 102 Processing\r\n\r\n" * PIECES, id="many heads before the answer's"),
    ],
)
async def test_an_answer_in_many_pieces_lets_others_work_between_them(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, most = 0, 0
    next_event = Client.next_event

    async def counted(connection: Client) -> object:
        nonlocal events
        events += 1
        return await next_event(connection)

    async def others() -> None:
        nonlocal events, most
        while True:
            most, events = max(most, events), 0
            await asyncio.sleep(0)

    monkeypatch.setattr(Client, "next_event", counted)
    body = b"{" + b" " * PIECES + b"}"
    chunks = b"".join(b"1\r\n%c\r\n" % each for each in body)
    async with listening() as peer:
        peer.answer(head + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        beside = asyncio.create_task(others())
        answer = await Exchange(peer.origin, timeout=10, tls=trust(None), proxy_url=None).run(
            "GET", "/", headers=HEADERS
        )
        beside.cancel()
    assert answer == Answer(200, body)
    assert max(most, events) <= 3  # the head, the first piece, and the second


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_call_that_is_cancelled_at_any_moment_leaves_no_connection_behind() -> None:
    """Each step of the event loop up to the answer; what only the garbage collector would close counts as left."""
    tls = trust(None)
    gc.collect()
    gc.disable()
    try:
        async with listening() as peer:
            peer.answer(http(200, b"{}"))
            before = open_files()
            for steps in range(150):
                exchange = Exchange(peer.origin, timeout=10, tls=tls, proxy_url=None)
                call = asyncio.create_task(exchange.run("PUT", "/", headers=HEADERS, content=b"{}"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await call
                await exchange.close()
            await asyncio.sleep(0.1)
            assert peer.connections > 20
            assert open_files() == before
    finally:
        gc.enable()


async def test_what_a_server_says_before_it_was_asked_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = Route.connect

    async def late(route: Route) -> Client:
        connection = await connect(route)
        await asyncio.sleep(0.05)
        return connection

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, b"{}"))
        await asyncio.sleep(1)
        writer.close()

    monkeypatch.setattr(Route, "connect", late)
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    exchange = Exchange(origin, timeout=10, tls=trust(None), proxy_url=None)
    result = await exchange.run("PUT", "/", headers=HEADERS, content=b"{}")
    assert result == NoAnswer("the connection was reset", sent=False)
    await exchange.close()
    server.close()


# ── an answer that nobody asked for ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("when", ["at once", "later", "during a freeze"])
async def test_an_answer_too_many_is_never_taken_for_that_to_the_next_request(when: str) -> None:
    """It would tell of a write that succeeded although nobody has carried it out."""

    async def answer_twice(connection: Connection, _: bytes) -> None:
        await connection.send(http(200, b'{"answer": 1}'), *([http(200, b'{"answer": 2}')] * (when == "at once")))
        if when == "later":
            await asyncio.sleep(0.02)
            await connection.send(http(200, b'{"answer": 2}'))

    async with listening() as peer:
        peer.answering = answer_twice
        exchange = Exchange(peer.origin, timeout=10, tls=trust(None), proxy_url=None)
        assert await exchange.run("PUT", "/", headers=HEADERS, content=b"{}") == Answer(200, b'{"answer": 1}')
        if when == "during a freeze":
            [(_, kept)] = exchange._idle
            own = kept.socket.getsockname()
            [theirs] = [each for each in peer.open if each.writer.get_extra_info("peername") == own]
            raw = theirs.writer.get_extra_info("socket")
            os.write(raw.fileno(), http(200, b'{"answer": 2}'))  # past the event loop, which sees it too late
        else:
            await asyncio.sleep(0.05)
        peer.answer(http(200, b'{"answer": 3}'))
        assert await exchange.run("PUT", "/", headers=HEADERS, content=b"{}") == Answer(200, b'{"answer": 3}')
        assert (len(peer.requests), peer.connections) == (2, 2)
        await exchange.close()


async def test_no_failure_is_told_in_the_words_of_the_http_library() -> None:
    """They quote the header that the library does not like, which may be the key."""
    async with listening() as peer:
        exchange = Exchange(peer.origin, timeout=10, tls=trust(None), proxy_url=None)
        result = await exchange.run("GET", "/", headers={"Authorization": "Bearer flp_hidden\n"})
        await exchange.close()
    assert isinstance(result, NoAnswer)
    assert result.why == "no complete answer (LocalProtocolError)"


def test_a_packed_body_is_unpacked_no_further_than_its_bound() -> None:
    body = exchange_module._Body("gzip")
    with pytest.raises(exchange_module._Unreadable, match="more than 1 MiB"):
        body.add(gzip.compress(bytes(64 << 20)))
    assert len(body._content) <= exchange_module.MAX_BODY + 1
