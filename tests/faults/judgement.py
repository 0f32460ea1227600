"""What must hold of every trial, whatever has befallen it; by the books of the provider and of the API server.

The names in brackets are the invariants of the fault matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from faults.kubescript import Call
from faults.steps import INTENT, labels_of, status_of
from faults.trial import PACE, Trial
from inference_operator.playground.emulators.ledger import Entry


def violations(trial: Trial) -> list[str]:
    """Everything that does not hold."""
    mutations, calls = trial.mutations(), trial.calls()
    return [
        *_count(trial, mutations),
        *_patience(mutations),
        *_payloads(trial, mutations),
        *_intents(mutations, calls),
        *_status(trial, mutations, calls),
        *_end(trial),
        *(f"the token is shown [S8]: {place}" for place in trial.rig.secrets_shown()),
        *(
            f"the token is sent to the API server [S8]: {call.path}"
            for call in calls
            if trial.rig.token in str(call.body)
        ),
    ]


def _count(trial: Trial, mutations: Sequence[Entry]) -> Iterator[str]:
    """As many updates take effect as changes were asked for, and none is sent that need not be."""
    committed = [entry for entry in mutations if entry.committed]
    earlier = sum(entry.at < trial.resumed_at for entry in committed)
    expected = trial.workload.expected(trial.subject, earlier)
    if earlier > 1:
        yield f"{earlier} updates took effect before anything went on, not at most 1 [S1]"
    traceless = trial.workload.leaves_no_trace(trial.subject)
    if len(committed) != expected and not (traceless and not committed):
        yield f"{len(committed)} updates took effect, not {expected} [S1]"
    if any(entry.fault is None for entry in mutations if not entry.committed):
        yield "an update was refused, and no fault has done it"
    if trial.deleted_at is not None and trial.workload.deletes:
        late = sum(entry.at > trial.deleted_at for entry in mutations)
        if late:
            yield f"{late} updates came after the deletion was confirmed [S4]"
    if committed and not trial.workload.deletes and not mutations[-1].committed:
        yield "an update was sent after the last that took effect [S5]"


def _patience(mutations: Sequence[Entry]) -> Iterator[str]:
    """Nothing is sent before one that may still land has had its time."""
    settle = PACE["settle-seconds"]
    for one, another in pairwise(mutations):
        if not one.committed and another.at - one.at < settle:
            yield f"an update was sent {another.at - one.at:.2f} s after one that might still have landed [S5]"


def _payloads(trial: Trial, mutations: Sequence[Entry]) -> Iterator[str]:
    """Each carries one wish that was made by then, whole, and none is older than the one before."""
    newest = -1
    for entry in mutations:
        said = trial.subject.sent(entry.body)
        if len(said) != 1 or not said <= {wish.number for wish in trial.wishes}:
            yield f"a payload mixes wishes, or nobody has made them [S2]: {entry.body}"
            continue
        number = next(iter(said)) or 0
        if number < newest:
            yield f"wish {number} was sent after wish {newest} [S3]"
        newest = max(newest, number)
        comment = entry.body.get("newVersionComment")
        comments = {
            f"{trial.rig.namespace}/{trial.name} generation {x.generation}" for x in trial.wishes if x.number == number
        }
        if comment is not None and comment not in comments:
            yield f"the payload of wish {number} names another generation [S2]: {comment}"


def _intents(mutations: Sequence[Entry], calls: Sequence[Call]) -> Iterator[str]:
    """Before each update an intent of its own was stored."""
    known = set[str]()
    stored = [
        call.at for call in calls if call.committed and labels_of([call], []) == [INTENT] and _is_new(call, known)
    ]
    open_intents = 0
    for _, is_update in sorted([*((at, False) for at in stored), *((entry.at, True) for entry in mutations)]):
        if is_update and not open_intents:
            yield "an update was sent without an intent of its own [S5]"
        open_intents = 0 if is_update else 1


def _is_new(call: Call, known: set[str]) -> bool:
    identity = status_of(call)["operation"]["id"]
    if identity in known:
        return False
    known.add(identity)
    return True


def _status(trial: Trial, mutations: Sequence[Entry], calls: Sequence[Call]) -> Iterator[str]:
    """Whoever says that a generation is applied says so when the provider holds it."""
    first = None if trial.workload.begins else trial.wishes[0].number
    held = [(0.0, first)] + [
        (entry.committed_at, next(iter(trial.subject.sent(entry.body))))
        for entry in mutations
        if entry.committed and entry.committed_at is not None
    ]
    for call in calls:
        status = status_of(call)
        if not call.committed or not any(
            each["type"] == "Synced" and each["status"] == "True" for each in status.get("conditions", ())
        ):
            continue
        now = [number for at, number in held if at <= call.at][-1]
        wished = {
            x.number
            for x in trial.wishes
            if (x.uid, x.generation) == (call.body[0]["value"], status["observedGeneration"])
        }
        if now not in wished:
            yield f"the status claims {wished} while the provider holds {now} [S7]"
        if "operation" in status:
            yield "the status claims to be in sync with a write open [S7]"


def _end(trial: Trial) -> Iterator[str]:
    """What is left when everything has settled."""
    if others := trial.others():
        yield f"the provider was asked to {', '.join(others)} [S4]"
    if trial.kept()["deleted"]:
        yield "the endpoint was deleted [S4]"
    if trial.workload.deletes:
        if not trial.is_gone():
            yield "the deleted resource is still there [L4]"
        return
    kept = trial.subject.kept(trial.kept()["config"])
    if kept != {trial.workload.final}:
        yield f"the provider holds {kept}, not {trial.workload.final} [L1]"
    for write in trial.restless:
        yield f"at rest this was written [S6]: {write.body}"
