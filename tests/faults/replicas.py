"""Replicas of one operator, each with its own ways to the API server and the providers, and what they work on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import yaml

from faults.wire import Wire
from fleet import wait_for_all
from inference_operator.kube.scopes import lease_name
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from rig import Process, Rig, rigged, spec_of, wait_for

LONG: Final = 100.0
"""Seconds to wait for what a busy machine may take long for."""

ROOMY: Mapping[str, float] = {
    "poll_seconds": 5,
    "transition_poll_seconds": 0.5,
    "claim_seconds": 3,
    "request_timeout_seconds": 5,
    "settle_seconds": 5,
}
"""Times that a machine does not exceed on which many replicas are at work."""

KINDS: Mapping[str, str] = {"friendli": "friendli", "novita": "novita", "write-only": "friendli"}
"""Kind of change, and the provider that it is made at; the last one changes what Friendli never shows."""

FIRST: Final = 2
"""Replicas, at most, of a subject that has not been changed; each step adds one."""


@dataclass(eq=False)
class Subject:
    """One resource on an endpoint of its own, that is changed step by step."""

    kind: str
    name: str
    endpoint_id: str
    step: int = 0

    @property
    def provider(self) -> str:
        return KINDS[self.kind]

    def spec(self) -> dict[str, Any]:
        if self.kind == "write-only":
            return spec_of(self.provider, self.endpoint_id, friendli={"hfModelRepo": f"org/model-{self.step}"})
        return spec_of(self.provider, self.endpoint_id, FIRST + self.step)


class Update(NamedTuple):
    """An update as a provider received it: the step that it carries, and whether it took effect."""

    step: int
    committed: bool


@dataclass(frozen=True, eq=False)
class Replica:
    """A process, and its ways to the world."""

    process: Process
    api: Wire
    providers: Sequence[Wire]

    def metric(self, name: str) -> float | None:
        """A number that it serves once, without the common prefix; None where there is no such series."""
        text = httpx.get(f"{self.process.address}/metrics", trust_env=False).text
        starts = (f"inference_operator_{name} ", f"inference_operator_{name}{{")
        lines = [line for line in text.splitlines() if line.startswith(starts)]
        return float(lines[0].rpartition(" ")[2]) if lines else None

    def exit_code(self) -> int:
        return self.process.popen.wait(timeout=LONG)


class Team:
    """The replicas of one scope, in a namespace of its own."""

    def __init__(self, rig: Rig, stack: ExitStack) -> None:
        self.rig = rig
        self._stack = stack
        self._subjects: list[Subject] = []
        self._after = 0

    # ── replicas ──────────────────────────────────────────────────────────────────────────────────────

    def start(self, **flags: Any) -> Replica:
        """Start a replica, and wait until it is ready, as leader or standby."""
        rig, number = self.rig, len(self.rig.processes)
        api = self._stack.enter_context(Wire(rig.plane.url))
        wires = {name: self._stack.enter_context(Wire(url)) for name, url in self._origins().items()}
        kubeconfig = rig.folder / f"kubeconfig-{rig.namespace}-{number}"
        kubeconfig.write_text(_through(api, rig.plane.kubeconfig_of("operator")))
        origins = {name: wire.origin for name, wire in wires.items()}
        settings = {**ROOMY, **flags}
        process = rig.start("--leader-election", wait=False, kubeconfig=kubeconfig, origins=origins, **settings)
        wait_for(lambda: rig.readiness(process), what="a replica to be ready", log=process.log, seconds=LONG)
        return Replica(process, api, list(wires.values()))

    def end(self) -> None:
        """Nobody has shown the token, and nobody works any more."""
        assert self.rig.secrets_shown() == []
        for process in self.rig.processes:
            process.kill()

    def pair(self, **flags: Any) -> tuple[Replica, Replica]:
        """A leader and a standby."""
        leader = self.start(**flags)
        self.await_leadership(leader)
        return leader, self.start(**flags)

    def await_leadership(self, replica: Replica) -> None:
        process = replica.process
        wait_for(lambda: self.rig.is_working(process), what="a replica to lead", log=process.log, seconds=LONG)

    def _origins(self) -> dict[str, str]:
        return {name: url for name, url in self.rig.emulators.urls().items() if name != "control"}

    # ── the Lease ─────────────────────────────────────────────────────────────────────────────────────

    def lease(self) -> dict[str, Any]:
        """The Lease's spec."""
        name = lease_name([self.rig.namespace], None)
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.rig.namespace}/leases/{name}"
        return dict(self.rig.api.get(path).raise_for_status().json()["spec"])

    def await_first_work(self, holder: str) -> float:
        """Wait for the first call to a provider by another one than this holder; returns its wall time."""

        def taken() -> float | None:
            lease = self.lease()
            return _wall(lease["acquireTime"]) if lease.get("holderIdentity") not in {None, "", holder} else None

        def work() -> float | None:
            endpoints = {subject.endpoint_id for subject in self._subjects}
            calls = (call for call in self.rig.emulators.ledger() if call.endpoint_id in endpoints)
            return next((call.wall for call in calls if call.wall >= since), None)

        since: float = wait_for(taken, what="another holder", seconds=LONG)
        first: float = wait_for(work, what="the successor to work", seconds=LONG)
        return first

    # ── what they work on ─────────────────────────────────────────────────────────────────────────────

    def subjects(self, *labels: str) -> list[list[Subject]]:
        """Resources that are in sync, for each label one of each kind."""
        made = [[self._subject(label, kind) for kind in KINDS] for label in labels]
        everybody = [subject for subjects in made for subject in subjects]
        self._subjects += everybody
        for subject in everybody:
            self.rig.apply(subject.name, subject.spec())
        self.settle()
        self.assert_one_update_each()
        self._after = self.rig.emulators.ledger()[-1].seq
        return made

    def _subject(self, label: str, kind: str) -> Subject:
        return Subject(kind, f"{label}-{kind}", self.rig.endpoint(KINDS[kind]))

    def script(self, subjects: Iterable[Subject], **fault: Any) -> None:
        """Have something happen to the next update of each of them."""
        for subject in subjects:
            self.rig.emulators.add_fault(Fault(**{"operation": "update", "endpoint_id": subject.endpoint_id, **fault}))

    def gate(self, name: str = "") -> str:
        """A name for a gate that no other team uses."""
        return f"{self.rig.namespace}-{name}"

    def wait_for_gate(self, subjects: Sequence[Subject], name: str = "") -> None:
        """Wait until a request of each of them is held."""
        self.rig.emulators.wait_for_gate(self.gate(name), requests=len(subjects), seconds=LONG)

    def change(self, subjects: Iterable[Subject] | None = None) -> None:
        for subject in self._subjects if subjects is None else subjects:
            subject.step += 1
            self.rig.apply(subject.name, subject.spec())

    def settle(self) -> dict[str, float]:
        """Wait until all of them are in sync."""
        return wait_for_all(self.rig, [subject.name for subject in self._subjects], seconds=LONG)

    def updates(self, subject: Subject) -> list[Update]:
        """Every update of it that reached the provider, in order."""
        calls = self.rig.mutations(subject.endpoint_id)
        return [Update(_step(call.body), call.committed) for call in calls]

    def sent(self, subjects: Iterable[Subject]) -> int:
        """How many updates beyond the first have reached the provider."""
        endpoints = {subject.endpoint_id for subject in subjects}
        calls = self.rig.emulators.ledger(kind="mutations", after=self._after)
        return sum(call.endpoint_id in endpoints for call in calls)

    def assert_one_update_each(self, **sent: int) -> None:
        """Every step of every subject took effect once, in order, and its endpoint holds the last one.

        Args:
            sent: How many updates were sent for the subjects of a label, where some of them were lost.
        """
        for subject in self._subjects:
            updates = self.updates(subject)
            assert [each.step for each in updates if each.committed] == list(range(subject.step + 1)), subject
            assert len(updates) == sent.get(subject.name.partition("-")[0], subject.step + 1), subject
            if subject.provider == "friendli":
                kept = self.rig.emulators.get_endpoint("friendli", subject.endpoint_id)
                assert kept["version"] == self.rig.get(subject.name)["status"]["version"] == subject.step + 1


def seconds_since(wall: str, now: float) -> float:
    """From a time stamp of the Lease to a wall time of the same machine."""
    return now - _wall(wall)


@contextmanager
def team(plane: ControlPlane, emulators: EmulatorControl, folder: Path) -> Iterator[Team]:
    """A team without replicas; at the end nobody may have shown the token."""
    with ExitStack() as stack, rigged(plane, emulators, folder) as rig:
        made = Team(rig, stack)
        yield made
        made.end()


def rest(seconds: float) -> None:
    """Watch for a while that nothing more happens."""
    time.sleep(seconds)


def _through(wire: Wire, kubeconfig: Path) -> str:
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = wire.origin
    return yaml.safe_dump(config)


def _wall(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _step(body: Any) -> int:
    """The step that an update carries, wherever its provider wants it."""
    found = dict(_leaves(body))
    if "hfModelRepo" in found:
        return int(found["hfModelRepo"].removeprefix("org/model-"))
    return int(found.get("maxReplica", found.get("maxNum", 0))) - FIRST


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        if isinstance(part, dict):
            yield from _leaves(part)
        else:
            yield key, part
