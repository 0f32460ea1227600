"""A real Kubernetes control plane on loopback, for people without a cluster and for tests that need the real thing.

It consists of etcd and kube-apiserver, and of kube-controller-manager where garbage collection, namespace deletion or
autoscaling matters. There is no scheduler and no kubelet: pods are stored and never run.
"""

import asyncio
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import httpx

from inference_operator.playground import components
from inference_operator.playground.binaries import ensure
from inference_operator.playground.components import Layout
from inference_operator.playground.kubeconfig import User, write_kubeconfig, write_tokens
from inference_operator.playground.processes import ProcessGroup, free_ports, last_lines

ADMIN: Final = "admin"
"""The user that every control plane has; a member of `system:masters`."""

_CONTROLLER_MANAGER: Final = "system:kube-controller-manager"
_BUILT_IN: Final = {ADMIN: ("system:masters",), _CONTROLLER_MANAGER: ("system:masters",)}
_ATTEMPTS: Final = 5
_READY_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1
# An API server with open watches takes a minute to end by itself, and nothing here is worth keeping.
_GRACE_SECONDS: Final = 1.0


class ControlPlaneError(RuntimeError):
    """The control plane is not running or did not become ready; the message ends with the last lines of a log."""


class PortTakenError(ControlPlaneError):
    """A port that was free when it was chosen was taken when it was needed."""


@dataclass(frozen=True)
class _Component:
    name: str
    process: subprocess.Popen[str]
    log: Path

    def check(self) -> None:
        """Raise if the component has ended."""
        code = self.process.poll()
        if code is None:
            return
        tail = last_lines(self.log)
        error = PortTakenError if "address already in use" in tail else ControlPlaneError
        raise error(f"{self.name} ended with exit code {code}:\n{tail}")


