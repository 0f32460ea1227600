"""Argo CD's own controllers sync resources from Git into a cluster in which the operator works."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from e2e.argocd import ArgoCD, Scripts
from fleet import message
from inference_operator.api.names import API_VERSION, KIND, SUSPEND_ANNOTATION
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from rig import ROOT, Rig, rigged, spec_of, wait_for

AN_HOUR = 3600
LONG_ENOUGH = 3.0
"""Seconds in which Argo CD has looked several times and done what it was going to do."""

WAVE = "argocd.argoproj.io/sync-wave"
AUTOMATED = {
    "automated": {"prune": True, "selfHeal": True},
    "syncOptions": ["ServerSideApply=true"],
    "retry": {"limit": 0},  # by default, a failed sync is tried five times more before another commit is looked at
}


@dataclass(frozen=True)
class Repository:
    """A Git repository; each application has a folder in it."""

    folder: Path

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def commit(self, application: str, *documents: Mapping[str, Any]) -> None:
        """Make these the manifests of an application."""
        place = self.folder / application
        place.mkdir(parents=True, exist_ok=True)
        (place / "manifests.yaml").write_text(yaml.safe_dump_all([dict(each) for each in documents]))
        self.git("add", ".")
        self.git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--message", application)

    def git(self, *arguments: str) -> None:
        nobodys = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        subprocess.run(["git", "-C", str(self.folder), *arguments], check=True, env={**os.environ, **nobodys})


@dataclass(frozen=True)
class World:
    """Git, Argo CD, the cluster with an operator, and the providers."""

    repository: Repository
    argo_cd: ArgoCD
    rig: Rig
    scripts: Scripts

    def deploy(self, application: str, *documents: Mapping[str, Any], **spec: Any) -> None:
        """Commit, and have it deployed into the rig's namespace from now on."""
        self.repository.commit(application, *documents)
        source = {"repoURL": self.repository.url, "path": application, "targetRevision": "main"}
        destination = {"server": "https://kubernetes.default.svc", "namespace": self.rig.namespace}
        fixed = {"project": "default", "source": source, "destination": destination, "syncPolicy": AUTOMATED}
        self.argo_cd.apply(application, {**fixed, **spec})

    def act(self, name: str, action: str) -> None:
        """Do what Argo CD does when somebody chooses an action of a resource: patch what the script has changed."""
        before = self.rig.get(name)
        after = self.scripts.act(before, action)
        assert {key: value for key, value in after.items() if key != "metadata"} == {
            key: value for key, value in before.items() if key != "metadata"
        }
        old, new = (each["metadata"].get("annotations", {}) for each in (before, after))
        self.rig.merge(name, {"metadata": {"annotations": {**dict.fromkeys(old), **new}}})

    def exists(self, config_map: str) -> bool:
        path = f"/api/v1/namespaces/{self.rig.namespace}/configmaps/{config_map}"
        return self.rig.api.get(path).status_code == httpx.codes.OK


