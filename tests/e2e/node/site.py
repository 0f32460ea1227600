"""The operator as users run it: its image on a node, installed by its chart, with providers beyond the cluster."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from e2e.chart import CHART, helm
from e2e.node import tls
from e2e.node.cluster import Cluster
from e2e.node.configuration import HOST_ADDRESS
from e2e.node.images import BASE, builder
from inference_operator import __version__
from inference_operator.api.names import API_VERSION, KIND
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.process import emulator_process
from rig import ROOT, TOKEN, condition, spec_of, wait_for

REPOSITORY: Final = "localhost/inference-operator"
IMAGE: Final = f"{REPOSITORY}:{__version__}"
HOME: Final = "operator-home"
TEAM: Final = "team-a"
RELEASE: Final = "inference-operator"
REVISION: Final = "0123456789abcdef"

TAKEOVER_SECONDS: Final = 90.0
"""Ample time for a standby to take over, and for what its predecessor left undecided to be decided."""

FIRST, SECOND = 2, 3
"""Two versions of a resource, each of which differs from the endpoint before it."""

SETTINGS: Final[Mapping[str, Any]] = {
    "pollSeconds": 2,
    "transitionPollSeconds": 0.5,
    "requestTimeoutSeconds": 5,
    "settleSeconds": 5,
    "claimSeconds": 2,
    "driftSeconds": 5,
    "scaleIntervalSeconds": 0.1,
    "callsPerSecond": 100,
    "callsBurst": 100,
    "logLevel": "debug",
}


@dataclass(frozen=True)
class Managed:
    """A resource, and the endpoint that it manages."""

    name: str
    provider: str
    endpoint_id: str


@dataclass(frozen=True)
class Pod:
    """A replica of the operator, as the API server knows it."""

    description: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return str(self.description["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.description["metadata"]["uid"])

    @property
    def container(self) -> Mapping[str, Any]:
        """The status of its only container; empty before it has one."""
        found = self.description["status"].get("containerStatuses", [{}])
        assert len(found) == 1
        return dict(found[0])

    @property
    def ready(self) -> bool:
        return bool(self.container.get("ready")) and "deletionTimestamp" not in self.description["metadata"]

    @property
    def address(self) -> str:
        """The origin of its probes and metrics."""
        return f"http://{self.description['status']['podIP']}:8080"

    def ask(self, path: str) -> httpx.Response:
        """Ask it for a probe or its metrics, as kubelet and Prometheus do."""
        with httpx.Client(base_url=self.address, trust_env=False, timeout=5, verify=False) as client:  # noqa: S501 - no TLS
            return client.get(path)


@dataclass(frozen=True)
class Site:
    """All of it.

    Attributes:
        cluster: The node.
        emulators: The providers, in a process beside it.
        front: The way from pods to the providers.
        description: The image's configuration as the Open Container Initiative specifies it.
        sizes: The bytes of the image and of its base, unpacked, by their names.
    """

    cluster: Cluster = field(repr=False)
    emulators: EmulatorControl = field(repr=False)
    front: tls.Front
    description: Mapping[str, Any] = field(repr=False)
    sizes: Mapping[str, int]

    # ── the operator ──────────────────────────────────────────────────────────────────────────────────

    def install(self, **values: Any) -> None:
        """Install the chart, or upgrade what is installed, and wait as `helm --wait` does."""
        self._helm(*self.upgrade(), values=self.values(**values))

    def upgrade(self) -> tuple[str | Path, ...]:
        """The command that installs or upgrades, without values."""
        return ("upgrade", "--install", RELEASE, CHART, "--namespace", HOME, "--wait", "--timeout", "3m")

    def values(self, **more: Any) -> dict[str, Any]:
        """What this installation needs, and more."""
        return {
            "image": {"repository": REPOSITORY, "pullPolicy": "Never"},
            "caBundle": {"configMap": "provider-authority"},
            "settings": {**SETTINGS, "baseUrls": dict(self.front.origins)},
            **more,
        }

    def test(self) -> str:
        """Run `helm test` and return what it said."""
        return self._helm("test", RELEASE, "--namespace", HOME, "--timeout", "2m", "--logs")

    def uninstall(self) -> None:
        """Uninstall, and wait until the pods are gone as well, for which Helm does not wait."""
        self._helm("uninstall", RELEASE, "--namespace", HOME, "--wait", "--timeout", "2m")
        wait_for(lambda: not self.pods(), what="the pods to end", seconds=TAKEOVER_SECONDS)

    def pods(self) -> list[Pod]:
        """The operator's replicas, those that are ending included."""
        selector = f"--selector=app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=operator"
        return [Pod(each) for each in self.cluster.get("pods", f"--namespace={HOME}", selector)["items"]]

    def pod(self, name: str) -> Pod:
        """A replica by its name."""
        return Pod(self.cluster.get("pod", name, f"--namespace={HOME}"))

    def ready(self, count: int = 2) -> list[Pod]:
        """Wait until exactly so many replicas are there, and all of them ready."""

        def all_ready() -> list[Pod] | None:
            pods = self.pods()
            return pods if len(pods) == count and all(pod.ready for pod in pods) else None

        found: list[Pod] = wait_for(
            all_ready,
            what=f"{count} ready replicas",
            seconds=TAKEOVER_SECONDS,
            state=lambda: {pod.name: pod.container for pod in self.pods()},
        )
        return found

    def lease(self) -> dict[str, Any]:
        """The Lease's specification."""
        return dict(self.cluster.get("lease", "inference-operator", f"--namespace={HOME}")["spec"])

    def leader(self, *, other_than: str = "") -> Pod:
        """Wait for the replica that holds the Lease and works."""

        def leading() -> Pod | None:
            holder = str(self.lease().get("holderIdentity", ""))
            pod = next((each for each in self.pods() if each.ready and holder.startswith(f"{each.name}-")), None)
            return pod if pod is not None and holder != other_than and "working" in pod.ask("/readyz").text else None

        found: Pod = wait_for(leading, what="a leader", seconds=TAKEOVER_SECONDS, state=self.lease)
        return found

    def log(self, pod: Pod, *, previous: bool = False) -> str:
        """What a replica has printed, or its container before the last restart."""
        return self.cluster.kubectl("logs", pod.name, f"--namespace={HOME}", f"--previous={str(previous).lower()}")

    def _helm(self, *arguments: str | Path, values: Mapping[str, Any] | None = None) -> str:
        return helm(*arguments, values=values, kubeconfig=self.cluster.kubeconfig).stdout

    # ── resources and endpoints ───────────────────────────────────────────────────────────────────────

    def manage(self, *providers: str) -> list[Managed]:
        """Resources of endpoints that run already, in sync after the one update that each needs."""
        made = [Managed(name := f"{provider}-{uuid.uuid4().hex[:6]}", provider, f"ep-{name}") for provider in providers]
        for each in made:
            self.emulators.create_endpoint(each.provider, each.endpoint_id, TEAM)
        self.change(FIRST, *made)
        for each in made:
            self.settled(each)
            assert self.updates(each) == [True], f"{each}: {self.updates(each)}"
        return made

    def change(self, number: int, *managed: Managed) -> None:
        """Edit resources: each needs one update after it, if the number is another than before."""
        self.cluster.apply(
            *(
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "metadata": {"name": each.name, "namespace": TEAM},
                    "spec": spec_of(each.provider, each.endpoint_id, number),
                }
                for each in managed
            )
        )

    def resource(self, managed: Managed) -> dict[str, Any]:
        """The resource as the API server has it."""
        return self.cluster.get("inferenceendpoint", managed.name, f"--namespace={TEAM}")

    def settled(self, managed: Managed) -> dict[str, Any]:
        """Wait until the resource's newest generation is in sync and ready."""

        def both() -> dict[str, Any] | None:
            found = self.resource(managed)
            status = found.get("status", {})
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            met = all((condition(found, kind) or ("",))[0] == "True" for kind in ("Synced", "Ready"))
            return found if current and met else None

        found: dict[str, Any] = wait_for(
            both,
            what=f"{managed.name} to be in sync and ready",
            seconds=TAKEOVER_SECONDS,
            state=lambda: self.resource(managed).get("status"),
        )
        return found

    def updates(self, managed: Managed) -> list[bool]:
        """For each update that was sent to the endpoint, whether it took effect."""
        return [entry.committed for entry in self.emulators.mutations(managed.endpoint_id)]

    @contextmanager
    def unanswered(self, managed: Managed) -> Iterator[None]:
        """An update that has taken effect and whose answer is withheld until the context ends."""
        gate = f"answer-{managed.name}"
        self.emulators.add_fault(Fault(operation="update", endpoint_id=managed.endpoint_id, gate_after=gate))
        self.change(SECOND, managed)
        self.emulators.wait_for_gate(gate)
        try:
            yield
        finally:
            self.emulators.release_gate(gate)


