from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from inference_operator.playground.emulators.novita_state import DEFAULT_LIMITS
from inference_operator.playground.emulators.validate import load

if TYPE_CHECKING:
    import httpx

    from inference_operator.playground.emulators.world import World

SCHEMAS = load("novita")
UPDATE: dict[str, Any] = {
    "id": "sls-1",
    "name": "sdxl",
    "workerConfig": {
        "minNum": 1,
        "maxNum": 3,
        "freeTimeout": 120,
        "maxConcurrent": 4,
        "gpuNum": 1,
        "requestTimeout": 600,
    },
    "ports": [{"port": "8080"}],
    "policy": {"type": "concurrency", "value": 30},
    "image": {"image": "registry/img:tag", "authId": "1", "command": "serve"},
    "volumeMounts": [{"type": "local", "mountPath": "/data"}],
    "envs": [{"key": "A", "value": "b"}],
    "healthy": {"path": "/health"},
}
BARE = {key: UPDATE[key] for key in ("id", "workerConfig", "ports", "policy", "image")}


def checked(answer: httpx.Response, schema: str, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert SCHEMAS.problems(schema, body) == []
    return body


async def get(novita: httpx.AsyncClient, identity: str = "sls-1") -> Any:
    return checked(await novita.get("/endpoint", params={"id": identity}), "GetAnswer")["endpoint"]


async def test_an_update_shows_with_other_types(novita: httpx.AsyncClient) -> None:
    answer = await novita.post("/endpoint/update", json=UPDATE)
    assert (answer.status_code, answer.json()) == (200, {})
    endpoint = await get(novita)
    worker = endpoint["workerConfig"]
    assert (worker["freeTimeout"], worker["maxConcurrent"]) == ("120", "4")
    assert (worker["minNum"], worker["maxNum"], worker["gpuNum"], worker["requestTimeout"]) == (1, 3, 1, 600)
    assert endpoint["policy"] == {"type": "concurrency", "value": "30"}
    assert endpoint["ports"] == [{"port": 8080}]
    assert endpoint["image"] == UPDATE["image"]
    assert endpoint["volumeMounts"] == [{"type": "local", "size": 30, "id": "", "mountPath": "/data"}]
    assert endpoint["healthy"] == {
        "path": "/health",
        "initialDelay": 10,
        "period": 10,
        "timeout": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    (listed,) = checked(await novita.get("/endpoints"), "ListAnswer")["endpoints"]
    assert listed["ports"] == [{"port": "8080"}]
    assert {**listed, "ports": None} == {**endpoint, "ports": None}


async def test_an_update_clears_what_it_leaves_out(novita: httpx.AsyncClient) -> None:
    await novita.post("/endpoint/update", json=UPDATE)
    await novita.post("/endpoint/update", json={**BARE, "image": {"image": "i"}})
    endpoint = await get(novita)
    assert (endpoint["name"], endpoint["envs"], endpoint["volumeMounts"]) == ("", [], [])
    assert endpoint["image"] == {"image": "i", "authId": "", "command": ""}
    assert "healthy" not in endpoint
    assert (endpoint["products"], endpoint["rootfsSize"], endpoint["appName"]) == ([{"id": "1"}], 100, "sls-1")


async def test_a_cluster_is_shown_while_there_is_one(novita: httpx.AsyncClient) -> None:
    mount = {"type": "network", "id": "v", "mountPath": "/m"}
    await novita.post("/endpoint/update", json={**UPDATE, "clusterID": "c", "volumeMounts": [mount]})
    endpoint = await get(novita)
    assert endpoint["clusterID"] == "c"
    assert endpoint["volumeMounts"] == [{**mount, "size": 0}]
    await novita.post("/endpoint/update", json=UPDATE)
    assert "clusterID" not in await get(novita)


@pytest.mark.parametrize(
    "body",
    [
        {**UPDATE, "unknown": 1},
        {key: value for key, value in UPDATE.items() if key != "policy"},
        {**UPDATE, "ports": [{"port": 8080}]},
        {**UPDATE, "ports": [{"port": "2222"}]},
        {**UPDATE, "workerConfig": {**UPDATE["workerConfig"], "maxNum": 101}},
        {**UPDATE, "workerConfig": {**UPDATE["workerConfig"], "freeTimeout": "120"}},
    ],
)
async def test_a_bad_update_is_validator_param(novita: httpx.AsyncClient, world: World, body: dict[str, Any]) -> None:
    before = await get(novita)
    error = checked(await novita.post("/endpoint/update", json=body), "Error", 400)
    assert (error["code"], error["reason"]) == (400, "VALIDATOR_PARAM")
    assert await get(novita) == before
    (entry,) = world.mutations("sls-1")
    assert entry.errors
    assert not entry.committed


async def test_limits_are_shown_and_enforced(novita: httpx.AsyncClient, world: World) -> None:
    assert checked(await novita.get("/endpoint/limit"), "LimitAnswer") == DEFAULT_LIMITS
    world.set_limits(maxWorkerNum=2)
    assert (await novita.get("/endpoint/limit")).json()["maxWorkerNum"] == 2
    error = checked(await novita.post("/endpoint/update", json=UPDATE), "Error", 400)
    assert error["message"] == "workerConfig.maxNum must be from 0 to 2"


async def test_not_found_is_a_400_with_a_reason(novita: httpx.AsyncClient, world: World) -> None:
    world.add_account("others", ["other-key"])
    theirs = {"Authorization": "Bearer other-key"}
    for answer in (
        await novita.get("/endpoint", params={"id": "nope"}),
        await novita.post("/endpoint/update", json={**UPDATE, "id": "nope"}),
        await novita.get("/endpoint", params={"id": "sls-1"}, headers=theirs),
        await novita.post("/endpoint/delete", json={"name": "sls-1"}, headers=theirs),
    ):
        assert checked(answer, "Error", 400)["reason"] == "SERVERLESS_ENDPOINT_NOT_FOUND"
    assert (await novita.get("/endpoints", headers=theirs)).json() == {"endpoints": [], "total": 0}


async def test_an_unknown_key_is_unauthorized(novita: httpx.AsyncClient) -> None:
    answer = await novita.get("/endpoints", headers={"Authorization": "Bearer nope"})
    assert checked(answer, "Error", 401)["reason"] == "UNAUTHORIZED"


async def test_reads_need_a_content_type_too(novita: httpx.AsyncClient) -> None:
    del novita.headers["Content-Type"]
    assert checked(await novita.get("/endpoints"), "Error", 400)["reason"] == "VALIDATOR_PARAM"


async def test_a_read_needs_an_id(novita: httpx.AsyncClient) -> None:
    assert checked(await novita.get("/endpoint"), "Error", 400)["reason"] == "VALIDATOR_PARAM"


async def test_the_list_has_pages_from_zero(novita: httpx.AsyncClient, world: World) -> None:
    for number in range(11):
        world.create_endpoint("novita", f"more-{number}", "us")
    sizes = []
    for number in range(3):
        body = checked(await novita.get("/endpoints", params={"pageNum": number}), "ListAnswer")
        assert body["total"] == 12
        sizes.append(len(body["endpoints"]))
    assert sizes == [10, 2, 0]
    assert len((await novita.get("/endpoints", params={"pageSize": 100})).json()["endpoints"]) == 12
    assert (await novita.get("/endpoints", params={"pageNum": -1})).status_code == 400


async def test_an_update_replaces_the_workers(novita: httpx.AsyncClient, world: World) -> None:
    await novita.post("/endpoint/update", json=UPDATE)
    await novita.post("/endpoint/update", json=UPDATE)
    workers = (await get(novita))["workers"]
    assert [(it["id"], it["state"]["state"], it["healthy"]) for it in workers] == [
        ("worker-1", "removed", False),
        ("worker-2", "running", True),
    ]
    world.set_knobs("novita", removed_worker_seconds=0)
    assert [it["id"] for it in (await get(novita))["workers"]] == ["worker-2"]


async def test_the_endpoint_serves_while_workers_are_replaced(novita: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("novita", rollout_seconds=60)
    await novita.post("/endpoint/update", json=UPDATE)
    endpoint = await get(novita)
    assert endpoint["state"] == {"state": "serving", "error": "", "message": ""}
    assert endpoint["workers"][0]["state"]["state"] == "pending"


async def test_the_endpoint_can_say_that_it_is_updating(novita: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("novita", "sls-1", rollout_seconds=60, updating_state="updating", busy_in_transition=True)
    await novita.post("/endpoint/update", json=UPDATE)
    assert (await get(novita))["state"]["state"] == "updating"
    error = checked(await novita.post("/endpoint/update", json=UPDATE), "Error", 400)
    assert error["reason"] == "DEPENDENT_RESOURCE_STATE"


async def test_the_answers_older_and_stranger_forms(novita: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("novita", empty_update_answer=True, omit_request_timeout=True, image_prefix="docker.io/")
    world.set_knobs("novita", clamp_replicas=2)
    for _ in range(2):
        answer = await novita.post("/endpoint/update", json={**UPDATE, "image": {"image": "docker.io/i"}})
        assert (answer.status_code, answer.content) == (200, b"")
    endpoint = await get(novita)
    assert "requestTimeout" not in endpoint["workerConfig"]
    assert endpoint["image"]["image"] == "docker.io/i"
    assert endpoint["workerConfig"]["maxNum"] == 2
    assert world.get_endpoint("novita", "sls-1")["config"]["workerConfig"]["requestTimeout"] == 600


async def test_state_workers_and_error_can_be_set(novita: httpx.AsyncClient, world: World) -> None:
    world.set_endpoint("novita", "sls-1", replicas=3)
    assert sum(it["healthy"] for it in (await get(novita))["workers"]) == 3
    world.set_endpoint("novita", "sls-1", state="failed", replicas=1, error="IMAGE")
    endpoint = await get(novita)
    assert (endpoint["state"]["state"], endpoint["state"]["error"]) == ("failed", "IMAGE")
    assert sum(it["healthy"] for it in endpoint["workers"]) == 1


async def test_create_and_delete(novita: httpx.AsyncClient, world: World) -> None:
    body = {
        **{key: value for key, value in UPDATE.items() if key != "id"},
        "appName": "app",
        "products": [{"id": "7"}],
        "rootfsSize": 100,
    }
    identity = checked(await novita.post("/endpoint/create", json={"endpoint": body}), "CreateAnswer")["id"]
    assert (await get(novita, identity))["appName"] == "app"
    assert world.mutations(identity)[0].committed
    again = checked(await novita.post("/endpoint/create", json={"endpoint": body}), "Error", 400)
    assert again["reason"] == "SERVERLESS_APP_NAME_IS_EXIST"
    assert (await novita.post("/endpoint/create", json=body)).status_code == 400
    for key, endpoint in (("name", identity), ("id", "sls-1")):
        assert (await novita.post("/endpoint/delete", json={key: endpoint})).status_code == 200
    assert (await novita.get("/endpoints")).json()["total"] == 0
