"""A real API server takes the definition, and judges resources as the verdict without a cluster does."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from crd_case import GONE, resource
from crd_cases import BAD, SAMPLES, SCALARS
from inference_operator.api.names import API_VERSION, CRD_NAME, PLURAL
from inference_operator.crdgen.manifests import read_manifests
from inference_operator.crdgen.resource import render
from inference_operator.providers.registry import DRIVERS
from inference_operator.validate import validate_text
from planes import api_client

if TYPE_CHECKING:
    import httpx

    from inference_operator.playground.controlplane import ControlPlane

pytestmark = pytest.mark.timeout(1800)  # whatever runs first may have to build the programs

APPLY = {"Content-Type": "application/apply-patch+yaml"}
DEFINITION = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD_NAME}"
READY_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """The API server, as far as one namespace of endpoints goes."""

    client: httpx.Client
    namespace: str

    @property
    def path(self) -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/{PLURAL}"

    def create(self, text: str, *, keep: bool = False) -> httpx.Response:
        """What `kubectl create` does, with its strict validation."""
        parameters = {"fieldValidation": "Strict"} | ({} if keep else {"dryRun": "All"})
        return self.client.post(
            self.path, content=text, params=parameters, headers={"Content-Type": "application/yaml"}
        )

    def apply(self, text: str, name: str, *, keep: bool = False, manager: str = "user") -> httpx.Response:
        """What `kubectl apply --server-side` does."""
        parameters = {"fieldValidation": "Strict", "fieldManager": manager} | ({} if keep else {"dryRun": "All"})
        return self.client.patch(f"{self.path}/{name}", content=text, params=parameters, headers=APPLY)

    def stored(self, name: str, **edits: Any) -> dict[str, Any]:
        """A new object in the cluster."""
        edits = {"metadata.name": name} | {f"spec.{field}": value for field, value in edits.items()}
        response = self.create(yaml.safe_dump(resource("friendli", edits)), keep=True)
        response.raise_for_status()
        return dict(response.json())


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane) -> Iterator[Server]:
    with api_client(control_plane) as client:
        response = client.patch(
            DEFINITION, content=render(DRIVERS), params={"fieldManager": "test", "force": "true"}, headers=APPLY
        )
        assert response.is_success, response.text
        namespace = f"admission-{secrets.token_hex(4)}"
        client.post("/api/v1/namespaces", json={"metadata": {"name": namespace}}).raise_for_status()
        running = Server(client, namespace)
        _await_definition(running)
        yield running


def _await_definition(server: Server) -> None:
    """The API server takes a new definition up a moment after it has stored it."""
    deadline = time.monotonic() + READY_SECONDS
    good, bad = SAMPLES[0].read_text(), next(case for case in BAD if case.by_rule)
    while not (server.create(good).is_success and bad.served in message(server.create(bad.text))):
        assert time.monotonic() < deadline, server.create(good).text
        time.sleep(0.1)


def message(response: httpx.Response) -> str:
    """Why the API server refuses; empty where it does not."""
    return "" if response.is_success else str(response.json()["message"] if response.text[0] == "{" else response.text)


def offline(text: str) -> bool:
    """Whether the verdict without a cluster is good."""
    return validate_text(text, file="file.yaml", drivers=DRIVERS).ok


def test_the_definition_is_structural_and_served(server: Server) -> None:
    conditions = server.client.get(DEFINITION).json()["status"]["conditions"]
    assert {condition["type"]: condition["status"] for condition in conditions} == {
        "NamesAccepted": "True",
        "Established": "True",
    }


@pytest.mark.covers("F8")
def test_every_bad_resource_is_refused_with_the_help_that_the_offline_verdict_gives(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    refused, wrong = 0, {}
    for case in BAD:
        created = server.create(case.text)
        name = yaml.safe_load(case.text)["metadata"].get("name", "case")
        applied = server.apply(case.text, name)
        helpful = case.served in message(created) and (not case.by_rule or case.served in message(applied))
        if created.is_success or applied.is_success or not helpful or offline(case.text):
            wrong[case.name] = (created.status_code, message(created), applied.status_code, message(applied))
        refused += 1
    assert wrong == {}
    with capsys.disabled():
        print(f"\n{refused} bad resources: refused by the API server and by the offline verdict alike")


def test_every_sample_is_accepted_and_starts_as_in_progress(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for sample in SAMPLES:
        text = sample.read_text()
        name = yaml.safe_load(text)["metadata"]["name"]
        applied = server.apply(text, name, keep=True)
        assert applied.is_success, (sample.name, message(applied))
        assert applied.json()["status"] == {"observedGeneration": -1}
        assert applied.json()["spec"] == yaml.safe_load(text)["spec"]
        assert offline(text), sample.name
    with capsys.disabled():
        print(f"\n{len(SAMPLES)} samples: accepted by the API server and by the offline verdict alike")


def test_a_field_without_a_value_depends_on_the_way_it_is_sent(server: Server) -> None:
    """Create drops it, server-side apply refuses it; the verdict without a cluster takes the stricter side."""
    text = yaml.safe_dump(resource("friendli", {"spec.scaling": {"replicas": None}}))
    assert server.create(text).json()["spec"]["scaling"] == {}
    assert "spec.scaling.replicas in body must be of type integer" in message(server.apply(text, "case"))
    assert not offline(text)


def test_annotations_and_labels_may_be_left_empty(server: Server) -> None:
    text = yaml.safe_dump(resource("friendli", {"metadata.annotations": None, "metadata.labels": None}))
    assert server.create(text).is_success
    assert server.apply(text, "case").is_success
    assert offline(text)


def test_lengths_count_characters(server: Server) -> None:
    for length, fits in ((220, True), (221, False)):
        text = yaml.safe_dump(resource("novita", {"spec.novita.name": "\N{OLD PERSIAN SIGN A}" * length}))
        assert (server.create(text).is_success, offline(text)) == (fits, fits)


@pytest.mark.parametrize("place", ["envs: [{name: A, value: %s}]", "policy: {type: queue, value: %s}"])
def test_a_scalar_means_the_same_to_the_api_server(server: Server, place: str) -> None:
    wrong = {}
    for scalar in SCALARS:
        text = yaml.safe_dump(resource("novita", {"spec.novita": GONE})) + f"  novita:\n    {place % scalar}\n"
        response = server.create(text)
        if response.is_success != offline(text):
            wrong[scalar] = (response.status_code, message(response))
        elif response.is_success:
            (read,) = read_manifests(text)
            if response.json()["spec"] != read.value["spec"]:
                wrong[scalar] = (response.json()["spec"], read.value["spec"])
    assert wrong == {}


@pytest.mark.covers("E9")
def test_what_is_immutable_stays(server: Server) -> None:
    server.stored("immutable")
    block = {"metadata.name": "immutable", "spec.provider": "novita", "spec.novita": {}, "spec.friendli": GONE}
    moved = server.apply(yaml.safe_dump(resource("friendli", block)), "immutable", manager="other")
    assert moved.status_code == 409, "another manager needs force"
    path = f"{server.path}/immutable"
    for edit, words in (
        ({"spec": {"provider": "novita", "novita": {}, "friendli": None}}, "provider cannot be changed; delete"),
        ({"spec": {"endpointId": "ep-2"}}, "endpointId cannot be changed or removed once it is set"),
        ({"spec": {"endpointId": None}}, "endpointId cannot be changed or removed once it is set"),
    ):
        response = server.client.patch(path, json=edit, headers={"Content-Type": "application/merge-patch+json"})
        assert response.status_code == 422
        assert words in message(response)
    same = {"spec": {"provider": "friendli", "endpointId": "ep-1", "suspend": True}}
    headers = {"Content-Type": "application/merge-patch+json"}
    assert server.client.patch(path, json=same, headers=headers).is_success


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"replicas": 2}, {"minReplicas": 0, "maxReplicas": 2, "cooldownSeconds": 60}),
        ({"minReplicas": 0, "maxReplicas": 2, "cooldownSeconds": 60}, {"replicas": 2}),
    ],
    ids=["to bounds", "to replicas"],
)
def test_the_command_in_the_message_frees_the_way_to_the_other_scaling(
    server: Server, before: dict[str, int], after: dict[str, int]
) -> None:
    name = f"scaling-{len(before)}"
    server.stored(name, scaling=before)
    wanted = yaml.safe_dump(resource("friendli", {"metadata.name": name, "spec.scaling": after}))
    refused = server.apply(wanted, name, keep=True)
    found = re.search(r"kubectl patch inferenceendpoint NAME --type=json -p '(.*?)'", message(refused))
    assert found, message(refused)
    headers = {"Content-Type": "application/json-patch+json"}
    patched = server.client.patch(f"{server.path}/{name}", content=found[1], headers=headers)
    assert patched.is_success, patched.text
    applied = server.apply(wanted, name, keep=True)
    assert applied.is_success, applied.text
    assert applied.json()["spec"]["scaling"] == after


def test_a_fixed_count_can_be_scaled(server: Server) -> None:
    server.stored("scaled", scaling={"replicas": 2})
    path = f"{server.path}/scaled/scale"
    scale = server.client.get(path).json()
    assert scale["spec"] == {"replicas": 2}
    scale["spec"]["replicas"] = 3
    assert server.client.put(path, json=scale).is_success
    assert server.client.get(f"{server.path}/scaled").json()["spec"]["scaling"] == {"replicas": 3}
    scale["metadata"].pop("resourceVersion")
    scale["spec"]["replicas"] = 11
    assert "scaling.replicas on friendli is 1 to 10" in message(server.client.put(path, json=scale))


def test_bounds_cannot_be_scaled_over(server: Server) -> None:
    server.stored("bounded", scaling={"minReplicas": 0, "maxReplicas": 2})
    assert not server.client.get(f"{server.path}/bounded/scale").is_success


def test_a_whole_status_is_stored_as_it_was_sent(server: Server) -> None:
    written = server.stored("reported", scaling={"replicas": 2})
    effect = {"base": {"scaling.maxReplicas": "2"}, "sent": {"scaling.maxReplicas": "4", "novita.envs[A]": ""}}
    memory = {"uid": "u", "hash": "v1:h:-", "generation": 1}
    status = {
        "observedGeneration": 1,
        "endpointId": "ep-1",
        "state": "Running",
        "currReplicaCnt": 2,
        "selector": "inference-operator.io/endpoint=u",
        "applied": {**memory, "time": "2026-01-02T03:04:05Z", "observed": effect["base"], "secrets": {"hf": "7"}},
        "operation": {**memory, **effect, "id": "1", "startedAt": "2026-01-02T03:04:05Z", "comment": ""},
        "drift": [
            {"field": "gpu", "desired": {"type": "H100", "count": 2}, "observed": None},
            {"field": "scaling.maxReplicas", "desired": 4, "observed": [1, {"a": None}]},
        ],
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "reason": "Applied",
                "message": "",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
                "observedGeneration": 1,
            }
            for kind in ("Synced", "Ready")
        ],
    }
    response = server.client.put(f"{server.path}/reported/status", json={**written, "status": status})
    assert response.is_success, response.text
    assert json.dumps(response.json()["status"], sort_keys=True) == json.dumps(status, sort_keys=True)
    scale = server.client.get(f"{server.path}/reported/scale").json()
    assert scale["status"] == {"replicas": 2, "selector": "inference-operator.io/endpoint=u"}


def test_endpoints_are_found_by_provider_and_id(server: Server) -> None:
    server.stored("selected", endpointId="ep-selected")
    for selector, names in (
        ("spec.endpointId=ep-selected,spec.provider=friendli", ["selected"]),
        ("spec.endpointId=ep-selected,spec.provider=novita", []),
    ):
        found = server.client.get(f"/apis/{API_VERSION}/{PLURAL}", params={"fieldSelector": selector}).json()["items"]
        assert [item["metadata"]["name"] for item in found] == names


def test_people_see_columns(server: Server) -> None:
    server.stored("listed")
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = server.client.get(server.path, headers=accept).json()
    columns = {column["name"]: column["priority"] for column in table["columnDefinitions"]}
    assert list(columns) == [
        *("Name", "Provider", "Endpoint", "State", "Current", "Desired", "Version", "Ready", "Reason", "Age"),
        *("Comment", "GPU"),
    ]
    assert {name for name, priority in columns.items() if priority} == {"Comment", "GPU"}
    rows = {row["cells"][0]: row["cells"] for row in table["rows"]}
    assert rows["listed"][1:3] == ["friendli", "ep-1"]
