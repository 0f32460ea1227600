from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from inference_operator.playground.emulators.accounts import fingerprint
from inference_operator.playground.emulators.validate import load

if TYPE_CHECKING:
    from inference_operator.playground.emulators.server import Emulators
    from inference_operator.playground.emulators.world import World

SCHEMAS = load("friendli")
TOKENIZER = {"tokenizer_skip_special_tokens": True, "tokenizer_add_special_tokens": True}
CREATE = {
    "projectId": "p",
    "name": "new",
    "instanceOptionId": "Tu6GjBnfHPe4",
    "advanced": TOKENIZER,
    "hfModelRepo": "m",
    "initialVersionComment": "first",
}


def checked(answer: httpx.Response, schema: str, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert SCHEMAS.problems(schema, body) == []
    return body


async def versions(friendli: httpx.AsyncClient, endpoint: str = "ep-1", **query: Any) -> list[str]:
    answer = await friendli.get(f"/endpoint/{endpoint}/version", params=query)
    return list(checked(answer, "VersionPage")["data"])


async def test_reads_conform_to_the_schemas(friendli: httpx.AsyncClient) -> None:
    spec = checked(await friendli.get("/endpoint/ep-1"), "Spec")
    assert (spec["gpuType"], spec["numGpu"], spec["teamId"]) == ("NVIDIA H100", 1, "team-1")
    status = checked(await friendli.get("/endpoint/ep-1/status"), "Status")
    assert (status["status"], status["updatedAt"]) == ("RUNNING", None)
    assert list(checked(await friendli.get("/endpoint"), "StatusPage")["data"]) == ["ep-1"]
    assert await versions(friendli) == ["0"]


async def test_every_put_makes_a_version(friendli: httpx.AsyncClient, world: World) -> None:
    for _ in range(3):
        checked(await friendli.put("/endpoint/ep-1", json={}), "Spec")
    assert await versions(friendli) == ["0", "1", "2", "3"]
    assert [entry.version for entry in world.mutations("ep-1")] == [1, 2, 3]


async def test_a_put_that_changes_nothing_can_make_no_version(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("friendli", noop_puts_make_no_version=True)
    await friendli.put("/endpoint/ep-1", json={"name": "ep-1", "newVersionComment": "same"})
    await friendli.put("/endpoint/ep-1", json={"name": "other"})
    assert await versions(friendli) == ["0", "1"]
    assert [entry.committed for entry in world.mutations("ep-1")] == [False, True]


async def test_an_update_shows_in_the_spec_and_in_its_version(friendli: httpx.AsyncClient) -> None:
    body = {
        "instanceOptionId": "zfTutSiLn0Hq",
        "autoscalingPolicy": {"minReplica": 1, "maxReplica": 4, "cooldownPeriod": 60},
        "advanced": {**TOKENIZER, "max_batch_size": 8, "max_input_length": 4096},
    }
    spec = checked(await friendli.put("/endpoint/ep-1", json=body), "Spec")
    assert spec["numGpu"] == 2
    assert (spec["autoscalingMin"], spec["autoscalingMax"], spec["autoscalingCooldown"]) == (1, 4, 60)
    assert (spec["maxBatchSize"], spec["maxInputLength"]) == (8, 4096)
    assert (await friendli.get("/endpoint/ep-1")).json() == spec
    old, new = (await friendli.get("/endpoint/ep-1/version")).json()["data"].values()
    assert (old["numGpu"], new["numGpu"]) == (1, 2)


async def test_write_only_values_are_kept_but_not_shown(friendli: httpx.AsyncClient, world: World) -> None:
    secret = {"hfModelRepo": "org/hidden", "hfModelRepoRevision": "cafe", "newVersionComment": "why"}
    advanced = {**TOKENIZER, "max_token_count": 4242, "enable_content_logging": True}
    await friendli.put("/endpoint/ep-1", json={**secret, "advanced": advanced})
    shown = (await friendli.get("/endpoint/ep-1")).text + (await friendli.get("/endpoint/ep-1/version")).text
    assert not any(value in shown for value in (*secret.values(), "4242"))
    config, newest = (kept := world.get_endpoint("friendli", "ep-1"))["config"], kept["versions"][-1]
    assert (config["hf_model_repo"], config["hf_model_repo_revision"]) == ("org/hidden", "cafe")
    assert (config["max_token_count"], config["enable_content_logging"]) == (4242, True)
    assert (newest["number"], newest["comment"], newest["by"]) == (1, "why", fingerprint("flp_0123456789"))
    await friendli.put("/endpoint/ep-1", json={"advanced": TOKENIZER})
    assert world.get_endpoint("friendli", "ep-1")["config"]["max_token_count"] == 2560


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({"unknown": 1}, ["body"]),
        ({"autoscalingPolicy": {"maxReplica": 11}}, ["body", "autoscalingPolicy", "maxReplica"]),
        ({"advanced": {}}, ["body", "advanced"]),
    ],
)
async def test_a_body_that_breaks_the_schema_is_422(
    friendli: httpx.AsyncClient, world: World, body: dict[str, Any], location: list[str]
) -> None:
    detail = checked(await friendli.put("/endpoint/ep-1", json=body), "ValidationError", 422)["detail"]
    assert {tuple(each["loc"]) for each in detail} == {tuple(location)}
    (entry,) = world.mutations("ep-1")
    assert entry.errors
    assert not entry.committed
    assert await versions(friendli) == ["0"]


