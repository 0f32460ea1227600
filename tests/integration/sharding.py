"""A fleet of resources that several operators share by labels, and who of them has done what."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

import audit
from inference_operator.api.names import GROUP, PLURAL
from inference_operator.playground.emulators.ledger import Entry
from planes import api_client
from rig import Process, Rig, condition, spec_of, wait_for

LABEL: Final = f"{GROUP}/shard"
DEFAULT: Final = "default"
"""The shard of what carries the label of no other."""

USERS: Final = {f"shard-{name}": ["system:masters"] for name in (DEFAULT, "a", "b", "c")} | {
    "editor": ["system:masters"]
}
"""Each shard is a user of its own, so that the audit log tells who has written a status."""

LONG: Final = 90.0
"""Seconds to wait for anything, resources apart."""

MOST: Final = 10
"""Replicas that Friendli takes."""

_STATE: Final = re.compile(r'^inference_operator_resource_state\{.*\bname="([^"]+)"', re.MULTILINE)
_WRITES: Final = re.compile(r"^inference_operator_writes_total\{[^}]*\} (\S+)$", re.MULTILINE)


def selector(shard: str, named: Collection[str]) -> str:
    """The selector that the chart gives to a shard, where these have names."""
    return f"{LABEL} notin ({','.join(named)})" if shard == DEFAULT else f"{LABEL}={shard}"


def labels_of(shard: str) -> dict[str, str | None]:
    """What a merge patch sets to put a resource into a shard."""
    return {LABEL: None if shard == DEFAULT else shard}


@dataclass
class Shards:
    """Operators in one namespace, each for a part of the resources, and those resources.

    Attributes:
        rig: The namespace.
        flags: Settings of every operator.
        working: The process of each shard that works.
        places: The shards that each resource has been in, the present one last.
        wishes: What each resource was made to ask for, one number of replicas for each edit.
        endpoints: The endpoint of each resource.
    """

    rig: Rig
    flags: Mapping[str, Any]
    working: dict[str, Process] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    wishes: dict[str, list[int]] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)

    @property
    def patience(self) -> float:
        """Seconds to wait for what a busy machine may take long for."""
        return LONG + len(self.places) / 10

    # ── operators ─────────────────────────────────────────────────────────────────────────────────────

    def start(self, *shards: str, named: Collection[str]) -> None:
        """Start a process for each of these shards, and wait until all work."""
        for shard in shards:
            kubeconfig = self.rig.plane.kubeconfig_of(f"shard-{shard}")
            arguments = ("--leader-election", "--label-selector", selector(shard, named))
            self.working[shard] = self.rig.start(*arguments, wait=False, kubeconfig=kubeconfig, **self.flags)
        wait_for(
            lambda: all(self.rig.is_working(self.working[shard]) for shard in shards),
            what=f"{shards} to work",
            seconds=self.patience,
            log=self.working[shards[-1]].log,
        )

    def stop(self, shard: str) -> None:
        """End a process in good order."""
        assert self.working.pop(shard).terminate() == 0

    def handled(self, shard: str) -> frozenset[str]:
        """The resources that the process of a shard says to work on."""
        return frozenset(_STATE.findall(self._metrics(shard)))

    def updates(self, shard: str) -> int:
        """How many updates the process of a shard has sent."""
        return sum(int(float(number)) for number in _WRITES.findall(self._metrics(shard)))

    def _metrics(self, shard: str) -> str:
        return httpx.get(f"{self.working[shard].address}/metrics", trust_env=False, timeout=30).text

    def await_division(self) -> None:
        """Wait until each resource is handled by the shard of its label, and by no other."""
        wait_for(lambda: not self._misplaced(), what="one shard for each", seconds=self.patience, state=self._misplaced)

    def _misplaced(self) -> dict[str, list[str]]:
        return {
            shard: sorted(different)[:5]
            for shard in self.working
            if (different := self.handled(shard) ^ self.members(shard))
        }

    def members(self, shard: str) -> frozenset[str]:
        """The resources that are in a shard by their label."""
        return frozenset(name for name, places in self.places.items() if places[-1] == shard)

    # ── resources ─────────────────────────────────────────────────────────────────────────────────────

    def create(self, shards: Mapping[str, str]) -> None:
        """Make resources, by name and shard, that ask for what their endpoints hold."""
        self.places |= {name: [shard] for name, shard in shards.items()}
        self.wishes |= {name: [] for name in shards}
        self.endpoints |= {name: self.rig.endpoint("friendli") for name in shards}

        def make(name: str) -> None:
            labels = {key: value for key, value in labels_of(shards[name]).items() if value is not None}
            self.rig.apply(name, spec_of("friendli", self.endpoints[name]), labels=labels)

        at_once(make, shards)

    def edit(self, name: str) -> None:
        """Ask for another number of replicas than the last time."""
        wished = self.wishes[name]
        wished.append(2 + len(wished) % (MOST - 1))
        self.rig.merge(name, {"spec": {"scaling": {"maxReplicas": wished[-1]}}})

    def move(self, name: str, shard: str) -> None:
        """Put a resource into another shard."""
        self.places[name].append(shard)
        self.rig.merge(name, {"metadata": {"labels": labels_of(shard)}})

    def unsynced(self) -> list[str]:
        """The resources whose newest generation the provider does not hold yet."""
        return [each["metadata"]["name"] for each in self.rig.list() if not is_synced(each)]

    def await_synced(self) -> None:
        """Wait until the provider holds the newest generation of everything."""
        wait_for(lambda: not self.unsynced(), what="all to be in sync", seconds=self.patience, state=self._lacking)

    def _lacking(self) -> list[Any]:
        return [
            (each["metadata"]["name"], each["status"].get("conditions"))
            for each in self.rig.list()
            if not is_synced(each)
        ][:3]

    @contextmanager
    def edits(self, gap: float) -> Iterator[None]:
        """Meanwhile edit one resource after the other, each only once its last edit has arrived."""
        over, failures = threading.Event(), list[BaseException]()
        thread = threading.Thread(target=self._go_on_editing, args=(over, gap, failures))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert failures == []

    def _go_on_editing(self, over: threading.Event, gap: float, failures: list[BaseException]) -> None:
        try:
            while not over.is_set():
                ready = [each["metadata"]["name"] for each in self._listed() if is_synced(each)]
                for name in sorted(ready, key=lambda name: len(self.wishes[name])):
                    if over.wait(gap):
                        return
                    self.edit(name)
        except BaseException as error:  # noqa: BLE001 - it belongs to the test, which is another thread
            failures.append(error)

    def _listed(self) -> Sequence[Mapping[str, Any]]:
        with api_client(self.rig.plane) as client:
            return list(client.get(self.rig.path).raise_for_status().json()["items"])

    def made(self, names: Iterable[str] | None = None) -> int:
        """How many edits there were."""
        return sum(len(self.wishes[name]) for name in names or list(self.wishes))

    # ── who has done what ─────────────────────────────────────────────────────────────────────────────

    def sent(self, after: int = 0) -> dict[str, list[Entry]]:
        """The updates of each resource's endpoint, in order, above a number in the ledger."""
        found = defaultdict[str, list[Entry]](list)
        for entry in self.rig.emulators.ledger(kind="mutations", after=after):
            found[entry.endpoint_id or ""].append(entry)
        return {name: found[endpoint_id] for name, endpoint_id in self.endpoints.items()}

    def writers(self) -> dict[str, list[str]]:
        """Which shards have written the status of each resource, in order, one for as many in a row as there were."""
        audit.settle(self.rig.plane)
        written = defaultdict[str, list[tuple[str, str]]](list)
        for event in self._audited():
            target = event.get("objectRef", {})
            shard = event["user"]["username"].removeprefix("shard-")
            is_ours = target.get("namespace") == self.rig.namespace and target.get("resource") == PLURAL
            is_status = target.get("subresource") == "status" and event["responseStatus"]["code"] == httpx.codes.OK
            if is_ours and is_status and shard != event["user"]["username"]:
                written[target["name"]].append((event["requestReceivedTimestamp"], shard))
        return {name: in_turns(shard for _, shard in sorted(found)) for name, found in written.items()}

    def _audited(self) -> Iterator[dict[str, Any]]:
        """Every event, also those of logs that the API server has put aside because they were large."""
        newest = self.rig.plane.audit_log
        for path in (*sorted(newest.parent.glob(f"{newest.stem}-*{newest.suffix}")), newest):
            yield from audit.audit_events(path)

    def leases(self) -> dict[str, str]:
        """The holder of each Lease."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.rig.namespace}/leases"
        items = self.rig.api.get(path).raise_for_status().json()["items"]
        return {each["metadata"]["name"]: each["spec"].get("holderIdentity", "") for each in items}


def at_once(act: Callable[[str], None], names: Iterable[str]) -> None:
    """Do something with all, as far as the API server goes along."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, names))


def in_turns(each: Iterable[str]) -> list[str]:
    """What follows itself once instead of as often."""
    found: list[str] = []
    for one in each:
        if found[-1:] != [one]:
            found.append(one)
    return found


def is_part(found: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether everything is found in the order of the whole, which may have more."""
    rest = iter(whole)
    return all(one in rest for one in found)


def replicas(entry: Entry) -> int:
    """What an update asks for."""
    return int(entry.body["autoscalingPolicy"]["maxReplica"])


def overlapping(entries: Sequence[Entry]) -> int:
    """How many updates of one endpoint arrived before the one before them was answered."""
    answered = [entry.answered_at or time.monotonic() for entry in entries]
    return sum(entry.at < before for before, entry in zip(answered, entries[1:], strict=False))


def is_synced(resource: Mapping[str, Any]) -> bool:
    """Whether the provider holds the newest generation."""
    found = condition(resource, "Synced")
    newest = resource.get("status", {}).get("observedGeneration") == resource["metadata"]["generation"]
    return newest and found is not None and found[0] == "True"
