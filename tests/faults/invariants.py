"""What must hold at every instant, whatever goes wrong; watched from outside, by the books of provider and API server.

The names S1 to S14 are those of the fault matrix.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from faults.timed_account import Landed, TimedAccount
from inference_operator.core.model import FieldPath, Json, Resource
from inference_operator.core.schedule import Pace

Payload = Mapping[FieldPath, Json]
Identity = tuple[object, ...]
WRITE_ONLY: FieldPath = "memory.model"

FORGED = "a lost write-only change could not be told from a foreign version that reads the same"
MISTAKEN = "a foreign version was taken for a lost change, and said not to converge"
HIDDEN = "a restored status hid a write under way from a process that had never met it"
REVERTED = "a commit that left no trace, since it was taken back at once, looked like no commit"
CLAMPED = "a commit that left no trace, since it was clamped to what was there, looked like no commit"
UNKNOWABLE = (FORGED, MISTAKEN, REVERTED, CLAMPED, HIDDEN)


def payload_of(resource: Resource) -> Payload:
    """What an update for the spec carries."""
    return {f"memory.{name}": value for name, value in resource.spec["memory"].items()}


def synced(resource: Resource) -> tuple[str, str, int | None]:
    """Status, reason and generation of `Synced`."""
    for each in resource.status.get("conditions", ()):
        if each["type"] == "Synced":
            return each["status"], each["reason"], each.get("observedGeneration")
    return "Unknown", "Pending", None


def ready(resource: Resource) -> tuple[str, str]:
    """Status and reason of `Ready`."""
    found = [each for each in resource.status.get("conditions", ()) if each["type"] == "Ready"]
    return (found[0]["status"], found[0]["reason"]) if found else ("Unknown", "Pending")


def is_taken_on_trust(resource: Resource) -> bool:
    """Whether, by its policies, fields that cannot be read back count as applied when all others agree."""
    return resource.spec.get("adoptionPolicy") == "Match" or resource.spec.get("managementPolicy") == "Observe"


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose update it is: the resource, and the intent as it was stored."""

    uid: str
    operation: Mapping[str, Any]
    identity: Identity


@dataclass(slots=True)
class Wishes:
    """What one resource has asked for so far.

    Attributes:
        payloads: Generation to payload.
        positions: Generation to the number of different wishes until then.
        epoch: Moved when its status is lost, which makes a wish a new one.
        sent: The newest generation that was sent.
    """

    payloads: dict[int, Payload] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    last: Payload | None = None
    epoch: int = 0
    sent: int = 0

    def wish(self, resource: Resource) -> None:
        payload = payload_of(resource)
        position = max(self.positions.values(), default=0) + (payload != self.last)
        self.payloads[resource.generation], self.positions[resource.generation] = payload, position
        self.last = payload

    def identity(self, operation: Mapping[str, Any]) -> Identity:
        """Tells apart what may make a version each: wishes, requests to reapply, corrections."""
        corrections = operation.get("corrections", {})
        return (
            self.epoch,
            self.positions[operation["generation"]],
            operation.get("reapply"),
            corrections.get("count"),
            corrections.get("time"),
        )


