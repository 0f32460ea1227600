"""Resources that go, come back, or lose what they need, while an update is under way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest

from fleet import message
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from planes import USERS
from rig import QUICK, Rig, rigged, spec_of, wait_for

PROVIDERS = ("friendli", "novita")
POLL_SECONDS = float(QUICK["poll-seconds"])
QUIET_SECONDS = QUICK["claim-seconds"] + QUICK["request-timeout-seconds"] + QUICK["settle-seconds"]
LATE_SECONDS = 0.8 * QUICK["settle-seconds"]
HOLD = "example.com/hold"


@pytest.fixture(scope="module")
def rig(
    control_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """One operator for all tests of the file; the endpoints are each test's own."""
    with rigged(control_plane, emulators, tmp_path_factory.mktemp("leaving")) as made:
        made.start()
        yield made


def in_sync(rig: Rig, name: str, spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
    rig.apply(name, spec, **meta)
    return rig.wait(name)


def is_gone(rig: Rig, name: str) -> bool:
    return rig.api.get(f"{rig.path}/{name}").status_code == httpx.codes.NOT_FOUND


def outcomes(rig: Rig, endpoint_id: str) -> list[bool]:
    """For each update that the operator has sent, whether it took effect."""
    return [update.committed for update in rig.mutations(endpoint_id)]


def hold_update(rig: Rig, name: str, endpoint_id: str, spec: dict[str, Any], **fault: Any) -> str:
    """Make a change whose update is held at a gate; returns the gate."""
    gate = f"gate-{endpoint_id}"
    rig.emulators.add_fault(Fault(operation="update", endpoint_id=endpoint_id, gate_before=gate, **fault))
    rig.apply(name, spec)
    rig.emulators.wait_for_gate(gate)
    return gate


def rest(polls: float = 3) -> None:
    time.sleep(polls * POLL_SECONDS)


@pytest.mark.covers("G1")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_resource_goes_at_once_while_its_provider_is_away(rig: Rig, provider: str) -> None:
    endpoint_id, name = rig.endpoint(provider), f"away-{provider}"
    in_sync(rig, name, spec_of(provider, endpoint_id, 2))
    rig.emulators.add_fault(Fault(endpoint_id=endpoint_id, status=503, count=None))
    rig.apply(name, spec_of(provider, endpoint_id, 3))
    rig.wait(name, "Synced", "False", "ProviderUnavailable")
    rig.delete(name)
    assert is_gone(rig, name)
    time.sleep(0.5)  # a look that was under way may end
    calls = len(rig.emulators.ledger(endpoint_id=endpoint_id))
    rig.emulators.clear_faults()
    rest()
    assert len(rig.emulators.ledger(endpoint_id=endpoint_id)) == calls
    assert outcomes(rig, endpoint_id) == [True]


@pytest.mark.covers("G2", "G3")
def test_nothing_is_sent_after_a_deletion_with_an_undecided_update(rig: Rig) -> None:
    cases = {f"undecided-{provider}-{how}": (provider, how) for provider in PROVIDERS for how in ("alone", "keyless")}
    ids = {name: rig.endpoint(provider) for name, (provider, _) in cases.items()}
    for name, (provider, how) in cases.items():
        key = {"name": f"key-{name}"}
        rig.secret(key["name"], token=rig.token)
        in_sync(rig, name, spec_of(provider, ids[name], 2, credentialsSecretRef=key))
        changed = spec_of(provider, ids[name], 3, credentialsSecretRef=key)
        gate = hold_update(rig, name, ids[name], changed, commit="never", delivery="reset")
        if how == "keyless":
            rig.delete_secret(key["name"])
        rig.emulators.release_gate(gate)
        rig.wait(name, "Synced", "Unknown", "WriteUndecided")
        rig.delete(name)
        assert is_gone(rig, name)
    time.sleep(QUIET_SECONDS)
    assert {name: outcomes(rig, endpoint_id) for name, endpoint_id in ids.items()} == {
        name: [True, False] for name in cases
    }


@pytest.mark.covers("G5", "E10")
def test_what_others_hold_and_own_stays_theirs_and_nothing_is_sent_for_what_is_being_deleted(rig: Rig) -> None:
    rig.secret("owner", any="thing")
    owner = rig.editor.get(f"/api/v1/namespaces/{rig.namespace}/secrets/owner").json()["metadata"]["uid"]
    theirs: dict[str, Any] = {
        "finalizers": [HOLD],
        "labels": {"example.com/team": "a"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "owner", "uid": owner}],
    }
    ids = {f"held-{provider}": rig.endpoint(provider) for provider in PROVIDERS}
    for name, endpoint_id in ids.items():
        provider = name.removeprefix("held-")
        in_sync(rig, name, spec_of(provider, endpoint_id, 2), **theirs)
        rig.apply(name, spec_of(provider, endpoint_id, 3), **theirs)
        metadata = rig.wait(name)["metadata"]
        assert {field: metadata[field] for field in theirs} == theirs
        managers = {(entry["manager"], entry.get("subresource")) for entry in metadata["managedFields"]}
        assert [manager for manager, subresource in managers if subresource is None] == ["editor"]
        assert {subresource for _, subresource in managers} == {None, "status"}
        rig.delete(name)
        rig.merge(name, {"spec": {"scaling": {"maxReplicas": 5}}})
    rest()
    for name, endpoint_id in ids.items():
        assert not is_gone(rig, name)
        assert outcomes(rig, endpoint_id) == [True, True]
        rig.merge(name, {"metadata": {"finalizers": None}})
        wait_for(partial(is_gone, rig, name), what="the resource to go")
    rest()
    assert [outcomes(rig, endpoint_id) for endpoint_id in ids.values()] == [[True, True]] * 2


