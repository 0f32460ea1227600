"""What must be so in the end: faults over, everything converges without help, and then it stays."""

from __future__ import annotations

from faults.invariants import FORGED, MISTAKEN, is_taken_on_trust, payload_of, ready, synced
from faults.model import ENDPOINT, PACE, Model
from inference_operator.core.model import Resource
from inference_operator.core.schedule import SLOWEST_SECONDS

UNDER_WAY = {
    *("WriteUndecided", "Pending", "Waiting", "Throttled", "ProviderUnavailable", "CapacityUnavailable"),
    *("InvalidSpec", "CredentialsRejected", "EndpointNotFound"),  # tried again slowly (L3), and nothing is wrong now
}
STALLED = {"Conflict", "NotConverging", "Contested"}
REFUSED = {"InvalidSpec", "CredentialsRejected", "EndpointNotFound", "CapacityUnavailable"}

PENDING = ({"reason": "Pending"},)

BOUND_SECONDS = PACE.quiet + 1.1 * PACE.slow + PACE.settle
"""For a write that was lost three times in a row, which slows the next one."""

REFUSED_SECONDS = 1.1 * SLOWEST_SECONDS + BOUND_SECONDS
"""For what was refused so often that it is tried once an hour."""


def converge(model: Model) -> None:
    """Faults off; within the bound nothing is under way any more, and the status tells the truth (L1 to L3)."""
    model.calm_down()
    until = model.time + (REFUSED_SECONDS if _reasons(model) & REFUSED else BOUND_SECONDS)
    while _reasons(model) & UNDER_WAY:
        assert model.time < until, f"L2: still under way: {_reasons(model)}"
        model.pass_time(PACE.poll)
    model.pass_time(PACE.quiet + 1.2 * PACE.drift)
    reasons = [synced(each)[1] for each in model.server.objects.values()]
    assert not reasons or set(reasons) != {"Conflict"}, "L1: nobody owns the endpoint"
    for each in model.server.objects.values():
        check_truth(model, each)


def _reasons(model: Model) -> set[str]:
    """All that any condition gives as its reason; where a look was refused, that may be Stalled alone."""
    conditions = [found for each in model.server.objects.values() for found in each.status.get("conditions", PENDING)]
    return {found["reason"] for found in conditions}


def check_truth(model: Model, resource: Resource) -> None:
    """What the status says is so, and what is not in sync is somebody's doing."""
    status, reason, generation = synced(resource)
    assert generation == resource.status["observedGeneration"] == resource.generation, "L1: not the newest generation"
    newest, payload = model.account.endpoints[ENDPOINT].versions[-1], payload_of(resource)
    differing = {path for path, value in payload.items() if newest.get(path) != value}
    if status == "True":
        _check_in_sync(model, resource, reason, differing)
    else:
        assert reason in _excuses(model, resource), f"L1: {reason} for nothing: {resource.status.get('conditions')}"
    if reason == "Drifted":
        _check_drift(resource, differing)
    expected = ("False", reason) if reason in STALLED else ("True", "Serving")
    assert ready(resource) == expected, f"S7: Ready is {ready(resource)} where Synced says {reason}"


def _check_drift(resource: Resource, differing: set[str]) -> None:
    fields = [each["field"] for each in resource.status.get("drift", ())]
    assert differing or fields == ["version"], "L1: drifted from nothing"
    observed = resource.spec.get("managementPolicy") == "Observe"
    assert observed or resource.spec.get("driftPolicy") != "Correct", "L1: not corrected"


def _check_in_sync(model: Model, resource: Resource, reason: str, differing: set[str]) -> None:
    assert differing <= {"memory.model"}, f"S7: {reason}, but {differing} differ"
    by_policy = reason == "Matched" and is_taken_on_trust(resource)
    unknowable = model.invariants.unknowable
    nobody_can_tell = model.account.ignored or unknowable[FORGED] or unknowable[MISTAKEN]
    assert not differing or by_policy or nobody_can_tell, f"S7: {reason}, but the model differs"


def _excuses(model: Model, resource: Resource) -> set[str]:
    """Why a resource may rest without being in sync."""
    foreign = any(each.sender is None for each in model.account.ledger)
    excuses = {"Conflict"} if len(model.server.objects) > 1 else set()
    if foreign or model.invariants.restores or model.handovers:
        excuses |= {"Drifted", "Contested", "NotConverging"}
    if resource.spec.get("managementPolicy") == "Observe":
        excuses |= {"Drifted"}
    return excuses | ({"NotConverging"} if model.bent else set())


def stays(model: Model) -> None:
    """A change costs one version and two status writes; then nothing happens any more, not even after a restart."""
    model.account.clamp.clear()
    for each in list(model.server.objects.values())[1:]:
        model.delete(each.name)
    if not model.server.objects:
        model.create("a", {"size": 1})
    (name,) = [each.name for each in model.server.objects.values()]
    model.edit(name, memory={"size": 100}, suspend=False, managementPolicy="Manage")
    model.pass_time(PACE.quiet + PACE.transition_poll)
    for size in (101, 102):
        updates, writes = model.updates, len(model.server.writes)
        model.edit(name, memory={"size": size})
        model.pass_time(1.2 * PACE.drift)
        assert (model.updates - updates, len(model.server.writes) - writes) == (1, 2), "S1q, S14"
    (resource,) = model.server.objects.values()
    assert synced(resource) == ("True", "Applied", resource.generation), f"L1: {resource.status}"
    assert model.account.endpoints[ENDPOINT].versions[-1]["memory.size"] == 102
    events, looks = len(model.server.events), model.looks
    model.pass_time(4 * PACE.poll)
    assert (len(model.server.events) - events, model.looks - looks <= 5) == (0, True), "S6"
    updates, writes = model.updates, len(model.server.writes)
    for number in range(len(model.operators)):
        model.crash(number)
    model.pass_time(1.2 * PACE.drift)
    assert (model.updates - updates, len(model.server.writes) - writes) == (0, 0), "S6"
    updates = model.updates
    model.recreate(name, with_status=False)
    model.pass_time(PACE.quiet + 3 * PACE.poll)
    assert model.updates == updates, "S1: an endpoint that holds the spec was written"
