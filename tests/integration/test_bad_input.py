"""What users and providers get wrong: said as it is, and never a reason to send anything twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from fleet import message, patient_operator, wait_for_all
from inference_operator.api.names import REFRESH_ANNOTATION, SUSPEND_ANNOTATION
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.accounts import fingerprint
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from rig import Rig, condition, spec_of, wait_for

PROVIDERS = ("friendli", "novita")
PAUSE = 1.0
"""Seconds in which an operator that looks once a minute must do nothing by itself."""

MAX_WORDS = 256


@pytest.fixture(scope="module")
def rig(
    control_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """One operator for most tests of this file."""
    yield from patient_operator(control_plane, emulators, tmp_path_factory.mktemp("bad-input"))


@pytest.fixture
def endpoint(rig: Rig, request: pytest.FixtureRequest) -> Iterator[str]:
    """An endpoint of the test's provider. The faults of the test end with it."""
    provider = request.node.callspec.params["provider"] if hasattr(request.node, "callspec") else "novita"
    yield rig.endpoint(provider)
    rig.emulators.clear_faults()


def outcomes(rig: Rig, endpoint_id: str) -> list[bool]:
    """Whether each update that was sent was committed."""
    return [update.committed for update in rig.mutations(endpoint_id)]


# --- Refused updates ---

SAID = "maxReplica \x1b[2J\x1b]0;owned\x07 must be\r\n\u202eless\x00 " + "x" * 1000
REFUSALS = [
    ("friendli", 400, {"detail": SAID}),
    ("friendli", 422, {"detail": [{"loc": ["body", "name"], "msg": SAID, "type": "value_error"}]}),
    ("novita", 400, {"code": 400, "reason": "VALIDATOR_PARAM", "message": SAID, "metadata": {}}),
    ("novita", 422, {"message": SAID}),
]


@pytest.mark.covers("C3")
@pytest.mark.parametrize(("provider", "status", "body"), REFUSALS)
def test_a_refused_update_says_why_in_clean_words_and_waits_for_another_spec(
    rig: Rig, provider: str, status: int, body: dict[str, Any], endpoint: str
) -> None:
    name = f"refused-{provider}-{status}"
    rig.emulators.add_fault(Fault(status=status, commit="never", json=body, operation="update", endpoint_id=endpoint))
    rig.apply(name, spec_of(provider, endpoint, 2))
    said = message(rig.wait(name, "Stalled", "True", "InvalidSpec"), "Stalled")
    assert "must be less xxx" in said
    assert said.isprintable()
    assert said.count("x") < MAX_WORDS
    time.sleep(PAUSE)
    assert outcomes(rig, endpoint) == [False]
    assert "operation" not in rig.get(name)["status"]
    rig.apply(name, spec_of(provider, endpoint, 4))
    rig.wait(name)
    assert outcomes(rig, endpoint) == [False, True]


CAPACITY = [
    ("friendli", 402, {"detail": "Payment required"}, "HTTP 402"),
    ("novita", 400, {"reason": "INSUFFICIENT_RESOURCE", "message": "no GPUs are left"}, "no GPUs are left"),
    ("novita", 400, {"reason": "BALANCE_NOT_ENOUGH", "message": "top up"}, "top up"),
]


@pytest.mark.parametrize(("provider", "status", "body", "said"), CAPACITY)
def test_a_want_of_capacity_is_waited_for_and_needs_no_human(
    rig: Rig, provider: str, status: int, body: dict[str, Any], said: str, endpoint: str
) -> None:
    name = f"capacity-{endpoint}"
    rig.emulators.add_fault(Fault(status=status, commit="never", json=body, operation="update", endpoint_id=endpoint))
    rig.apply(name, spec_of(provider, endpoint, 2))
    resource = rig.wait(name, "Synced", "False", "CapacityUnavailable")
    assert said in message(resource, "Synced")
    assert condition(resource, "Reconciling") == ("True", "Retrying")
    time.sleep(PAUSE)
    assert rig.condition(name, "Stalled") is None
    assert outcomes(rig, endpoint) == [False]
    rig.apply(name, spec_of(provider, endpoint, 4))
    rig.wait(name)
    assert outcomes(rig, endpoint) == [False, True]


def test_a_value_outside_the_limits_is_told_with_its_bounds_and_not_sent(rig: Rig, endpoint: str) -> None:
    rig.apply("limits", spec_of("novita", endpoint, 101))
    said = message(rig.wait("limits", "Stalled", "True", "InvalidSpec"), "Stalled")
    assert "scaling.maxReplicas is 101" in said
    assert "minWorkerNum 0 and maxWorkerNum 100" in said
    assert outcomes(rig, endpoint) == []
    rig.apply("limits", spec_of("novita", endpoint, 100))
    rig.wait("limits")
    assert outcomes(rig, endpoint) == [True]


