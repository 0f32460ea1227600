"""The ConfigMap of a connection: made once, corrected, never taken from anybody."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import pytest

from inference_operator.core.connection import ConnectionMap
from inference_operator.errors import EndpointError, InvalidSpec, Unavailable
from inference_operator.kube.connections import keep
from inference_operator.kube.resources import parse
from memory_api import Fault, MemoryApi

COLLECTION = "/api/v1/namespaces/team-a/configmaps"
PATH = f"{COLLECTION}/chat"
DATA = {"provider": "friendli", "endpointId": "ep-1"}
WANTED = ConnectionMap("chat", DATA)
RESOURCE = parse(
    {
        "metadata": {
            "namespace": "team-a",
            "name": "llama",
            "uid": "u1",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
    }
)
OWNER = {
    "apiVersion": "inference-operator.io/v1alpha1",
    "kind": "InferenceEndpoint",
    "name": "llama",
    "uid": "u1",
    "controller": True,
}


def stored(api: MemoryApi, owners: list[dict[str, Any]], **changes: Any) -> None:
    metadata = {"name": "chat", "ownerReferences": owners, **changes}
    api.put(PATH, {"metadata": metadata, "data": {"provider": "novita"}, "binaryData": {"x": "eA=="}})


async def test_one_that_is_missing_is_made_and_belongs_to_the_resource() -> None:
    api = MemoryApi()
    await keep(api, RESOURCE, WANTED)
    made = api.objects[PATH]
    assert made["data"] == DATA
    assert made["metadata"]["ownerReferences"] == [OWNER]
    assert api.requests == [("GET", PATH), ("POST", COLLECTION)]
    await keep(api, RESOURCE, WANTED)
    assert api.requests[2:] == [("GET", PATH)]


async def test_one_of_ours_is_corrected_and_keeps_what_else_it_holds() -> None:
    api = MemoryApi()
    stored(api, [{"kind": "Team", "name": "a", "uid": "u9"}, OWNER], annotations={"team": "a"})
    await keep(api, RESOURCE, WANTED)
    found = api.objects[PATH]
    assert (found["data"], found["binaryData"], found["metadata"]["annotations"]) == (
        DATA,
        {"x": "eA=="},
        {"team": "a"},
    )


NOBODY = (
    "exists already, and nothing says that it is this resource's. Write another name in configMapName, or delete it"
)


@pytest.mark.parametrize(
    ("owners", "message"),
    [
        ([], NOBODY),
        ([OWNER | {"controller": False}], NOBODY),
        ([OWNER | {"uid": "u2", "name": "other"}], 'belongs to InferenceEndpoint "other". Write another name'),
        (
            [{"kind": "Deployment", "name": "web", "uid": "u2", "controller": True}],
            'belongs to Deployment "web". Write',
        ),
    ],
)
async def test_one_of_somebody_else_is_left_alone(owners: list[dict[str, Any]], message: str) -> None:
    api = MemoryApi()
    stored(api, owners)
    with pytest.raises(InvalidSpec, match=re.escape(f'ConfigMap "chat" {message}')):
        await keep(api, RESOURCE, WANTED)
    assert api.requests == [("GET", PATH)]


@pytest.mark.parametrize(
    ("owner", "changes"), [(OWNER | {"uid": "u0"}, {}), (OWNER, {"deletionTimestamp": "2026-01-01T00:00:00Z"})]
)
async def test_one_that_is_about_to_vanish_is_waited_for(owner: dict[str, Any], changes: dict[str, Any]) -> None:
    api = MemoryApi()
    stored(api, [owner], **changes)
    with pytest.raises(Unavailable, match="about to be removed"):
        await keep(api, RESOURCE, WANTED)
    assert api.requests == [("GET", PATH)]


LOST = aiohttp.ServerDisconnectedError()


@pytest.mark.parametrize(
    ("faults", "error", "message"),
    [
        ([403], InvalidSpec, r"does not let the operator write ConfigMap .chat.: told to\.$"),
        ([None, 403], InvalidSpec, "does not let the operator write"),
        ([None, 400], InvalidSpec, "does not let the operator write ConfigMap .chat.: told to"),
        ([None, 404], InvalidSpec, "does not let the operator write"),
        ([None, 409], Unavailable, "was not written"),
        ([429], Unavailable, "was not written"),
        ([401], Unavailable, "was not written"),
        ([500], Unavailable, "was not written"),
        ([LOST], Unavailable, "may or may not have been written"),
        ([None, LOST], Unavailable, "may or may not have been written"),
    ],
)
async def test_a_refusal_is_told_from_what_passes(
    faults: list[Fault | None], error: type[EndpointError], message: str
) -> None:
    api = MemoryApi()
    api.faults.extend(faults)
    with pytest.raises(error, match=message) as caught:
        await keep(api, RESOURCE, WANTED)
    assert type(caught.value) is error


async def test_only_a_missing_right_is_answered_with_the_right_to_grant() -> None:
    cannot = 'configmaps is forbidden: User "io" cannot get resource "configmaps" in API group ""'
    with pytest.raises(InvalidSpec) as caught:
        await keep(Refusing(cannot), RESOURCE, WANTED)
    assert caught.value.message == (
        f'The API server does not let the operator write ConfigMap "chat": {cannot}. '
        "Grant get, create and patch on configmaps (in the chart rbac.connections), or remove writeConnectionTo."
    )
    quota = "exceeded quota: few, requested: configmaps=1, used: configmaps=2, limited: configmaps=2"
    with pytest.raises(InvalidSpec, match=f"{quota}\\.$"):
        await keep(Refusing(quota), RESOURCE, WANTED)


class Refusing(MemoryApi):
    """Refuses everything for one reason."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self._reason = reason

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        del method, path, body
        return 403, {"message": self._reason}
