"""Schedule, claims, the brake and the findings: small tables, and what must hold for every combination."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_operator.api.status import Applied, Effect, InferenceEndpointStatus, Operation
from inference_operator.core import findings
from inference_operator.core.claims import owner_besides
from inference_operator.core.compare import Difference
from inference_operator.core.findings import Findings, Progress, Standing
from inference_operator.core.memory import Memory, age_seconds
from inference_operator.core.model import Failure, Observed, Resource, Snapshot, State
from inference_operator.core.plan import Action, Hold, Nothing, OnlyReport, Pause, Refuse, Send, Wait
from inference_operator.core.report import Subject, View, dump, notices, report
from inference_operator.core.rollouts import Rollouts
from inference_operator.core.schedule import Pace
from inference_operator.errors import (
    CapacityUnavailable,
    CredentialsRejected,
    EndpointError,
    InvalidSpec,
    NotFound,
    SecretMissing,
    Throttled,
    Unavailable,
)

PACE = Pace()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
APPLIED = Applied(uid="u", hash="v1:x:-", generation=1, time="2026-01-01T00:00:00Z")
OPERATION = Operation(uid="u", id="o", hash="v1:x:-", generation=1, started_at="2026-01-01T00:00:00Z")
ERRORS: list[EndpointError] = [
    InvalidSpec("x"),
    CredentialsRejected("x"),
    SecretMissing("x", credentials=True),
    SecretMissing("x", credentials=False),
    CapacityUnavailable("x"),
    NotFound("x"),
    Throttled("x", retry_after=7),
    Unavailable("x"),
]
ACTIONS: list[Action] = [
    Nothing(),
    OnlyReport(),
    Hold(acknowledged=True),
    Hold(acknowledged=False),
    Wait("x", 1),
    Refuse("Conflict", "x"),
    Send("x", Effect(), None),
    *[Pause(error, 1) for error in ERRORS],
]
REASONS = {
    "Synced": {
        "Applied",
        "AppliedUnverified",
        "Matched",
        "WriteUndecided",
        "Pending",
        "Waiting",
        "Throttled",
        "ProviderUnavailable",
        "CapacityUnavailable",
        "Drifted",
        "Suspended",
        "InvalidSpec",
        "CredentialsRejected",
        "SecretNotFound",
        "EndpointNotFound",
        "NotConverging",
        "Contested",
        "Conflict",
        "NotSupported",
        "InternalError",
    },
    "Ready": {
        "Serving",
        "Asleep",
        "Waking",
        "Updating",
        "Pending",
        "Waiting",
        "StateUnknown",
        "Suspended",
        "ProviderUnavailable",
        "CredentialsRejected",
        "NotSynced",
        "Starting",
        "NotServing",
        "ProviderFailed",
        "InvalidSpec",
        "SecretNotFound",
        "EndpointNotFound",
        "NotConverging",
        "Contested",
        "Conflict",
        "NotSupported",
        "InternalError",
    },
    "Reconciling": {"Updating", "WriteUndecided", "Retrying", "Waiting", "Waking", "Starting", "DeadlineExceeded"},
    "Stalled": {
        "InvalidSpec",
        "CredentialsRejected",
        "SecretNotFound",
        "EndpointNotFound",
        "NotConverging",
        "Contested",
        "ProviderFailed",
        "Conflict",
        "NotSupported",
        "InternalError",
    },
    "Suspended": {"Suspended"},
}


def observed(state: State, minimum: int = 0) -> Observed:
    return Observed(Snapshot({}), state, state.value, minimum=minimum, failure=Failure("E", "x"))


def all_findings() -> list[Findings]:
    drifts: list[tuple[Difference, ...]] = [(), (Difference("a", 1, 2),)]
    found = [
        findings.of_decision(action, Memory(applied=APPLIED), drift, observed(state, minimum), Progress(ours, late))
        for action, drift, state, minimum, ours, late in itertools.product(
            ACTIONS, drifts, State, (0, 1), (False, True), (False, True)
        )
    ]
    standings = [
        Standing(Memory(applied=APPLIED, operation=operation), *flags)
        for operation in (None, OPERATION)
        for flags in itertools.product((False, True), repeat=4)
    ]
    found += [each for error in ERRORS for one in standings if (each := findings.of_failure(error, one)) is not None]
    found += [findings.of_bug(one, "x") for one in standings]
    return found


def test_no_outcome_contradicts_itself_or_leaves_the_closed_set_of_reasons() -> None:
    found = all_findings()
    assert len(found) > 1000
    for each in found:
        assert each.reconciling is None or each.stalled is None
        assert each.reconciling is None or each.ready is None or each.ready.status != "True"
        assert not (each.reconciling and each.ready is None)
        for kind, reasons in REASONS.items():
            finding = getattr(each, kind.lower())
            assert finding is None or (finding.reason in reasons and finding.message)
        if each.stalled:
            assert each.handled


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_capacity_throttling_and_outages_are_never_stalled(error: EndpointError) -> None:
    passing = isinstance(error, CapacityUnavailable | Throttled | Unavailable)
    assert (findings.of_refusal(error).stalled is None) == passing


def test_an_undecided_write_that_cannot_be_read_says_both() -> None:
    standing = Standing(Memory(applied=APPLIED, operation=OPERATION), pending=True, fresh=False, ever_read=True)
    found = findings.of_failure(CredentialsRejected("x"), standing)
    assert found is not None
    assert found.synced is not None
    assert found.stalled is not None
    assert (found.synced.status, found.synced.reason) == ("Unknown", "WriteUndecided")
    assert found.stalled.reason == "CredentialsRejected"


def test_a_single_failed_poll_at_rest_changes_nothing() -> None:
    standing = Standing(Memory(applied=APPLIED), pending=False, fresh=True, ever_read=True)
    assert findings.of_failure(Unavailable("x"), standing) is None
    late = findings.of_failure(Unavailable("x"), replace(standing, fresh=False))
    assert late is not None
    assert late.ready is not None
    assert (late.ready.status, late.ready.reason) == ("Unknown", "ProviderUnavailable")


def test_equal_findings_give_an_equal_status_and_no_event() -> None:
    subject = Subject("u", 1, "ep", NOW)
    found = findings.of_decision(Nothing(), Memory(applied=APPLIED), (), observed(State.RUNNING), Progress())
    view = View(observed(State.RUNNING), (), ())
    first = report(InferenceEndpointStatus(), subject, Memory(applied=APPLIED), found, view, lambda _: False)
    later = replace(subject, now=NOW + timedelta(hours=1))
    second = report(first, later, Memory(applied=APPLIED), found, view, lambda _: False)
    assert dump(first) == dump(second)
    assert notices(first, second) == ()
    assert {notice.reason for notice in notices(InferenceEndpointStatus(), first)} == {"Applied", "Serving"}
    assert InferenceEndpointStatus.model_validate(dump(first)) == first


def test_confidential_drift_names_the_field_and_no_value() -> None:
    found = findings.of_decision(Nothing(), Memory(applied=APPLIED), (), observed(State.RUNNING), Progress())
    view = View(observed(State.RUNNING), (Difference("novita.envs[T]", "secret", "other"),), ())
    status = report(InferenceEndpointStatus(), Subject("u", 1, "ep", NOW), Memory(), found, view, lambda _: True)
    assert dump(status)["drift"] == [{"field": "novita.envs[T]"}]


@given(attempt=st.integers(0, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_pauses_stay_within_their_bounds(attempt: int, jitter: float) -> None:
    assert 0 <= PACE.backoff(attempt, jitter) <= PACE.poll
    assert 0 < PACE.eager(attempt) <= PACE.transition_poll
    assert PACE.slow <= PACE.refused(attempt) <= 3600
    assert 0.9 * PACE.poll <= PACE.spread(PACE.poll, jitter) <= 1.1 * PACE.poll
    assert PACE.after(Throttled("x", retry_after=7), attempt, jitter) >= 7


def test_the_settle_time_may_not_be_shorter_than_the_time_out() -> None:
    with pytest.raises(ValueError, match="settle"):
        Pace(settle=1, request_timeout=2)


@pytest.mark.parametrize(
    ("text", "age"),
    [("2025-12-31T23:59:00Z", 60), ("2027-01-01T00:00:00Z", 0), ("garbage", 0), ("2025-12-31T23:59:00", 0)],
)
def test_stored_times_only_inform(text: str, age: float) -> None:
    assert age_seconds(text, NOW) == age


def resource(name: str, *, age: int = 0, namespace: str = "n", read: bool = True, **spec: object) -> Resource:
    status = {"endpointId": "ep"} if read else {}
    created = NOW - timedelta(seconds=age)
    return Resource(namespace, name, f"uid-{name}", 1, "1", created, False, {}, spec, status)


@pytest.mark.parametrize(
    ("other", "owned_by_us"),
    [
        (resource("b", age=9), False),
        (resource("b", age=-9), True),
        (resource("b"), True),
        (resource("B"), False),
        (resource("b", age=9, read=False), True),
        (resource("b", age=9, managementPolicy="Observe"), True),
    ],
    ids=["older", "younger", "higher uid", "lower uid", "never read it", "observes only"],
)
def test_the_oldest_that_has_read_the_endpoint_owns_it(other: Resource, *, owned_by_us: bool) -> None:
    assert (owner_besides(resource("a"), [other], "ep") is None) == owned_by_us


def test_nothing_of_another_namespace_is_told() -> None:
    told = owner_besides(resource("a"), [resource("secret-project", age=9, namespace="secret-team")], "ep")
    assert told is not None
    assert "secret" not in told


def test_the_brake_counts_by_account_and_forgets_what_is_overdue() -> None:
    woken: list[str] = []
    brake = Rollouts(1, woken.append)
    brake.begin("a", "x", now=0, deadline=100)
    assert brake.brake("b", "x", 1) is not None
    assert brake.brake("a", "x", 1) is None
    assert brake.brake("b", "y", 1) is None
    assert brake.brake("b", "x", 101) is None
    assert (brake.is_overdue("a", 101), brake.is_overdue("a", 100)) == (True, False)
    brake.wait("b", "x")
    brake.wait("c", "x")
    brake.end("nobody")
    brake.end("a")
    assert woken == ["b"]
    assert Rollouts(0, woken.append).brake("b", "x", 1) is None


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_a_failed_look_says_of_the_configuration(error: EndpointError) -> None:
    """At rest the last word stays, as there is nothing to write; but an endpoint that is missing holds nothing."""

    def synced(memory: Memory, *, pending: bool) -> tuple[str, str] | None:
        found = findings.of_failure(error, Standing(memory, pending=pending, fresh=False, ever_read=True))
        assert found is not None
        return (found.synced.status, found.synced.reason) if found.synced else None

    refused = findings.of_refusal(error).synced
    assert refused is not None
    changed = ("False", refused.reason)
    assert synced(Memory(applied=APPLIED, operation=OPERATION), pending=True) == ("Unknown", "WriteUndecided")
    assert synced(Memory(applied=APPLIED), pending=True) == changed
    assert synced(Memory(applied=APPLIED), pending=False) == (changed if isinstance(error, NotFound) else None)
