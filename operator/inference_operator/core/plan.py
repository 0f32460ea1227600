"""The decision of one pass: from what is wished, seen and remembered to one action, a reason and a next look.

`plan` is pure and reads in this order:

    1. An open or acknowledged write is judged first; while it is undecided nothing else is decided.
    2. Is a write needed? No write of our own yet, another hash, a reapply request, a rotated Secret whose
       value the provider does not show, or a foreign change under driftPolicy Correct.
    3. May it be sent now? Not while observing, in conflict, while another resource of the endpoint is not settled,
       within the pause after a refusal, while the provider is busy, in the quiet time after a predecessor, above the
       brake, or within the scale interval.

Only a look that carried all that a write needs may lead to one; otherwise the plan is to look deeper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from inference_operator.api.status import Corrections, Effect
from inference_operator.core.compare import Difference, differences, holds_exactly
from inference_operator.core.memory import VERSION_FIELD, AppliedAs, Memory
from inference_operator.core.model import HASH_SCHEME, FieldPath
from inference_operator.core.situation import NEVER, Situation
from inference_operator.core.write import Committed, Judge, NotCommitted, Undecided, Verdict, Write, effect, stored
from inference_operator.errors import EndpointError

DAY_SECONDS = 86400.0

CONTESTED_AFTER = 2
"""Corrections in a row that are sent; the next one would be the third and is contested instead."""

SLOW_AFTER = 3
"""Verdicts `not committed` in a row after which the next try is slow."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to do."""


@dataclass(frozen=True, slots=True)
class OnlyReport:
    """Nothing is sent to this endpoint, whatever differs."""


