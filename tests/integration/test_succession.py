"""The end of one process and the beginning of the next: nothing is lost, and nothing is sent twice or too early."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference_operator.kube.scopes import lease_name
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from planes import USERS
from rig import PATIENCE, QUICK, Rig, rigged, spec_of, wait_for
from tally import show

PROVIDERS = ("friendli", "novita")
REST_SECONDS = 2.2 * QUICK["poll-seconds"]
QUIET_SECONDS = QUICK["claim-seconds"] + QUICK["request-timeout-seconds"] + QUICK["settle-seconds"]


def in_sync(rig: Rig, name: str, spec: dict[str, Any]) -> None:
    rig.apply(name, spec)
    rig.wait(name)


def count(rig: Rig, endpoint_id: str) -> int:
    return len(rig.mutations(endpoint_id))


@pytest.mark.covers("A7")
@pytest.mark.parametrize("answered", [True, False], ids=["answered", "unanswered"])
def test_an_update_under_way_survives_the_end_of_the_process(
    rig: Rig,
    answered: bool,  # noqa: FBT001 - both sides of the table
) -> None:
    endpoint_id = rig.endpoint("friendli")
    process = rig.start()
    in_sync(rig, "ending", spec_of("friendli", endpoint_id, 1))
    rig.emulators.add_fault(Fault(operation="update", endpoint_id=endpoint_id, gate_after=rig.namespace))
    if not answered:  # nor can a look tell what has become of it
        rig.emulators.add_fault(
            Fault(operation="get_version_history", endpoint_id=endpoint_id, status=503, skip=1, count=None)
        )
    rig.apply("ending", spec_of("friendli", endpoint_id, 4))
    rig.emulators.wait_for_gate(rig.namespace)
    began = time.monotonic()
    process.popen.terminate()
    time.sleep(0.3)
    assert process.popen.poll() is None
    if answered:
        rig.emulators.release_gate(rig.namespace)
    code = process.popen.wait(PATIENCE)
    drained = time.monotonic() - began
    left = rig.get("ending")["status"].get("operation")
    rig.emulators.release_gate(rig.namespace)
    rig.emulators.clear_faults()
    rig.start()
    resource = rig.wait("ending")
    time.sleep(REST_SECONDS)
    rows = [("exit code", code), ("seconds to the end", f"{drained:.2f}"), ("updates", count(rig, endpoint_id))]
    show(f"SIGTERM while an update is under way, {'answered' if answered else 'not answered'}", ("", "figure"), rows)
    assert code == 0
    assert drained < QUICK["request-timeout-seconds"] + 5
    assert (left is None) is answered
    assert count(rig, endpoint_id) == 1
    assert resource["status"]["version"] == 1


def test_after_a_predecessor_first_writes_wait_and_adoption_does_not(rig: Rig) -> None:
    assert rig.start().terminate() == 0
    agreeing, differing = rig.endpoint("friendli"), rig.endpoint("friendli")
    rig.apply("agreeing", spec_of("friendli", agreeing, 1))
    rig.apply("differing", spec_of("friendli", differing, 4))
    launched = time.monotonic()
    rig.start()
    rig.wait("agreeing", "Synced", reason="Matched")
    rig.wait("differing", "Synced", "False", "Waiting")
    adopted = time.monotonic() - launched
    assert count(rig, differing) == 0
    rig.wait("differing")
    waited = rig.mutations(differing)[0].at - launched
    rows = [("Q", QUIET_SECONDS), ("adopted", f"{adopted:.2f}"), ("first write", f"{waited:.2f}")]
    show("seconds after the start, where a predecessor has left its Lease", ("", "seconds"), rows)
    assert waited >= QUIET_SECONDS
    assert (count(rig, agreeing), count(rig, differing)) == (0, 1)


def test_without_a_predecessor_first_writes_are_sent_at_once_and_the_lease_is_kept(rig: Rig) -> None:
    endpoint_id = rig.endpoint("friendli")
    rig.apply("first", spec_of("friendli", endpoint_id, 4))
    launched = time.monotonic()
    rig.start(settle_seconds=PATIENCE)
    rig.wait("first")
    waited = rig.mutations(endpoint_id)[0].at - launched
    show("seconds after the start, where nobody was before", ("", "seconds"), [("first write", f"{waited:.2f}")])
    assert waited < PATIENCE
    held = lease(rig)
    renewed = wait_for(lambda: (now := lease(rig))["renewTime"] != held["renewTime"] and now, what="a renewal")
    assert held["holderIdentity"]
    assert {**renewed, "renewTime": ""} == {**held, "renewTime": ""}


def lease(rig: Rig) -> dict[str, Any]:
    name = lease_name([rig.namespace], None)
    path = f"/apis/coordination.k8s.io/v1/namespaces/{rig.namespace}/leases/{name}"
    return dict(rig.api.get(path).raise_for_status().json()["spec"])


@pytest.fixture
def breakable(emulators: EmulatorControl, tmp_path: Path) -> Iterator[Rig]:
    """A rig with a control plane of its own."""
    with ControlPlane(users=USERS) as plane, rigged(plane, emulators, tmp_path) as made:
        yield made


@pytest.mark.covers("D1")
def test_an_api_server_that_was_away_costs_no_update(breakable: Rig) -> None:
    rig = breakable
    process = rig.start()
    endpoints = {provider: rig.endpoint(provider) for provider in PROVIDERS}
    for provider, endpoint_id in endpoints.items():
        in_sync(rig, provider, spec_of(provider, endpoint_id, 2))
    rig.plane.kill_apiserver()
    time.sleep(REST_SECONDS)
    rig.plane.restart_apiserver()
    time.sleep(REST_SECONDS)
    code = process.popen.poll()
    if code is not None:
        rig.start()  # as the kubelet would
    for provider, endpoint_id in endpoints.items():
        assert count(rig, endpoint_id) == 1
        in_sync(rig, provider, spec_of(provider, endpoint_id, 4))
        assert count(rig, endpoint_id) == 2
    show("the API server was killed and started again", ("", ""), [("the operator", code or "survived")])
    assert code in {None, 1}
