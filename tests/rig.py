"""The real thing: kube-apiserver, emulated providers and the operator as a process, driven from outside."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import yaml

import audit
from inference_operator.api.names import API_VERSION, GROUP, KIND, PLURAL, VERSION
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.ledger import Entry
from inference_operator.playground.emulators.process import emulator_process
from planes import api_client
from secrecy import CORE, files_that_show, shows

ROOT = Path(__file__).parents[1]
CRD = ROOT / "crds" / f"{PLURAL}.{GROUP}.yaml"
TOKEN = f"flp_{CORE}"
PATIENCE = 30.0

QUICK = {
    "poll-seconds": 1,
    "transition-poll-seconds": 0.3,
    "settle-seconds": 3,
    "request-timeout-seconds": 2,
    "claim-seconds": 1,
    "drift-seconds": 2,
    "drift-cooldown-seconds": 2,
    "secret-grace-seconds": 3,
    "scale-interval-seconds": 0.1,
    "calls-per-second": 2000,
    "calls-burst": 2000,
}


UNHURRIED: Mapping[str, Any] = {"claim-seconds": 10, "request-timeout-seconds": 15, "settle-seconds": 15}
"""Times that a busy machine does not exceed: exceeding one costs another try, and so another write of the status."""


class Child(Protocol):
    """What is needed of a child process; as in `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...
    def terminate(self) -> None: ...
    def send_signal(self, sig: int) -> None: ...


def launch(command: Sequence[str], log: Path) -> Child:
    """Start a program whose output goes to a file."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERENCE_OPERATOR_")}
    with log.open("wb") as sink:
        return subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment)


@dataclass
class Process:
    """One operator process."""

    popen: Child
    log: Path

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def terminate(self) -> int:
        self.popen.terminate()
        return self.popen.wait(timeout=PATIENCE)

    def pause(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def command_line(self) -> bytes:
        """What anybody on the machine can see of it; empty once it has ended."""
        try:
            return Path(f"/proc/{self.popen.pid}/cmdline").read_bytes()
        except OSError:
            return b""

    @property
    def resident_mib(self) -> float:
        line = next(x for x in Path(f"/proc/{self.popen.pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    @property
    def address(self) -> str:
        """Where its metrics are served."""
        return str(wait_for(self._address, what="the address of the metrics"))

    def _address(self) -> str | None:
        for line in self.log.read_text().splitlines():
            if '"serving"' in line:
                return f"http://{json.loads(line)['address']}"
        return None


@dataclass
class Rig:
    """A namespace of its own in a shared control plane, with endpoints and operators of its own."""

    plane: ControlPlane
    emulators: EmulatorControl
    folder: Path
    namespace: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:8]}")
    token: str = field(default="", repr=False)
    program: tuple[str, ...] = ("-m", "inference_operator")
    launch: Callable[[Sequence[str], Path], Child] = launch
    define: bool = True
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = api_client(self.plane)
        self.editor = api_client(self.plane, "editor")
        if self.define:
            install_crd(self.api)
        self.token = f"{TOKEN}-{self.namespace}"
        self.emulators.add_account(self.namespace, [self.token])
        self.api.post("/api/v1/namespaces", json={"metadata": {"name": self.namespace}}).raise_for_status()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.emulators.clear_faults()
        self.api.close()
        self.editor.close()

    # ── the operator ──────────────────────────────────────────────────────────────────────────────────

    def start(
        self,
        *arguments: str,
        wait: bool = True,
        kubeconfig: Path | None = None,
        origins: Mapping[str, str] | None = None,
        **flags: Any,
    ) -> Process:
        """Start an operator that works in this rig's namespace.

        Args:
            arguments: More of the command line.
            wait: Return only when it works.
            kubeconfig: How it reaches the API server, where that is not directly.
            origins: Where it reaches providers, by name, where that is not directly.
            flags: Settings that differ from `QUICK`, by flag.
        """
        urls = {**self.emulators.urls(), **(origins or {})}
        settings = {**QUICK, **{name.replace("_", "-"): value for name, value in flags.items()}}
        command = [
            sys.executable,
            *(*self.program, "run"),
            *("--kubeconfig", str(kubeconfig or self.plane.kubeconfig_of("operator"))),
            *("--base-url", f"friendli={urls['friendli']}", "--base-url", f"novita={urls['novita']}"),
            *("--namespace", self.namespace, "--lease-namespace", self.namespace),
            *("--http-address", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug"),
            *(part for name, value in settings.items() for part in (f"--{name}", str(value))),
            *arguments,
        ]
        log = self.folder / f"operator-{self.namespace}-{len(self.processes)}.log"
        process = Process(self.launch(command, log), log)
        self.processes.append(process)
        if wait:
            wait_for(lambda: self.is_working(process), what="the operator to work", log=log)
        return process

    def is_working(self, process: Process) -> bool:
        """Whether the process is the active one and has begun; fails if it has ended."""
        return "working" in self.readiness(process)

    def readiness(self, process: Process) -> str:
        """What `/readyz` says of a process that is ready; empty for one that is not yet."""
        if process.popen.poll() is not None:
            raise AssertionError(
                f"the operator ended with {process.popen.returncode}:\n{process.log.read_text()[-4000:]}"
            )
        address = process._address()
        if address is None:
            return ""
        answer = httpx.get(f"{address}/readyz", trust_env=False)
        return answer.text if answer.is_success else ""

    # ── the cluster ───────────────────────────────────────────────────────────────────────────────────

    @property
    def path(self) -> str:
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURAL}"

    def secret(self, name: str, **data: str | bytes) -> None:
        """Create or replace a Secret."""
        encoded = {
            key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
            for key, value in data.items()
        }
        self._apply(f"/api/v1/namespaces/{self.namespace}/secrets/{name}", {"data": encoded}, "v1", "Secret", name)

    def delete_secret(self, name: str) -> None:
        self.editor.delete(f"/api/v1/namespaces/{self.namespace}/secrets/{name}").raise_for_status()

    def apply(
        self, name: str, spec: Mapping[str, Any], annotations: Mapping[str, str] | None = None, **meta: Any
    ) -> dict[str, Any]:
        """Server-side apply a resource, as its author."""
        body = {"spec": spec, "metadata": {"annotations": dict(annotations or {}), **meta}}
        return self._apply(f"{self.path}/{name}", body, API_VERSION, KIND, name)

    def _apply(self, path: str, body: dict[str, Any], version: str, kind: str, name: str) -> dict[str, Any]:
        body = {"apiVersion": version, "kind": kind, **body}
        body["metadata"] = {"name": name, "namespace": self.namespace, **body.get("metadata", {})}
        answer = self.editor.patch(
            path,
            params={"fieldManager": "editor", "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=yaml.safe_dump(body),
        )
        assert answer.is_success, answer.text
        return dict(answer.json())

    def merge(self, name: str, change: Mapping[str, Any], subresource: str = "") -> dict[str, Any]:
        """Edit a resource, or a subresource such as `/scale`, by a merge patch: lists are replaced whole."""
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = self.editor.patch(f"{self.path}/{name}{subresource}", headers=headers, json=dict(change))
        assert answer.is_success, answer.text
        return dict(answer.json())

    def delete(self, name: str) -> None:
        self.editor.delete(f"{self.path}/{name}").raise_for_status()

    def get(self, name: str) -> dict[str, Any]:
        answer = self.api.get(f"{self.path}/{name}")
        answer.raise_for_status()
        return dict(answer.json())

    def list(self) -> Sequence[dict[str, Any]]:
        answer = self.api.get(self.path)
        answer.raise_for_status()
        return list(answer.json()["items"])

    def condition(self, name: str, kind: str) -> tuple[str, str] | None:
        return condition(self.get(name), kind)

    def wait(self, name: str, kind: str = "Synced", status: str = "True", reason: str | None = None) -> dict[str, Any]:
        """Wait until a condition of the newest generation is as given; returns the resource."""

        def reached() -> dict[str, Any] | None:
            resource = self.get(name)
            found = condition(resource, kind)
            current = resource["status"].get("observedGeneration") == resource["metadata"]["generation"]
            met = found is not None and found[0] == status and reason in {None, found[1]}
            return resource if met and (current or status != "True") else None

        found: dict[str, Any] = wait_for(
            reached,
            what=f"{name} {kind}={status}/{reason}",
            log=self.processes[-1].log if self.processes else None,
            state=lambda: self.get(name).get("status"),
        )
        return found

    def operator_writes(self) -> Sequence[audit.Write]:
        """What operators have written in this namespace, Events and Leases apart."""
        audit.settle(self.plane)
        return [
            write
            for write in audit.writes(self.plane.audit_log, user="operator")
            if write.namespace == self.namespace and write.resource == PLURAL
        ]

    # ── the providers ─────────────────────────────────────────────────────────────────────────────────

    def endpoint(self, provider: str, spec: Mapping[str, Any] | None = None) -> str:
        """A running endpoint of this rig's account; returns its id."""
        endpoint_id = f"ep-{uuid.uuid4().hex[:10]}"
        self.emulators.create_endpoint(provider, endpoint_id, self.namespace, spec=spec)
        return endpoint_id

    def mutations(self, endpoint_id: str) -> Sequence[Entry]:
        return self.emulators.mutations(endpoint_id)

    def committed(self, endpoint_id: str) -> int:
        """How many changes took effect, those of others apart."""
        return sum(entry.committed for entry in self.mutations(endpoint_id))

    def secrets_shown(self) -> Sequence[str]:
        """Places that show the token, or a part of it in any form, although nobody may see it."""
        shown = [str(path) for path in files_that_show(self.folder)]
        shown += [process.log.name for process in self.processes if shows(process.command_line)]
        kinds = (
            ("/api/v1", "configmaps"),
            ("/apis/events.k8s.io/v1", "events"),
            ("/apis/coordination.k8s.io/v1", "leases"),
        )
        paths = [self.path, *(f"{api}/namespaces/{self.namespace}/{kind}" for api, kind in kinds)]
        return shown + [path for path in paths if shows(self.api.get(path).content)]


def spec_of(provider: str, endpoint_id: str, number: int = 1, **changes: Any) -> dict[str, Any]:
    """A small resource; `number` makes it differ in a readable field, and on Friendli `model` in a write-only one."""
    base: dict[str, Any] = {
        "provider": provider,
        "endpointId": endpoint_id,
        "credentialsSecretRef": {"name": "key"},
        "scaling": {"minReplicas": 0, "maxReplicas": number, "cooldownSeconds": 300},
        provider: {},
    }
    return base | changes


def install_crd(api: httpx.Client) -> None:
    """Install the custom resource definition and wait until it is served."""
    document = yaml.safe_load(CRD.read_text())
    api.patch(
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{document['metadata']['name']}",
        params={"fieldManager": "rig", "force": "true"},
        headers={"Content-Type": "application/apply-patch+yaml"},
        content=CRD.read_bytes(),
    ).raise_for_status()
    wait_for(lambda: api.get(f"/apis/{GROUP}/{VERSION}/{PLURAL}").is_success, what="the CRD to be served")


def condition(resource: Mapping[str, Any], kind: str) -> tuple[str, str] | None:
    """Status and reason of a condition."""
    for found in resource.get("status", {}).get("conditions", []):
        if found["type"] == kind:
            return found["status"], found["reason"]
    return None


def wait_for(
    check: Callable[[], Any],
    *,
    what: str,
    seconds: float = PATIENCE,
    log: Path | None = None,
    state: Callable[[], Any] | None = None,
) -> Any:
    """Poll until the check gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if found := check():
            return found
        if time.monotonic() > deadline:
            tail = log.read_text()[-3000:] if log else ""
            raise AssertionError(f"waited {seconds} s for {what}; now: {state() if state else None}\n{tail}")
        time.sleep(max(0.03, 2 * (time.monotonic() - began)))  # an expensive check leaves the machine to the others


@pytest.fixture(scope="session")
def emulators() -> Iterator[EmulatorControl]:
    """Both emulated providers, in a process that outlives any operator."""
    with emulator_process() as control:
        yield control


@pytest.fixture(name="rig")
def rig_of_test(control_plane: ControlPlane, emulators: EmulatorControl, tmp_path: Path) -> Iterator[Rig]:
    """A namespace, an account and operators of its own; whatever they wrote is searched for the token."""
    with rigged(control_plane, emulators, tmp_path) as made:
        yield made


@contextmanager
def rigged(plane: ControlPlane, emulators: EmulatorControl, folder: Path, **given: Any) -> Iterator[Rig]:
    """A rig with its Secret in place; in the end everything that its operators wrote is searched for the token.

    Args:
        plane: The control plane.
        emulators: The providers.
        folder: For the output of its operators.
        given: What differs from a rig's defaults, such as `define=False` where the definition is there already.
    """
    rig = Rig(plane, emulators, folder, **given)
    rig.secret("key", token=rig.token)
    try:
        yield rig
        assert rig.secrets_shown() == []
    finally:
        rig.close()
