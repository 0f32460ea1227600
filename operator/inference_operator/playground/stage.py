"""Starts everything that the demonstration plays on, and ends all of it however the demonstration ends."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference_operator.crdgen.resource import custom_resource_definition
from inference_operator.playground import scenario
from inference_operator.playground.cluster import Cluster
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.processes import ProcessGroup, last_lines
from inference_operator.providers.registry import DRIVERS
from inference_operator.settings import PREFIX

OPERATOR_USER: Final = "inference-operator"

SETTINGS: Final = (
    "--poll-seconds=2",
    "--transition-poll-seconds=0.5",
    "--request-timeout-seconds=5",
    "--settle-seconds=5",
    "--drift-seconds=4",
    "--scale-interval-seconds=5",
    "--calls-per-second=20",
    "--http-address=127.0.0.1:0",
    "--log-format=console",
)
"""Faster than the defaults in everything that somebody would otherwise wait for."""

_LOG_LINES: Final = 30
_STOP_SECONDS: Final = 3.0

Say = Callable[[str], None]
"""Tells the user what happened just now, in one line."""


class StageError(RuntimeError):
    """Something did not start, or has ended before its time; the message ends with its last words."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs.

    Attributes:
        cluster: The control plane, as its administrator.
        providers: The emulated providers.
        kubeconfig: For `kubectl`; the administrator's.
        log: What the operator prints.
    """

    cluster: Cluster
    providers: EmulatorControl
    kubeconfig: Path
    log: Path
    _operator: subprocess.Popen[str]

    @property
    def operator_log(self) -> str:
        """The last lines of what the operator printed."""
        return last_lines(self.log, count=_LOG_LINES)

    def check(self) -> None:
        """Raise if the operator has ended.

        Raises:
            StageError: It has.
        """
        code = self._operator.poll()
        if code is not None:
            raise StageError(f"the operator ended with exit code {code}")


@contextmanager
def stage(say: Say, *, rollout_seconds: float) -> Iterator[Stage]:
    """Start the emulators, the control plane with the custom resource definition, and the operator.

    Args:
        say: Is told of each part that has started.
        rollout_seconds: How long a change takes to reach the replicas.

    Raises:
        StageError: The emulators did not start.
        BuildError: The control plane's programs could not be built.
        ControlPlaneError: The control plane did not start.
        ClusterError: It refused what was installed.
    """
    say("Starting a control plane, emulated providers and the operator")
    with ExitStack() as stack:
        group = stack.enter_context(ProcessGroup())
        emulators = group.spawn(_python("inference_operator.playground.emulators", "--json"), stdout=subprocess.PIPE)
        plane, cluster = _control_plane(stack, say)
        urls = _origins(emulators)
        providers = stack.enter_context(EmulatorControl(urls.pop("control")))
        keys = scenario.set_up_providers(providers, rollout_seconds=rollout_seconds)
        say("Emulated providers: " + ", ".join(f"{name} {url}" for name, url in urls.items()))
        log = plane.folder / "operator.log"
        operator = _operator(group, plane.kubeconfig_of(OPERATOR_USER), urls, log)
        stack.callback(_end, operator)
        say(f"Operator: user {OPERATOR_USER}, log {log}")
        scenario.apply_samples(cluster, keys)
        yield Stage(cluster, providers, plane.kubeconfig, log, operator)


def _control_plane(stack: ExitStack, say: Say) -> tuple[ControlPlane, Cluster]:
    plane = stack.enter_context(ControlPlane(users={OPERATOR_USER: []}))
    cluster = stack.enter_context(Cluster(plane.url, ca_file=plane.ca_file, token=plane.admin_token))
    say(f"Control plane: Kubernetes {cluster.version}, {plane.url}")
    cluster.apply(custom_resource_definition(DRIVERS))
    for manifest in scenario.access():
        cluster.apply(manifest)
    cluster.wait_until_served(scenario.PARTS[0].manifest)
    return plane, cluster


def _origins(emulators: subprocess.Popen[str]) -> dict[str, str]:
    line = emulators.stdout.readline() if emulators.stdout else ""
    if not line:
        raise StageError("the emulated providers did not start")
    origins: dict[str, str] = json.loads(line)
    return origins


def _operator(group: ProcessGroup, kubeconfig: Path, urls: Mapping[str, str], log: Path) -> subprocess.Popen[str]:
    origins = [f"--base-url={name}={url}" for name, url in urls.items()]
    command = _python("inference_operator", "run", f"--kubeconfig={kubeconfig}", *origins, *SETTINGS)
    # The user's own settings are meant for another operator.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with log.open("w") as output:
        return group.spawn(command, stdout=output, stderr=output, env=environment)


def _end(operator: subprocess.Popen[str]) -> None:
    """Let the operator end in good order, which it cannot without the others."""
    operator.terminate()
    with suppress(subprocess.TimeoutExpired):
        operator.wait(_STOP_SECONDS)


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]