@contextmanager
def site() -> Iterator[Site]:
    """A node with the image, providers behind TLS, and namespaces: all that must be there before the chart is."""
    with ExitStack() as stack:
        images = stack.enter_context(builder())
        created = datetime.now(UTC).isoformat(timespec="seconds")
        images.build(ROOT, IMAGE, PYTHON_IMAGE=BASE, VERSION=__version__, REVISION=REVISION, CREATED=created)
        archives = {name: images.save(name) for name in (BASE, IMAGE)}
        cluster = stack.enter_context(Cluster(archives[BASE]))
        cluster.load(archives[IMAGE])
        emulators = stack.enter_context(emulator_process())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        origins = {name: url for name, url in emulators.urls().items() if name != "control"}
        made = Site(
            cluster,
            emulators,
            stack.enter_context(tls.front(HOST_ADDRESS, origins, folder)),
            images.description(IMAGE),
            {name: archive.stat().st_size for name, archive in archives.items()},
        )
        emulators.add_account(TEAM, [TOKEN])
        cluster.apply(*_surroundings(made.front.ca_file))
        yield made


def _surroundings(authority: Path) -> Iterator[dict[str, Any]]:
    """The namespaces, the provider's key and whom to trust."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}}
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME, "labels": restricted}}
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "key", "namespace": TEAM},
        "stringData": {"token": TOKEN},
    }
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "provider-authority", "namespace": HOME},
        "data": {"ca.crt": authority.read_text()},
    }
