from __future__ import annotations

import inspect
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference_operator import app
from inference_operator.api.status import InferenceEndpointStatus
from inference_operator.app import CallLog, Census
from inference_operator.core.model import Observed, Resource, Snapshot, State
from inference_operator.core.rollouts import Rollouts
from inference_operator.metrics import Metrics
from inference_operator.providers.transport import CallObserver
from inference_operator.tracing import NoTraces

RESOURCE = Resource(
    namespace="team-a",
    name="chat",
    uid="u-1",
    generation=1,
    resource_version="1",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    deleting=False,
    annotations={},
    spec={"provider": "friendli"},
    status={},
)


def value(metrics: Metrics, name: str) -> float | None:
    """Of the one series of that name."""
    found = [
        sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == f"inference_operator_{name}"
    ]
    assert len(found) <= 1, found
    return found[0] if found else None


def look(gpus: int) -> Observed:
    """One that shows how many GPUs a replica has."""
    return Observed(live=Snapshot({"gpu": {"count": gpus}}), state=State.RUNNING, provider_state="RUNNING")


def test_without_a_look_the_gpus_are_those_of_the_last_one() -> None:
    metrics = Metrics()
    census = Census(metrics, NoTraces(), Rollouts(0, lambda _: None))
    found: list[float | None] = []
    for replicas, observed in ((2, None), (2, look(4)), (3, None), (3, look(8)), (3, None)):
        census.reported(RESOURCE, InferenceEndpointStatus(curr_replica_cnt=replicas), observed)
        found.append(value(metrics, "resource_gpus"))
    assert found == [None, 8, 12, 24, 24]


def test_a_look_that_shows_no_gpus_is_believed() -> None:
    metrics = Metrics()
    census = Census(metrics, NoTraces(), Rollouts(0, lambda _: None))
    blind = Observed(live=Snapshot({}), state=State.RUNNING, provider_state="RUNNING")
    found: list[float | None] = []
    for observed in (None, look(4), blind, None):
        census.reported(RESOURCE, InferenceEndpointStatus(curr_replica_cnt=2), observed)
        found.append(value(metrics, "resource_gpus"))
    assert found == [None, 8, None, None]


class Heard(NoTraces):
    """Keeps the calls that it is told of."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, float, float, int | None]] = []

    def call(
        self, *, provider: str, operation: str, outcome: str, seconds: float, waited: float, status: int | None
    ) -> None:
        self.calls.append((provider, operation, outcome, seconds, waited, status))


def test_a_call_is_counted_and_traced() -> None:
    metrics, traces = Metrics(), Heard()
    calls = CallLog(metrics, traces)
    calls.call(provider="friendli", operation="update", outcome="ok", seconds=0.5, waited=0.25, status=200)
    assert traces.calls == [("friendli", "update", "ok", 0.5, 0.25, 200)]
    assert value(metrics, "provider_calls_total") == 1
    assert value(metrics, "provider_call_duration_seconds_sum") == 0.5
    assert value(metrics, "provider_budget_wait_seconds_sum") == 0.25


def test_what_is_told_of_a_call_is_spelled_out() -> None:
    """With `**call: Any` a checker of types would not see that a name is wrong."""
    assert inspect.signature(CallLog.call) == inspect.signature(CallObserver.call)


@pytest.mark.parametrize(("age", "alive"), [(0.0, True), (899.0, True), (901.0, False)])
def test_a_watch_that_is_not_opened_anew_ends_the_process(age: float, *, alive: bool) -> None:
    metrics = Metrics()
    metrics.observe_process(
        depth=lambda: 0, busy=lambda: 0, watch_age=lambda: age, lease="team/one", leading=lambda: True
    )
    assert app._alive(metrics) == (alive, "alive" if alive else "a watch has not been opened anew for 901 s")
