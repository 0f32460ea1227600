"""What must be so in the end: faults over, everything converges without help, and then it stays."""

from __future__ import annotations

from faults.invariants import FORGED, MISTAKEN, is_taken_on_trust, payload_of, synced
from faults.model import ENDPOINT, PACE, Model
from inference_operator.core.model import Resource

UNDER_WAY = {
    *("WriteUndecided", "Pending", "Waiting", "Throttled", "ProviderUnavailable", "CapacityUnavailable"),
    *("InvalidSpec", "CredentialsRejected"),  # tried again slowly (L3), and nothing is wrong any more
}
BOUND_SECONDS = 20_000
"""Longer than the slowest pace, that of a write which was refused several times."""


def converge(model: Model) -> None:
    """Faults off; within the bound nothing is under way any more, and the status tells the truth (L1 to L3)."""
    model.calm_down()
    until = model.time + BOUND_SECONDS
    model.pass_time(PACE.quiet)
    while any(synced(each)[1] in UNDER_WAY for each in model.server.objects.values()):
        assert model.time < until, f"L2: still under way: {[synced(each) for each in model.server.objects.values()]}"
        model.pass_time(PACE.slow)
    model.pass_time(1.2 * PACE.drift)
    for each in model.server.objects.values():
        check_truth(model, each)


def check_truth(model: Model, resource: Resource) -> None:
    """What the status says is so, and what is not in sync is somebody's doing."""
    status, reason, generation = synced(resource)
    assert generation == resource.generation, "L1: the newest generation was not handled"
    newest, payload = model.account.endpoints[ENDPOINT].versions[-1], payload_of(resource)
    differing = {path for path, value in payload.items() if newest.get(path) != value}
    if status == "True":
        _check_in_sync(model, resource, reason, differing)
    else:
        assert reason in _excuses(model), f"L1: {reason} for nothing: {resource.status.get('conditions')}"


def _check_in_sync(model: Model, resource: Resource, reason: str, differing: set[str]) -> None:
    assert differing <= {"memory.model"}, f"S7: {reason}, but {differing} differ"
    by_policy = reason == "Matched" and is_taken_on_trust(resource)
    unknowable = model.invariants.unknowable
    nobody_can_tell = model.account.ignored or unknowable[FORGED] or unknowable[MISTAKEN]
    assert not differing or by_policy or nobody_can_tell, f"S7: {reason}, but the model differs"


def _excuses(model: Model) -> set[str]:
    """Why a resource may rest without being in sync."""
    foreign = any(each.sender is None for each in model.account.ledger)
    excuses = {"Conflict"} if len(model.server.objects) > 1 else set()
    if foreign or model.invariants.restores or model.handovers:
        excuses |= {"Drifted", "Contested", "NotConverging"}
    if model.observed:
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
    _, resource = model.server.objects.popitem()
    model.server.objects[resource.uid] = resource
    assert synced(resource) == ("True", "Applied", resource.generation), f"L1: {resource.status}"
    assert model.account.endpoints[ENDPOINT].versions[-1]["memory.size"] == 102
    updates, writes = model.updates, len(model.server.writes)
    for number in range(len(model.operators)):
        model.crash(number)
    model.pass_time(1.2 * PACE.drift)
    assert (model.updates - updates, len(model.server.writes) - writes) == (0, 0), "S6"