@pytest.fixture(scope="module")
def world(
    control_plane: ControlPlane,
    emulators: EmulatorControl,
    tools: Mapping[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("argo-cd")
    repository = Repository(tmp_path_factory.mktemp("git"))
    repository.git("init", "--quiet", "--initial-branch", "main")
    with rigged(control_plane, emulators, folder) as rig, ArgoCD(tools["argocd"], control_plane, folder) as argo_cd:
        rig.start()
        yield World(repository, argo_cd, rig, Scripts(tools["argocd"]))


def manifest(name: str, spec: Mapping[str, Any], wave: int = 0) -> dict[str, Any]:
    metadata = {"name": name, "annotations": {WAVE: str(wave)}} if wave else {"name": name}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": dict(spec)}


def consumer(name: str) -> dict[str, Any]:
    """Something of the second wave, which needs the endpoint of the first."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "annotations": {WAVE: "1"}}}


def owners(resource: Mapping[str, Any]) -> dict[str, set[str]]:
    """Which parts of an object each field manager owns."""
    found: dict[str, set[str]] = {}
    for each in resource["metadata"]["managedFields"]:
        found.setdefault(each["manager"], set()).update(each["fieldsV1"])
    return found


def test_the_second_wave_waits_until_the_endpoint_of_the_first_serves(world: World) -> None:
    rig = world.rig
    endpoint_id = rig.endpoint("friendli")
    rig.emulators.set_knobs("friendli", endpoint_id, rollout_seconds=AN_HOUR)
    world.deploy("waves", manifest("first", spec_of("friendli", endpoint_id, 2)), consumer("second"))
    world.argo_cd.wait("waves", what="the rollout", health="Progressing", phase="Running")
    rig.wait("first", "Reconciling", reason="Updating")
    time.sleep(LONG_ENOUGH)
    assert not world.exists("second")
    rig.emulators.set_endpoint("friendli", endpoint_id, state="RUNNING")
    world.argo_cd.wait("waves", what="both waves", sync="Synced", health="Healthy", phase="Succeeded")
    assert world.exists("second")
    assert rig.committed(endpoint_id) == 1


def test_a_stalled_endpoint_fails_the_sync_at_once_and_the_commit_that_mends_it_goes_through(world: World) -> None:
    rig = world.rig
    endpoint_id = rig.endpoint("friendli")
    rig.secret("refused", token=f"{rig.token}-refused")
    spec = spec_of("friendli", endpoint_id, 2)
    world.deploy(
        "stalled", manifest("ill", {**spec, "credentialsSecretRef": {"name": "refused"}}), consumer("after-ill")
    )
    application = world.argo_cd.wait("stalled", what="the failure", health="Degraded", phase="Failed")
    assert not world.exists("after-ill")
    assert rig.mutations(endpoint_id) == []
    (shown,) = application["status"]["operationState"]["syncResult"]["resources"]
    assert (shown["name"], shown["hookPhase"], shown["message"]) == (
        "ill",
        "Failed",
        message(rig.get("ill"), "Stalled"),
    )
    world.repository.commit("stalled", manifest("ill", spec), consumer("after-ill"))
    world.argo_cd.refresh("stalled")
    world.argo_cd.wait("stalled", what="the mended sync", sync="Synced", health="Healthy", phase="Succeeded")
    assert world.exists("after-ill")
    assert rig.committed(endpoint_id) == 1


def test_self_heal_reverts_the_spec_and_leaves_what_actions_ask_for(world: World) -> None:
    rig = world.rig
    endpoint_id = rig.endpoint("friendli")
    world.deploy("healed", manifest("kept", spec_of("friendli", endpoint_id, scaling={"replicas": 2})))
    healthy = {"sync": "Synced", "health": "Healthy", "phase": "Succeeded"}
    world.argo_cd.wait("healed", what="the first sync", **healthy)

    world.act("kept", "suspend")
    rig.wait("kept", "Suspended")
    generation = rig.get("kept")["metadata"]["generation"]
    rig.merge("kept", {"spec": {"replicas": 5}}, "/scale")
    reverted = wait_for(lambda: _at_generation(rig, "kept", generation + 2), what="self-heal")
    assert reverted["spec"]["scaling"] == {"replicas": 2}
    world.argo_cd.wait("healed", what="being in sync again", sync="Synced")
    time.sleep(LONG_ENOUGH)
    resource = rig.get("kept")
    assert resource["metadata"]["annotations"][SUSPEND_ANNOTATION] == "true"
    assert resource["metadata"]["generation"] == generation + 2
    assert rig.condition("kept", "Suspended") == ("True", "Suspended")
    assert rig.committed(endpoint_id) == 1

    world.act("kept", "resume")
    wait_for(lambda: rig.condition("kept", "Suspended") is None, what="the end of suspension")
    assert SUSPEND_ANNOTATION not in rig.get("kept")["metadata"].get("annotations", {})
    world.act("kept", "reapply")
    wait_for(lambda: rig.committed(endpoint_id) == 2, what="the reapply")
    rig.wait("kept", "Ready")
    world.argo_cd.wait("healed", what="being healthy", **healthy)
    time.sleep(LONG_ENOUGH)
    assert rig.get("kept")["metadata"]["generation"] == generation + 2
    assert rig.committed(endpoint_id) == 2


def _at_generation(rig: Rig, name: str, generation: int) -> dict[str, Any] | None:
    resource = rig.get(name)
    return resource if resource["metadata"]["generation"] >= generation else None


def test_what_is_documented_for_autoscalers_keeps_self_heal_from_the_replicas(world: World) -> None:
    rig = world.rig
    page = (ROOT / "docs" / "gitops.md").read_text(encoding="utf-8")
    block = next(each for each in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "ignoreDifferences" in each)
    endpoint_id, documented = rig.endpoint("friendli"), yaml.safe_load(block)["spec"]
    chosen = {key: documented[key] for key in ("ignoreDifferences", "syncPolicy")}
    assert documented["syncPolicy"]["automated"]["selfHeal"] is True
    world.deploy("scaled", manifest("elastic", spec_of("friendli", endpoint_id, scaling={"replicas": 2})), **chosen)
    world.argo_cd.wait("scaled", what="the first sync", sync="Synced", health="Healthy", phase="Succeeded")
    # What is kept comes from Argo CD's cache: the health of the rollout tells that the third replica is in it.
    rig.emulators.set_knobs("friendli", endpoint_id, rollout_seconds=AN_HOUR)
    rig.merge("elastic", {"spec": {"replicas": 3}}, "/scale")
    world.argo_cd.wait("scaled", what="the rollout of the third replica", health="Progressing")
    rig.emulators.set_knobs("friendli", endpoint_id, rollout_seconds=0)
    rig.emulators.set_endpoint("friendli", endpoint_id, state="RUNNING")
    world.argo_cd.wait("scaled", what="the third replica", health="Healthy")
    assert rig.committed(endpoint_id) == 2
    # Another part of the manifest changes, and is applied without the replicas.
    changed = spec_of("friendli", endpoint_id, scaling={"replicas": 2}, versionComment="from Git")
    world.repository.commit("scaled", manifest("elastic", changed))
    world.argo_cd.refresh("scaled")
    wait_for(lambda: "versionComment" in rig.get("elastic")["spec"], what="the commit")
    world.argo_cd.wait("scaled", what="being in sync", sync="Synced", health="Healthy")
    time.sleep(LONG_ENOUGH)
    assert rig.get("elastic")["spec"]["scaling"] == {"replicas": 3}
    assert rig.committed(endpoint_id) == 2


def test_the_operator_owns_nothing_but_the_status_of_what_argo_cd_deploys(world: World) -> None:
    """Of all that the tests above have deployed, whatever happened to it."""
    found = {resource["metadata"]["name"]: owners(resource) for resource in world.rig.list()}
    assert found.keys() == {"first", "ill", "kept", "elastic"}
    for name, owned in found.items():
        assert owned["inference-operator"] == {"f:status"}, name
        assert owned["argocd-controller"] >= {"f:spec"}, name