def test_limits_that_cannot_be_read_hold_up_nothing(rig: Rig) -> None:
    token, account, endpoint_id = f"{rig.token}-unlimited", f"{rig.namespace}-unlimited", f"ep-{rig.namespace}-limits"
    rig.emulators.add_account(account, [token])
    rig.emulators.create_endpoint("novita", endpoint_id, account)
    rig.secret("unlimited", token=token)
    rig.emulators.add_fault(Fault(status=500, operation="limit", token=fingerprint(token), count=None))
    rig.apply("unlimited", spec_of("novita", endpoint_id, 2, credentialsSecretRef={"name": "unlimited"}))
    rig.wait("unlimited")
    rig.emulators.clear_faults()
    assert outcomes(rig, endpoint_id) == [True]


RETRY_AFTER = 2


@pytest.mark.covers("C1")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_update_that_came_too_fast_is_sent_again_when_the_silence_is_over(rig: Rig, provider: str) -> None:
    name = f"hasty-{provider}"
    token, account, endpoint_id = f"{rig.token}-{name}", f"{rig.namespace}-{name}", f"ep-{rig.namespace}-{name}"
    rig.emulators.add_account(account, [token])
    rig.emulators.create_endpoint(provider, endpoint_id, account)
    rig.secret(name, token=token)
    fault = Fault(status=429, commit="never", headers={"Retry-After": str(RETRY_AFTER)}, operation="update")
    rig.emulators.add_fault(replace(fault, endpoint_id=endpoint_id))
    rig.apply(name, spec_of(provider, endpoint_id, 2, credentialsSecretRef={"name": name}))
    rig.wait(name, "Synced", "False", "Throttled")
    assert rig.condition(name, "Stalled") is None
    rig.wait(name)
    refused, sent = rig.mutations(endpoint_id)
    assert (refused.committed, sent.committed) == (False, True)
    assert sent.at - refused.at >= RETRY_AFTER


# --- Endpoints that are not there ---


@pytest.mark.covers("C5")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_endpoint_that_is_not_found_is_neither_created_nor_forgotten(rig: Rig, provider: str, endpoint: str) -> None:
    before = len(rig.emulators.ledger(provider=provider))
    names = {case: f"{case}-{provider}" for case in ("unheard-of", "vanished")}
    rig.apply(names["vanished"], spec_of(provider, endpoint, 2))
    known = rig.wait(names["vanished"])["status"]
    rig.emulators.foreign_write(provider, endpoint, {}, operation="delete")
    rig.apply(names["vanished"], spec_of(provider, endpoint, 4))
    rig.apply(names["unheard-of"], spec_of(provider, f"ep-{rig.namespace}-none", 2))
    wait_for_all(rig, names.values(), "Stalled", "True", "EndpointNotFound")
    time.sleep(PAUSE)
    for name in names.values():
        resource = rig.get(name)
        assert "or this key cannot see it" in message(resource, "Stalled")
        assert condition(resource, "Synced") == condition(resource, "Ready") == ("False", "EndpointNotFound")
    found = rig.get(names["vanished"])["status"]
    assert {key: found[key] for key in ("applied", "endpointId", "history", "state")} == {
        key: known[key] for key in ("applied", "endpointId", "history", "state")
    }
    calls = [entry for entry in rig.emulators.ledger(provider=provider)[before:] if entry.mutates]
    assert [(call.operation, call.foreign) for call in calls] == [("update", False), ("delete", True)]


@pytest.mark.covers("C5")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_endpoint_that_only_the_update_does_not_find_is_reported(rig: Rig, provider: str, endpoint: str) -> None:
    name = f"lost-{provider}"
    body = {"reason": "SERVERLESS_ENDPOINT_NOT_FOUND", "message": "gone"} if provider == "novita" else None
    fault = Fault(status=400 if body else 404, json=body, commit="never", operation="update", endpoint_id=endpoint)
    rig.emulators.add_fault(fault)
    rig.apply(name, spec_of(provider, endpoint, 2))
    resource = rig.wait(name, "Stalled", "True", "EndpointNotFound")
    assert "or this key cannot see it" in message(resource, "Stalled")
    time.sleep(PAUSE)
    assert outcomes(rig, endpoint) == [False]


# --- Answers that are new to us ---


@pytest.mark.covers("C13")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_state_that_is_not_known_is_unknown_and_shown(rig: Rig, provider: str, endpoint: str) -> None:
    if provider == "friendli":
        fault = Fault(operation="get_status", endpoint_id=endpoint, count=None, json={"status": "HIBERNATING"})
        rig.emulators.add_fault(fault)
    else:
        rig.emulators.set_endpoint(provider, endpoint, state="HIBERNATING")
    rig.apply(f"unknown-{provider}", spec_of(provider, endpoint, 2, managementPolicy="Observe"))
    resource = rig.wait(f"unknown-{provider}", "Ready", "Unknown", "StateUnknown")
    assert resource["status"]["state"] == "Unknown"
    assert resource["status"]["providerState"] == "HIBERNATING"
    assert "HIBERNATING" in message(resource, "Ready")


