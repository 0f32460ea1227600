"""What becomes of the status: merged, kept, transitions told once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from inference_operator.api.status import Applied, Condition, Drift, HistoryEntry, InferenceEndpointStatus, Operation
from inference_operator.core.compare import Difference
from inference_operator.core.findings import Finding, Findings
from inference_operator.core.memory import Memory
from inference_operator.core.model import Observed, Replicas, Snapshot, State
from inference_operator.core.report import MAX_DRIFT, MAX_FIELD_LENGTH, Notice, Subject, View, dump, notices, report

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON, BEFORE = "2026-01-01T12:00:00Z", "2026-01-01T11:00:00Z"
SUBJECT = Subject("uid", 7, "ep", NOW)
APPLIED = Applied(uid="uid", hash="h", generation=7, time=NOON)
OPERATION = Operation(uid="uid", id="op", hash="h", generation=7, started_at=NOON)
ENTRY = HistoryEntry(version=3, comment="c", generation=7, time=NOON, result="Applied")
MEMORY = Memory(applied=APPLIED, operation=OPERATION, version=3, comment="c", history=(ENTRY,))
SYNCED, READY = Finding("True", "Applied", "s"), Finding("True", "Serving", "r")
FINDINGS = Findings(SYNCED, READY, handled=True)
OBSERVED = Observed(Snapshot({}), State.RUNNING, "RUNNING/x", replicas=Replicas(1, 2, 3), gpu="H100 x2")


def a_status(previous: InferenceEndpointStatus | None = None, **changes: object) -> InferenceEndpointStatus:
    given = {"memory": MEMORY, "findings": FINDINGS, "view": View(), "confidential": lambda _: False} | changes
    return report(
        previous or InferenceEndpointStatus(),
        SUBJECT,
        given["memory"],  # type: ignore[arg-type] # builders take what a case is about
        given["findings"],  # type: ignore[arg-type] # as above
        given["view"],  # type: ignore[arg-type] # as above
        given["confidential"],  # type: ignore[arg-type] # as above
    )


def condition(kind: str, status: str, reason: str, *, since: str = BEFORE, message: str = "m") -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message, last_transition_time=since)


def test_the_memory_is_stored_whole() -> None:
    status = a_status()
    assert (status.applied, status.operation, status.version) == (APPLIED, OPERATION, 3)
    assert (status.version_comment, status.history) == ("c", [ENTRY])
    assert status.selector == "inference-operator.io/endpoint=uid"


def test_a_look_is_stored_and_without_one_the_last_stays() -> None:
    first = a_status(view=View(OBSERVED, (Difference("a", 1, 2),), ("m",)))
    for status in (first, a_status(first)):
        assert (status.endpoint_id, status.state, status.provider_state) == ("ep", "Running", "RUNNING/x")
        assert (status.curr_replica_cnt, status.desired_replica_cnt, status.updated_replica_cnt) == (1, 2, 3)
        assert (status.gpu, status.unverifiable) == ("H100 x2", ["m"])
        assert status.drift == [Drift(field="a", desired=1, observed=2)]
    gone = a_status(first, view=View(OBSERVED, (), ()))
    assert (gone.drift, gone.unverifiable) == ([], [])


def test_drift_is_bounded_and_values_that_may_be_secret_are_left_out() -> None:
    many = tuple(Difference(f"{number}{'x' * MAX_FIELD_LENGTH}", 1, 2) for number in range(MAX_DRIFT + 5))
    status = a_status(view=View(OBSERVED, many, ()))
    assert len(status.drift) == MAX_DRIFT
    assert {len(each.field) for each in status.drift} == {MAX_FIELD_LENGTH}
    hidden = a_status(view=View(OBSERVED, many[:1], ()), confidential=lambda path: path == many[0].path)
    assert hidden.drift == [Drift(field=many[0].path[:MAX_FIELD_LENGTH])]


@pytest.mark.parametrize(("handled", "generation"), [(True, 7), (False, 4)])
def test_the_generation_is_the_last_that_was_handled(generation: int, *, handled: bool) -> None:
    previous = InferenceEndpointStatus(observed_generation=4)
    status = a_status(previous, findings=replace(FINDINGS, handled=handled))
    assert status.observed_generation == generation
    assert {each.observed_generation for each in status.conditions} == {generation}


def test_before_anything_was_handled_conditions_name_no_generation() -> None:
    status = a_status(findings=replace(FINDINGS, handled=False))
    assert status.observed_generation == -1
    assert {each.observed_generation for each in status.conditions} == {None}


def test_without_findings_conditions_and_generation_stay() -> None:
    kept = [condition("Synced", "False", "Waiting")]
    previous = InferenceEndpointStatus(observed_generation=4, conditions=kept)
    status = a_status(previous, findings=None)
    assert (status.observed_generation, status.conditions) == (4, kept)


def test_a_finding_that_is_not_given_keeps_what_was_told() -> None:
    previous = InferenceEndpointStatus(
        conditions=[
            condition("Synced", "False", "Waiting", message="w"),
            condition("Ready", "True", "Serving"),
            condition("Reconciling", "True", "Waiting"),
        ]
    )
    status = a_status(previous, findings=Findings(None, None, stalled=Finding("True", "Conflict", "c")))
    told = {
        each.type: (each.status, each.reason, each.message, each.last_transition_time) for each in status.conditions
    }
    assert told == {
        "Synced": ("False", "Waiting", "w", BEFORE),
        "Ready": ("True", "Serving", "m", BEFORE),
        "Stalled": ("True", "Conflict", "c", NOON),
    }


def test_a_new_resource_is_pending() -> None:
    status = a_status(findings=Findings(None, None))
    assert [(each.type, each.status, each.reason) for each in status.conditions] == [
        ("Synced", "Unknown", "Pending"),
        ("Ready", "Unknown", "Pending"),
    ]


def test_every_kind_of_condition_is_written_in_one_order() -> None:
    every = Findings(SYNCED, READY, SYNCED, SYNCED, SYNCED)
    kinds = [each.type for each in a_status(findings=every).conditions]
    assert kinds == ["Synced", "Ready", "Reconciling", "Stalled", "Suspended"]


@pytest.mark.parametrize(("status", "since"), [("True", BEFORE), ("False", NOON)])
def test_the_clock_of_a_condition_moves_with_its_status_alone(status: str, since: str) -> None:
    previous = InferenceEndpointStatus(conditions=[condition("Synced", status, "Matched")])
    found = a_status(previous).conditions[0]
    assert (found.status, found.reason, found.last_transition_time) == ("True", "Applied", since)


@pytest.mark.parametrize(
    ("kind", "status", "reason", "warning"),
    [
        ("Stalled", "True", "Conflict", True),
        ("Synced", "True", "Applied", False),
        ("Synced", "Unknown", "WriteUndecided", False),
        ("Synced", "False", "Drifted", True),
        ("Synced", "False", "Waiting", False),
        ("Synced", "False", "Suspended", False),
        ("Ready", "False", "NotServing", True),
        ("Ready", "False", "NotSynced", False),
        ("Ready", "False", "Starting", False),
        ("Reconciling", "True", "Updating", False),
        ("Suspended", "True", "Suspended", False),
    ],
)
def test_what_is_a_warning(kind: str, status: str, reason: str, *, warning: bool) -> None:
    after = InferenceEndpointStatus(conditions=[condition(kind, status, reason)])
    assert notices(InferenceEndpointStatus(), after) == (Notice(warning, reason, "m"),)
    assert notices(after, after) == ()


def test_each_transition_is_told_once_and_one_reason_by_its_first_condition() -> None:
    before = InferenceEndpointStatus(
        conditions=[condition("Synced", "True", "Applied"), condition("Ready", "True", "x")]
    )
    after = InferenceEndpointStatus(
        conditions=[
            condition("Synced", "False", "Conflict", message="first"),
            condition("Ready", "False", "Conflict", message="second"),
            condition("Stalled", "True", "Conflict", message="third"),
        ]
    )
    assert notices(before, after) == (Notice(warning=True, reason="Conflict", message="first"),)
    same = InferenceEndpointStatus(conditions=[condition("Synced", "True", "Matched"), condition("Ready", "True", "x")])
    assert notices(before, same) == (Notice(warning=False, reason="Matched", message="m"),)


def test_a_reason_that_warns_for_one_condition_warns_for_all() -> None:
    before = InferenceEndpointStatus(
        conditions=[condition("Synced", "True", "Applied"), condition("Ready", "True", "Serving")]
    )
    after = InferenceEndpointStatus(
        conditions=[
            condition("Synced", "True", "Applied"),
            condition("Ready", "Unknown", "CredentialsRejected", message="second"),
            condition("Stalled", "True", "CredentialsRejected", message="third"),
        ]
    )
    assert notices(before, after) == (Notice(warning=True, reason="CredentialsRejected", message="second"),)


def test_what_is_written_holds_nothing_empty() -> None:
    empty = Memory(applied=APPLIED, history=())
    document = dump(a_status(memory=empty, view=View(OBSERVED, (), ())))
    assert "drift" not in document
    assert "history" not in document
    assert "operation" not in document
    assert document["applied"] == {"uid": "uid", "hash": "h", "generation": 7, "time": NOON}
    assert document["currReplicaCnt"] == 1
    assert document["observedGeneration"] == 7
