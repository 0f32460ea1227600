"""`kubectl scale`, and a real HorizontalPodAutoscaler that follows an external metric."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from e2e.external_metrics import METRIC, ExternalMetrics, external_metrics
from inference_operator.api.names import API_VERSION, KIND
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.ledger import Entry
from rig import Rig, condition, rigged, spec_of, wait_for
from tally import show

INTERVAL_SECONDS = 4.0
PROVIDERS = ("friendli", "novita")

each_provider = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture(scope="module")
def rig(
    managed_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """One operator that keeps an interval between writes of replicas."""
    with rigged(managed_plane, emulators, tmp_path_factory.mktemp("scaling")) as made:
        made.start(
            scale_interval_seconds=INTERVAL_SECONDS, claim_seconds=2, poll_seconds=0.5, transition_poll_seconds=0.3
        )
        yield made


@pytest.fixture(scope="module")
def metric(managed_plane: ControlPlane) -> Iterator[ExternalMetrics]:
    with external_metrics(managed_plane) as server:
        yield server


def fixed(rig: Rig, provider: str, name: str, replicas: int) -> str:
    endpoint_id = rig.endpoint(provider)
    rig.apply(name, spec_of(provider, endpoint_id, scaling={"replicas": replicas}))
    rig.wait(name, "Ready")
    return endpoint_id


def autoscaler(rig: Rig, name: str, **bounds: int) -> None:
    """An HPA that wants one replica for each unit of the metric, and does so at once in both directions."""
    at_once = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]}
    target = {"type": "AverageValue", "averageValue": "1"}
    body = {
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": API_VERSION, "kind": KIND, "name": name},
            "metrics": [{"type": "External", "external": {"metric": {"name": METRIC}, "target": target}}],
            "behavior": {"scaleUp": at_once, "scaleDown": at_once},
            **bounds,
        },
    }
    rig.editor.post(_path(rig), json=body).raise_for_status()


def autoscaler_conditions(rig: Rig, name: str) -> Mapping[str, tuple[str, str]]:
    found = rig.api.get(f"{_path(rig)}/{name}").json().get("status", {}).get("conditions", [])
    return {each["type"]: (each["status"], each["reason"]) for each in found}


def _path(rig: Rig) -> str:
    return f"/apis/autoscaling/v2/namespaces/{rig.namespace}/horizontalpodautoscalers"


def replicas_of(entry: Entry) -> int:
    """How many replicas an update asks for."""
    if entry.provider == "friendli":
        return int(entry.body["simplescale"]["replicas"])
    worker = entry.body["workerConfig"]
    assert worker["minNum"] == worker["maxNum"]
    return int(worker["minNum"])


def is_asked_for(rig: Rig, name: str, replicas: int) -> bool:
    return bool(rig.get(name)["spec"]["scaling"]["replicas"] == replicas)


def has(rig: Rig, name: str, replicas: int) -> bool:
    return bool(rig.get(name)["status"].get("currReplicaCnt") == replicas)


@each_provider
def test_an_autoscaler_is_followed_with_one_version_a_step_and_never_faster_than_the_interval(
    rig: Rig, metric: ExternalMetrics, provider: str
) -> None:
    name = f"hpa-{provider}"
    metric.value = "1"
    endpoint_id = fixed(rig, provider, name, 1)
    before = len(rig.mutations(endpoint_id))
    autoscaler(rig, name, minReplicas=1, maxReplicas=6)
    wait_for(
        lambda: autoscaler_conditions(rig, name).get("ScalingActive") == ("True", "ValidMetricFound"),
        what="the autoscaler to see the metric",
        state=lambda: autoscaler_conditions(rig, name),
    )

    for value in (3, 4, 6, 2):  # the second is asked for no longer than the interval lasts
        metric.value = str(value)
        wait_for(
            partial(is_asked_for, rig, name, value),
            what=f"the autoscaler to ask for {value}",
            state=lambda: autoscaler_conditions(rig, name),
        )
        if value != 4:
            wait_for(partial(has, rig, name, value), what=f"{value} replicas")
    rig.wait(name, "Ready")

    sent = rig.mutations(endpoint_id)[before:]
    steps = [replicas_of(entry) for entry in sent]
    assert steps in ([3, 6, 2], [3, 4, 6, 2]), "each step once; the one within an interval may be passed over"
    assert all(entry.committed for entry in sent)
    gaps = [later.at - earlier.answered_at for earlier, later in pairwise(sent) if earlier.answered_at]
    assert len(gaps) == len(sent) - 1
    show(
        f"An autoscaler on {provider}",
        ("sent", "seconds between"),
        [(steps, [f"{gap:.1f}" for gap in gaps])],
    )
    assert min(gaps) >= 0.98 * INTERVAL_SECONDS
    time.sleep(INTERVAL_SECONDS + 1)
    assert len(rig.mutations(endpoint_id)) == before + len(sent)
    assert autoscaler_conditions(rig, name)["AbleToScale"][0] == "True"


@each_provider
def test_kubectl_scales_it(rig: Rig, tools: Mapping[str, Path], provider: str) -> None:
    name = f"scale-{provider}"
    endpoint_id = fixed(rig, provider, name, 1)
    before = len(rig.mutations(endpoint_id))
    command = [str(tools["kubectl"]), "--kubeconfig", str(rig.plane.kubeconfig), "--namespace", rig.namespace, "scale"]
    done = subprocess.run([*command, f"ie/{name}", "--replicas=4"], capture_output=True, text=True, check=True)
    assert done.stdout == f"inferenceendpoint.inference-operator.io/{name} scaled\n"
    wait_for(partial(has, rig, name, 4), what="four replicas")
    (sent,) = rig.mutations(endpoint_id)[before:]
    assert replicas_of(sent) == 4
    scale = rig.api.get(f"{rig.path}/{name}/scale").json()
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (4, 4)
    assert scale["status"]["selector"] == f"inference-operator.io/endpoint={rig.get(name)['metadata']['uid']}"


def test_an_autoscaler_on_an_endpoint_that_its_provider_scales_is_told_so(rig: Rig, metric: ExternalMetrics) -> None:
    metric.value = "5"
    endpoint_id = rig.endpoint("friendli")
    rig.apply("theirs", spec_of("friendli", endpoint_id, 2))
    rig.wait("theirs", "Ready")
    before = len(rig.mutations(endpoint_id))
    autoscaler(rig, "theirs", minReplicas=1, maxReplicas=6)
    wait_for(
        lambda: autoscaler_conditions(rig, "theirs").get("AbleToScale") == ("False", "FailedGetScale"),
        what="the autoscaler to refuse",
        state=lambda: autoscaler_conditions(rig, "theirs"),
    )
    assert condition(rig.get("theirs"), "Ready") == ("True", "Serving")
    assert "replicas" not in rig.get("theirs")["spec"]["scaling"]
    assert len(rig.mutations(endpoint_id)) == before