def as_text(document: Any) -> Any:
    """The document with every number as text, and with fields that nobody has heard of."""
    match document:
        case dict():
            return {"futureField": {"futures": [1]}} | {key: as_text(value) for key, value in document.items()}
        case list():
            return [as_text(item) for item in document]
        case bool() | None | str():
            return document
        case _:
            return str(document)


def read(rig: Rig, provider: str, path: str) -> Any:
    headers = {"Authorization": f"Bearer {rig.token}", "Content-Type": "application/json"}
    answer = httpx.get(rig.emulators.urls()[provider] + path, headers=headers, trust_env=False)
    assert answer.is_success
    return answer.json()


@pytest.mark.covers("C13")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_new_fields_and_numbers_as_text_are_no_difference(rig: Rig, provider: str, endpoint: str) -> None:
    name = f"text-{provider}"
    rig.apply(name, spec_of(provider, endpoint, 2))
    before = rig.wait(name, "Ready")["status"]
    path, operation = {
        "friendli": (f"/dedicated/beta/endpoint/{endpoint}", "get_spec"),
        "novita": (f"/gpu-instance/openapi/v1/endpoint?id={endpoint}", "get"),
    }[provider]
    document = as_text(read(rig, provider, path))
    rig.emulators.add_fault(Fault(operation=operation, endpoint_id=endpoint, count=None, json=document))
    reads = len(rig.emulators.reads(endpoint))
    rig.apply(name, spec_of(provider, endpoint, 2), {REFRESH_ANNOTATION: "now"})
    wait_for(lambda: len(rig.emulators.reads(endpoint)) > reads, what="a look")
    time.sleep(PAUSE)
    assert rig.get(name)["status"] == before
    assert outcomes(rig, endpoint) == [True]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_that_quotes_the_key_is_not_quoted(rig: Rig, provider: str, endpoint: str) -> None:
    name, said = f"quoted-{provider}", f"Bearer {rig.token} must not do this"
    body = {"detail": said} if provider == "friendli" else {"reason": "VALIDATOR_PARAM", "message": said}
    rig.emulators.add_fault(Fault(status=400, json=body, commit="never", operation="update", endpoint_id=endpoint))
    rig.apply(name, spec_of(provider, endpoint, 2))
    shown = message(rig.wait(name, "Stalled", "True", "InvalidSpec"), "Stalled")
    assert rig.token[4:12] not in shown
    assert "HTTP 400" in shown


# --- Specs that nothing is sent for ---

UNSUPPORTED: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    ("create", lambda spec: {key: value for key, value in spec.items() if key != "endpointId"}, "spec.endpointId"),
    ("delete", lambda spec: spec | {"deletionPolicy": "Delete"}, "deletionPolicy"),
]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("case", "changed", "named"), UNSUPPORTED, ids=lambda value: value if value in {"create", "delete"} else ""
)
def test_what_is_not_supported_yet_is_said_and_calls_nobody(
    rig: Rig, case: str, changed: Callable[[dict[str, Any]], dict[str, Any]], named: str, provider: str, endpoint: str
) -> None:
    requests = _requests_about(rig, endpoint)
    rig.apply(f"{case}-{provider}", changed(spec_of(provider, endpoint, 2)))
    said = message(rig.wait(f"{case}-{provider}", "Stalled", "True", "NotSupported"), "Stalled")
    assert named in said
    time.sleep(PAUSE / 2)
    assert _requests_about(rig, endpoint) == requests


def _requests_about(rig: Rig, endpoint: str) -> int:
    """All that concern the endpoint or none; lists are read for the sake of others."""
    return sum(entry.endpoint_id in {endpoint, None} and entry.operation != "list" for entry in rig.emulators.ledger())


@pytest.mark.covers("G7")
@pytest.mark.parametrize("how", ["spec", "annotation"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_nobody_is_called_while_suspended(rig: Rig, provider: str, how: str, endpoint: str) -> None:
    name = f"suspended-{provider}-{how}"
    suspended: dict[str, Any] = {"suspend": True} if how == "spec" else {}
    annotations = {} if how == "spec" else {SUSPEND_ANNOTATION: "true"}
    rig.apply(name, spec_of(provider, endpoint, 2))
    ready = condition(rig.wait(name, "Ready"), "Ready")
    rig.apply(name, spec_of(provider, endpoint, 2, **suspended), annotations)
    resource = rig.wait(name, "Suspended")
    requests = len(rig.emulators.ledger(endpoint_id=endpoint))
    assert condition(resource, "Ready") == ready
    assert condition(resource, "Synced") == ("True", "Applied")
    rig.apply(name, spec_of(provider, endpoint, 4, **suspended), annotations)
    resource = rig.wait(name, "Synced", "False", "Suspended")
    assert condition(resource, "Ready") == ("Unknown", "Suspended")
    assert resource["status"]["observedGeneration"] == resource["metadata"]["generation"]
    time.sleep(PAUSE / 2)
    assert len(rig.emulators.ledger(endpoint_id=endpoint)) == requests
    rig.apply(name, spec_of(provider, endpoint, 4))
    assert condition(rig.wait(name), "Suspended") is None
    assert outcomes(rig, endpoint) == [True, True]
