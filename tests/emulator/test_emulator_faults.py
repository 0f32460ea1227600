from __future__ import annotations

import asyncio
import base64
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from inference_operator.playground.emulators.accounts import fingerprint
from inference_operator.playground.emulators.faults import Commit, Fault

if TYPE_CHECKING:
    from inference_operator.playground.emulators.server import Emulators
    from inference_operator.playground.emulators.world import World

EP = "/endpoint/ep-1"


def put_fault(**fields: Any) -> Fault:
    return Fault(**{"provider": "friendli", "method": "PUT", "endpoint_id": "ep-1", **fields})


def name_of(world: World) -> str:
    return str(world.get_endpoint("friendli", "ep-1")["config"]["name"])


async def raw_put(emulators: Emulators, *, seconds: float = 0.3) -> tuple[bytes, str]:
    """Sends a PUT over a bare socket; returns the bytes that came and how they ended: eof, reset or silence."""
    url = urlsplit(emulators.friendli_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    body = b'{"name": "new"}'
    head = (
        f"PUT /dedicated/beta{EP} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer flp_0123456789\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    got = b""
    try:
        async with asyncio.timeout(seconds):
            while chunk := await reader.read(65536):
                got += chunk
        ending = "eof"
    except ConnectionResetError:
        ending = "reset"
    except TimeoutError:
        ending = "silence"
    writer.transport.abort()
    return got, ending


# --- The fate of the commit, for every way in which an answer can get lost ---


@pytest.mark.parametrize("commit", ["now", "never"])
@pytest.mark.parametrize(
    ("delivery", "ending"), [("reset", "reset"), ("close", "eof"), ("stall", "silence"), ("truncate", "eof")]
)
async def test_a_lost_answer_says_nothing_about_the_commit(
    emulators: Emulators, world: World, delivery: Any, ending: str, commit: Commit
) -> None:
    world.add_fault(put_fault(commit=commit, delivery=delivery))
    got, ended = await raw_put(emulators)
    assert ended == ending
    assert bool(got) == (delivery == "truncate")
    assert name_of(world) == ("new" if commit == "now" else "ep-1")
    (entry,) = world.mutations("ep-1")
    assert (entry.committed, entry.version) == ((True, 1) if commit == "now" else (False, None))
    assert entry.fault == "fault-1"
    assert (entry.status is None) == (delivery != "truncate")


@pytest.mark.parametrize("delivery", ["reset", "stall", "whole"])
async def test_a_late_commit_lands_after_the_answer(emulators: Emulators, world: World, delivery: Any) -> None:
    world.add_fault(put_fault(commit="late", late_seconds=0.2, delivery=delivery))
    await raw_put(emulators, seconds=0.05)
    assert name_of(world) == "ep-1"
    assert not world.mutations()[0].committed
    async with asyncio.timeout(2):
        while name_of(world) == "ep-1":  # noqa: ASYNC110 - the emulator is looked at from outside
            await asyncio.sleep(0.01)
    (entry,) = world.mutations()
    assert entry.committed
    assert entry.committed_at is not None
    assert entry.committed_at - entry.at >= 0.2


async def test_a_refused_request_is_not_committed_late(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("friendli", rollout_seconds=60, busy_in_transition=True)
    await friendli.put(EP, json={})
    world.add_fault(put_fault(commit="late", late_seconds=0.02))
    assert (await friendli.put(EP, json={"name": "new"})).status_code == 400
    world.set_endpoint("friendli", "ep-1", state="RUNNING")
    await asyncio.sleep(0.06)
    assert [entry.committed for entry in world.mutations()] == [True, False]


async def test_a_client_that_gave_up_does_not_undo_its_write(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(put_fault(delay_before=0.2))
    with pytest.raises(httpx.ReadTimeout):
        await friendli.put(EP, json={"name": "new"}, timeout=0.05)
    assert name_of(world) == "ep-1"
    await asyncio.sleep(0.3)
    assert name_of(world) == "new"


async def test_delays_lie_before_and_after_the_commit(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(put_fault(delay_before=0.1, delay_after=0.1))
    await friendli.put(EP, json={"name": "new"})
    (entry,) = world.mutations()
    assert entry.committed_at is not None
    assert entry.answered_at is not None
    assert entry.committed_at - entry.at >= 0.1
    assert entry.answered_at - entry.committed_at >= 0.1


# --- What is answered ---


@pytest.mark.parametrize("commit", ["now", "never"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 502, 503, 504])
async def test_any_status_with_or_without_a_commit(
    friendli: httpx.AsyncClient, world: World, status: int, commit: Commit
) -> None:
    world.add_fault(put_fault(status=status, commit=commit, headers={"Retry-After": "7"}))
    answer = await friendli.put(EP, json={"name": "new"})
    assert answer.status_code == status
    assert answer.headers["Retry-After"] == "7"
    assert isinstance(answer.json()["detail"], str)
    assert name_of(world) == ("new" if commit == "now" else "ep-1")
    assert world.mutations()[0].status == status


async def test_novita_errors_keep_their_form(novita: httpx.AsyncClient, world: World) -> None:
    world.add_fault(Fault(provider="novita", path=r"/endpoint\?id=", status=503))
    error = (await novita.get("/endpoint", params={"id": "sls-1"})).json()
    assert set(error) == {"code", "reason", "message", "metadata"}


async def test_a_success_that_was_none(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(put_fault(commit="never"))
    answer = await friendli.put(EP, json={"name": "new"})
    assert (answer.status_code, answer.json()["name"]) == (200, "new")
    assert (await friendli.get(EP)).json()["name"] == "ep-1"


async def test_no_operation_of_either_provider_keeps_what_is_not_committed(
    friendli: httpx.AsyncClient, novita: httpx.AsyncClient, world: World
) -> None:
    def everything() -> list[Any]:
        kept = [world.get_endpoint("friendli", "ep-1"), world.get_endpoint("novita", "sls-1")]
        return [*kept, list(world.friendli.endpoints), list(world.novita.endpoints)]

    before = everything()
    update = {key: value for key, value in before[1]["config"].items() if value is not None}
    update |= {"id": "sls-1", "name": "new"}
    create = {**update, "products": [{"id": "1"}], "rootfsSize": 100, "healthy": {"path": "/"}, "name": "other"}
    del create["id"]
    tokenizer = {"tokenizer_skip_special_tokens": True, "tokenizer_add_special_tokens": True}
    body = {"projectId": "p", "name": "n", "instanceOptionId": "b300x8", "advanced": tokenizer, "hfModelRepo": "m"}
    world.add_fault(Fault(commit="never", count=None))
    for answer in (
        await friendli.put(EP, json={"name": "new"}),
        await friendli.post("/endpoint", json=body),
        await friendli.delete(EP),
        await friendli.put(f"{EP}/sleep"),
        await novita.post("/endpoint/update", json=update),
        await novita.post("/endpoint/create", json={"endpoint": create}),
        await novita.post("/endpoint/delete", json={"id": "sls-1"}),
    ):
        assert answer.status_code == 200, answer.text
    assert everything() == before
    assert not any(entry.committed for entry in world.mutations())


@pytest.mark.parametrize(
    ("fields", "content", "kind"),
    [
        ({"json": {"a": 1}}, b'{"a":1}', "application/json"),
        ({"json": [1]}, b"[1]", "application/json"),
        ({"body": "<html>"}, b"<html>", "text/plain; charset=utf-8"),
        ({"body": "<html>", "headers": {"Content-Type": "text/html"}}, b"<html>", "text/html"),
        ({"body": ""}, b"", "text/plain; charset=utf-8"),
        ({"body_base64": base64.b64encode(b"\xff\x00").decode()}, b"\xff\x00", "application/octet-stream"),
    ],
)
async def test_bodies_can_be_replaced(
    friendli: httpx.AsyncClient, world: World, fields: dict[str, Any], content: bytes, kind: str
) -> None:
    world.add_fault(Fault(provider="friendli", method="GET", **fields))
    answer = await friendli.get(EP)
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, content, kind)


async def test_redirects_point_where_they_are_told(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(put_fault(status=307, commit="never", headers={"Location": "http://127.0.0.1:1/trap"}))
    answer = await friendli.put(EP, json={"name": "new"})
    assert (answer.status_code, answer.headers["Location"]) == (307, "http://127.0.0.1:1/trap")
    assert name_of(world) == "ep-1"


async def test_a_header_can_be_larger_than_clients_take(emulators: Emulators, world: World) -> None:
    world.add_fault(put_fault(headers={"X-Large": "x" * (1 << 20), "Connection": "close"}))
    got, _ = await raw_put(emulators, seconds=2)
    assert len(got) > 1 << 20


# --- How it travels ---


async def test_truncated_bodies_are_noticed_by_a_client(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(put_fault(delivery="truncate", size=10))
    with pytest.raises(httpx.RemoteProtocolError):
        await friendli.put(EP, json={"name": "new"})


async def test_a_stall_sends_exactly_so_many_bytes(emulators: Emulators, world: World) -> None:
    world.add_fault(put_fault(delivery="stall", size=12))
    assert await raw_put(emulators) == (b"HTTP/1.1 200", "silence")


async def test_a_slow_answer_drips(emulators: Emulators, world: World) -> None:
    world.add_fault(put_fault(delivery="stall", size=5, interval=0.001, body="ok"))
    got, ending = await raw_put(emulators, seconds=5)
    assert ending == "eof"
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(b"\r\n\r\nok")


async def test_raw_bytes_need_not_be_http(emulators: Emulators, world: World) -> None:
    junk = b"\x00\x01 not http"
    world.add_fault(put_fault(delivery="raw", body_base64=base64.b64encode(junk).decode()))
    assert await raw_put(emulators) == (junk, "eof")


async def test_an_endless_answer_does_not_end(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(Fault(provider="friendli", operation="get_spec", delivery="endless"))
    size = 0
    async with friendli.stream("GET", EP) as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        async for chunk in answer.aiter_raw():
            size += len(chunk)
            if size > 5_000_000:
                break
    assert size > 5_000_000
    assert (await friendli.get(EP)).status_code == 200


async def test_a_huge_answer_is_as_large_as_promised(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(Fault(provider="friendli", operation="get_spec", delivery="huge", size=3_000_000))
    answer = await friendli.get(EP)
    assert len(answer.content) == int(answer.headers["Content-Length"]) > 3_000_000
    assert answer.json()["name"] == "ep-1"


async def test_a_bomb_is_small_on_the_wire(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(Fault(provider="friendli", operation="get_spec", delivery="gzip_bomb", size=50 << 20))
    async with friendli.stream("GET", EP) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        wire = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert len(wire) < 100_000
    assert len(zlib.decompress(wire, wbits=31)) > 50 << 20


# --- Which requests are hit ---


async def test_skip_and_count(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(put_fault(skip=1, count=2, status=502))
    statuses = [(await friendli.put(EP, json={})).status_code for _ in range(5)]
    assert statuses == [200, 502, 502, 200, 200]
    assert world.fault_counts() == [{"id": "fault-1", "seen": 5, "hits": 2}]


async def test_an_exhausted_fault_makes_room_for_the_next(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(put_fault(status=500))
    world.add_fault(put_fault(status=503, count=None))
    assert [(await friendli.put(EP, json={})).status_code for _ in range(3)] == [500, 503, 503]
    world.clear_faults()
    assert (await friendli.put(EP, json={})).status_code == 200


@pytest.mark.parametrize(
    "miss",
    [
        {"provider": "novita"},
        {"method": "GET"},
        {"endpoint_id": "ep-2"},
        {"path": "/status$"},
        {"operation": "get_spec"},
        {"token": fingerprint("someone else")},
    ],
)
async def test_everything_that_is_given_must_match(
    friendli: httpx.AsyncClient, world: World, miss: dict[str, Any]
) -> None:
    world.add_fault(put_fault(**{"token": fingerprint("flp_0123456789"), "operation": "update", **miss}, status=500))
    assert (await friendli.put(EP, json={})).status_code == 200


async def test_faults_hit_novita_by_the_id_in_the_body(novita: httpx.AsyncClient, world: World) -> None:
    world.add_fault(Fault(provider="novita", endpoint_id="sls-1", status=500))
    assert (await novita.post("/endpoint/update", json={"id": "other"})).status_code == 400
    assert (await novita.post("/endpoint/update", json={"id": "sls-1"})).status_code == 500


# --- Gates ---


@pytest.mark.parametrize("gate", ["before_commit", "after_commit"])
async def test_a_gate_holds_on_its_side_of_the_commit(friendli: httpx.AsyncClient, world: World, gate: str) -> None:
    where = {"before_commit": "gate_before", "after_commit": "gate_after"}[gate]
    world.add_fault(put_fault(**{where: gate}))
    sending = asyncio.create_task(friendli.put(EP, json={"name": "new"}))
    (seq,) = await world.wait_for_gate(gate, seconds=2)
    assert world.mutations()[0].seq == seq
    assert name_of(world) == ("ep-1" if gate == "before_commit" else "new")
    assert not sending.done()
    assert world.release_gate(gate) == 1
    assert (await sending).status_code == 200
    assert world.release_gate(gate) == 0


async def test_a_held_request_outlives_its_client(emulators: Emulators, world: World) -> None:
    world.add_fault(put_fault(gate_before="g"))
    await raw_put(emulators, seconds=0.05)
    assert name_of(world) == "ep-1"
    world.release_gate("g")
    await asyncio.sleep(0.05)
    assert name_of(world) == "new"


async def test_waiting_at_a_gate_ends(world: World) -> None:
    with pytest.raises(TimeoutError):
        await world.wait_for_gate("nobody", seconds=0.01)


async def test_a_gate_can_wait_for_several(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_fault(put_fault(gate_before="g", count=2))
    first = asyncio.create_task(friendli.put(EP, json={}))
    with pytest.raises(TimeoutError):
        await world.wait_for_gate("g", seconds=0.1, requests=2)
    second = asyncio.create_task(friendli.put(EP, json={}))
    assert await world.wait_for_gate("g", seconds=2, requests=2) == [1, 2]
    assert world.release_gate("g") == 2
    assert [answer.status_code for answer in await asyncio.gather(first, second)] == [200, 200]
