"""Where programs of the control plane and of its clients come from, so that nobody has to install Kubernetes.

They are looked for in the folder that `KUBEBUILDER_ASSETS` names (the convention of every controller project), then in
the user's cache, and are built into that cache from Go modules when they are in neither.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from inference_operator.playground.progress import Phase, Progress, Report, on_terminal
from inference_operator.playground.toolchain import GoModule, build

_MODULES = Path(__file__).with_name("modules")
_VERSION = "k8s.io/component-base/version."
_CONTROL_PLANE = GoModule(
    _MODULES / "controlplane",
    stamped="k8s.io/kubernetes",
    variables=(
        (f"{_VERSION}gitVersion", "{version}"),
        (f"{_VERSION}gitMajor", "{major}"),
        (f"{_VERSION}gitMinor", "{minor}"),
    ),
)
# Each in a module of its own: they want other releases of the Kubernetes libraries.
_HELM = GoModule(
    _MODULES / "helm", stamped="helm.sh/helm/v4", variables=(("helm.sh/helm/v4/internal/version.version", "{version}"),)
)
_ARGO_CD = GoModule(_MODULES / "argocd", stamped="github.com/argoproj/argo-cd/v3")


@dataclass(frozen=True)
class Program:
    """A program that can be built.

    Attributes:
        module: The Go module that pins it.
        package: The import path of its main package.
    """

    module: GoModule
    package: str


PROGRAMS: Final[Mapping[str, Program]] = MappingProxyType(
    {
        "etcd": Program(_CONTROL_PLANE, "go.etcd.io/etcd/server/v3"),
        "kube-apiserver": Program(_CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-apiserver"),
        "kube-controller-manager": Program(_CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-controller-manager"),
        "kube-proxy": Program(_CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-proxy"),
        "kube-scheduler": Program(_CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-scheduler"),
        "kubectl": Program(_CONTROL_PLANE, "k8s.io/kubernetes/cmd/kubectl"),
        "kubelet": Program(_CONTROL_PLANE, "k8s.io/kubernetes/cmd/kubelet"),
        "helm": Program(_HELM, "helm.sh/helm/v4/cmd/helm"),
        "kstatus": Program(_HELM, "./kstatus"),
        "argocd": Program(_ARGO_CD, "github.com/argoproj/argo-cd/v3/cmd"),
    }
)
"""Every program `ensure` knows, by the name of its file."""


def ensure(names: Sequence[str], *, progress: Report | None = None) -> dict[str, Path]:
    """Return where the named programs are, after building those that are nowhere yet.

    Takes minutes when it builds for the first time. Any number of processes may call it at once: one builds, and the
    others wait for it.

    Args:
        names: Keys of `PROGRAMS`.
        progress: Receives the steps of a build; by default they are shown on standard error.

    Raises:
        ValueError: A name is not in `PROGRAMS`.
        ToolchainError: Something must be built and there is no Go that is new enough.
        BuildError: The build failed.
    """
    if unknown := set(names) - set(PROGRAMS):
        raise ValueError(f"no such program: {', '.join(sorted(unknown))}; known are {', '.join(PROGRAMS)}")
    missing = [name for name in names if locate(name) is None]
    if missing:
        with on_terminal() if progress is None else nullcontext(progress) as report:
            _build_all(missing, report)
    return {name: locate(name) or _cached(name) for name in names}


def locate(name: str) -> Path | None:
    """Where a program is now, without building it; None when it is in no place that is looked at."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    places = [Path(assets) / name] if assets else []
    return next((place for place in [*places, _cached(name)] if place.is_file() and os.access(place, os.X_OK)), None)


def cache_folder(module: GoModule) -> Path:
    """The folder for what is built from a module; another one as soon as any pinned version or flag changes."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "inference-operator" / f"{module.folder.name}-{module.version}-{module.digest}"


def _cached(name: str) -> Path:
    return cache_folder(PROGRAMS[name].module) / name


def _build_all(names: Sequence[str], report: Report) -> None:
    for module in dict.fromkeys(PROGRAMS[name].module for name in names):
        mine = [name for name in names if PROGRAMS[name].module == module]
        with _locked(cache_folder(module), report, ", ".join(mine)) as folder:
            # Looked at again: whoever held the lock before may have built them.
            missing = {name: PROGRAMS[name].package for name in mine if locate(name) is None}
            if missing:
                build(module, missing, folder, report)


@contextmanager
def _locked(folder: Path, report: Report, names: str) -> Iterator[Path]:
    """Hold a cache folder alone. The kernel lets go of the lock when its holder ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(Progress(Phase.WAITING, names))
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob(".building-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield folder
