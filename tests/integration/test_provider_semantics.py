"""What providers do beside what they are asked: foreign versions, rollouts that fail, answers that are not true."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from rig import QUICK, Rig, rigged, spec_of, wait_for

PROVIDERS = ("friendli", "novita")
SETTLE_SECONDS = float(QUICK["settle-seconds"])
POLL_SECONDS = float(QUICK["poll-seconds"])


@pytest.fixture(scope="module")
def rig(
    control_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """One operator for all tests of the file; the endpoints are each test's own."""
    folder: Path = tmp_path_factory.mktemp("semantics")
    with rigged(control_plane, emulators, folder) as made:
        made.start()
        yield made


def in_sync(rig: Rig, name: str, spec: dict[str, Any]) -> str:
    rig.apply(name, spec)
    rig.wait(name)
    return str(spec["endpointId"])


def rest(polls: float = 3) -> None:
    time.sleep(polls * POLL_SECONDS)


def outcomes(rig: Rig, endpoint_id: str) -> list[bool]:
    """For each update that the operator has sent, whether it took effect."""
    return [update.committed for update in rig.mutations(endpoint_id)]


def console_write(rig: Rig, endpoint_id: str, **fields: Any) -> int:
    """An update of a Friendli endpoint by somebody else; returns the version that it made."""
    version = rig.emulators.foreign_write("friendli", endpoint_id, fields).version
    assert version is not None
    return version


@pytest.mark.covers("C6")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_update_that_meets_a_busy_endpoint_is_sent_again_after_the_transition(rig: Rig, provider: str) -> None:
    endpoint_id, name = rig.endpoint(provider), f"busy-{provider}"
    in_sync(rig, name, spec_of(provider, endpoint_id, 2))
    # The rollout lasts until the refusal has been seen: one that ends by itself may be over before the next update.
    rig.emulators.set_knobs(provider, endpoint_id, rollout_seconds=3600, busy_in_transition=True)
    rig.apply(name, spec_of(provider, endpoint_id, 3))
    wait_for(lambda: outcomes(rig, endpoint_id) == [True, True], what="the rollout to begin")
    rig.apply(name, spec_of(provider, endpoint_id, 4))
    wait_for(lambda: False in outcomes(rig, endpoint_id), what="a refusal")
    rest()  # time in which one that does not wait would send again and again
    rig.emulators.set_knobs(provider, endpoint_id, rollout_seconds=0)
    rig.emulators.set_endpoint(provider, endpoint_id, state="RUNNING" if provider == "friendli" else "serving")
    resource = rig.wait(name)
    assert outcomes(rig, endpoint_id).count(True) == 3
    refused = outcomes(rig, endpoint_id).count(False)
    assert 1 <= refused <= 2, "a busy endpoint is looked at, not hammered"
    assert resource["status"]["applied"]["generation"] == 3


@pytest.mark.covers("C8")
def test_a_console_edit_of_what_cannot_be_read_is_told_by_its_version_and_not_undone(rig: Rig) -> None:
    endpoint_id = rig.endpoint("friendli")
    declared = spec_of("friendli", endpoint_id, 2, friendli={"hfModelRepo": "org/ours"})
    in_sync(rig, "invisible", declared)
    time.sleep(SETTLE_SECONDS)
    version = console_write(rig, endpoint_id, hfModelRepo="org/theirs")
    resource = rig.wait("invisible", "Synced", "False", "Drifted")
    assert [each["field"] for each in resource["status"]["drift"]] == ["version"]
    assert resource["status"]["drift"][0]["observed"] == version
    rest()
    assert outcomes(rig, endpoint_id) == [True]
    # With nothing declared that cannot be read, the same edit is nobody's business.
    plain = rig.endpoint("friendli")
    in_sync(rig, "visible", spec_of("friendli", plain, 2))
    time.sleep(SETTLE_SECONDS)
    version = console_write(rig, plain, hfModelRepo="org/theirs")
    wait_for(lambda: rig.get("visible")["status"]["version"] == version, what="the version to be shown")
    assert rig.condition("visible", "Synced") == ("True", "Applied")
    assert outcomes(rig, plain) == [True]


