"""Keys that are missing, malformed or refused: said once, called with never more than needed, healed by the Secret."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fleet import conditions, message, patient_operator, wait_for_all
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from rig import Rig, spec_of

PROVIDERS = ("friendli", "novita")
PAUSE = 1.0
"""Seconds in which an operator that looks once a minute must do nothing by itself."""

MALFORMED = {
    "empty": b"",
    "blank": b" \r\n",
    "two-words": b"flp_one two",
    "control": b"flp_\x07\x1b[31m",
    "nul": b"flp_\x00x",
    "umlaut": "flp_schlüssel".encode(),
    "binary": b"\xff\xfe\x00\x01",
    "with-bearer": b"Bearer flp_0123456789",
    "with-header": b"Authorization: bearer flp_0123456789",
    "endless": b"x" * 5000,
}


@pytest.fixture(scope="module")
def rig(
    control_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """One operator for all tests of this file, under providers that echo the key in whatever they refuse."""
    yield from patient_operator(control_plane, emulators, tmp_path_factory.mktemp("bad-keys"))


@pytest.fixture(autouse=True)
def _no_faults_left(emulators: EmulatorControl) -> Iterator[None]:
    yield
    emulators.clear_faults()


@pytest.mark.covers("F1", "F7")
def test_a_missing_secret_or_key_is_waited_for_until_the_grace_time_is_over(rig: Rig) -> None:
    rig.secret("without-key", other="x")
    endpoints = {}
    for provider in PROVIDERS:
        for secret in (f"late-{provider}", "without-key"):
            name = f"missing-{provider}-{secret}"
            endpoints[name] = rig.endpoint(provider)
            reference = {"name": secret, "key": "api-key"}
            rig.apply(name, spec_of(provider, endpoints[name], 2, credentialsSecretRef=reference))
    wait_for_all(rig, endpoints, "Synced", "False", "Waiting")
    assert {conditions(rig, "Stalled")[name] for name in endpoints} == {None}
    assert {conditions(rig, "Reconciling")[name] for name in endpoints} == {("True", "Waiting")}
    wait_for_all(rig, endpoints, "Stalled", "True", "CredentialsRejected")
    for name in endpoints:
        said = message(rig.get(name), "Stalled")
        assert f'"{name.split("-", 2)[2]}"' in said
        assert '"api-key"' in said
    assert_no_requests(rig, endpoints)
    for secret in (*(f"late-{provider}" for provider in PROVIDERS), "without-key"):
        rig.secret(secret, **{"api-key": rig.token})
    wait_for_all(rig, endpoints)
    assert_sent_once(rig, endpoints)


@pytest.mark.covers("F1")
def test_a_missing_secret_behind_a_variable_is_waited_for_until_the_grace_time_is_over(rig: Rig) -> None:
    endpoints = {"missing-env": rig.endpoint("novita")}
    variable = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}
    spec = spec_of("novita", endpoints["missing-env"], 2, novita={"envs": [variable]})
    rig.apply("missing-env", spec)
    rig.wait("missing-env", "Synced", "False", "Waiting")
    assert rig.condition("missing-env", "Stalled") is None
    said = message(rig.wait("missing-env", "Stalled", "True", "SecretNotFound"), "Stalled")
    assert "Secret hf" in said
    assert_no_requests(rig, endpoints)
    rig.secret("hf", token="hf_value_of_a_variable")
    shown = rig.wait("missing-env")
    assert_sent_once(rig, endpoints)
    assert "hf_value_of_a_variable" not in str(shown["status"])


@pytest.mark.covers("F4", "F5", "F6")
def test_what_cannot_be_a_key_is_never_sent(rig: Rig) -> None:
    endpoints = {f"malformed-{case}": rig.endpoint(PROVIDERS[at % 2]) for at, case in enumerate(MALFORMED)}
    for at, (name, value) in enumerate(zip(endpoints, MALFORMED.values(), strict=True)):
        rig.secret(name, token=value)
        rig.apply(name, spec_of(PROVIDERS[at % 2], endpoints[name], 2, credentialsSecretRef={"name": name}))
    wait_for_all(rig, endpoints, "Stalled", "True", "CredentialsRejected")
    assert_no_requests(rig, endpoints)
    for name in endpoints:
        status = rig.get(name)["status"]
        assert message(rig.get(name), "Stalled").startswith(f'Secret "{name}", key "token": the value ')
        assert "flp_" not in str(status)
        rig.secret(name, token=f"\n {rig.token}\r\n")  # white space around a key is how people save files
    wait_for_all(rig, endpoints)
    assert_sent_once(rig, endpoints)


@pytest.mark.covers("C4")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_key_that_is_refused_is_tried_once_and_again_when_the_secret_changes(rig: Rig, provider: str) -> None:
    names = {case: f"{case}-{provider}" for case in ("unknown", "forbidden")}
    endpoints = {name: rig.endpoint(provider) for name in names.values()}
    rig.emulators.add_fault(Fault(status=403, method="GET", endpoint_id=endpoints[names["forbidden"]], count=None))
    rig.secret(names["unknown"], token=f"{rig.token}-unknown")
    rig.secret(names["forbidden"], token=rig.token)
    for name, endpoint_id in endpoints.items():
        rig.apply(name, spec_of(provider, endpoint_id, 2, credentialsSecretRef={"name": name}))
    wait_for_all(rig, endpoints, "Stalled", "True", "CredentialsRejected")
    time.sleep(PAUSE)
    one_look = {"friendli": 3, "novita": 1}[provider]
    assert {name: len(rig.emulators.ledger(endpoint_id=each)) for name, each in endpoints.items()} == dict.fromkeys(
        endpoints, one_look
    )
    rig.emulators.clear_faults()
    for name in endpoints:
        assert "check it in its Secret" in message(rig.get(name), "Stalled")
        rig.secret(name, token=rig.token, touched="yes")
    wait_for_all(rig, endpoints)
    assert_sent_once(rig, endpoints)


@pytest.mark.covers("C4")
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [401, 403])
def test_an_update_that_the_key_may_not_send_is_sent_again_when_the_secret_changes(
    rig: Rig, provider: str, status: int
) -> None:
    name, endpoint_id = f"update-{status}-{provider}", rig.endpoint(provider)
    rig.emulators.add_fault(Fault(status=status, commit="never", operation="update", endpoint_id=endpoint_id))
    rig.secret(name, token=rig.token)
    rig.apply(name, spec_of(provider, endpoint_id, 2, credentialsSecretRef={"name": name}))
    rig.wait(name, "Stalled", "True", "CredentialsRejected")
    time.sleep(PAUSE)
    assert [update.committed for update in rig.mutations(endpoint_id)] == [False]
    assert "operation" not in rig.get(name)["status"]
    rig.secret(name, token=rig.token, touched="yes")
    rig.wait(name)
    assert [update.committed for update in rig.mutations(endpoint_id)] == [False, True]


def assert_no_requests(rig: Rig, endpoints: dict[str, str]) -> None:
    for endpoint_id in endpoints.values():
        assert rig.emulators.ledger(endpoint_id=endpoint_id) == []


def assert_sent_once(rig: Rig, endpoints: dict[str, str]) -> None:
    for endpoint_id in endpoints.values():
        assert [update.committed for update in rig.mutations(endpoint_id)] == [True]
