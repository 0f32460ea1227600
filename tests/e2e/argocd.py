"""Argo CD without a cluster: its own code on a file, and its controllers as processes beside a control plane.

`uv run --directory tests python -m e2e.argocd` makes `argocd-cm.yaml`, what users paste, from the Lua files.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import httpx
import yaml

import debian
from inference_operator.api.names import GROUP, KIND
from inference_operator.playground import binaries, toolchain
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.processes import ProcessGroup, free_ports, last_lines
from planes import api_client
from rig import ROOT, wait_for

FILES: Final = ROOT / "charts" / "inference-operator" / "files" / "argocd"
CUSTOMIZATION: Final = FILES / "resource_customizations" / GROUP / KIND
"""Argo CD's own layout for the scripts of a kind, so that the folder can be handed in there as it is."""

CONFIG_MAP: Final = FILES / "argocd-cm.yaml"
ACTIONS: Final = ("refresh", "reapply", "suspend", "resume")
NAMESPACE: Final = "argocd"
PATIENCE_SECONDS: Final = 60.0
ATTEMPTS: Final = 5


# ── what users paste ──────────────────────────────────────────────────────────────────────────────────


class _Literal(yaml.SafeDumper):
    """Writes text of several lines as it is read."""


_Literal.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def dump(document: Any) -> str:
    """A document as YAML that people read: in the given order, scripts as blocks."""
    return yaml.dump(document, Dumper=_Literal, sort_keys=False, width=120)


def config_map() -> str:
    """The ConfigMap with both customisations, from the Lua files."""
    kind = f"{GROUP}_{KIND}"
    actions = {
        "discovery.lua": (CUSTOMIZATION / "actions" / "discovery.lua").read_text(encoding="utf-8"),
        "definitions": [
            {"name": name, "action.lua": (CUSTOMIZATION / "actions" / name / "action.lua").read_text(encoding="utf-8")}
            for name in ACTIONS
        ],
    }
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "labels": {"app.kubernetes.io/part-of": "argocd"}},
        "data": {
            f"resource.customizations.health.{kind}": (CUSTOMIZATION / "health.lua").read_text(encoding="utf-8"),
            f"resource.customizations.actions.{kind}": dump(actions),
        },
    }
    return (
        "# Made from the Lua files beside it by `uv run --directory tests python -m e2e.argocd`; do not edit.\n"
        f"{dump(document)}"
    )


# ── its own code on a file ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Health:
    """What Argo CD shows for a resource."""

    status: str
    message: str


class ActionRefusedError(Exception):
    """A script ended with an error; the text is what the user of Argo CD is shown."""