@pytest.mark.parametrize("content", [b"{", b'{"name": NaN}', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_not_json_is_422(friendli: httpx.AsyncClient, content: bytes) -> None:
    checked(await friendli.put("/endpoint/ep-1", content=content), "ValidationError", 422)


async def test_a_body_must_be_called_json(friendli: httpx.AsyncClient) -> None:
    answer = await friendli.put("/endpoint/ep-1", content=b"{}", headers={"Content-Type": "text/plain"})
    checked(answer, "ValidationError", 422)


@pytest.mark.parametrize(
    "body",
    [
        {"simplescale": {"replicas": 1}, "autoscalingPolicy": {}},
        {"autoscalingPolicy": {"minReplica": 5}},
        {"instanceOptionId": "nope"},
    ],
)
async def test_a_configuration_without_sense_is_400(friendli: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await friendli.put("/endpoint/ep-1", json=body)
    assert answer.status_code == 400
    assert isinstance(answer.json()["detail"], str)


async def test_simplescale_fixes_the_replicas(friendli: httpx.AsyncClient) -> None:
    spec = checked(await friendli.put("/endpoint/ep-1", json={"simplescale": {"replicas": 3}}), "Spec")
    assert (spec["autoscalingMin"], spec["autoscalingMax"], spec["autoscalingCooldown"]) == (3, 3, 300)
    assert (spec["currReplicaCnt"], spec["desiredReplicaCnt"], spec["updatedReplicaCnt"]) == (3, 3, 3)


async def test_a_rollout_shows_in_the_status(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("friendli", rollout_seconds=60)
    spec = checked(await friendli.put("/endpoint/ep-1", json={"simplescale": {"replicas": 3}}), "Spec")
    assert (spec["currReplicaCnt"], spec["desiredReplicaCnt"], spec["updatedReplicaCnt"]) == (1, 3, 0)
    assert checked(await friendli.get("/endpoint/ep-1/status"), "Status")["status"] == "UPDATING"
    world.set_endpoint("friendli", "ep-1", state="RUNNING")
    assert checked(await friendli.get("/endpoint/ep-1/status"), "Status")["status"] == "RUNNING"
    assert (await friendli.get("/endpoint/ep-1")).json()["updatedReplicaCnt"] == 3


async def test_an_endpoint_can_be_busy(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("friendli", "ep-1", rollout_seconds=60, busy_in_transition=True)
    assert (await friendli.put("/endpoint/ep-1", json={})).status_code == 200
    assert (await friendli.put("/endpoint/ep-1", json={})).status_code == 400
    assert await versions(friendli) == ["0", "1"]


async def test_a_rollout_can_be_made_to_fail(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("friendli", rollout_error="INFERENCE_ENGINE_MEMORY_ERROR")
    await friendli.put("/endpoint/ep-1", json={})
    status = checked(await friendli.get("/endpoint/ep-1/status"), "Status")
    assert (status["status"], status["errorCode"]) == ("FAILED", "INFERENCE_ENGINE_MEMORY_ERROR")


async def test_the_life_of_an_endpoint(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_knobs("friendli", rollout_seconds=60)

    async def do(operation: str) -> str:
        return str(checked(await friendli.put(f"/endpoint/ep-1/{operation}"), "Status")["status"])

    assert await do("sleep") == "SLEEPING"
    assert (await friendli.get("/endpoint/ep-1")).json()["currReplicaCnt"] == 0
    assert (await friendli.put("/endpoint/ep-1/sleep")).status_code == 400
    woken = checked(await friendli.put("/endpoint/ep-1/wake"), "Status")
    assert (woken["status"], woken["phase"]) == ("AWAKING", "REQUESTING_VIRTUAL_MACHINE")
    assert await do("terminate") == "TERMINATING"
    assert (await friendli.put("/endpoint/ep-1/restart")).status_code == 400
    world.set_endpoint("friendli", "ep-1", state="TERMINATED")
    assert await do("restart") == "INITIALIZING"
    assert await versions(friendli) == ["0"]


async def test_an_update_wakes_a_sleeper_only_if_it_must_run(friendli: httpx.AsyncClient, world: World) -> None:
    world.set_endpoint("friendli", "ep-1", state="SLEEPING")
    await friendli.put("/endpoint/ep-1", json={"name": "n"})
    assert (await friendli.get("/endpoint/ep-1/status")).json()["status"] == "SLEEPING"
    await friendli.put("/endpoint/ep-1", json={"simplescale": {"replicas": 1}})
    assert (await friendli.get("/endpoint/ep-1/status")).json()["status"] == "RUNNING"


async def test_create_tells_no_id(friendli: httpx.AsyncClient, world: World) -> None:
    body = checked(await friendli.post("/endpoint", json=CREATE), "Status")
    (entry,) = world.mutations()
    assert str(entry.endpoint_id) not in str(body)
    assert checked(await friendli.get(f"/endpoint/{entry.endpoint_id}"), "Spec")["gpuType"] == "NVIDIA H200"
    assert world.get_endpoint("friendli", str(entry.endpoint_id))["versions"][0]["comment"] == "first"


async def test_delete_is_for_good(friendli: httpx.AsyncClient) -> None:
    assert (await friendli.delete("/endpoint/ep-1")).status_code == 200
    for answer in (
        await friendli.get("/endpoint/ep-1"),
        await friendli.put("/endpoint/ep-1", json={}),
        await friendli.delete("/endpoint/ep-1"),
    ):
        assert answer.status_code == 404
    assert (await friendli.get("/endpoint")).json()["data"] == {}


async def test_version_history_has_pages(friendli: httpx.AsyncClient) -> None:
    for _ in range(11):
        await friendli.put("/endpoint/ep-1", json={})
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 5}
    while True:
        body = checked(await friendli.get("/endpoint/ep-1/version", params=query), "VersionPage")
        seen += body["data"]
        if not body["nextCursor"]:
            break
        query["cursor"] = body["nextCursor"]
    assert seen == [str(number) for number in range(12)]


async def test_the_newest_version_can_come_first(friendli: httpx.AsyncClient, world: World) -> None:
    await friendli.put("/endpoint/ep-1", json={})
    world.set_knobs("friendli", newest_version_first=True)
    assert await versions(friendli, limit=1) == ["1"]


async def test_the_list_has_pages_and_a_project_filter(friendli: httpx.AsyncClient, world: World) -> None:
    for number in range(24):
        world.create_endpoint("friendli", f"more-{number}", "us", spec={"projectId": f"p{number % 2}"})
    first = checked(await friendli.get("/endpoint"), "StatusPage")
    assert len(first["data"]) == 20
    second = checked(await friendli.get("/endpoint", params={"cursor": first["nextCursor"]}), "StatusPage")
    assert len(second["data"]) == 5
    assert second["nextCursor"] is None
    assert len((await friendli.get("/endpoint", params={"project_id": "p1", "limit": 100})).json()["data"]) == 12


@pytest.mark.parametrize(
    ("query", "status"), [({"limit": 0}, 422), ({"limit": 101}, 422), ({"limit": "x"}, 422), ({"cursor": "%"}, 400)]
)
async def test_a_page_out_of_range_is_refused(friendli: httpx.AsyncClient, query: dict[str, Any], status: int) -> None:
    assert (await friendli.get("/endpoint", params=query)).status_code == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"X-Friendli-Team": "team-1"}, 200),
        ({"X-Friendli-Team": "team-2"}, 404),
        ({"X-Friendli-Team": "team-of-others"}, 404),
        ({"Authorization": "Bearer flp_other"}, 404),
        ({"Authorization": "Bearer unknown"}, 401),
        ({"Authorization": "Basic flp_0123456789"}, 401),
    ],
)
async def test_who_sees_an_endpoint(
    friendli: httpx.AsyncClient, world: World, fields: dict[str, str], status: int
) -> None:
    world.add_account("others", ["flp_other"], teams=["team-of-others"])
    for answer in (
        await friendli.get("/endpoint/ep-1", headers=fields),
        await friendli.get("/endpoint/ep-1/version", headers=fields),
        await friendli.put("/endpoint/ep-1", json={}, headers=fields),
    ):
        assert answer.status_code == status
    listed = await friendli.get("/endpoint", headers=fields)
    assert (listed.status_code == 401) or (list(listed.json()["data"]) == (["ep-1"] if status == 200 else []))
    assert world.mutations()[0].team == fields.get("X-Friendli-Team")


async def test_no_authorization_at_all_is_401(emulators: Emulators) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{emulators.friendli_url}/dedicated/beta/endpoint")).status_code == 401


async def test_unknown_paths_and_methods(friendli: httpx.AsyncClient, world: World) -> None:
    assert (await friendli.get("/endpoint/ep-1/nothing")).status_code == 404
    assert (await friendli.patch("/endpoint/ep-1", json={})).status_code == 405
    assert [entry.operation for entry in world.ledger()] == [None, None]


async def test_an_id_with_a_dot_or_an_escape_is_one_segment(friendli: httpx.AsyncClient, world: World) -> None:
    world.create_endpoint("friendli", "a.b c", "us")
    assert (await friendli.get("/endpoint/a.b%20c")).status_code == 200
    assert world.ledger()[-1].endpoint_id == "a.b c"
    assert world.ledger()[-1].path == "/dedicated/beta/endpoint/a.b%20c"