@pytest.mark.covers("E8", "G6")
def test_a_recreated_resource_does_not_inherit_the_result_of_its_predecessor(rig: Rig) -> None:
    ids, again, began = {provider: rig.endpoint(provider) for provider in PROVIDERS}, {}, {}
    for provider, endpoint_id in ids.items():
        name = f"again-{provider}"
        in_sync(rig, name, spec_of(provider, endpoint_id, 2))
        gate = hold_update(rig, name, endpoint_id, spec_of(provider, endpoint_id, 3))
        rig.delete(name)
        again[provider] = rig.apply(name, spec_of(provider, endpoint_id, 4))["metadata"]["uid"]
        began[provider] = time.monotonic()
        rig.emulators.release_gate(gate)
    for provider, endpoint_id in ids.items():
        resource = rig.wait(f"again-{provider}")
        updates = rig.mutations(endpoint_id)
        assert [update.committed for update in updates] == [True] * 3
        waited = updates[-1].at - began[provider]
        assert waited > 0.9 * QUIET_SECONDS, "a lost write of the predecessor might still land"
        assert resource["metadata"]["uid"] == resource["status"]["applied"]["uid"] == again[provider]
        assert [entry["generation"] for entry in resource["status"]["history"]] == [1]


@pytest.mark.covers("E11")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_restore_from_a_backup_sends_nothing(rig: Rig, provider: str) -> None:
    endpoint_id, name = rig.endpoint(provider), f"restored-{provider}"
    in_sync(rig, name, spec_of(provider, endpoint_id, 2))
    gate = hold_update(rig, name, endpoint_id, spec_of(provider, endpoint_id, 3))
    backup = rig.get(name)  # taken at the worst moment: with a write open
    rig.emulators.release_gate(gate)
    rig.wait(name)
    rig.delete(name)
    rig.apply(name, backup["spec"])
    status = {"status": backup["status"]}
    answer = rig.editor.patch(
        f"{rig.path}/{name}/status", headers={"Content-Type": "application/merge-patch+json"}, json=status
    )
    assert answer.is_success
    wait_for(lambda: rig.condition(name, "Synced") == ("True", "Matched"), what="the restored resource to be in sync")
    rest()
    assert outcomes(rig, endpoint_id) == [True, True]
    assert "operation" not in rig.get(name)["status"]


@pytest.mark.covers("E7", "E11")
def test_a_change_waits_for_the_update_that_a_status_put_back_does_not_tell_of(rig: Rig) -> None:
    ids = {provider: rig.endpoint(provider) for provider in PROVIDERS}
    for provider, endpoint_id in ids.items():
        name = f"back-{provider}"
        backup = in_sync(rig, name, spec_of(provider, endpoint_id, 2))["status"]
        late = Fault(operation="update", endpoint_id=endpoint_id, commit="late", late_seconds=LATE_SECONDS)
        rig.emulators.add_fault(replace(late, delivery="reset"))
        rig.apply(name, spec_of(provider, endpoint_id, 3))
        rig.wait(name, "Synced", "Unknown", "WriteUndecided")
        rig.merge(name, {"status": {**backup, "operation": None}}, "/status")
        rig.apply(name, spec_of(provider, endpoint_id, 4))
        assert "older status was put back" in message(rig.wait(name, "Synced", "False", "Waiting"), "Synced")
    for provider, endpoint_id in ids.items():
        rig.wait(f"back-{provider}")
        hidden, last = rig.mutations(endpoint_id)[1:]
        assert hidden.committed_at is not None
        assert hidden.committed_at < last.at
        assert last.committed