@dataclass(frozen=True)
class Scripts:
    """The scripts as pasted, run by the code that runs them in Argo CD.

    Attributes:
        program: The program `argocd`.
        config_map: The file with the customisations.
    """

    program: Path
    config_map: Path = CONFIG_MAP

    def health(self, resource: Mapping[str, Any]) -> Health:
        """The health of a resource."""
        said = re.fullmatch(r"STATUS: (\w+)\nMESSAGE: (.*)\n", self._run("health", resource), re.DOTALL)
        assert said is not None
        return Health(said[1], said[2])

    def actions(self, resource: Mapping[str, Any]) -> dict[str, bool]:
        """The name of every action, and whether it can be chosen."""
        rows = [line.split() for line in self._run("list-actions", resource).splitlines()]
        assert rows[0] == ["NAME", "DISABLED"]
        return {name: disabled == "false" for name, disabled in rows[1:]}

    def act(self, resource: Mapping[str, Any], action: str) -> dict[str, Any]:
        """The resource as an action leaves it.

        Raises:
            ActionRefusedError: The action does not allow itself.
        """
        said = self._run("run-action", resource, action)
        return dict(yaml.safe_load(said.partition("\n\n")[2]))

    def _run(self, command: str, resource: Mapping[str, Any], *arguments: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "resource.yaml"
            path.write_text(yaml.safe_dump(dict(resource)))
            done = subprocess.run(
                [
                    *(str(self.program), "admin", "settings", "resource-overrides", command, str(path), *arguments),
                    *("--argocd-cm-path", str(self.config_map)),
                ],
                # The result of an action is shown through a program for differences: this one shows the whole of it.
                env={"KUBECONFIG": os.devnull, "HOME": folder, "KUBECTL_EXTERNAL_DIFF": """/bin/sh -c 'cat "$1"'"""},
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise ActionRefusedError(json.loads(done.stderr.splitlines()[-1])["msg"])
        return done.stdout


# ── its controllers ───────────────────────────────────────────────────────────────────────────────────


@cache
def definitions() -> Sequence[Mapping[str, Any]]:
    """The custom resource definitions that the controllers need, from the module that they are built from."""
    module = binaries.PROGRAMS["argocd"].module
    listed = subprocess.run(
        [toolchain.find_go(module.go_version), "mod", "download", "-json", module.stamped],
        cwd=module.folder,
        env=toolchain._environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    folder = Path(json.loads(listed.stdout)["Dir"]) / "manifests" / "crds"
    return [yaml.safe_load((folder / f"{kind}-crd.yaml").read_text()) for kind in ("application", "appproject")]


ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ARGOCD_FAKE_IN_CLUSTER": "true",  # makes https://kubernetes.default.svc mean the cluster of KUBECONFIG
        "ARGOCD_GPG_ENABLED": "false",
    }
)


class ArgoCD:
    """Application controller, repository server and redis, as a context manager; their files are in a folder."""

    def __init__(self, program: Path, plane: ControlPlane, folder: Path) -> None:
        self._program, self._plane, self._folder = program, plane, folder
        self._group = ProcessGroup()
        self._api = api_client(plane)
        self._logs: dict[str, Path] = {}

    def __enter__(self) -> Self:
        try:
            self._install()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; what they keep in the cluster stays."""
        self._group.terminate(grace_seconds=3)
        self._group.close()
        self._api.close()

    def application(self, name: str) -> dict[str, Any]:
        """An application as it is stored."""
        answer = self._api.get(f"{_APPLICATIONS}/{name}")
        answer.raise_for_status()
        return dict(answer.json())

    def apply(self, name: str, spec: Mapping[str, Any]) -> None:
        """Create an application, or give it another spec."""
        document = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "spec": dict(spec)}
        self._apply(f"{_APPLICATIONS}/{name}", {**document, "metadata": {"name": name, "namespace": NAMESPACE}})

    def refresh(self, name: str) -> None:
        """Look at Git now instead of at the next interval."""
        headers = {"Content-Type": "application/merge-patch+json"}
        change = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}
        self._api.patch(f"{_APPLICATIONS}/{name}", headers=headers, json=change).raise_for_status()

    def wait(self, name: str, *, what: str, **wanted: str | None) -> dict[str, Any]:
        """Wait until an application stands as given.

        Args:
            name: Its name.
            what: What is waited for, in words.
            wanted: Any of `sync`, `health` and `phase` (of the last operation).
        """

        def reached() -> dict[str, Any] | None:
            application = self.application(name)
            return application if wanted.items() <= standing(application).items() else None

        found: dict[str, Any] = wait_for(
            reached,
            what=f"{name}: {what}",
            seconds=PATIENCE_SECONDS,
            state=lambda: (self.application(name).get("status"), self.tails()),
        )
        return found

    def tails(self) -> str:
        """The last lines of every log."""
        return "\n".join(f"{name}:\n{last_lines(log)}" for name, log in self._logs.items())

    def _install(self) -> None:
        for document in definitions():
            self._apply(f"{_DEFINITIONS}/{document['metadata']['name']}", document)
        self._api.post("/api/v1/namespaces", json={"metadata": {"name": NAMESPACE}})
        labels = {"app.kubernetes.io/part-of": "argocd"}
        secret = {"apiVersion": "v1", "kind": "Secret", "stringData": {"server.secretkey": "unused"}}
        self._apply(
            f"{_CORE}/secrets/argocd-secret", {**secret, "metadata": {"name": "argocd-secret", "labels": labels}}
        )
        theirs = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"timeout.reconciliation": "180s"}}
        self._apply(f"{_CORE}/configmaps/argocd-cm", {**theirs, "metadata": {"name": "argocd-cm", "labels": labels}})
        ours = yaml.safe_load(CONFIG_MAP.read_text(encoding="utf-8"))
        self._apply(f"{_CORE}/configmaps/argocd-cm", ours, manager="inference-operator", force=False)
        wait_for(lambda: self._api.get(_APPLICATIONS).is_success and self._api.get(_PROJECTS).is_success, what="CRDs")
        anything = {"group": "*", "kind": "*"}
        project = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "AppProject",
            "metadata": {"name": "default"},
            "spec": {
                "sourceRepos": ["*"],
                "destinations": [{"server": "*", "namespace": "*"}],
                "clusterResourceWhitelist": [anything],
            },
        }
        self._apply(f"{_PROJECTS}/default", project)

    def _apply(self, path: str, document: Mapping[str, Any], *, manager: str = "installer", force: bool = True) -> None:
        answer = self._api.patch(
            path,
            params={"fieldManager": manager, "force": str(force).lower()},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=json.dumps(document),
        )
        assert answer.is_success, answer.text

    def _start(self) -> None:
        """Start all three; with other ports where one that was free is taken by the time it is used."""
        for _ in range(ATTEMPTS):
            if self._boot():
                return
            self._group.close()
            self._group = ProcessGroup()
        raise AssertionError(self.tails())

    def _boot(self) -> bool:
        redis, repository, *metrics = free_ports(4)
        children = self._spawn_all(redis, repository, metrics)

        def have_ended() -> bool:
            return any(child.poll() is not None for child in children)

        wait_for(
            lambda: all(map(_is_healthy, metrics)) or have_ended(),
            what="Argo CD to be healthy",
            seconds=PATIENCE_SECONDS,
            state=self.tails,
        )
        return not have_ended()

    def _spawn_all(self, redis: int, repository: int, metrics: Sequence[int]) -> Sequence[subprocess.Popen[str]]:
        common = ["--redis", f"127.0.0.1:{redis}", "--logformat", "text"]
        storage = ["--bind", "127.0.0.1", "--port", str(redis), "--save", "", "--appendonly", "no"]
        repo_server = [
            *(str(self._program), "--address", "127.0.0.1", "--port", str(repository), "--disable-tls"),
            *("--metrics-address", "127.0.0.1", "--metrics-port", str(metrics[0])),
            *("--revision-cache-expiration", "1s", *common),
        ]
        controller = [
            *(str(self._program), "--namespace", NAMESPACE, "--metrics-port", str(metrics[1])),
            *("--repo-server", f"127.0.0.1:{repository}", "--repo-server-plaintext"),
            *("--app-resync", "5", "--app-resync-jitter", "0", *common),
        ]
        return [
            self._spawn("redis", [str(debian.program("redis-server", "redis-server")), *storage]),
            self._spawn("argocd-repo-server", repo_server),
            self._spawn("argocd-application-controller", controller),
        ]

    def _spawn(self, name: str, argv: Sequence[str]) -> subprocess.Popen[str]:
        home = self._folder / name
        home.mkdir(exist_ok=True)
        places = {
            "HOME": home,
            "TMPDIR": home,
            "ARGOCD_TLS_DATA_PATH": home / "tls",
            "ARGOCD_SSH_DATA_PATH": home / "ssh",
            "ARGOCD_PLUGINSOCKFILEPATH": home / "plugins",
            "ARGOCD_ASK_PASS_SOCK": home / "askpass.sock",
            "KUBECONFIG": self._plane.kubeconfig,
            "ARGOCD_BINARY_NAME": name,
            "PATH": os.environ["PATH"],  # it calls git
        }
        self._logs[name] = home / "log"
        with self._logs[name].open("w") as log:
            environment = {**ENVIRONMENT, **{key: str(value) for key, value in places.items()}}
            return self._group.spawn(argv, stdout=log, stderr=log, cwd=home, env=environment)


_CORE: Final = f"/api/v1/namespaces/{NAMESPACE}"
_APPLICATIONS: Final = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/applications"
_PROJECTS: Final = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/appprojects"
_DEFINITIONS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def standing(application: Mapping[str, Any]) -> dict[str, str | None]:
    """What an application says of itself: `sync`, `health`, and `phase` of the last operation.

    An operation that was asked for and has not ended is `Running`. Argo CD may say Synced and Healthy beside one: its
    cache is behind right after a sync, the comparison then asks for another, and the next comparison finds all well.
    """
    status = application.get("status", {})
    return {
        "sync": status.get("sync", {}).get("status"),
        "health": status.get("health", {}).get("status"),
        "phase": "Running" if "operation" in application else status.get("operationState", {}).get("phase"),
    }


def _is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    CONFIG_MAP.write_text(config_map(), encoding="utf-8")
