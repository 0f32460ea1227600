"""What a resource goes through in its life: adoption, requests, suspension, foreign changes, rivals, deletion."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from inference_operator.api.names import REAPPLY_ANNOTATION, REFRESH_ANNOTATION, SUSPEND_ANNOTATION
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.ledger import Entry
from rig import QUICK, ROOT, Rig, condition, rigged, spec_of, wait_for
from tally import show

PROVIDERS = ("friendli", "novita")
POLL_SECONDS = 1.0
SETTLE_SECONDS = 2.0
FLAGS: dict[str, Any] = {"poll_seconds": POLL_SECONDS, "settle_seconds": SETTLE_SECONDS}
QUIET_SECONDS = QUICK["claim-seconds"] + QUICK["request-timeout-seconds"] + SETTLE_SECONDS

each_provider = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture(scope="module")
def rig(
    control_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """One operator for all tests here; each test has resources of its own."""
    with rigged(control_plane, emulators, tmp_path_factory.mktemp("lifecycle")) as made:
        made.start(**FLAGS)
        yield made


def in_sync(rig: Rig, name: str, spec: Mapping[str, Any]) -> str:
    """Apply a resource and wait until it is in sync; returns the id of its endpoint."""
    rig.apply(name, spec)
    rig.wait(name)
    rig.wait(name, "Ready")
    return str(spec["endpointId"])


def annotate(rig: Rig, name: str, annotation: str, value: str | None) -> None:
    rig.merge(name, {"metadata": {"annotations": {annotation: value}}})


def count(rig: Rig, endpoint_id: str) -> int:
    return len(rig.mutations(endpoint_id))


def calls(rig: Rig, endpoint_id: str, after: int = 0) -> list[Entry]:
    return rig.emulators.ledger(endpoint_id=endpoint_id, after=after)


def next_call(rig: Rig, endpoint_id: str, *, after: int) -> Entry:
    found: list[Entry] = wait_for(lambda: calls(rig, endpoint_id, after), what=f"a call about {endpoint_id}")
    return found[0]


def wait_for_updates(rig: Rig, endpoint_id: str, number: int) -> None:
    wait_for(lambda: count(rig, endpoint_id) >= number, what=f"update {number} of {endpoint_id}")


def is_ready(resource: Mapping[str, Any]) -> bool:
    """It serves, or sleeps as it may."""
    found = condition(resource, "Ready")
    return found is not None and found[0] == "True"


def polls(number: float) -> None:
    """Let so many polls pass; they are spread by a tenth."""
    time.sleep(1.1 * number * POLL_SECONDS)


def events(rig: Rig, name: str | None = None) -> list[tuple[str, str, str]]:
    """Type, reason and note of the Events, in order."""
    answer = rig.api.get(f"/apis/events.k8s.io/v1/namespaces/{rig.namespace}/events")
    answer.raise_for_status()
    items = sorted(answer.json()["items"], key=lambda item: str(item["eventTime"]))
    return [(item["type"], item["reason"], item["note"]) for item in items if name in {None, item["regarding"]["name"]}]


# ── taking over and letting go ────────────────────────────────────────────────────────────────────────


def test_observing_writes_nothing_and_managing_writes_once(rig: Rig) -> None:
    spec = spec_of("friendli", rig.endpoint("friendli"), 4)
    rig.apply("observed", {**spec, "managementPolicy": "Observe"})
    resource = rig.wait("observed", "Synced", "False", "Drifted")
    assert [each["field"] for each in resource["status"]["drift"]] == ["scaling.maxReplicas"]
    polls(2)
    assert count(rig, spec["endpointId"]) == 0
    assert in_sync(rig, "observed", spec)
    assert count(rig, spec["endpointId"]) == 1


@pytest.mark.parametrize(("policy", "updates"), [("Match", 0), ("Apply", 1)])
def test_an_endpoint_that_agrees_is_taken_over_as_the_policy_says(rig: Rig, policy: str, updates: int) -> None:
    name, model = f"adopted-{policy.lower()}", {"hfModelRepo": "meta-llama/Llama-3.1-8B-Instruct"}
    spec = spec_of("friendli", rig.endpoint("friendli"), 1, friendli=model, adoptionPolicy=policy)
    endpoint_id = in_sync(rig, name, spec)
    assert count(rig, endpoint_id) == updates
    reason = "Matched" if policy == "Match" else "Applied"
    assert rig.condition(name, "Synced") == ("True", reason)
    assert rig.get(name)["status"]["unverifiable"] == ["friendli.hfModelRepo"]
    rig.apply(name, {**spec, "friendli": {"hfModelRepo": "meta-llama/Llama-3.1-70B-Instruct"}})
    rig.wait(name, "Synced", reason="Applied")
    assert count(rig, endpoint_id) == updates + 1
    kept = rig.emulators.get_endpoint("friendli", endpoint_id)
    assert kept["config"]["hf_model_repo"] == "meta-llama/Llama-3.1-70B-Instruct"


def test_a_deleted_resource_is_gone_at_once_and_its_endpoint_untouched(rig: Rig) -> None:
    endpoints = {provider: rig.endpoint(provider) for provider in PROVIDERS}
    before = {}
    for provider, endpoint_id in endpoints.items():
        in_sync(rig, f"deleted-{provider}", spec_of(provider, endpoint_id, 2))
        assert "finalizers" not in rig.get(f"deleted-{provider}")["metadata"]
        before[provider] = rig.emulators.get_endpoint(provider, endpoint_id)["config"]
        rig.delete(f"deleted-{provider}")
        assert rig.api.get(f"{rig.path}/deleted-{provider}").status_code == httpx.codes.NOT_FOUND
    time.sleep(0.5)  # a look that was under way may end
    last = {provider: calls(rig, endpoint_id)[-1].seq for provider, endpoint_id in endpoints.items()}
    polls(2)
    for provider, endpoint_id in endpoints.items():
        assert calls(rig, endpoint_id, after=last[provider]) == []
        after = rig.emulators.get_endpoint(provider, endpoint_id)
        assert (after["config"], after["deleted"]) == (before[provider], False)


@pytest.mark.covers("E4")
def test_the_older_of_two_resources_owns_the_endpoint_and_the_younger_inherits_it(rig: Rig) -> None:
    endpoint_id = in_sync(rig, "older", spec_of("friendli", rig.endpoint("friendli"), 2))
    time.sleep(1.1)  # creation times are in seconds, and the uid would decide
    rig.apply("younger", spec_of("friendli", endpoint_id, 5))
    resource = rig.wait("younger", "Stalled", reason="Conflict")
    assert '"older"' in next(each["message"] for each in resource["status"]["conditions"] if each["type"] == "Stalled")
    rig.apply("older", spec_of("friendli", endpoint_id, 3))
    rig.wait("older")
    polls(2)
    assert count(rig, endpoint_id) == 2
    deleted = time.monotonic()
    rig.delete("older")
    rig.wait("younger")
    update = rig.mutations(endpoint_id)[-1]
    figures = [("Q", f"{QUIET_SECONDS:g} s"), ("from the deletion to the first update", f"{update.at - deleted:.2f} s")]
    show("handover of an endpoint", ("", "figure"), figures)
    assert update.at - deleted >= QUIET_SECONDS
    assert count(rig, endpoint_id) == 3
    assert update.body["autoscalingPolicy"]["maxReplica"] == 5


# ── requests by people ────────────────────────────────────────────────────────────────────────────────


@each_provider
def test_a_refresh_looks_now(rig: Rig, provider: str) -> None:
    name, requests = f"refreshed-{provider}", 4
    endpoint_id = in_sync(rig, name, spec_of(provider, rig.endpoint(provider), 2))
    seconds = []
    for number in range(requests):
        last, began = calls(rig, endpoint_id)[-1].seq, time.monotonic()
        annotate(rig, name, REFRESH_ANNOTATION, f"request {number}")
        seconds.append(next_call(rig, endpoint_id, after=last).at - began)
    figures = ", ".join(f"{each:.3f} s" for each in seconds)
    show(f"{provider}: refresh", ("poll", "from the annotation to the first read"), [(f"{POLL_SECONDS} s", figures)])
    assert sum(seconds) < (requests - 1) * 0.9 * POLL_SECONDS, "polls alone would have taken longer"
    assert count(rig, endpoint_id) == 1


def test_a_reapply_sends_once_for_each_new_value(rig: Rig) -> None:
    endpoints = {provider: rig.endpoint(provider) for provider in PROVIDERS}
    for provider, endpoint_id in endpoints.items():
        in_sync(rig, f"reapplied-{provider}", spec_of(provider, endpoint_id, 2))
    for value, updates in (("one", 2), ("one", 2), (None, 2), ("two", 3)):
        for provider in PROVIDERS:
            annotate(rig, f"reapplied-{provider}", REAPPLY_ANNOTATION, value)
        for endpoint_id in endpoints.values():
            wait_for_updates(rig, endpoint_id, updates)
        polls(1)
        assert {count(rig, endpoint_id) for endpoint_id in endpoints.values()} == {updates}
    for provider, endpoint_id in endpoints.items():
        rig.wait(f"reapplied-{provider}")
        sent = rig.mutations(endpoint_id)
        assert sent[-1].body == {**sent[0].body, **_comment(sent[-1].body)}


def _comment(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key == "newVersionComment"}


@pytest.mark.covers("G7")
def test_nobody_is_called_while_a_resource_is_suspended(rig: Rig) -> None:
    cases = {
        f"suspended-{provider}-{how}": (how, spec_of(provider, rig.endpoint(provider), 2))
        for provider in PROVIDERS
        for how in ("field", "annotation")
    }
    for name, (how, spec) in cases.items():
        in_sync(rig, name, spec)
        _suspend(rig, name, how, on=True)
    marks = {}
    for name, (_, spec) in cases.items():
        resource = rig.wait(name, "Suspended", reason="Suspended")
        assert is_ready(resource)
        marks[name] = calls(rig, spec["endpointId"])[-1].seq
        rig.merge(name, {"spec": {"scaling": {"maxReplicas": 6}}})
        annotate(rig, name, REFRESH_ANNOTATION, "now")
    for name in cases:
        rig.wait(name, "Synced", "False", "Suspended")
        assert rig.condition(name, "Ready") == ("Unknown", "Suspended")
    polls(2)
    for name, (how, spec) in cases.items():
        assert calls(rig, spec["endpointId"], after=marks[name]) == []
        _suspend(rig, name, how, on=False)
    for name, (_, spec) in cases.items():
        rig.wait(name)
        assert count(rig, spec["endpointId"]) == 2
        assert rig.condition(name, "Suspended") is None


def _suspend(rig: Rig, name: str, how: str, *, on: bool) -> None:
    if how == "field":
        rig.merge(name, {"spec": {"suspend": on}})
    else:
        annotate(rig, name, SUSPEND_ANNOTATION, "true" if on else None)


# ── foreign changes ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.covers("C7")
def test_a_foreign_change_is_reported_or_corrected_once_as_the_policy_says(rig: Rig) -> None:
    cases = {
        f"drift-{policy.lower()}-{provider}": (provider, policy, rig.endpoint(provider))
        for provider in PROVIDERS
        for policy in ("Report", "Correct")
    }
    for name, (provider, policy, endpoint_id) in cases.items():
        in_sync(rig, name, spec_of(provider, endpoint_id, 2, driftPolicy=policy))
    time.sleep(SETTLE_SECONDS + QUICK["drift-seconds"])  # what is younger may still be our own write
    for provider, _, endpoint_id in cases.values():
        rig.emulators.foreign_write(provider, endpoint_id, _turned_to(rig, provider, endpoint_id, 7))
    for name, (_, policy, endpoint_id) in cases.items():
        if policy == "Correct":
            wait_for_updates(rig, endpoint_id, 2)
            resource = rig.wait(name)
            assert resource["status"]["applied"]["corrections"]["count"] == 1
            assert "drift" not in resource["status"]
        else:
            resource = rig.wait(name, "Synced", "False", "Drifted")
            drift = [(each["field"], each["desired"], each["observed"]) for each in resource["status"]["drift"]]
            assert drift == [("scaling.maxReplicas", 2, 7)]
            assert is_ready(resource)
    metrics = httpx.get(f"{rig.processes[-1].address}/metrics", trust_env=False).text
    for provider in PROVIDERS:
        assert f'inference_operator_drifted_resources{{provider="{provider}"}} 1.0' in metrics
    polls(2)
    for name, (provider, policy, endpoint_id) in cases.items():
        assert count(rig, endpoint_id) == (2 if policy == "Correct" else 1)
        if policy == "Report":
            assert [kind for kind, reason, _ in events(rig, name) if reason == "Drifted"] == ["Warning"]
            rig.emulators.foreign_write(provider, endpoint_id, _turned_to(rig, provider, endpoint_id, 2))
    for name, (_, policy, endpoint_id) in cases.items():
        assert "drift" not in rig.wait(name)["status"]
        assert count(rig, endpoint_id) == (2 if policy == "Correct" else 1)


def _turned_to(rig: Rig, provider: str, endpoint_id: str, most: int) -> dict[str, Any]:
    """What a console would send to change the greatest number of replicas."""
    if provider == "friendli":
        return {"autoscalingPolicy": {"minReplica": 0, "maxReplica": most}}
    sent: dict[str, Any] = rig.mutations(endpoint_id)[-1].body
    return {**sent, "workerConfig": {**sent["workerConfig"], "maxNum": most}}


# ── scaling by others ─────────────────────────────────────────────────────────────────────────────────


@each_provider
def test_the_scale_subresource_changes_the_replicas_and_nothing_else(rig: Rig, provider: str) -> None:
    name = f"scaled-{provider}"
    endpoint_id = in_sync(rig, name, spec_of(provider, rig.endpoint(provider), scaling={"replicas": 2}))
    before = rig.get(name)
    answer = rig.merge(name, {"spec": {"replicas": 3}}, "/scale")
    assert (answer["kind"], answer["spec"]["replicas"]) == ("Scale", 3)
    after = wait_for(lambda: _with_replicas(rig, name, 3), what="three replicas")
    assert after["spec"] == {**before["spec"], "scaling": {"replicas": 3}}
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    scale = rig.api.get(f"{rig.path}/{name}/scale").json()
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 3)
    assert scale["status"]["selector"] == after["status"]["selector"]
    assert count(rig, endpoint_id) == 2


def _with_replicas(rig: Rig, name: str, replicas: int) -> dict[str, Any] | None:
    resource = rig.get(name)
    synced = condition(resource, "Synced") == ("True", "Applied")
    return resource if synced and resource["status"].get("currReplicaCnt") == replicas else None


# ── what the process tells ────────────────────────────────────────────────────────────────────────────


def test_the_process_tells_its_numbers_and_that_it_works_and_never_the_key(rig: Rig) -> None:
    documented = re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    for provider in PROVIDERS:
        in_sync(rig, f"numbers-{provider}", spec_of(provider, rig.endpoint(provider), 2))
    with httpx.Client(base_url=rig.processes[-1].address, trust_env=False) as client:
        metrics, alive, ready = (client.get(path) for path in ("/metrics", "/healthz", "/readyz"))
    typed = dict(re.findall(r"^# TYPE (\w+) (\w+)$", metrics.text, re.MULTILINE))
    assert len(documented) >= 15
    assert {name: typed.get(name) for name, _ in documented} == dict(documented)
    ours = {name for name in typed if name.startswith("inference_operator_")}
    assert ours == {name for name, _ in documented}
    for provider in PROVIDERS:
        assert f'inference_operator_writes_total{{outcome="confirmed",provider="{provider}"}}' in metrics.text
    assert re.search(rf'inference_operator_leader{{lease="{rig.namespace}/inference-operator-\w+"}} 1.0', metrics.text)
    assert rig.token not in metrics.text
    assert (alive.status_code, alive.text.strip()) == (200, "alive")
    assert (ready.status_code, ready.text.strip()) == (200, "working")


def test_events_tell_transitions_and_are_not_repeated(rig: Rig) -> None:
    endpoint_id = in_sync(rig, "eventful", spec_of("friendli", rig.endpoint("friendli"), 2))
    for number in (3, 4):
        in_sync(rig, "eventful", spec_of("friendli", endpoint_id, number))
    rig.emulators.set_endpoint("friendli", endpoint_id, state="FAILED", error="INFERENCE_ENGINE_MEMORY_ERROR")
    rig.wait("eventful", "Stalled", reason="ProviderFailed")
    rig.emulators.set_endpoint("friendli", endpoint_id, state="RUNNING")
    rig.wait("eventful", "Ready", reason="Serving")
    polls(1)
    told = events(rig, "eventful")
    show("Events of a resource", ("type", "reason", "note"), told)
    polls(2)
    assert events(rig, "eventful") == told
    assert [kind for kind, reason, _ in told if reason == "ProviderFailed"] == ["Warning"]
    assert all(one != another for one, another in itertools.pairwise(told))
    assert len(told) <= 4
