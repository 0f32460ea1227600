"""One workload on one resource, through a fault proxy, and everything that can be seen of it from outside."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx

from faults.forked import fork
from faults.kubeproxy import KubeProxy
from faults.kubescript import Call
from faults.workloads import Subject, Workload
from inference_operator.api.names import REAPPLY_ANNOTATION
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.ledger import Entry
from rig import Rig, condition, rigged, wait_for

PACE: Mapping[str, float] = {
    "poll-seconds": 0.5,
    "transition-poll-seconds": 0.3,
    "settle-seconds": 3,
    "request-timeout-seconds": 3,
    "claim-seconds": 2,
    "drift-seconds": 1,
}
"""Short, and still so long that a busy machine does not exceed what bounds a single request."""

BOUND_SECONDS = 60.0
"""Until then a resource must be in sync again; a stuck one never is."""

RESTING_POLLS = 2


class Script(Protocol):
    """What is to happen in a trial, and at which pace."""

    @property
    def workload(self) -> Workload: ...
    @property
    def subject(self) -> Subject: ...
    @property
    def pace(self) -> Mapping[str, float]: ...
    def carry_out(self, trial: Trial) -> None:
        """Let it all happen, until everything has settled again."""


class Wish(NamedTuple):
    """What people asked for, under which uid and generation."""

    uid: str
    generation: int
    number: int


@dataclass
class Trial:
    """A resource and its endpoint.

    Attributes:
        pace: The settings of operators.
        wishes: What was asked for, oldest first.
        deleted_at: When the API server confirmed the deletion.
        resumed_at: When people, or the next operator, went on after the fault.
        restless: Changes that were asked for, and Kubernetes writes, after everything had settled.
    """

    rig: Rig
    proxy: KubeProxy
    workload: Workload
    subject: Subject
    pace: Mapping[str, float] = field(default_factory=lambda: PACE)
    name: str = "resource"
    endpoint_id: str = ""
    wishes: list[Wish] = field(default_factory=list)
    deleted_at: float | None = None
    resumed_at: float = float("inf")
    restless: list[Call | Entry] = field(default_factory=list)
    first_call: int = 0
    first_entry: int = 0

    def prepare(self) -> None:
        """Come to where the workload begins."""
        self.endpoint_id = self.rig.endpoint(self.subject.provider)
        if not self.workload.begins:
            self.wish(0)
            self.start()
            self.wait_for_sync()
            self.wait_for_event("Applied")
        if self.workload.prepare:
            self.workload.prepare(self)
        self.first_call = len(self.proxy.calls())
        self.first_entry = self._last_entry()

    def go_on(self) -> None:
        """What happens after the death of an operator."""
        self.resumed_at = time.monotonic()
        if self.workload.after:
            self.workload.after(self)
        self.start()

    def finish(self) -> None:
        """Wait until everything has settled, and watch it rest."""
        if self.workload.deletes:
            self.wait_for_work()
        else:
            self.wait_for_sync()
            self.rest()

    # ── what people do ────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start an operator, which reaches the API server by the detour."""
        flags: dict[str, Any] = {name.replace("-", "_"): value for name, value in self.pace.items()}
        self.rig.start(wait=False, kubeconfig=self.proxy.kubeconfig, **flags)

    def kill(self) -> None:
        self.rig.processes[-1].kill()

    def wish(self, number: int) -> None:
        """Ask for something."""
        if self.subject.by_secret:
            self.rig.secret("value", **{key: f"{key}-{number}" for key in ("a", "b")})
            if self.wishes:
                self.wishes.append(self.wishes[-1]._replace(number=number))
                return
        meta = self.rig.apply(self.name, self.subject.spec(self.endpoint_id, number))["metadata"]
        self.wishes.append(Wish(meta["uid"], meta["generation"], number))

    def delete(self) -> None:
        self.rig.delete(self.name)
        self.deleted_at = time.monotonic()

    def revoke_key(self) -> None:
        """The provider takes another key from now on."""
        self.rig.emulators.set_tokens(self.rig.namespace, [self._new_key])
        self.wait_for_stall()
        self.wait_for_event("CredentialsRejected")

    def store_key(self) -> None:
        self.rig.secret("key", token=self._new_key)

    @property
    def _new_key(self) -> str:
        return f"{self.rig.token}-2"  # which contains what the rig looks for in outputs

    # ── what can be seen ──────────────────────────────────────────────────────────────────────────────

    def mutations(self) -> list[Entry]:
        """Every update that arrived whole since the workload began."""
        known = self.rig.mutations(self.endpoint_id)
        updates = [entry for entry in known if entry.operation == "update"]
        return [entry for entry in updates if entry.seq > self.first_entry and entry.body is not None]

    def others(self) -> list[str]:
        """What else was asked of the provider that would change something."""
        return [str(entry.operation) for entry in self.rig.mutations(self.endpoint_id) if entry.operation != "update"]

    def calls(self) -> list[Call]:
        """Every request to the API server since the workload began."""
        return self.proxy.calls(after=self.first_call)

    def kept(self) -> Mapping[str, Any]:
        """What the provider keeps."""
        return self.rig.emulators.get_endpoint(self.subject.provider, self.endpoint_id)

    def is_gone(self) -> bool:
        """Whether there is no such resource."""
        return self.rig.api.get(f"{self.rig.path}/{self.name}").status_code == httpx.codes.NOT_FOUND

    def is_in_sync(self) -> bool:
        """Whether the newest generation is applied and serves, and nothing about it is open."""
        resource, kept = self.rig.get(self.name), self.kept()
        status, applied = resource["status"], resource["status"].get("applied", {})
        return (
            _says(resource, "Synced")
            and _says(resource, "Ready")
            and "operation" not in status
            and status.get("version") == kept.get("version")
            and applied.get("reapply") == resource["metadata"].get("annotations", {}).get(REAPPLY_ANNOTATION)
            and self.subject.kept(kept["config"]) == {self.wishes[-1].number}
        )

    def _is_stalled(self) -> bool:
        return _says(self.rig.get(self.name), "Stalled")

    # ── waiting ───────────────────────────────────────────────────────────────────────────────────────

    def wait_for_stall(self) -> None:
        """Wait until the newest generation waits for a key."""
        self.wait_for(self._is_stalled, "to be stalled")

    def wait_for_sync(self) -> None:
        """Wait until the newest generation is applied and serves, and nothing about it is open."""
        self.wait_for(self.is_in_sync, "to be in sync")

    def wait_for(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for a state of the resource; looks whenever an operator has written something."""
        seen = -1

        def reached_by_news() -> bool:
            nonlocal seen
            before, seen = seen, self._committed()
            return seen != before and reached()

        wait_for(
            reached_by_news,
            what=f"{self.name} {what}",
            seconds=BOUND_SECONDS,
            log=self.rig.processes[-1].log,
            state=lambda: self.rig.get(self.name).get("status"),
        )

    def wait_for_work(self) -> None:
        """Wait until the newest process has been at work for a while: until it has renewed its Lease."""
        known = self._committed("leases")
        wait_for(
            lambda: self._committed("leases") >= known + 2,
            what="a renewal of the Lease",
            log=self.rig.processes[-1].log,
        )

    def wait_for_event(self, reason: str, *, times: int = 1) -> None:
        """Wait until the last Event of what was done is posted, which happens in the background."""
        log = self.rig.processes[-1].log
        wait_for(lambda: self._reasons()[reason] >= times, what=f"{times} Events {reason}", log=log)

    def let_settle(self) -> None:
        """Wait until no read may be older than the last update, as far as the operator knows."""
        last = max(entry.committed_at or 0.0 for entry in self.rig.mutations(self.endpoint_id))
        settled = last + self.pace["settle-seconds"] + 2 * self.pace["poll-seconds"]
        wait_for(lambda: time.monotonic() > settled, what="the settle time to pass")

    def rest(self) -> None:
        """Watch some polls, once those Events are posted that tell of what was done last.

        Where the machine was too slow for a read, the operator has had something to tell, and rests later.
        """
        slow = 0
        while True:
            self._wait_for_polls(1)
            calls, mutations = len(self.proxy.calls()), len(self.mutations())
            self._wait_for_polls(RESTING_POLLS)
            written = [call for call in self.proxy.calls(after=calls) if call.writes and call.resource != "leases"]
            self.restless = [*written, *self.mutations()[mutations:]]
            if not self.restless or self._slow_reads() == slow:
                return
            slow = self._slow_reads()
            self.wait_for_sync()

    def _slow_reads(self) -> int:
        return self.rig.processes[-1].log.read_text().count("no complete answer within")

    def _wait_for_polls(self, number: int) -> None:
        """A poll is several reads, each of another kind; the one that comes most often comes with each of them."""
        known = self._last_entry()

        def polled() -> bool:
            kinds = Counter(entry.operation for entry in self.rig.emulators.ledger(kind="reads", after=known))
            return max(kinds.values(), default=0) > number

        wait_for(polled, what=f"{number} polls", log=self.rig.processes[-1].log)

    def _last_entry(self) -> int:
        return max((entry.seq for entry in self.rig.emulators.ledger()), default=0)

    def _committed(self, resource: str | None = None) -> int:
        return sum(call.committed and resource in {None, call.resource} for call in self.proxy.calls())

    def _reasons(self) -> Counter[str]:
        """How often each Event was posted."""
        posted = (call for call in self.proxy.calls() if call.resource == "events" and call.committed)
        return Counter(call.body["reason"] for call in posted)


def _says(resource: Mapping[str, Any], kind: str) -> bool:
    """Whether a condition is True for the newest generation."""
    found = condition(resource, kind)
    current = resource["status"].get("observedGeneration") == resource["metadata"]["generation"]
    return current and found is not None and found[0] == "True"


@contextmanager
def trial(plane: ControlPlane, emulators: EmulatorControl, folder: Path, script: Script) -> Iterator[Trial]:
    """A trial that stands where its workload begins."""
    with KubeProxy(plane) as proxy, rigged(plane, emulators, folder) as rig:
        rig.launch = fork
        emulators.reset_ledger()
        if script.subject.by_secret:
            rig.secret("value", a="a-0", b="b-0")
        made = Trial(rig, proxy, script.workload, script.subject, script.pace)
        made.prepare()
        yield made