class ControlPlane:
    """One control plane with its own data, ports, users and audit log; any number can run side by side.

    A context manager, `with` or `async with`; or call `start` and `stop`, after which it can be started afresh. RBAC is
    on. The components die with the process that started them even if that is killed, and then leave nothing but the
    temporary folder. All attributes but `admin_token` are there once it has started.

    Attributes:
        url: Origin of the API server, `https://127.0.0.1:<port>`.
        folder: The temporary folder with everything below and a log file per component; `stop` removes it.
        ca_file: The certificate authority of the API server, PEM.
        admin_token: Bearer token of the user `ADMIN`.
        kubeconfig: The same user as a kubeconfig file.
        audit_log: One JSON object (`audit.k8s.io/v1`, level Metadata) per line, written once a response is complete;
            watches have another one when they begin.
    """

    url: str
    folder: Path
    ca_file: Path
    admin_token: str
    kubeconfig: Path
    audit_log: Path

    def __init__(self, *, users: Mapping[str, Sequence[str]] | None = None, controller_manager: bool = False) -> None:
        """Describe a control plane; nothing runs before `start`.

        Args:
            users: Names of further users and the groups of each. The audit log tells them apart.
            controller_manager: Whether kube-controller-manager runs as well.
        """
        groups = _BUILT_IN | dict(users or {})
        self._users = {name: User(name, tuple(members)) for name, members in groups.items()}
        self._controller_manager = controller_manager
        self._programs: Mapping[str, Path] = {}
        self._components: dict[str, _Component] = {}
        self._group: ProcessGroup | None = None
        self.admin_token = self.token_of(ADMIN)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def start(self) -> Self:
        """Boot, and return when the API server is ready, about three seconds later.

        Builds the programs first if they are nowhere yet (`binaries.ensure`, which takes minutes).

        Raises:
            BuildError: The programs could not be built.
            ControlPlaneError: A component ended, or something was not ready within a minute.
        """
        if self._group is not None:
            raise ControlPlaneError("the control plane is running already")
        self._programs = ensure(["etcd", "kube-apiserver", *["kube-controller-manager"] * self._controller_manager])
        _retry(self._boot)
        return self

    def stop(self) -> None:
        """End every component and remove the folder. May be called at any time, and twice."""
        if self._group is None:
            return
        self._group.terminate(grace_seconds=_GRACE_SECONDS)
        self._group.close()
        self._group = None
        self._components.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill_apiserver(self) -> None:
        """Kill kube-apiserver as a crash would: connections break and are then refused until `restart_apiserver`."""
        component = self._components.pop("kube-apiserver", None)
        if component is not None:
            component.process.kill()
            component.process.wait()

    def restart_apiserver(self) -> None:
        """Kill kube-apiserver unless that was done already, and boot it with the same address, data and certificates.

        Raises:
            ControlPlaneError: It ended, or was not ready within a minute.
        """
        self.kill_apiserver()
        # A client that keeps connecting to a dead port can be given that very port as its own for a moment.
        _retry(self._boot_apiserver)

    def token_of(self, user: str) -> str:
        """The bearer token of a user.

        Raises:
            KeyError: There is no such user.
        """
        return self._users[user].token

    def kubeconfig_of(self, user: str) -> Path:
        """The kubeconfig file of a user; mode 0600.

        Raises:
            KeyError: There is no such user.
        """
        return self._layout.kubeconfig(self._users[user].name)

    def _boot(self) -> None:
        layout = Layout(Path(tempfile.mkdtemp(prefix="inference-operator-")), *free_ports(3))
        self._layout, self._group = layout, ProcessGroup()
        self.folder, self.url, self.ca_file = layout.folder, layout.url, layout.certificate
        self.audit_log, self.kubeconfig = layout.audit_log, layout.kubeconfig(ADMIN)
        try:
            self._boot_storage()
            self._boot_apiserver()
            self._boot_clients()
        except BaseException:
            self.stop()
            raise

    def _boot_storage(self) -> None:
        self._layout.audit_policy.write_text(components.AUDIT_POLICY)
        write_tokens(self._layout.tokens, self._users.values())
        self._spawn("etcd", components.etcd(self._layout))

    def _boot_apiserver(self) -> None:
        self._spawn("kube-apiserver", components.kube_apiserver(self._layout))
        self._await("/readyz")
        self._await("/api/v1/namespaces/default")

    def _boot_clients(self) -> None:
        for user in self._users.values():
            path = self._layout.kubeconfig(user.name)
            write_kubeconfig(path, url=self.url, ca_file=self.ca_file, user=user)
        if self._controller_manager:
            argv = components.kube_controller_manager(self._layout, user=_CONTROLLER_MANAGER)
            self._spawn("kube-controller-manager", argv)
            # It serves nothing that could be asked; this account is the work of one of its controllers.
            self._await("/api/v1/namespaces/default/serviceaccounts/default")

    def _spawn(self, name: str, arguments: Sequence[str]) -> None:
        if self._group is None:
            raise ControlPlaneError("the control plane is not running")
        log = self._layout.log(name)
        argv = [str(self._programs[name]), *arguments]
        with log.open("a") as output:
            # An empty environment: variables such as ETCD_NAME or HTTPS_PROXY are meant for other programs.
            process = self._group.spawn(argv, stdout=output, stderr=output, cwd=self.folder, env={})
        self._components[name] = _Component(name, process, log)

    def _await(self, path: str) -> None:
        """Wait until a GET of the path succeeds."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers(path):
            for component in self._components.values():
                component.check()
            if time.monotonic() > deadline:
                tail = last_lines(self._layout.log("kube-apiserver"))
                raise ControlPlaneError(f"GET {path} did not succeed within {_READY_SECONDS:.0f} s:\n{tail}")
            time.sleep(_POLL_SECONDS)

    def _answers(self, path: str) -> bool:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            headers = {"Authorization": f"Bearer {self.admin_token}"}
            response = httpx.get(self.url + path, headers=headers, verify=context, trust_env=False)
        except (OSError, httpx.TransportError):
            return False  # not listening yet, or the certificate is not written yet
        return response.is_success


def _retry(boot: Callable[[], None]) -> None:
    for _ in range(_ATTEMPTS - 1):
        with suppress(PortTakenError):
            boot()
            return
    boot()
