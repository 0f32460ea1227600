"""What the API server says to the chart: it takes every object, admits the pods, and divides resources among shards."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from e2e.chart import NAMESPACE, VALUES, Object, deployments, environment, notes, of_kind, parse, render, template
from inference_operator.playground import toolchain
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.toolchain import GoModule
from planes import api_client
from rig import install_crd, wait_for

SOURCE: Final = "github.com/prometheus-operator/prometheus-operator"
MODULE: Final = GoModule(Path(__file__).with_name("prometheusoperator"), stamped=SOURCE)
NAMESPACES: Final = (NAMESPACE, "tenant-a", "tenant-b")


def definitions() -> list[Object]:
    """The definitions of the Prometheus operator that the chart's objects belong to, from its module."""
    go = toolchain.find_go(MODULE.go_version)
    command = [str(go), "mod", "download", "-json", SOURCE]
    listed = subprocess.run(
        command, cwd=MODULE.folder, env=toolchain._environment(), capture_output=True, text=True, check=True
    )
    folder = Path(json.loads(listed.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
    names = ("servicemonitors", "prometheusrules")
    return [yaml.load((folder / f"monitoring.coreos.com_{name}.yaml").read_text(), yaml.CSafeLoader) for name in names]


@pytest.fixture(name="api", scope="module")
def api_of_prepared_plane(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    """The API server, with what a cluster has before the chart comes; every namespace admits restricted pods only."""
    with api_client(control_plane) as api:
        install_crd(api)
        for definition in definitions():
            answer = api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=definition)
            assert answer.status_code in {HTTPStatus.CREATED, HTTPStatus.CONFLICT}, answer.text
            plural = definition["spec"]["names"]["plural"]
            wait_for(lambda: api.get(f"/apis/monitoring.coreos.com/v1/{plural}").is_success, what=plural)  # noqa: B023
        for name in NAMESPACES:
            labels = {
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/warn": "restricted",
            }
            answer = api.post("/api/v1/namespaces", json={"metadata": {"name": name, "labels": labels}})
            assert answer.status_code in {HTTPStatus.CREATED, HTTPStatus.CONFLICT}, answer.text
        yield api


def dry_run(plane: ControlPlane, kubectl: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Apply as `kubectl` does, with every field known, and store nothing."""
    command = [
        kubectl,
        "--kubeconfig",
        plane.kubeconfig,
        "--cache-dir",
        plane.folder / "kubectl",
        "apply",
        "--server-side",
    ]
    command += ["--dry-run=server", "--validate=strict", "--force-conflicts", "-f", "-"]
    return subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.usefixtures("api")
def test_the_api_server_takes_every_object_without_a_warning(
    name: str, control_plane: ControlPlane, tools: Mapping[str, Path]
) -> None:
    text = render(VALUES[name])
    done = dry_run(control_plane, tools["kubectl"], text)
    assert (done.returncode, done.stderr) == (0, "")
    taken = [line for line in done.stdout.splitlines() if line.endswith(" serverside-applied (server dry run)")]
    assert len(taken) == len(parse(text)) >= 3
    print(f"{name}: {len(taken)} objects")


@pytest.mark.usefixtures("api")
def test_the_api_server_would_not_take_an_unknown_field(control_plane: ControlPlane, tools: Mapping[str, Path]) -> None:
    text = render().replace("revisionHistoryLimit:", "revisionsKept:")
    done = dry_run(control_plane, tools["kubectl"], text)
    assert done.returncode == 1
    assert "revisionsKept" in done.stderr


def pods_of(objects: list[Object]) -> list[Object]:
    """The pods that come of it: those of Deployments, and that of the test."""
    made = [
        {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(each["spec"]["template"])}
        for each in deployments(objects).values()
    ]
    for index, pod in enumerate(made):
        pod["metadata"]["name"] = f"made-{index}"
    return [*made, *of_kind(objects, "Pod")]


def admit(api: httpx.Client, pod: Mapping[str, Any]) -> httpx.Response:
    return api.post(f"/api/v1/namespaces/{NAMESPACE}/pods", params={"dryRun": "All"}, json=dict(pod))


@pytest.mark.parametrize("name", VALUES)
def test_pods_are_admitted_where_only_restricted_ones_are(name: str, api: httpx.Client) -> None:
    pods = pods_of(template(VALUES[name]))
    assert len(pods) >= 2
    for pod in pods:
        answer = admit(api, pod)
        assert answer.status_code == HTTPStatus.CREATED, answer.text
        assert "Warning" not in answer.headers


@pytest.mark.parametrize(
    "values",
    [
        {"podSecurityContext": {"runAsUser": 0}},
        {"podSecurityContext": {"runAsNonRoot": False}},
        {"podSecurityContext": {"seccompProfile": {"type": "Unconfined"}}},
        {"securityContext": {"allowPrivilegeEscalation": True}},
        {"securityContext": {"capabilities": {"drop": []}}},
    ],
)
def test_every_part_of_the_security_context_is_needed_for_that(values: Mapping[str, Any], api: httpx.Client) -> None:
    for pod in pods_of(template(values)):
        answer = admit(api, pod)
        assert answer.status_code == HTTPStatus.FORBIDDEN
        assert 'violates PodSecurity "restricted' in answer.json()["message"]


@pytest.fixture(name="argocd_cm", scope="module")
def config_map_of_argo_cd(api: httpx.Client) -> Iterator[str]:
    """The path of Argo CD's own ConfigMap, which holds something already."""
    api.post("/api/v1/namespaces", json={"metadata": {"name": "argocd"}})
    path = "/api/v1/namespaces/argocd/configmaps"
    there = {"metadata": {"name": "argocd-cm"}, "data": {"url": "https://argocd.example"}}
    api.post(path, json=there).raise_for_status()
    yield f"{path}/argocd-cm"
    api.delete(f"{path}/argocd-cm").raise_for_status()


def test_the_command_of_the_notes_teaches_argo_cd(
    api: httpx.Client, argocd_cm: str, control_plane: ControlPlane, tools: Mapping[str, Path]
) -> None:
    values = {"argocd": {"configMap": {"enabled": True}}}
    (snippet,) = of_kind(template(values), "ConfigMap")
    api.post(f"/api/v1/namespaces/{NAMESPACE}/configmaps", json=snippet).raise_for_status()
    command = notes(values).rpartition("\nkubectl -n argocd ")[2]
    surroundings = {"PATH": os.defpath, "HOME": str(control_plane.folder), "KUBECONFIG": str(control_plane.kubeconfig)}
    script = f'kubectl() {{ {tools["kubectl"]} "$@"; }}; kubectl -n argocd {command}'
    subprocess.run(["bash", "-ceu", script], env=surroundings, check=True, capture_output=True)
    assert api.get(argocd_cm).json()["data"] == {"url": "https://argocd.example", **snippet["data"]}
    assert len(snippet["data"]) >= 2


LABELS: Final[Mapping[str, Mapping[str, str]]] = {
    "unlabelled": {},
    "other": {"example.org/tier": "gold"},
    "empty": {"inference-operator.io/shard": ""},
    "default": {"inference-operator.io/shard": "default"},
    "of-none": {"inference-operator.io/shard": "c"},
    "of-a": {"inference-operator.io/shard": "a"},
    "of-b": {"inference-operator.io/shard": "b", "example.org/tier": "gold"},
    "of-big-1": {"inference-operator.io/shard": "big-1"},
    "gold": {"tier": "gold"},
    "silver": {"tier": "silver", "inference-operator.io/shard": "a"},
}


@pytest.fixture(name="labelled", scope="module")
def labelled_resources(api: httpx.Client) -> Iterator[str]:
    """The path of resources with these labels; they go again, as the control plane is shared."""
    path = f"/apis/inference-operator.io/v1alpha1/namespaces/{NAMESPACE}/inferenceendpoints"
    for name, labels in LABELS.items():
        resource = {
            "apiVersion": "inference-operator.io/v1alpha1",
            "kind": "InferenceEndpoint",
            "metadata": {"name": name, "labels": labels},
            "spec": {"provider": "friendli", "endpointId": name, "credentialsSecretRef": {"name": "k"}, "friendli": {}},
        }
        api.post(path, json=resource).raise_for_status()
    yield path
    api.delete(path).raise_for_status()


def handled(api: httpx.Client, path: str, values: Mapping[str, Any]) -> dict[str, set[str]]:
    """The resources that each shard's operator lists and watches, as the API server reads its selector."""
    found = {}
    for shard, each in deployments(template(values)).items():
        selector = environment(each).get("INFERENCE_OPERATOR_LABEL_SELECTOR", "")
        answer = api.get(path, params={"labelSelector": selector})
        answer.raise_for_status()
        found[shard] = {item["metadata"]["name"] for item in answer.json()["items"]}
    return found


REST: Final = {"unlabelled", "other", "empty", "default", "gold"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"default": {*LABELS}}),
        (
            VALUES["shards"],
            {"default": REST | {"of-none"}, "a": {"of-a", "silver"}, "b": {"of-b"}, "big-1": {"of-big-1"}},
        ),
        (
            {"shards": [{"name": "c"}]},
            {"default": REST | {"of-a", "of-b", "of-big-1", "silver"}, "c": {"of-none"}},
        ),
        (
            VALUES["shards with selectors"],
            {"default": {*LABELS} - {"gold", "silver"}, "gold": {"gold"}, "rest": {"silver"}},
        ),
        ({**VALUES["no default shard"]}, {"a": {"of-a", "silver"}}),
    ],
)
def test_a_resource_is_handled_by_one_shard(
    values: Mapping[str, Any], expected: Mapping[str, set[str]], api: httpx.Client, labelled: str
) -> None:
    found = handled(api, labelled, values)
    assert found == expected
    if values.get("defaultShard", {}).get("enabled", True):
        assert sorted(name for names in found.values() for name in names) == sorted(LABELS)
