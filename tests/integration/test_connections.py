"""`spec.writeConnectionTo` on real parts: applications find the endpoint, and nobody's ConfigMap is taken."""

from __future__ import annotations

from typing import Any

import pytest

from inference_operator.api.names import REFRESH_ANNOTATION
from rig import Rig, spec_of, wait_for


def config_map(rig: Rig, name: str) -> dict[str, Any] | None:
    answer = rig.api.get(f"/api/v1/namespaces/{rig.namespace}/configmaps/{name}")
    return dict(answer.json()) if answer.is_success else None


def edit(rig: Rig, method: str, name: str = "", **request: Any) -> None:
    rig.editor.request(
        method, f"/api/v1/namespaces/{rig.namespace}/configmaps/{name}".rstrip("/"), **request
    ).raise_for_status()


@pytest.mark.parametrize("provider", ["friendli", "novita"])
def test_applications_are_told_where_the_endpoint_is(rig: Rig, provider: str) -> None:
    endpoint_id = rig.endpoint(provider)
    spec = spec_of(provider, endpoint_id, 7, writeConnectionTo={"configMapName": "chat"})
    rig.apply("chat", spec)
    rig.start()
    resource = rig.wait("chat", "Ready")
    found = config_map(rig, "chat")
    assert found is not None
    expected = {"provider": provider, "endpointId": endpoint_id}
    assert found["data"].items() >= expected.items()
    assert found["data"].keys() - expected == ({"url"} if provider == "novita" else set())
    assert found["data"].get("url", "https://").startswith("https://")
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (resource["metadata"]["uid"], True)
    assert len(rig.mutations(endpoint_id)) == 1

    keys = {"provider": "PROVIDER", "endpointId": "MODEL", "url": "BASE_URL"}
    rig.apply("chat", spec | {"writeConnectionTo": {"configMapName": "chat", "keys": keys}})
    wait_for(lambda: "MODEL" in (config_map(rig, "chat") or {})["data"], what="the other keys")
    rig.wait("chat", "Ready")
    edit(rig, "DELETE", "chat")
    wait_for(lambda: config_map(rig, "chat"), what="what was deleted to be made again, at the latest at a whole look")
    assert len(rig.mutations(endpoint_id)) == 1


def test_what_belongs_to_others_is_left_alone_and_said(rig: Rig) -> None:
    endpoint_id = rig.endpoint("friendli")
    edit(rig, "POST", json={"metadata": {"name": "taken"}, "data": {"mine": "1"}})
    rig.apply("chat", spec_of("friendli", endpoint_id, 7, writeConnectionTo={"configMapName": "taken"}))
    rig.start()
    stalled = rig.wait("chat", "Stalled", reason="ConnectionNotWritten")
    (message,) = (each["message"] for each in stalled["status"]["conditions"] if each["type"] == "Stalled")
    assert message == (
        'spec.writeConnectionTo: ConfigMap "taken" exists already, and nothing says that it is this resource\'s. '
        "Write another name in configMapName, or delete it if nobody needs it."
    )
    assert rig.condition("chat", "Synced") == ("True", "Applied")
    assert (config_map(rig, "taken") or {})["data"] == {"mine": "1"}

    edit(rig, "DELETE", "taken")
    rig.merge("chat", {"metadata": {"annotations": {REFRESH_ANNOTATION: "now"}}})
    rig.wait("chat", "Ready")
    assert (config_map(rig, "taken") or {})["data"] == {"provider": "friendli", "endpointId": endpoint_id}
    assert len(rig.mutations(endpoint_id)) == 1