class Invariants:
    """Watches an account and an API server."""

    def __init__(self, account: TimedAccount, pace: Pace, endpoint_id: str, *, history: bool) -> None:
        self.account = account
        self.pace = pace
        self.endpoint_id = endpoint_id
        self.history = history
        self.wishes: dict[str, Wishes] = {}
        self.committed: dict[tuple[str, Identity], Landed] = {}
        self.corrections = 0
        self.restores = 0
        self.sent: dict[str, tuple[Sender, float]] = {}
        self.mistaken: list[object] = []
        self.hidden: list[Sender] = []
        self.unknowable: Counter[str] = Counter()

    # ── what people do ────────────────────────────────────────────────────────────────────────────────

    def wished(self, resource: Resource) -> None:
        """Somebody has created or edited a resource."""
        self.wishes.setdefault(resource.uid, Wishes()).wish(resource)

    def restored(self, resource: Resource) -> None:
        """A resource was put back as it once was, with the status that it had then, or with none."""
        self.hidden += [each.sender for each in self.account.due if isinstance(each.sender, Sender)]
        wishes, self.restores = self.wishes[resource.uid], self.restores + 1
        wishes.wish(resource)
        wishes.sent = min(wishes.sent, resource.generation)
        wishes.epoch += synced(resource)[::2] != ("True", resource.generation)

    # ── what the operators do ─────────────────────────────────────────────────────────────────────────

    def sends(self, intent: Resource, now: Resource | None, values: Payload, *, met: Collection[str]) -> Sender:
        """An update is about to leave.

        Args:
            intent: The resource as the API server stored it with the intent.
            now: The resource as its operator sees it at this moment.
            values: What is sent.
            met: Ids of the writes that its process has begun or found in a status.
        """
        operation, wishes = intent.status["operation"], self.wishes[intent.uid]
        assert operation["uid"] == intent.uid, "S4: a write of another uid"
        assert operation["generation"] == intent.generation, "S4: a write of a spec that was no longer the newest"
        _may_be_written(intent)
        assert now is not None, "S4: a write for what is gone, or another shard's"
        _may_be_written(now)
        expected = wishes.payloads[operation["generation"]]
        assert values == expected, f"S2: torn payload {values}, not {expected}"
        assert operation["generation"] >= wishes.sent, "S3: an older generation after a newer one"
        under_way = [each.sender for each in self.account.due if each.sender not in self.mistaken]
        hidden = [each for each in under_way if each in self.hidden and each.operation["id"] not in met]
        self.unknowable[HIDDEN] += len(hidden)
        self.mistaken += hidden
        known = [each for each in under_way if each not in hidden]
        assert not known, f"S5: sent while an earlier write may still land: {known}"
        wishes.sent = operation["generation"]
        identity = wishes.identity(operation)
        sender = Sender(intent.uid, operation, identity)
        self.sent[operation["id"]] = sender, self.account.clock()
        return sender

    def version_made(self, landed: Landed) -> None:
        """An update has taken effect."""
        assert isinstance(landed.sender, Sender)
        if "corrections" in landed.sender.operation:
            self.corrections += 1
            foreign = sum(entry.sender is None for entry in self.account.ledger)
            assert self.corrections <= foreign + self.restores, "S1: more corrections than foreign changes"
        key = landed.sender.uid, landed.sender.identity
        first = self.committed.setdefault(key, landed)
        if first is landed:
            return
        why = self._why_no_trace(first, landed)
        assert why, f"S1: a second version for one wish: {first}, {landed}"
        self.committed[key] = landed
        self.unknowable[why] += 1

    def _why_no_trace(self, ours: Landed, again: Landed) -> str | None:
        """Why, on a provider without versions, all that ours changed reads as before; None where it does not."""
        assert isinstance(ours.sender, Sender)
        base = {path: json.loads(value) for path, value in ours.sender.operation.get("base", {}).items()}
        versions = self.account.endpoints[self.endpoint_id].versions[ours.number : again.number]
        others = any(each.sender is None and each.at >= ours.at - self.pace.quiet for each in self.account.ledger)
        if self.history or not base or not any(_holds(version, base) for version in versions):
            return None
        if others:
            return REVERTED
        return CLAMPED if self.account.clamp else None

    # ── what the status says ──────────────────────────────────────────────────────────────────────────

    def reported(self, before: Resource, after: Resource, *, young: bool) -> None:
        """A status was stored.

        Args:
            before: The resource as it was.
            after: The resource with its new status.
            young: For all that its process knows, reads may still lag behind what was applied last.
        """
        self._check_verdict(before.status, after)
        was, (status, reason, generation) = synced(before), synced(after)
        if status != "True" or (was[0], was[2]) == (status, generation) or _has(after, "Suspended"):
            return
        assert "operation" not in after.status, "S7: in sync with an open write"
        assert generation is not None
        payloads = self.wishes[after.uid].payloads
        payload = payloads[generation]
        is_old = payloads.get(before.status.get("applied", {}).get("generation")) == payload
        if after.status.get("state") == "Updating" and is_old and "drift" not in before.status:
            return  # nothing becomes drift while a rollout is under way
        since = float("-inf") if young else self.account.clock() - self.pace.settle - 2 * self.pace.request_timeout
        if not self._was_true(payload, after, reason, since):
            raise AssertionError(f"S7: {reason} at generation {generation}, but not {payload}: {self.account.ledger}")

    def _check_verdict(self, before: Mapping[str, Any], after: Resource) -> None:
        """A write that was open is taken for carried out only when it was, or when a foreign change looks like it."""
        operation, applied = before.get("operation", {}), after.status.get("applied", {})
        if operation.get("id") not in self.sent or after.status.get("operation", {}).get("id") == operation["id"]:
            return
        sender, at = self.sent[operation["id"]]
        another = applied.get("generation") != operation["generation"]
        untouched = applied == before.get("applied", {})
        if another or untouched or "settling" in applied or (sender.uid, sender.identity) in self.committed:
            return
        if not self.history and "sent" not in operation:
            return  # what would have changed nothing is not missing
        recent = [each for each in self.account.ledger if each.at >= at - self.pace.settle]
        seems_ours = any(each.sender is None or self.restores for each in recent)
        assert seems_ours or self.account.ignored, f"S5: taken for carried out, but was not: {operation}"
        told = synced(after)[0] != "True"
        sent = {path: json.loads(value) for path, value in operation.get("sent", {}).items()}
        seen = any(_holds(version, sent) for version in self._versions(at - self.pace.settle))
        assert told or seen, f"S7: in sync, although no version has ever shown what was sent: {operation}"
        self.unknowable[MISTAKEN if told else FORGED] += seems_ours
        self.mistaken.append(sender)

    def _was_true(self, payload: Payload, after: Resource, reason: str, since: float) -> bool:
        recent = self._versions(since)
        if any(_holds(version, payload) for version in recent):
            return True
        if not any(_holds(version, _readable(payload)) for version in recent):
            return False
        if reason == "Matched" and is_taken_on_trust(after):
            return True
        # Counted by its verdict; and what cannot be read back and was confirmed for nothing, nobody can find out.
        return self._is_foreign(after.status.get("version")) or self.account.ignored > 0

    def _versions(self, since: float) -> list[Payload]:
        """All that were the newest at some time since then."""
        ledger, versions = self.account.ledger, self.account.endpoints[self.endpoint_id].versions
        until = [entry.at for entry in ledger] + [float("inf")]
        return [version for version, end in zip(versions, until, strict=True) if end >= since]

    def _is_foreign(self, version: int | None) -> bool:
        """Whether a version is somebody else's, or a late one of ours that a foreign one was taken for."""
        if version is None or version < 1:
            return False
        sender = self.account.ledger[version - 1].sender
        return sender is None or sender in self.mistaken


def _may_be_written(resource: Resource) -> None:
    assert not resource.deleting, "S4: a write for an object that is being deleted"
    assert not resource.spec.get("suspend"), "S4: a write for a suspended object"
    assert resource.spec.get("managementPolicy") != "Observe", "S4: a write for an observed object"


def _readable(payload: Payload) -> Payload:
    return {path: value for path, value in payload.items() if path != WRITE_ONLY}


def _holds(version: Payload, payload: Payload) -> bool:
    return all(version.get(path) == value for path, value in payload.items())


def _has(resource: Resource, kind: str) -> bool:
    return any(each["type"] == kind for each in resource.status.get("conditions", ()))