@pytest.mark.covers("C9")
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "lost"])
def test_a_foreign_version_between_look_and_update_is_not_taken_for_ours(
    rig: Rig,
    committed: bool,  # noqa: FBT001 - both sides of the table
) -> None:
    endpoint_id, name = rig.endpoint("friendli"), f"between-{committed}".lower()
    in_sync(rig, name, spec_of("friendli", endpoint_id, 2))
    gate = f"between-{endpoint_id}"
    lost = Fault(
        operation="update",
        endpoint_id=endpoint_id,
        gate_before=gate,
        commit="now" if committed else "never",
        delivery="reset",
    )
    rig.emulators.add_fault(lost)
    rig.apply(name, spec_of("friendli", endpoint_id, 3))
    rig.emulators.wait_for_gate(gate)
    foreign = console_write(rig, endpoint_id, autoscalingPolicy={"minReplica": 1, "maxReplica": 2})
    rig.emulators.release_gate(gate)
    resource = rig.wait(name)
    assert outcomes(rig, endpoint_id) == ([True, True] if committed else [True, False, True])
    assert resource["status"]["version"] == foreign + 1
    assert resource["status"]["versionComment"] == f"{rig.namespace}/{name} generation 2"
    kept = rig.emulators.get_endpoint("friendli", endpoint_id)["config"]
    assert (kept["autoscaling_min"], kept["autoscaling_max"]) == (0, 3)


@pytest.mark.covers("C11")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_rollout_that_fails_is_told_and_not_repeated(rig: Rig, provider: str) -> None:
    endpoint_id, name = rig.endpoint(provider), f"failing-{provider}"
    in_sync(rig, name, spec_of(provider, endpoint_id, 2))
    error = "CRASHED" if provider == "friendli" else "INSUFFICIENT_RESOURCE"
    rig.emulators.set_knobs(provider, endpoint_id, rollout_seconds=0.5, rollout_error=error)
    rig.apply(name, spec_of(provider, endpoint_id, 3))
    wait_for(lambda: rig.get(name)["status"].get("state") == "Failed", what="the failure to be told")
    resource = rig.wait(name, "Ready", "False", "ProviderFailed")
    rest()
    assert outcomes(rig, endpoint_id) == [True, True]
    assert rig.condition(name, "Synced") == ("True", "Applied"), "the provider holds the configuration all the same"
    assert resource["status"]["observedGeneration"] == 2
    rig.emulators.set_knobs(provider, endpoint_id, rollout_seconds=0.0, rollout_error=None)
    # Somebody rolls it back: what an earlier update held is there again, and ours is not sent a second time.
    rig.emulators.foreign_write(provider, endpoint_id, rig.mutations(endpoint_id)[0].body)
    resource = rig.wait(name, "Synced", "False", "Drifted")
    drift = [(each["field"], each["desired"], each["observed"]) for each in resource["status"]["drift"]]
    assert drift == [("scaling.maxReplicas", 3, 2)]
    rest()
    assert outcomes(rig, endpoint_id) == [True, True]
    rig.apply(name, spec_of(provider, endpoint_id, 4))
    rig.wait(name, "Ready")
    assert outcomes(rig, endpoint_id) == [True] * 3


@pytest.mark.covers("C17")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_success_that_is_none_is_found_out_and_needs_a_human(rig: Rig, provider: str) -> None:
    endpoint_id, name = rig.endpoint(provider), f"untrue-{provider}"
    in_sync(rig, name, spec_of(provider, endpoint_id, 2))
    rig.emulators.add_fault(Fault(operation="update", endpoint_id=endpoint_id, commit="never", count=None))
    rig.apply(name, spec_of(provider, endpoint_id, 3))
    resource = rig.wait(name, "Stalled", "True", "NotConverging")
    assert resource["status"]["applied"]["observed"] == {"scaling.maxReplicas": "2"}
    rest()
    assert outcomes(rig, endpoint_id) == [True, False], "what was acknowledged is not sent again"
    rig.emulators.clear_faults()
    rig.apply(name, spec_of(provider, endpoint_id, 4))
    rig.wait(name)
    assert outcomes(rig, endpoint_id) == [True, False, True]
