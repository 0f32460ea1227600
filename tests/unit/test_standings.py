from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference_operator.api.status import Condition, Drift, InferenceEndpointStatus, Operation
from inference_operator.core.model import Observed, Resource, Snapshot, State
from inference_operator.standings import FAMILIES, Standing, Standings, gpus_per_replica, standing

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]
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
OPERATION = Operation(uid="u-1", id="op", hash="h", generation=1, started_at="2026-01-01T00:00:10Z")


def series(standings: Standings) -> Series:
    """What Prometheus would read, without the common prefix and the labels that tell the resource."""
    return {
        (
            sample.name.removeprefix("inference_operator_resource_"),
            tuple(sorted((k, v) for k, v in sample.labels.items() if k not in {"namespace", "provider"})),
        ): sample.value
        for family in text_string_to_metric_families(standings.render().decode())
        for sample in family.samples
    }


def condition(kind: str, status: str, reason: str) -> Condition:
    return Condition(type=kind, status=status, reason=reason, last_transition_time="2026-01-01T00:00:00Z")


def stood(status: InferenceEndpointStatus, *, gpus: int | None = None) -> Standing:
    return standing(RESOURCE, status, gpus_per_replica=gpus, rolling=False, overdue=False)


def observed(**values: object) -> Observed:
    return Observed(live=Snapshot(values), state=State.RUNNING, provider_state="RUNNING")


def test_a_resource_has_a_series_for_each_number_that_is_known() -> None:
    standings = Standings()
    status = InferenceEndpointStatus(
        state="Running",
        curr_replica_cnt=2,
        desired_replica_cnt=3,
        conditions=[condition("Synced", "True", "Applied"), condition("Stalled", "True", "ProviderFailed")],
    )
    standings.note("u-1", stood(status, gpus=8))
    name = ("name", "chat")
    assert series(standings) == {
        ("state", (name, ("state", "Running"))): 1,
        ("condition", (name, ("reason", "Applied"), ("status", "True"), ("type", "Synced"))): 1,
        ("condition", (name, ("reason", "ProviderFailed"), ("status", "True"), ("type", "Stalled"))): 1,
        ("replicas_current", (name,)): 2,
        ("replicas_desired", (name,)): 3,
        ("gpus", (name,)): 16,
    }


def test_what_is_not_known_has_no_series() -> None:
    standings = Standings()
    standings.note("u-1", stood(InferenceEndpointStatus(curr_replica_cnt=2)))
    assert {name for name, _ in series(standings)} == {"state", "replicas_current"}


def test_no_replica_is_a_number_too() -> None:
    standings = Standings()
    standings.note("u-1", stood(InferenceEndpointStatus(curr_replica_cnt=0)))
    assert series(standings)["replicas_current", (("name", "chat"),)] == 0


def test_no_replica_holds_no_gpu() -> None:
    assert stood(InferenceEndpointStatus(curr_replica_cnt=0), gpus=8).gpus == 0


def test_an_undecided_write_tells_when_it_began() -> None:
    one = stood(InferenceEndpointStatus(operation=OPERATION))
    assert one.undecided
    assert one.undecided_since == datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC).timestamp()


def test_a_time_that_cannot_be_read_does_no_harm() -> None:
    operation = OPERATION.model_copy(update={"started_at": "yesterday"})
    one = stood(InferenceEndpointStatus(operation=operation))
    assert one.undecided
    assert one.undecided_since is None


def test_drift_is_what_the_status_names() -> None:
    assert stood(InferenceEndpointStatus(drift=[Drift(field="gpu")])).drifted
    assert not stood(InferenceEndpointStatus()).drifted


def test_a_resource_that_changes_leaves_no_series_behind() -> None:
    standings = Standings()
    standings.note("u-1", stood(InferenceEndpointStatus(state="Running", curr_replica_cnt=1)))
    standings.note("u-1", stood(InferenceEndpointStatus(state="Failed")))
    assert series(standings) == {("state", (("name", "chat"), ("state", "Failed"))): 1}


def test_a_resource_that_is_gone_leaves_no_series_behind() -> None:
    standings = Standings()
    standings.note("u-1", stood(InferenceEndpointStatus(state="Running")))
    standings.forget("u-1")
    standings.forget("u-1")
    assert series(standings) == {}
    assert standings.get("u-1") is None
    assert list(standings) == []


def test_the_series_of_a_family_stand_together() -> None:
    standings = Standings()
    for uid in ("1", "2"):
        standings.note(uid, Standing("team", uid, "novita", "Running", current=1))
    heads = [line.split()[2] for line in standings.render().decode().splitlines() if line.startswith("# TYPE")]
    assert heads == [family.name for family in FAMILIES]
    assert len({name for name, _ in series(standings)}) == 2


def test_a_label_holds_any_text() -> None:
    standings = Standings()
    text = 'a"b\\c\nd'
    standings.note("1", Standing("team", "x", "novita", text))
    assert series(standings) == {("state", (("name", "x"), ("state", text))): 1}


@pytest.mark.parametrize(
    ("gpu", "count"),
    [({"type": "H100", "count": 2}, 2), ({"count": 1}, 1), ({"type": "H100"}, None), ("H100 x2", None), (None, None)],
)
def test_gpus_are_counted_where_the_provider_shows_them(gpu: object, count: int | None) -> None:
    assert gpus_per_replica(observed(gpu=gpu)) == count


def test_a_provider_without_gpus_has_none_to_count() -> None:
    assert gpus_per_replica(observed()) is None
