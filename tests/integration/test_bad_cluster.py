"""What stands in a cluster and cannot be relied on: an older schema, and a status that makes no sense."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import message, wait_for_all
from inference_operator.api.names import CRD_NAME
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from planes import USERS
from rig import CRD, Rig, rigged, spec_of, wait_for

PROVIDERS = ("friendli", "novita")


def test_a_status_that_our_code_cannot_make_sense_of_holds_up_nobody_else(rig: Rig) -> None:
    garbled, sound = rig.endpoint("novita"), rig.endpoint("novita")
    rig.start()
    rig.apply("garbled", spec_of("novita", garbled, 2, suspend=True))
    put_operation(rig, "garbled", base={"scaling.maxReplicas": "{"}, sent={"scaling.maxReplicas": "{"})
    rig.apply("garbled", spec_of("novita", garbled, 2))
    assert "see its log" in message(rig.wait("garbled", "Stalled", "True", "InternalError"), "Stalled")
    rig.apply("sound", spec_of("novita", sound, 2))
    rig.wait("sound")
    assert [rig.committed(endpoint_id) for endpoint_id in (garbled, sound)] == [0, 1]


def put_operation(rig: Rig, name: str, **effect: dict[str, str]) -> dict[str, Any]:
    """Write an open operation into the status, as nobody should; returns the resource as it was stored."""
    uid = rig.get(name)["metadata"]["uid"]
    answer = rig.editor.patch(
        f"{rig.path}/{name}/status",
        headers={"Content-Type": "application/merge-patch+json"},
        json={
            "status": {"operation": {"uid": uid, "id": "x", "hash": "x", "generation": 1, "startedAt": "x", **effect}}
        },
    )
    assert answer.is_success, answer.text
    return dict(answer.json())


@pytest.mark.usefixtures("programs")
def test_under_an_older_custom_resource_definition_nothing_is_sent(emulators: EmulatorControl, tmp_path: Path) -> None:
    with ControlPlane(users=USERS) as plane, rigged(plane, emulators, tmp_path) as rig:
        install_without_operation(rig)
        rig.start(poll_seconds=0.3)
        endpoints = {provider: rig.endpoint(provider) for provider in PROVIDERS}
        for provider, endpoint_id in endpoints.items():
            rig.apply(provider, spec_of(provider, endpoint_id, 2))
        wait_for_all(rig, PROVIDERS, "Stalled", "True", "InternalError")
        time.sleep(2)  # it tries again in vain
        for provider, endpoint_id in endpoints.items():
            assert "the installed CRD is older than the operator" in message(rig.get(provider), "Stalled")
            assert rig.mutations(endpoint_id) == []
        put_crd(rig, yaml.safe_load(CRD.read_text()))
        wait_for_all(rig, PROVIDERS)
        for endpoint_id in endpoints.values():
            assert [update.committed for update in rig.mutations(endpoint_id)] == [True]
        assert rig.secrets_shown() == []


def install_without_operation(rig: Rig) -> None:
    """Install the definition as it was before the operator kept its intents, and wait until it is in effect."""
    document = yaml.safe_load(CRD.read_text())
    schema = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["status"]["properties"]["operation"]
    put_crd(rig, document)
    rig.apply("probe", spec_of("novita", "ep-probe", suspend=True))
    wait_for(lambda: "operation" not in put_operation(rig, "probe")["status"], what="the definition to be in effect")
    rig.delete("probe")


def put_crd(rig: Rig, document: dict[str, Any]) -> None:
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD_NAME}"
    document["metadata"]["resourceVersion"] = rig.api.get(path).json()["metadata"]["resourceVersion"]
    rig.api.put(path, json=document).raise_for_status()
