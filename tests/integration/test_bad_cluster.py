"""What stands in a cluster and cannot be relied on: an older schema, and a status that makes no sense."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fleet import message, wait_for_all
from inference_operator.api.names import CRD_NAME
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from planes import USERS
from rig import CRD, Rig, rigged, spec_of, wait_for

PROVIDERS = ("friendli", "novita")


@pytest.mark.covers("E7")
def test_a_status_that_our_code_cannot_make_sense_of_holds_up_nobody_else(rig: Rig) -> None:
    garbled, sound = rig.endpoint("novita"), rig.endpoint("novita")
    rig.start()
    wrong = {"scaling.maxReplicas": "{"}
    resource = rig.apply("garbled", spec_of("novita", garbled, 2, suspend=True))
    put_operation(rig, resource, base=wrong, sent=wrong).raise_for_status()
    rig.apply("garbled", spec_of("novita", garbled, 2))
    assert "see its log" in message(rig.wait("garbled", "Stalled", "True", "InternalError"), "Stalled")
    rig.apply("sound", spec_of("novita", sound, 2))
    rig.wait("sound")
    assert [rig.committed(endpoint_id) for endpoint_id in (garbled, sound)] == [0, 1]


def put_operation(rig: Rig, resource: dict[str, Any], **effect: dict[str, str]) -> httpx.Response:
    """Write an open operation into the status, as nobody should."""
    metadata = resource["metadata"]
    operation = {"uid": metadata["uid"], "id": "x", "hash": "x", "generation": 1, "startedAt": "x", **effect}
    return rig.editor.patch(
        f"{rig.path}/{metadata['name']}/status",
        headers={"Content-Type": "application/merge-patch+json"},
        json={"status": {"operation": operation}},
    )


@pytest.mark.covers("D14")
@pytest.mark.usefixtures("programs")
def test_under_an_older_custom_resource_definition_nothing_is_sent(emulators: EmulatorControl, tmp_path: Path) -> None:
    with ControlPlane(users=USERS) as plane, rigged(plane, emulators, tmp_path) as rig:
        put_crd(rig, with_operation=False)
        rig.start(poll_seconds=0.3)
        endpoints = {provider: rig.endpoint(provider) for provider in PROVIDERS}
        for provider, endpoint_id in endpoints.items():
            rig.apply(provider, spec_of(provider, endpoint_id, 2))
        wait_for_all(rig, PROVIDERS, "Stalled", "True", "InternalError")
        time.sleep(2)  # it tries again in vain
        for provider, endpoint_id in endpoints.items():
            assert "the installed CRD is older than the operator" in message(rig.get(provider), "Stalled")
            assert list(rig.mutations(endpoint_id)) == []
        put_crd(rig, with_operation=True)
        wait_for_all(rig, PROVIDERS)
        for endpoint_id in endpoints.values():
            assert [update.committed for update in rig.mutations(endpoint_id)] == [True]


def put_crd(rig: Rig, *, with_operation: bool) -> None:
    """Install the definition, perhaps as it was before intents were kept, and wait until it is in effect."""
    probe, document = rig.apply("probe", spec_of("novita", "ep-probe", suspend=True)), yaml.safe_load(CRD.read_text())
    if not with_operation:
        schema = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        del schema["properties"]["status"]["properties"]["operation"]
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD_NAME}"
    document["metadata"]["resourceVersion"] = rig.api.get(path).json()["metadata"]["resourceVersion"]
    rig.api.put(path, json=document).raise_for_status()
    wait_for(lambda: keeps_operation(rig, probe) is with_operation, what="the definition to be in effect")
    rig.delete("probe")


def keeps_operation(rig: Rig, probe: dict[str, Any]) -> bool | None:
    """Whether the API server keeps `status.operation`; None while it is busy with another definition."""
    answer = put_operation(rig, probe)
    return "operation" in answer.json()["status"] if answer.is_success else None
