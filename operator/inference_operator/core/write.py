"""The at-most-once write: what an open or acknowledged write has become, judged from one clean look.

A write goes through these states. Each is stored in the resource's status, so that any process can go on
after any other has died. `M` stands for the fields in which the write differs from the state before it.

    state          stored as                  event                                        next state
    ─────────────  ─────────────────────────  ───────────────────────────────────────────  ─────────────
    settled        applied                    a change is planned, intent is stored        open
    settled        applied                    the intent meets a newer object              settled
    open           operation                  claim time over, lease lost, object gone,
                                              deleted or suspended before sending          settled
    open           operation                  a definite success                           acknowledged
    open           operation                  a definite refusal                           settled
    open           operation                  no definite answer, or the process died      open
    open           operation                  a look finds an entry of ours, or all of M
                                              as sent                                      settled (applied)
    open           operation                  a look after the deadline finds neither      uncommitted
    uncommitted    operation                  a change is planned: a new intent, from what
                                              is there now                                 open
    uncommitted    operation                  no change is wished any more                 settled
    acknowledged   applied with `settling`    a look shows the write                       settled (applied)
    acknowledged   applied with `settling`    the deadline passes                          settled (applied)

How a look judges depends on what the provider keeps:

* A version history. An entry above the base is foreign if it moves compared fields and none of M; the
  first other one that shows all of M as sent is ours, or else the first other one. With M empty that
  leaves the first entry that moves nothing.
* None. All of M as sent: ours. At the deadline all of M as before: not committed; anything else: ours.

A write that is ours with other values than sent was clamped by the provider. It is settled once, the
differing values are remembered, and it is never sent again.

Values that may be secret (environment variables) are never stored. Whether such a field is as sent is known
only while the present rendering is still the one that was sent; otherwise the other fields decide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from inference_operator.api.status import Applied, Effect, Operation, Settling
from inference_operator.core.compare import Agrees, differences, shows
from inference_operator.core.model import (
    Desired,
    FieldPath,
    History,
    Json,
    Observed,
    Snapshot,
    canonical_json,
)


@dataclass(frozen=True, slots=True)
class Committed:
    """The write is in the provider's books.

    Attributes:
        version: The version that it made; None where the provider keeps none.
        unverified: No field of it can be read back: the version count alone says so, or, where there is none, nothing.
        differing: Fields that were settled with another value than sent, as stored.
    """

    version: int | None = None
    unverified: bool = False
    differing: Mapping[FieldPath, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotCommitted:
    """The write has not arrived, and by the settle time it no longer will."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """This look cannot tell; a later one will."""


Verdict = Committed | NotCommitted | Undecided


@dataclass(frozen=True, slots=True)
class Write:
    """A write to be judged.

    Attributes:
        effect: M, before and as sent.
        base_version: The newest version before the write, where the provider keeps versions.
        same_rendering: Whether the present rendering of the spec is the one that was sent.
        acknowledged: Whether the provider has confirmed it.
        expired: Whether the look began after the deadline.
    """

    effect: Effect
    base_version: int | None
    same_rendering: bool
    acknowledged: bool
    expired: bool


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges writes to one endpoint from one look.

    Attributes:
        desired: The present rendering.
        observed: The look.
        agrees: The driver's comparison.
        confidential: The driver's notion of fields whose values are never stored.
    """

    desired: Desired
    observed: Observed
    agrees: Agrees
    confidential: Callable[[FieldPath], bool]

    def verdict(self, write: Write) -> Verdict:
        """What has become of the write."""
        if self.observed.history is not None and write.base_version is not None:
            return self._by_history(write, self.observed.history, write.base_version)
        return self._by_reading(write)

    def _by_history(self, write: Write, history: History, base_version: int) -> Verdict:
        base = next((entry.snapshot for entry in history.entries if entry.number == base_version), None)
        above = [entry for entry in history.entries if entry.number > base_version]
        ours = [entry for entry in above if not self._is_foreign(entry.snapshot, base, write)]
        if ours:
            entry = next((each for each in ours if self._shows_all(write, each.snapshot)), ours[0])
            unverified = not write.effect.sent and not write.acknowledged
            return Committed(entry.number, unverified, self._differing(write, entry.snapshot))
        if not write.expired:
            return Undecided()
        if not write.acknowledged:
            return NotCommitted()
        # Acknowledged, and no entry of ours came up: an update that changed nothing makes no version.
        return Committed(base_version, differing=self._differing(write, self.observed.live))

    def _is_foreign(self, entry: Snapshot, base: Snapshot | None, write: Write) -> bool:
        compared = {*self.desired.readable, *write.effect.sent}
        if base is None:  # the base has left the history; what was stored of it is all there is
            base, compared = Snapshot(_known(write.effect.base)), set(_known(write.effect.base))
        moved = {path for path in compared if entry.values.get(path) != base.values.get(path)}
        return bool(moved) and moved.isdisjoint(write.effect.sent)

    def _by_reading(self, write: Write) -> Verdict:
        live = self.observed.live
        if not write.effect.sent and not write.acknowledged and not write.expired:
            return Undecided()  # it shows nowhere, so that only the deadline tells that it can land no more
        if self._shows_all(write, live):
            return Committed(unverified=not write.effect.sent and not write.acknowledged)
        if not write.expired:
            return Undecided()
        if not write.acknowledged and all(self._as_before(write, path, live) for path in write.effect.sent):
            return NotCommitted()
        return Committed(differing=self._differing(write, live))

    def _shows_all(self, write: Write, snapshot: Snapshot) -> bool:
        """All of M as sent, as far as it is known, and something of it is known or M is empty."""
        judged = [self._as_sent(write, path, snapshot) for path in write.effect.sent]
        return False not in judged and (True in judged or not judged)

    def _as_sent(self, write: Write, path: FieldPath, snapshot: Snapshot) -> bool | None:
        if not self.confidential(path):
            return shows(snapshot, path, json.loads(write.effect.sent[path]), self.agrees)
        if not write.same_rendering:
            return None
        declared = self.desired.fields.get(path)
        return shows(snapshot, path, declared.value if declared else None, self.agrees)

    def _as_before(self, write: Write, path: FieldPath, snapshot: Snapshot) -> bool:
        if self.confidential(path):
            return self._as_sent(write, path, snapshot) is not True
        return shows(snapshot, path, json.loads(write.effect.base.get(path, "null")), self.agrees)

    def _differing(self, write: Write, snapshot: Snapshot) -> dict[FieldPath, str]:
        paths = {path for path in write.effect.sent if self._as_sent(write, path, snapshot) is False}
        if write.same_rendering:
            paths |= {difference.path for difference in differences(self.desired, snapshot, self.agrees)}
        return {path: stored(snapshot.values.get(path), secret=self.confidential(path)) for path in sorted(paths)}