@dataclass(frozen=True, slots=True)
class LookDeeper:
    """This look did not carry what the decision needs."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A write is open, or acknowledged and not yet visible; only looking decides it.

    Attributes:
        acknowledged: The provider has confirmed it.
    """

    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """A write is needed and may not be sent yet.

    Attributes:
        message: What it waits for; without figures that change, so that waiting writes no status.
        seconds: When to look again.
    """

    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """A write is needed, was refused, and is not tried again yet."""

    error: EndpointError
    seconds: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing will be sent until a human acts.

    Attributes:
        reason: The Stalled reason.
        message: What happened and what to do.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send one update.

    Attributes:
        reason: Why, as a phrase.
        effect: M, before and as sent.
        base_version: The newest version before the write.
        corrections: Set when this write corrects a foreign change.
    """

    reason: str
    effect: Effect
    base_version: int | None
    corrections: Corrections | None = None


Action = Nothing | OnlyReport | LookDeeper | Hold | Wait | Pause | Refuse | Send


@dataclass(frozen=True, slots=True)
class Plan:
    """One decision.

    Attributes:
        action: What to do.
        memory: The memory after judging open writes; to be stored.
        drift: Declared fields whose live value differs.
        verdict: What the write in question was judged to be, if there was one.
        young: The look may lag behind our last write, so that it tells nothing of what others have done since.
    """

    action: Action
    memory: Memory
    drift: tuple[Difference, ...] = ()
    verdict: Verdict | None = None
    young: bool = False


def plan(situation: Situation) -> Plan:
    """Decide one pass."""
    if _lacks_history(situation):
        return Plan(LookDeeper(), situation.memory)
    verdict = _judge(situation)
    if isinstance(verdict, Undecided):
        return Plan(Hold(acknowledged=situation.memory.operation is None), situation.memory, (), verdict)
    if isinstance(verdict, Committed):
        memory = situation.memory.settled(verdict, time=situation.around.wall)
        situation = replace(situation, memory=memory)
    decided = _decide(situation)
    return replace(decided, verdict=verdict, young=situation.is_young)


def _lacks_history(situation: Situation) -> bool:
    return _write_in_question(situation) is not None and not situation.around.whole


def _judge(situation: Situation) -> Verdict | None:
    write = _write_in_question(situation)
    if write is None:
        return None
    if situation.recollection.gave_up.get(situation.memory.write_id or "") == NEVER:
        return NotCommitted()  # whatever a look seems to show
    verdict = Judge(situation.desired, situation.observed, situation.agrees, situation.confidential).verdict(write)
    return Undecided() if isinstance(verdict, Committed) and _may_be_the_past(situation, write) else verdict


def _may_be_the_past(situation: Situation, write: Write) -> bool:
    """Whether what seems to show the write may be older than the write before it, which the same may precede."""
    is_certain = write.base_version is not None or write.acknowledged or write.expired
    return not is_certain and situation.is_young and situation.memory.has_written


def _write_in_question(situation: Situation) -> Write | None:
    memory, desired = situation.memory, situation.desired
    if memory.operation is not None:
        operation = memory.operation
        same = operation.hash == desired.hash and operation.secrets == dict(desired.secrets)
        expired = _is_expired(situation, operation.id)
        return Write(operation, operation.base_version, same, acknowledged=False, expired=expired)
    applied = memory.applied
    if applied is None or applied.settling is None:
        return None
    same = applied.hash == desired.hash and applied.secrets == dict(desired.secrets)
    expired = _is_expired(situation, applied.settling.id)
    return Write(applied.settling, applied.base_version, same, acknowledged=True, expired=expired)


def _is_expired(situation: Situation, write_id: str) -> bool:
    """Whether the look began so late that the write can no longer land unseen."""
    settled_at = situation.recollection.settled_at(write_id, situation.pace)
    return settled_at is not None and situation.around.look_begun >= settled_at


def _decide(situation: Situation) -> Plan:
    if situation.policies.observe:
        found = differences(situation.desired, situation.observed.live, situation.agrees)
        return Plan(OnlyReport(), _tidy(situation).cleared(), found)
    if situation.around.rival is not None:
        return Plan(Refuse("Conflict", situation.around.rival), situation.memory.cleared())
    memory, drift = _tidy(situation), _drift(situation)
    situation = replace(situation, memory=memory)
    need, corrections = _need(situation), None
    if need is None and drift and situation.policies.correct_drift and not situation.observed.state.in_transition:
        obstacle = _correction_hindrance(situation, drift)
        if obstacle is not None:
            return Plan(obstacle, memory.cleared(), drift)
        need, corrections = "correct a foreign change", memory.next_correction(time=situation.around.wall)
    if need is None:
        return Plan(_not_converging(memory) or Nothing(), memory.cleared(), drift)
    return _act(situation, need, corrections, drift)


def _act(situation: Situation, need: str, corrections: Corrections | None, drift: tuple[Difference, ...]) -> Plan:
    memory = situation.memory
    if (turn := _turn(situation)) is not None:
        return Plan(turn, memory, drift)
    if memory.applied is not None and (hindrance := _hindrance(situation)) is not None:
        return Plan(hindrance, memory, drift)
    if not situation.around.whole:
        return Plan(LookDeeper(), memory, drift)
    if (adopted := _adopt(situation)) is not None:
        return Plan(Nothing(), adopted)
    return Plan(_hindrance(situation) or _send(situation, need, corrections), memory, drift)


# ── is a write needed? ────────────────────────────────────────────────────────────────────────────────


def _need(situation: Situation) -> str | None:
    applied, desired = situation.memory.applied, situation.desired
    if applied is None:
        return "first write"
    if applied.hash != desired.hash:
        return "the spec changed"
    if situation.around.reapply and situation.around.reapply != applied.reapply:
        return "reapply was requested"
    if applied.secrets != dict(desired.secrets):
        return "a Secret changed"  # a new version without a new value was noted by `_tidy` already
    return None


def _tidy(situation: Situation) -> Memory:
    """Bring the memory up to what a look shows without a write."""
    memory, desired = situation.memory, situation.desired
    applied = memory.applied
    if applied is None or applied.settling is not None:
        return memory
    if applied.hash.split(":")[0] != HASH_SCHEME and applied.generation == situation.around.generation:
        memory = memory.noted(desired)
    if applied.hash != desired.hash:
        return memory.noted(desired) if _is_held_already(situation) else memory
    wrong = {difference.path for difference in differences(desired, situation.observed.live, situation.agrees)}
    if applied.observed and not situation.is_young and not situation.observed.state.in_transition:
        memory = memory.converged({path: seen for path, seen in applied.observed.items() if path in wrong})
    if applied.secrets != dict(desired.secrets) and not any(situation.confidential(path) for path in wrong):
        memory = memory.noted(desired)
    if not desired.unverifiable:
        memory = memory.seen_version(situation.newest)
    if applied.corrections and not wrong and _stored_age_is_over(situation, applied.corrections.time, DAY_SECONDS):
        memory = memory.calm()
    return memory


def _is_held_already(situation: Situation) -> bool:
    """Whether a changed spec asks for exactly what is there, so that sending it would change nothing."""
    if not situation.desired.fields and not situation.desired.owned:
        return True  # an update that carries nothing would still make a version
    if situation.is_young or not situation.around.whole or situation.memory.operation is not None:
        return False
    return all(holds_exactly(situation.desired, seen) for seen in (situation.before, situation.observed.live))


def _stored_age_is_over(situation: Situation, text: str, seconds: float) -> bool:
    return situation.stored_time_remaining(text, seconds) <= 0


def _drift(situation: Situation) -> tuple[Difference, ...]:
    """Foreign changes: live values that are neither wished nor what our last write was settled with."""
    applied = situation.memory.applied
    if applied is None or applied.hash != situation.desired.hash:
        return ()
    if situation.is_young and not situation.is_succeeded:
        return ()
    shown = situation.before if situation.is_young else situation.observed.live
    found = differences(situation.desired, shown, situation.agrees)
    fields = tuple(each for each in found if not _settled_so(each, applied.observed, situation))
    drift = fields + _version_drift(situation)
    # Nothing becomes drift by a rollout, and nothing is mended by one either.
    if situation.observed.state.in_transition:
        return tuple(each for each in drift if each.path in situation.memory.drifted)
    return drift


def _settled_so(difference: Difference, observed: Mapping[FieldPath, str], situation: Situation) -> bool:
    if difference.path not in observed:
        return False
    secret = situation.confidential(difference.path)
    return bool(observed[difference.path] == stored(difference.seen, secret=secret))


def _version_drift(situation: Situation) -> tuple[Difference, ...]:
    """A version made by others, where it may have changed what cannot be read back."""
    memory = situation.memory
    newest = memory.foreign_version if situation.newest is None else situation.newest
    if newest is None or memory.version is None or newest <= memory.version or not situation.desired.unverifiable:
        return ()
    return (Difference(VERSION_FIELD, memory.version, newest),)


def _not_converging(memory: Memory) -> Refuse | None:
    if memory.applied is None or not memory.applied.observed:
        return None
    fields = ", ".join(sorted(memory.applied.observed))
    return Refuse(
        "NotConverging",
        f"The provider settled the last write with other values than sent: {fields}. "
        "Set them to what the provider accepts; the same write is not sent again.",
    )


# ── may it be sent now? ───────────────────────────────────────────────────────────────────────────────


def _hindrance(situation: Situation) -> Wait | Pause | None:
    recollection, around, pace = situation.recollection, situation.around, situation.pace
    refusal = recollection.refusal
    if refusal is not None and refusal.inputs == around.inputs and around.now < refusal.until:
        return Pause(refusal.error, refusal.until - around.now)
    if situation.is_behind:
        return Wait("Reads may not show the last update yet; waiting until they must.", pace.transition_poll)
    if recollection.busy and situation.observed.state.in_transition:
        return Wait("The provider refused the update while it is at work on the endpoint.", pace.transition_poll)
    slow_until = recollection.uncommitted_at + pace.slow
    if len(recollection.uncommitted) >= SLOW_AFTER and around.now < slow_until:
        message = "The provider did not keep the last three updates although it refused none; trying slowly."
        return Wait(message, slow_until - around.now)
    if situation.memory.applied is None and around.now < around.first_write_at:
        message = "Another operator or resource may have written to the endpoint; waiting until that must have landed."
        return Wait(message, around.first_write_at - around.now)
    if around.brake is not None and not situation.observed.state.in_transition:
        return Wait(around.brake, pace.transition_poll)
    remaining = _scale_interval_remaining(situation)
    if remaining > 0:
        return Wait("Writes that change nothing but replicas keep the scale interval.", remaining)
    return None


def _turn(situation: Situation) -> Wait | None:
    """Not even what is there may be taken as wished while others may still change it."""
    around, pace = situation.around, situation.pace
    if (remaining := around.lapse_over_at - around.now) > 0:
        message = "An older status was put back; waiting until no update that it does not tell of can still arrive."
        return Wait(message, remaining)
    if (remaining := around.turn_at - around.now) <= 0:
        return None
    message = "Another resource names the endpoint; waiting until nothing of it can still arrive at the provider."
    return Wait(message, min(remaining, pace.transition_poll))


def _scale_interval_remaining(situation: Situation) -> float:
    applied, interval = situation.memory.applied, situation.pace.scale_interval
    if applied is None or applied.hash == situation.desired.hash:
        return 0.0
    if applied.hash.rpartition(":")[0] != situation.desired.hash.rpartition(":")[0]:
        return 0.0
    if situation.recollection.wrote_at is not None:
        return interval - (situation.around.now - situation.recollection.wrote_at)
    return situation.stored_time_remaining(applied.time, interval)


def _correction_hindrance(situation: Situation, drift: tuple[Difference, ...]) -> Wait | Refuse | None:
    recollection, around, pace = situation.recollection, situation.around, situation.pace
    applied = situation.memory.applied
    done = applied.corrections if applied else None
    if done and done.count >= CONTESTED_AFTER:
        fields = ", ".join(difference.path for difference in drift)
        return Refuse(
            "Contested",
            f"Somebody else keeps changing {fields} at the provider. Settle who owns the endpoint, then change "
            "the spec or set driftPolicy: Report.",
        )
    if recollection.drift != drift:
        return Wait("A foreign change is corrected once a second look confirms it.", pace.transition_poll)
    remaining = 0.0
    if recollection.drift_since == recollection.first_look_at:
        remaining = pace.drift_cooldown - (around.now - recollection.drift_since)
    if done:
        cooldown = pace.drift_cooldown * 2 ** (done.count - 1)
        since = recollection.corrected_at
        left = (
            situation.stored_time_remaining(done.time, cooldown) if since is None else cooldown - (around.now - since)
        )
        remaining = max(remaining, left)
    if remaining <= 0:
        return None
    return Wait("A foreign change is corrected when the cooldown is over.", min(remaining, pace.poll))


# ── what is sent ──────────────────────────────────────────────────────────────────────────────────────


def _adopt(situation: Situation) -> Memory | None:
    """The first look at an endpoint that already holds the spec: nothing needs to be sent."""
    desired, memory, around = situation.desired, situation.memory, situation.around
    if memory.applied is not None:
        return None
    if (desired.unverifiable or around.reapply) and not situation.policies.match:
        return None
    if any(differences(desired, seen, situation.agrees) for seen in (situation.before, situation.observed.live)):
        return None
    applied_as = AppliedAs(around.uid, around.generation, situation.newest, around.wall, around.reapply)
    return memory.adopted(desired, applied_as)


def _send(situation: Situation, need: str, corrections: Corrections | None) -> Send:
    """The write, from what is there now: whatever an earlier try has not made by now would come after that."""
    change = effect(situation.desired, situation.before, situation.agrees, situation.confidential)
    earlier = situation.memory.operation
    if corrections is None and earlier is not None and earlier.hash == situation.desired.hash:
        corrections = earlier.corrections
    return Send(need, change, situation.newest, corrections)