@pytest.mark.covers("F2")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_secret_that_goes_with_an_update_under_way_leaves_it_undecided_until_it_is_back(
    rig: Rig, provider: str
) -> None:
    endpoint_id, name = rig.endpoint(provider), f"keyless-{provider}"
    key = f"key-{name}"
    rig.secret(key, token=rig.token)
    in_sync(rig, name, spec_of(provider, endpoint_id, 2, credentialsSecretRef={"name": key}))
    changed = spec_of(provider, endpoint_id, 3, credentialsSecretRef={"name": key})
    gate = hold_update(rig, name, endpoint_id, changed, delivery="reset")
    rig.emulators.add_fault(Fault(method="GET", endpoint_id=endpoint_id, status=503, count=None))
    rig.delete_secret(key)
    rig.emulators.release_gate(gate)
    rig.wait(name, "Stalled", "True", "CredentialsRejected")
    assert rig.condition(name, "Synced") == ("Unknown", "WriteUndecided")
    rig.emulators.clear_faults()
    rest()
    assert rig.condition(name, "Synced") == ("Unknown", "WriteUndecided")
    rig.secret(key, token=rig.token)
    rig.wait(name)
    rest()
    assert outcomes(rig, endpoint_id) == [True, True]


@pytest.mark.covers("F3")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_key_that_is_replaced_with_an_update_under_way_decides_it(rig: Rig, provider: str) -> None:
    endpoint_id, name, key = f"ep-rotated-{provider}-{rig.namespace}", f"rotated-{provider}", f"rotated-{provider}"
    old, new = f"{rig.token}-{provider}-old", f"{rig.token}-{provider}-new"
    rig.emulators.add_account(endpoint_id, [old])
    rig.emulators.create_endpoint(provider, endpoint_id, endpoint_id)
    rig.secret(key, token=old)
    in_sync(rig, name, spec_of(provider, endpoint_id, 2, credentialsSecretRef={"name": key}))
    changed = spec_of(provider, endpoint_id, 3, credentialsSecretRef={"name": key})
    gate = hold_update(rig, name, endpoint_id, changed, delivery="reset")
    rig.emulators.set_tokens(endpoint_id, [new])
    rig.secret(key, token=new)
    rig.emulators.release_gate(gate)
    rig.wait(name)
    rest()
    assert outcomes(rig, endpoint_id) == [True, True]


@pytest.mark.covers("G4", "G8")
def test_neither_a_deleted_namespace_nor_an_uninstalled_operator_leaves_anything_hanging(
    emulators: EmulatorControl, tmp_path: Any
) -> None:
    with ControlPlane(users=USERS, controller_manager=True) as plane, rigged(plane, emulators, tmp_path) as rig:
        process = rig.start()
        ids = {provider: rig.endpoint(provider) for provider in PROVIDERS}
        for provider, endpoint_id in ids.items():
            in_sync(rig, provider, spec_of(provider, endpoint_id, 2))
        rig.api.delete(f"/api/v1/namespaces/{rig.namespace}").raise_for_status()
        path = f"/api/v1/namespaces/{rig.namespace}"
        wait_for(lambda: rig.api.get(path).status_code == httpx.codes.NOT_FOUND, what="the namespace to go")
        assert process.popen.poll() is None
        process.terminate()
        rig.api.post("/api/v1/namespaces", json={"metadata": {"name": rig.namespace}}).raise_for_status()
        for provider, endpoint_id in ids.items():
            rig.apply(provider, spec_of(provider, endpoint_id, 4))
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceendpoints.inference-operator.io"
        rig.api.delete(crds).raise_for_status()
        wait_for(lambda: rig.api.get(crds).status_code == httpx.codes.NOT_FOUND, what="the CRD to go")
        for provider, endpoint_id in ids.items():
            assert outcomes(rig, endpoint_id) == [True]
            assert rig.emulators.get_endpoint(provider, endpoint_id)["deleted"] is False