def shows_sent(effect: Effect, seen: Snapshot, agrees: Agrees, confidential: Callable[[FieldPath], bool]) -> bool:
    """Whether a snapshot shows all that a write has sent, as far as that is known."""
    known = {path: json.loads(text) for path, text in effect.sent.items() if not confidential(path)}
    return all(shows(seen, path, value, agrees) for path, value in known.items())


def stored(value: Json, *, secret: bool) -> str:
    """How a value stands in the status: its canonical JSON, or nothing at all where it may be secret."""
    return "" if secret else canonical_json(value)


def _known(values: Mapping[FieldPath, str]) -> dict[FieldPath, Json]:
    return {path: json.loads(text) for path, text in values.items() if text}


def effect(desired: Desired, before: Snapshot, agrees: Agrees, confidential: Callable[[FieldPath], bool]) -> Effect:
    """M: the declared readable fields in which a write of `desired` differs from the state before it."""
    found = differences(desired, before, agrees)
    return Effect(
        base={each.path: stored(each.seen, secret=confidential(each.path)) for each in found},
        sent={each.path: stored(each.wanted, secret=confidential(each.path)) for each in found},
    )


def acknowledged(operation: Operation, *, time: str) -> Applied:
    """What is remembered of a write that the provider has confirmed, until its reads show it."""
    return Applied(
        uid=operation.uid,
        hash=operation.hash,
        generation=operation.generation,
        time=time,
        base_version=operation.base_version,
        secrets=operation.secrets,
        reapply=operation.reapply,
        corrections=operation.corrections,
        settling=Settling(id=operation.id, base=operation.base, sent=operation.sent),
    )
