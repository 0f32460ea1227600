"""What befalls the API server's storage and our definition in it, in a control plane of one's own."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from faults.vitals import Managed, apply, await_all, once_each, outcomes, placed
from inference_operator.api.names import CRD_NAME, GROUP, PLURAL
from inference_operator.playground import components
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from planes import USERS
from rig import CRD, UNHURRIED, Process, Rig, install_crd, rigged, wait_for
from tally import Meter

pytestmark = pytest.mark.faults

STEADY: dict[str, Any] = {**UNHURRIED, "max-rollouts": 0}
DEFINITION = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD_NAME}"
REST = 1.5
"""Seconds of watching that nothing more is sent."""


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(users=USERS) as running:
        yield running


@pytest.fixture
def rig(plane: ControlPlane, emulators: EmulatorControl, tmp_path: Path) -> Iterator[Rig]:
    with rigged(plane, emulators, tmp_path) as made:
        yield made
        assert made.secrets_shown() == []


def settled(rig: Rig, count: int = 4) -> tuple[Process, list[Managed]]:
    process = rig.start(**STEADY)
    fleet = placed(rig, count)
    apply(rig, fleet, 2)
    await_all(rig, fleet)
    return process, fleet


# ── Storage ───────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def frozen(plane: ControlPlane) -> Iterator[None]:
    """Without its storage for a while: nothing is answered that needs it."""
    process = plane._components["etcd"].process
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def dead(plane: ControlPlane) -> Iterator[None]:
    """The same, but refused at once."""
    process = plane._components["etcd"].process
    process.kill()
    process.wait()
    try:
        yield
    finally:
        plane._spawn("etcd", components.etcd(plane._layout))
        plane._await("/api/v1/namespaces/default")


STORAGE: dict[str, tuple[Callable[[ControlPlane], Any], float]] = {"frozen": (frozen, 12), "dead": (dead, 6)}
"""How storage is away, and for how many seconds; a request to the API server may take ten."""


@pytest.mark.covers("D2")
@pytest.mark.parametrize("how", STORAGE)
def test_nothing_is_sent_while_no_intent_can_be_stored(rig: Rig, plane: ControlPlane, how: str) -> None:
    process, fleet = settled(rig)
    for each in fleet:
        rig.emulators.add_fault(Fault(method="GET", endpoint_id=each.endpoint_id, status=502, count=None))
    apply(rig, fleet, 3)
    await_all(rig, fleet, "Synced", "False", "ProviderUnavailable")  # said only of a change that is known and pending
    away, seconds = STORAGE[how]
    with away(plane):
        rig.emulators.clear_faults()
        time.sleep(seconds)
        assert outcomes(rig, fleet) == once_each(fleet)
        assert [rig.emulators.reads(each.endpoint_id)[-1].status for each in fleet] == [200] * len(fleet)
    await_all(rig, fleet)
    time.sleep(REST)
    assert outcomes(rig, fleet) == once_each(fleet, 2)
    assert process.popen.poll() is None


@pytest.mark.covers("D2")
@pytest.mark.parametrize("how", STORAGE)
def test_an_update_whose_outcome_cannot_be_stored_is_not_sent_twice(rig: Rig, plane: ControlPlane, how: str) -> None:
    _, fleet = settled(rig)
    for each in fleet:
        rig.emulators.add_fault(Fault(operation="update", endpoint_id=each.endpoint_id, gate_after="committed"))
    apply(rig, fleet, 3)
    rig.emulators.wait_for_gate("committed", requests=len(fleet))
    away, seconds = STORAGE[how]
    with away(plane):
        rig.emulators.release_gate("committed")
        time.sleep(seconds)
    await_all(rig, fleet)
    time.sleep(REST)
    assert outcomes(rig, fleet) == once_each(fleet, 2)


@pytest.mark.covers("D1")
def test_an_api_server_that_is_killed_while_an_update_is_under_way_costs_no_second_one(
    rig: Rig, plane: ControlPlane
) -> None:
    process, fleet = settled(rig)
    for each in fleet:
        rig.emulators.add_fault(Fault(operation="update", endpoint_id=each.endpoint_id, gate_after="committed"))
    apply(rig, fleet, 3)
    rig.emulators.wait_for_gate("committed", requests=len(fleet))
    plane.kill_apiserver()
    rig.emulators.release_gate("committed")
    time.sleep(2)
    plane.restart_apiserver()
    await_all(rig, fleet)
    assert outcomes(rig, fleet) == once_each(fleet, 2)
    apply(rig, fleet, 4)
    await_all(rig, fleet)
    assert outcomes(rig, fleet) == once_each(fleet, 3)
    assert process.popen.poll() is None


# ── The definition ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.covers("D12")
def test_a_definition_may_be_missing_go_and_come_back_and_no_endpoint_notices(rig: Rig) -> None:
    remove_definition(rig)
    process = rig.start(wait=False, **STEADY)
    wait_for(lambda: "install it" in process.log.read_text(), what="the operator to ask for the definition")
    assert rig.readiness(process) == ""
    install_crd(rig.api)
    wait_for(lambda: rig.is_working(process), what="the operator to work")
    fleet = placed(rig, 4)
    apply(rig, fleet, 2)
    await_all(rig, fleet)
    remove_definition(rig)
    wait_for(lambda: process.popen.poll() is not None, what="the end of the process", seconds=60)
    assert process.popen.returncode == 1
    process = rig.start(wait=False, **STEADY)
    wait_for(lambda: "install it" in process.log.read_text(), what="its successor to ask for the definition")
    assert rig.readiness(process) == ""
    install_crd(rig.api)
    apply(rig, fleet, 2)
    wait_for(lambda: rig.is_working(process), what="its successor to work")
    await_all(rig, fleet, reason="Matched")
    assert outcomes(rig, fleet) == once_each(fleet)
    apply(rig, fleet, 3)
    await_all(rig, fleet)
    assert outcomes(rig, fleet) == once_each(fleet, 2)


def remove_definition(rig: Rig) -> None:
    """Delete it; its resources go with it."""
    rig.api.delete(DEFINITION).raise_for_status()
    wait_for(lambda: rig.api.get(DEFINITION).status_code == 404, what="the definition to be gone")
    wait_for(lambda: not rig.api.get(rig.path).is_success, what="the resources to be served no more")


def put_definition(rig: Rig, change: Callable[[dict[str, Any]], object]) -> None:
    """Replace the definition by a changed one."""
    document = yaml.safe_load(CRD.read_text())
    change(document["spec"])
    document["metadata"]["resourceVersion"] = rig.api.get(DEFINITION).json()["metadata"]["resourceVersion"]
    rig.api.put(DEFINITION, json=document).raise_for_status()
    await_effect(rig)


def await_effect(rig: Rig) -> None:
    """Wait until a changed definition is in effect; for a moment its resources are not served at all (429)."""
    time.sleep(2)
    wait_for(lambda: rig.api.get(rig.path).is_success, what="the definition to be in effect")


def schema_of(spec: dict[str, Any], part: str) -> dict[str, Any]:
    schema: dict[str, Any] = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]["properties"]
    return schema


def upgrade(spec: dict[str, Any]) -> None:
    """A second version, in which things are stored from now on, and a default that means what its absence meant."""
    schema_of(spec, "spec")["driftPolicy"]["default"] = "Report"
    schema_of(spec, "spec")["aFieldToCome"] = {"type": "string", "maxLength": 10, "default": "new"}
    second = json.loads(json.dumps(spec["versions"][0])) | {"name": "v1beta1"}
    spec["versions"][0]["storage"] = False
    spec["versions"].append(second)


@pytest.mark.covers("D13")
def test_an_upgrade_of_the_definition_and_of_what_is_stored_changes_nothing(rig: Rig) -> None:
    process, fleet = settled(rig)
    meter = Meter(rig, [each.endpoint_id for each in fleet])
    put_definition(rig, upgrade)
    try:
        wait_for(lambda: rig.api.get(f"/apis/{GROUP}/v1beta1/{PLURAL}").is_success, what="the version to be served")
        for each in fleet:  # as a migration of storage does
            path = rig.path.replace("v1alpha1", "v1beta1") + f"/{each.name}"
            resource = rig.editor.get(path).raise_for_status().json()
            rig.editor.put(path, json=resource).raise_for_status()
        wait_for(lambda: rig.get(fleet[0].name)["spec"].get("aFieldToCome") == "new", what="the default")
        time.sleep(REST)
        spent = meter.spent()
        print(f"an upgraded definition, {len(fleet)} resources stored anew: {spent.writes} Kubernetes writes of ours")
        assert spent.mutations == 0
        apply(rig, fleet, 3)
        await_all(rig, fleet)
        assert outcomes(rig, fleet) == once_each(fleet, 2)
        alive(process, rig)
    finally:
        restore_definition(rig)


def alive(process: Process, rig: Rig) -> None:
    assert process.popen.poll() is None
    assert rig.is_working(process)


def restore_definition(rig: Rig) -> None:
    """Back to the one version, from nothing: one that was stored in cannot be taken out."""
    remove_definition(rig)
    install_crd(rig.api)


REFUSING = {"an intent": ("operation", [True]), "a result": ("applied", [True, True])}
"""What the definition refuses of every generation but the first, and which updates are sent all the same."""


@pytest.mark.covers("D14")
@pytest.mark.parametrize("what", REFUSING)
def test_a_definition_that_refuses_our_status_is_no_reason_to_send_anything_twice(rig: Rig, what: str) -> None:
    process, fleet = settled(rig)
    field, sent = REFUSING[what]
    put_definition(rig, lambda spec: schema_of(spec, "status")[field]["properties"]["generation"].update(maximum=1))
    apply(rig, fleet, 3)
    if what == "a result":
        wait_for(lambda: outcomes(rig, fleet) == once_each(fleet, 2), what="the updates")
    log = process.log
    wait_for(lambda: log.read_text().count("was not written") >= 3 * len(fleet), what="tries in vain", log=log)
    time.sleep(REST)
    assert outcomes(rig, fleet) == {each.name: sent for each in fleet}
    install_crd(rig.api)
    await_effect(rig)
    await_all(rig, fleet)
    time.sleep(REST)
    assert outcomes(rig, fleet) == once_each(fleet, 2)
    alive(process, rig)


# ── Sizes ─────────────────────────────────────────────────────────────────────────────────────────────

LONGEST_NAME = ".".join(["n" * 63] * 3 + ["n" * 61])
LABELS = {"l" * 63: "v" * 63, f"{'p' * 63}.{'q' * 63}.{'r' * 63}.{'s' * 61}/{'l' * 63}": "v" * 63}
ANNOTATIONS_BYTES = 256 * 1024
ENVS = [{"name": f"VARIABLE_{number}", "value": "x" * 3000} for number in range(256)]
ROUNDS = 14
"""More changes than the history remembers."""


@pytest.mark.covers("D16")
def test_the_longest_names_and_largest_objects_are_served_and_the_status_does_not_grow(rig: Rig) -> None:
    process = rig.start(**STEADY)
    plain, large = (Managed(name, "novita", rig.endpoint("novita")) for name in ("plain", LONGEST_NAME))
    note = {"a" * 63: "x" * (ANNOTATIONS_BYTES - 63 - 1000)}
    sizes = list[int]()
    for number in range(2, 2 + ROUNDS):
        rig.apply(plain.name, plain.spec(number))
        rig.apply(large.name, large.spec(number, novita={"envs": ENVS}), note, labels=LABELS)
        await_all(rig, [plain, large])
        sizes.append(len(json.dumps(rig.get(large.name)["status"])))
    document = len(rig.api.get(f"{rig.path}/{large.name}").content)
    small = len(json.dumps(rig.get(plain.name)["status"]))
    print(f"an object of {document} bytes: its status took {sizes[0]} to {max(sizes)} bytes, a small one's {small}")
    assert document > 1_000_000
    assert outcomes(rig, [plain, large]) == once_each([plain, large], ROUNDS)
    assert max(sizes[-3:]) <= max(sizes[:-3]) + 100
    assert max(sizes) < 4 * small
    alive(process, rig)
