"""A release of the chart in a control plane without nodes, and its pods as processes: same variables, same account."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from e2e.chart import CHART, RELEASE, Object, container, environment, helm
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.kubeconfig import User, write_kubeconfig
from inference_operator.playground.processes import free_ports
from planes import api_client
from rig import QUICK, Process, wait_for

IMAGE_ENTRYPOINT = (sys.executable, "-I", "-m", "inference_operator")
"""As the Dockerfile has it."""


@dataclass
class Release:
    """One release.

    Attributes:
        plane: Where it is installed.
        folder: For kubeconfigs and the output of pods.
        values: As given to Helm.
        chart: What was installed.
        namespace: Of the release.
        pods: Every process that was started.
    """

    plane: ControlPlane
    folder: Path
    values: Mapping[str, Any]
    chart: Path = CHART
    namespace: str = field(default_factory=lambda: f"home-{uuid.uuid4().hex[:8]}")
    pods: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = api_client(self.plane)

    def close(self) -> None:
        for pod in self.pods:
            pod.kill()
        self.api.close()

    def helm(self, command: str, *arguments: str | Path) -> str:
        """Run a command of Helm on the release; returns what it printed."""
        scope = ("--namespace", self.namespace)
        values = None if command == "uninstall" else self.values
        return helm(command, RELEASE, *arguments, *scope, values=values, kubeconfig=self.plane.kubeconfig).stdout

    def install(self) -> str:
        return self.helm("install", self.chart, "--create-namespace")

    def upgrade(self, chart: Path = CHART) -> str:
        self.chart = chart
        return self.helm("upgrade", chart)

    def uninstall(self) -> str:
        return self.helm("uninstall", "--wait", "--timeout", "30s")

    def deployment(self) -> Object:
        """The Deployment as the API server has it."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        (found,) = self.api.get(path).raise_for_status().json()["items"]
        return dict(found)

    @property
    def account(self) -> str:
        """The name by which RBAC and the audit log know the pods."""
        return f"system:serviceaccount:{self.namespace}:{self._account}"

    @property
    def _account(self) -> str:
        return str(self.deployment()["spec"]["template"]["spec"]["serviceAccountName"])

    def start(self, state: str = "working") -> Process:
        """Start a pod as the Deployment says, but for where it reaches the API server; returns when it is ready.

        Args:
            state: What it then says of itself: `working`, or `standing by` while another works. A pod that is not the
                first listens on a port of its own, as all have this machine's address.
        """
        deployment, account, number = self.deployment(), self._account, len(self.pods)
        request = self.api.post(
            f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token", json={"spec": {}}
        ).raise_for_status()
        kubeconfig = self.folder / f"{self.namespace}-{number}.kubeconfig"
        user = User(account, (), request.json()["status"]["token"])
        write_kubeconfig(kubeconfig, url=self.plane.url, ca_file=self.plane.ca_file, user=user)
        variables = {"PATH": os.defpath, "KUBECONFIG": str(kubeconfig), **environment(deployment)}
        if number:
            variables["INFERENCE_OPERATOR_HTTP_ADDRESS"] = "127.0.0.1:0"
        log = self.folder / f"pod-{self.namespace}-{number}.log"
        command = [*IMAGE_ENTRYPOINT, *container(deployment)["args"]]
        with log.open("wb") as sink:
            popen = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=variables, cwd=self.folder)
        pod = Process(popen, log)
        self.pods.append(pod)
        self.wait(pod, state)
        return pod

    def wait(self, pod: Process, state: str) -> None:
        """Wait until the pod is ready and says this of itself."""
        wait_for(lambda: state in self.readiness(pod), what=f"the pod to be {state}", log=pod.log)

    def readiness(self, pod: Process) -> str:
        """What `/readyz` says of a pod that is ready; empty for one that is not yet. Fails if it has ended."""
        assert pod.popen.poll() is None, f"the pod ended with {pod.popen.returncode}:\n{pod.log.read_text()[-4000:]}"
        address = pod._address()
        answer = httpx.get(f"{address}/readyz", trust_env=False) if address else None
        return answer.text if answer is not None and answer.is_success else ""


def values_for(emulators: EmulatorControl, **values: Any) -> dict[str, Any]:
    """Values of a release whose providers are emulated, that is in a hurry and listens on loopback only."""
    (port,) = free_ports(1)
    quick = {_camel(name): value for name, value in QUICK.items()}
    origins = {name: url for name, url in emulators.urls().items() if name != "control"}
    settings = {"baseUrls": origins, "logFormat": "json", **quick}
    return {"http": {"host": "127.0.0.1", "port": port}, "settings": settings, **values}


def _camel(flag: str) -> str:
    first, *rest = flag.split("-")
    return first + "".join(word.title() for word in rest)


@contextmanager
def released(plane: ControlPlane, folder: Path, values: Mapping[str, Any], chart: Path = CHART) -> Iterator[Release]:
    """An installed release; its pods end with it, what it installed stays."""
    release = Release(plane, folder, values, chart)
    try:
        release.install()
        yield release
    finally:
        release.close()


def definition_of(plane: ControlPlane) -> Object:
    """The custom resource definition as the API server has it."""
    name = "inferenceendpoints.inference-operator.io"
    with api_client(plane) as api:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        return dict(api.get(path).raise_for_status().json())


def older_chart(folder: Path) -> Path:
    """A copy of the chart as a release before this one would have it: its definition knows fewer fields.

    The definition of a release that did not know `spec.writeConnectionTo`, with another description.
    """
    copied = folder / "older"
    subprocess.run(["cp", "-r", CHART, copied], check=True)
    (file,) = (copied / "files").glob("inferenceendpoints.*.yaml")
    document = yaml.safe_load(file.read_text())
    schema = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["description"] = "older"
    del schema["properties"]["spec"]["properties"]["writeConnectionTo"]
    file.write_text("# older\n" + yaml.safe_dump(document, sort_keys=False))
    return copied


def rest(seconds: float) -> None:
    """Let as much time pass as nothing may happen in."""
    time.sleep(seconds)
