"""A cluster of one real node: the control plane, kubelet and containerd in namespaces of their own.

Pods are real processes under the real admission, scheduling, probing and killing that they meet elsewhere. The host
reaches pods and Services over a virtual cable, and pods reach the host at `HOST_ADDRESS`; neither leads anywhere else.
Three things are not as elsewhere: nothing enforces a NetworkPolicy, no image is pulled, and DNS knows Services only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from e2e.node import cgroups, configuration, names
from e2e.node.commands import CommandError, run, succeeds
from e2e.node.configuration import HOST_ADDRESS, LINK, NODE, NODE_ADDRESS, PODS, SERVICES, kubeconfig
from e2e.node.workspace import workspace
from inference_operator.playground.binaries import ensure
from inference_operator.playground.kubeconfig import User, write_kubeconfig, write_tokens
from inference_operator.playground.processes import ProcessGroup, last_lines
from rig import wait_for

PROGRAMS: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
"""What `binaries.ensure` provides; containerd and its company come from `packages`."""

_KUBELET_FOLDER: Final = Path("/var/lib/kubelet")
_FOLDERS: Final = ("cni", "containerd", "kubelet", "log", "settings")
_READY_SECONDS: Final = 120.0
_STARVING_SECONDS: Final = 30.0


class Cluster:
    """One node, which may be used while the context is open; its addresses allow for one on a machine at a time.

    Its processes end with the one that started it, even if that is killed: the kernel ends all processes of a namespace
    with its first one, and lets go of the namespace's mounts. The rest is removed in the end, or else by the next one.

    Attributes:
        folder: Its data, configuration and logs; gone in the end.
    """

    def __init__(self, sandbox: Path) -> None:
        """Describe a node.

        Args:
            sandbox: An archive with the image `images.BASE`.
        """
        self._sandbox = sandbox
        self._stack = ExitStack()
        self._programs: Mapping[str, Path] = {}
        self._children: dict[str, subprocess.Popen[str]] = {}
        self._init = 0

    def __enter__(self) -> Self:
        """Start it, and return when pods can be created, some ten seconds later.

        Raises:
            InUseError: Another one runs on this machine, whose addresses allow for one.
            AssertionError: Something did not start; the message ends with the last lines of its log.
        """
        self._programs = ensure(PROGRAMS)
        with self._stack as stack:
            self.folder = stack.enter_context(workspace("node"))
            self._clean()  # what one that was killed has left
            stack.callback(self._leave)
            self._group = stack.enter_context(ProcessGroup())
            self._write_files()
            self._enter_namespaces()
            self._connect()
            stack.enter_context(names.serving(HOST_ADDRESS, self._addresses))
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # ── what it is for ────────────────────────────────────────────────────────────────────────────────

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return kubeconfig(self.folder, "admin")

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl as the administrator and return what it printed.

        Raises:
            CommandError: It failed.
        """
        return run(self._programs["kubectl"], f"--kubeconfig={self.kubeconfig}", *arguments, text=text)

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list of them, as `kubectl get` finds it.

        Raises:
            CommandError: There is none.
        """
        found: dict[str, Any] = json.loads(self.kubectl("get", "--output=json", *arguments))
        return found

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects on the server's side."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", text=text)

    def load(self, archive: Path) -> None:
        """Import the image of an archive."""
        self._run(*self._ctr, "--namespace=k8s.io", "images", "import", archive)

    def process(self, container: str) -> int:
        """The id, on the host, of a container's first process.

        Args:
            container: As in a pod's status, `containerd://<id>`.

        Raises:
            LookupError: It does not run.
        """
        return cgroups.processes(cgroups.memory_group(_id(container)))[0]

    def starve(self, container: str) -> None:
        """Leave a container without memory, so that the kernel kills it.

        Raises:
            LookupError: It does not run.
        """
        group = cgroups.memory_group(_id(container))
        victim = cgroups.processes(group)[0]
        hog: list[str | Path] = [sys.executable, "-I", Path(__file__).with_name("memory_hog.py"), group, str(victim)]
        # How it ends does not matter: it may be killed after its victim.
        subprocess.run(hog, capture_output=True, check=False, timeout=_STARVING_SECONDS)

    # ── start and end ─────────────────────────────────────────────────────────────────────────────────

    def _leave(self) -> None:
        self._children.clear()
        self._clean()

    def _clean(self) -> None:
        succeeds(["ip", "link", "delete", LINK])  # unless it went with the namespace
        cgroups.remove()
        if _KUBELET_FOLDER.is_dir() and not any(_KUBELET_FOLDER.iterdir()):
            _KUBELET_FOLDER.rmdir()

    def _write_files(self) -> None:
        for name in _FOLDERS:
            (self.folder / name).mkdir()
        for name, content in configuration.files(self.folder).items():
            (self.folder / name).write_text(content)
        self._write_certificates()
        users = [User(name, groups) for name, groups in configuration.USERS.items()]
        write_tokens(self.folder / "tokens.csv", users)
        for user in users:
            url = f"https://{NODE_ADDRESS}:{configuration.API_PORT}"
            write_kubeconfig(kubeconfig(self.folder, user.name), url=url, ca_file=self.folder / "ca.crt", user=user)

    def _write_certificates(self) -> None:
        at = self.folder
        run("openssl", "genrsa", "-out", at / "accounts.key", "2048")
        made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
        run(*made, "-subj", "/CN=node", "-keyout", at / "ca.key", "-out", at / "ca.crt")
        names = ("-subj", "/CN=kube-apiserver", "-addext", configuration.API_NAMES, "-CA", at / "ca.crt")
        run(*made, *names, "-CAkey", at / "ca.key", "-keyout", at / "api.key", "-out", at / "api.crt")

    def _enter_namespaces(self) -> None:
        cgroups.create()
        _KUBELET_FOLDER.mkdir(parents=True, exist_ok=True)
        script = Path(__file__).with_name("init.sh")
        isolated = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
        holder = self._spawn("namespaces", [*isolated, "bash", script, self.folder])
        self._await("namespaces", (self.folder / "namespaces-are-ready").exists)
        self._init = int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text())

    def _connect(self) -> None:
        """Lay the cable; routes go with it in the end."""
        run("ip", "link", "add", LINK, "type", "veth", "peer", "name", "io-node", "netns", str(self._init))
        run("ip", "address", "add", f"{HOST_ADDRESS}/24", "dev", LINK)
        run("ip", "link", "set", LINK, "up")
        self._run("ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", "io-node")
        self._run("ip", "link", "set", "io-node", "up")
        for network in (SERVICES, PODS):
            run("ip", "route", "add", network, "via", NODE_ADDRESS)

    def _addresses(self, service: str, namespace: str) -> Sequence[str] | None:
        """What DNS says of a Service: its own address, or those of its pods where it has none."""
        there = (f"--namespace={namespace}", "--ignore-not-found", "--output=json")
        found = self.kubectl("get", "service", service, *there)
        if not found:
            return None
        address: str = json.loads(found)["spec"]["clusterIP"]
        if address != "None":
            return [address]
        slices = self.get(
            "endpointslices", f"--namespace={namespace}", f"--selector=kubernetes.io/service-name={service}"
        )
        ends = [end for each in slices["items"] for end in each["endpoints"] if end["conditions"]["ready"]]
        return [address for end in ends for address in end["addresses"]]

    def _start(self) -> None:
        self._begin("containerd", configuration.containerd, program="containerd")
        self._begin("etcd", configuration.etcd)
        self._begin("kube-apiserver", configuration.kube_apiserver)
        self._await("containerd", lambda: succeeds([*self._inside, *self._ctr, "version"]))
        self.load(self._sandbox)
        self._await("kube-apiserver", lambda: self._answers("get", "--raw=/readyz"))
        self._begin("kube-controller-manager", configuration.kube_controller_manager)
        self._begin("kube-scheduler", configuration.kube_scheduler)
        self._begin("kubelet", configuration.kubelet)
        self._begin("kube-proxy", configuration.kube_proxy)
        # Without the account, which a controller makes, no pod is admitted.
        self._await("kube-controller-manager", lambda: self._answers("get", "serviceaccount", "default"))
        ready = ("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=1s")
        self._await("kubelet", lambda: self._answers(*ready))

    # ── processes ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", f"--target={self._init}", "--all", "--"]

    @property
    def _ctr(self) -> list[str]:
        return ["ctr", f"--address={configuration.socket(self.folder)}"]

    def _run(self, *command: str | Path) -> str:
        return run(*self._inside, *command)

    def _answers(self, *arguments: str) -> bool:
        try:
            self.kubectl(*arguments)
        except CommandError:
            return False
        return True

    def _begin(self, name: str, arguments: Callable[[Path], Sequence[str]], program: str = "") -> None:
        self._spawn(name, [*self._inside, program or self._programs[name], *arguments(self.folder)])

    def _spawn(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[str]:
        with self._log(name).open("w") as log:
            self._children[name] = self._group.spawn(command, stdout=log, stderr=log, cwd=self.folder)
        return self._children[name]

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _await(self, name: str, check: Callable[[], bool]) -> None:
        def alive_and_ready() -> bool:
            assert self._children[name].poll() is None, f"{name} has ended:\n{last_lines(self._log(name))}"
            return check()

        wait_for(alive_and_ready, what=name, seconds=_READY_SECONDS, log=self._log(name))


def _id(container: str) -> str:
    return container.rpartition("/")[2]
