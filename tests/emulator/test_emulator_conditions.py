from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from inference_operator.playground.emulators.accounts import fingerprint
from inference_operator.playground.emulators.faults import Fault

if TYPE_CHECKING:
    import httpx

    from inference_operator.playground.emulators.server import Emulators
    from inference_operator.playground.emulators.world import World

EP = "/endpoint/ep-1"


async def test_reads_can_lag(friendli: httpx.AsyncClient, world: World) -> None:
    world.create_endpoint("friendli", "ep-2", "us")
    world.set_knobs("friendli", "ep-1", read_lag_seconds=0.3)
    for endpoint in ("ep-1", "ep-2"):
        assert (await friendli.put(f"/endpoint/{endpoint}", json={"name": "new"})).json()["name"] == "new"
    assert (await friendli.get(EP)).json()["name"] == "ep-1"
    assert list((await friendli.get(f"{EP}/version")).json()["data"]) == ["0"]
    listed = (await friendli.get("/endpoint")).json()["data"]
    assert (listed["ep-1"]["updatedAt"], listed["ep-2"]["updatedAt"] is None) == (None, False)
    assert (await friendli.get("/endpoint/ep-2")).json()["name"] == "new"
    await asyncio.sleep(0.35)
    assert (await friendli.get(EP)).json()["name"] == "new"
    assert list((await friendli.get(f"{EP}/version")).json()["data"]) == ["0", "1"]


async def test_lag_shows_the_rollout_late_too(novita: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("novita", read_lag_seconds=60)
    world.set_endpoint("novita", "sls-1", state="failed")
    assert (await novita.get("/endpoint?id=sls-1")).json()["endpoint"]["state"]["state"] == "serving"
    assert (await novita.get("/endpoints")).json()["endpoints"][0]["state"]["state"] == "serving"


async def test_replicas_are_clamped(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("friendli", clamp_replicas=2)
    body = {"autoscalingPolicy": {"minReplica": 3, "maxReplica": 7}}
    spec = (await friendli.put(EP, json=body)).json()
    assert (spec["autoscalingMin"], spec["autoscalingMax"]) == (2, 2)


async def test_foreign_writes_are_counted_apart(friendli: httpx.AsyncClient, world: World) -> None:
    entry = world.foreign_write("friendli", "ep-1", {"name": "theirs"})
    assert (entry.committed, entry.version, entry.foreign) == (True, 1, True)
    assert (await friendli.get(EP)).json()["name"] == "theirs"
    assert world.mutations() == []
    assert world.ledger(kind="foreign") == [entry]
    assert world.ledger_counts() == {"mutations": 0, "committed": 0, "reads": 1, "foreign": 1}
    assert world.get_endpoint("friendli", "ep-1")["versions"][1]["by"] == "foreign"


async def test_foreign_writes_can_delete_and_can_be_refused(novita: httpx.AsyncClient, world: World) -> None:
    assert not world.foreign_write("novita", "sls-1", {"name": "incomplete"}).committed
    assert world.foreign_write("novita", "sls-1", operation="delete").committed
    assert (await novita.get("/endpoint?id=sls-1")).json()["reason"] == "SERVERLESS_ENDPOINT_NOT_FOUND"


async def test_each_token_has_its_own_limit(friendli: httpx.AsyncClient, world: World) -> None:
    world.add_account("us", ["flp_0123456789", "flp_second"], rate=0.5, burst=2)
    answers = [await friendli.get(EP) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "2"
    assert (await friendli.get(EP, headers={"Authorization": "Bearer flp_second"})).status_code == 200
    world.set_rate("us", 0)
    assert (await friendli.get(EP)).status_code == 200


async def test_waiting_as_long_as_told_is_enough(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_rate("us", rate=1, burst=1)
    assert (await friendli.get(EP)).status_code == 200
    refused = await friendli.get(EP)
    await asyncio.sleep(float(refused.headers["Retry-After"]))
    assert (await friendli.get(EP)).status_code == 200


@pytest.mark.parametrize("body", [None, "<html>"])
async def test_errors_can_echo_the_key(
    friendli: httpx.AsyncClient, novita: httpx.AsyncClient, world: World, body: str | None
) -> None:
    for client, provider in ((friendli, "friendli"), (novita, "novita")):
        world.set_knobs(provider, echo_headers=True)
        assert "Bearer flp_0123456789" in (await client.get("/nope")).text
    world.add_fault(Fault(provider="friendli", status=500, body=body))
    assert "Bearer flp_0123456789" in (await friendli.get(EP)).text
    assert "flp_" not in (await friendli.get(EP)).text


async def test_tokens_can_be_revoked(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_tokens("us", ["flp_new"])
    assert (await friendli.get(EP)).status_code == 401
    assert (await friendli.get(EP, headers={"Authorization": "Bearer flp_new"})).status_code == 200


async def test_half_a_request_is_recorded_and_not_carried_out(emulators: Emulators, world: World, caplog: Any) -> None:
    url = urlsplit(emulators.friendli_url)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"PUT /dedicated/beta{EP} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer flp_0123456789\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{}}".encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await asyncio.sleep(0.1)
    (entry,) = world.mutations()
    assert (entry.operation, entry.committed) == ("update", False)
    assert entry.errors == ["body: the connection was lost before the body had arrived"]
    assert caplog.records == []


async def test_overlapping_transitions_are_counted_by_token(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("friendli", rollout_seconds=60)
    for number in range(3):
        world.create_endpoint("friendli", f"more-{number}", "us")
        await friendli.put(f"/endpoint/more-{number}", json={})
    await friendli.put("/endpoint/more-0", json={})
    world.foreign_write("friendli", "ep-1", {})
    assert world.peak_transitions() == {fingerprint("flp_0123456789"): 3, "foreign": 1}
    world.set_endpoint("friendli", "more-0", state="RUNNING")
    world.set_endpoint("friendli", "more-1", state="RUNNING")
    world.reset_ledger()
    assert world.peak_transitions()[fingerprint("flp_0123456789")] == 1


async def test_the_ledger_is_in_order_and_complete(
    friendli: httpx.AsyncClient, novita: httpx.AsyncClient, world: World
) -> None:
    begin = time.monotonic()
    await friendli.get(f"{EP}/version?limit=5")
    await friendli.put(EP, json={"name": "n"}, headers={"X-Friendli-Team": "team-1"})
    await novita.post("/endpoint/delete", json={"name": "sls-1"})
    entries = world.ledger()
    assert [(entry.seq, entry.operation, entry.endpoint_id, entry.mutates) for entry in entries] == [
        (1, "get_version_history", "ep-1", False),
        (2, "update", "ep-1", True),
        (3, "delete", "sls-1", True),
    ]
    put = entries[1]
    assert (put.method, put.path) == ("PUT", "/dedicated/beta/endpoint/ep-1")
    assert (put.body, put.team, put.status, put.version) == ({"name": "n"}, "team-1", 200, 1)
    assert put.token == fingerprint("flp_0123456789")
    assert entries[0].path.endswith("/version?limit=5")
    assert put.committed_at is not None
    assert put.answered_at is not None
    assert begin <= put.at <= put.committed_at <= put.answered_at
    assert abs(put.wall - time.time()) < 5
    assert "flp_" not in repr(entries)
    assert [entry.seq for entry in world.ledger(after=1, kind="mutations", provider="novita")] == [3]
    assert [entry.seq for entry in world.reads()] == [1]
