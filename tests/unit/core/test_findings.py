"""What is told of an endpoint: for each state, decision and failure one table."""

from __future__ import annotations

import pytest

from inference_operator.api.status import Applied, HistoryEntry, Operation
from inference_operator.core.compare import Difference
from inference_operator.core.findings import (
    Finding,
    Findings,
    Progress,
    Standing,
    of_bug,
    of_busy,
    of_decision,
    of_failure,
    of_open_write,
    of_refusal,
    of_settling,
    of_suspension,
    of_unsupported,
)
from inference_operator.core.memory import Memory
from inference_operator.core.model import Failure, Observed, Snapshot, State
from inference_operator.core.plan import Action, Hold, LookDeeper, Nothing, OnlyReport, Pause, Refuse, Wait
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

APPLIED = Applied(uid="u", hash="v1:x:-", generation=1, time="2026-01-01T00:00:00Z")
OPERATION = Operation(uid="u", id="o", hash="v1:x:-", generation=1, started_at="2026-01-01T00:00:00Z")
REST, OURS, LATE = Progress(), Progress(ours=True), Progress(ours=True, overdue=True)
DRIFT = (Difference("a", 1, 2), Difference("b", 1, 2))


def memory(result: str = "Applied", *, version: int | None = 3, operation: Operation | None = None) -> Memory:
    entry = HistoryEntry(version=version, generation=1, time=APPLIED.time, result=result)
    return Memory(applied=APPLIED, version=version, history=(entry,), operation=operation)


def seen(state: State, *, minimum: int = 0, failure: Failure | None = None) -> Observed:
    return Observed(Snapshot({}), state, f"word-{state}", minimum=minimum, failure=failure)


def told(finding: Finding | None) -> str | None:
    return None if finding is None else f"{finding.status}/{finding.reason}"


def row(found: Findings | None) -> tuple[str | None, ...] | None:
    """Synced, Ready, Reconciling, Stalled."""
    if found is None:
        return None
    return told(found.synced), told(found.ready), told(found.reconciling), told(found.stalled)


@pytest.mark.parametrize(
    ("state", "minimum", "progress", "ready", "reconciling"),
    [
        (State.RUNNING, 1, REST, "True/Serving", None),
        (State.RUNNING, 1, OURS, "Unknown/Updating", "True/Updating"),
        (State.RUNNING, 1, LATE, "Unknown/Updating", "True/DeadlineExceeded"),
        (State.SLEEPING, 0, REST, "True/Asleep", None),
        (State.SLEEPING, 1, REST, "False/NotServing", None),
        (State.WAKING, 0, REST, "True/Waking", None),
        (State.WAKING, 0, OURS, "Unknown/Waking", "True/Waking"),
        (State.WAKING, 0, LATE, "Unknown/Waking", "True/DeadlineExceeded"),
        (State.UPDATING, 0, REST, "Unknown/Updating", "True/Updating"),
        (State.UPDATING, 0, LATE, "Unknown/Updating", "True/DeadlineExceeded"),
        (State.CREATING, 0, REST, "False/Starting", "True/Starting"),
        (State.CREATING, 0, LATE, "False/Starting", "True/DeadlineExceeded"),
        (State.STOPPING, 0, REST, "False/NotServing", None),
        (State.STOPPED, 0, REST, "False/NotServing", None),
        (State.UNKNOWN, 0, REST, "Unknown/StateUnknown", None),
        (State.PENDING, 0, REST, "Unknown/Pending", None),
    ],
)
def test_what_a_state_means_where_the_spec_is_applied(
    state: State, minimum: int, progress: Progress, ready: str, reconciling: str | None
) -> None:
    found = of_decision(Nothing(), memory(), (), seen(state, minimum=minimum), progress)
    assert row(found) == ("True/Applied", ready, reconciling, None)
    assert found.handled
    if found.reconciling:
        assert found.ready is not None
        assert found.ready.message == found.reconciling.message


def test_a_failed_endpoint_needs_a_human_and_stays_in_sync() -> None:
    found = of_decision(Nothing(), memory(), (), seen(State.FAILED, failure=Failure("OOM", "Use less.")), REST)
    assert row(found) == ("True/Applied", "False/ProviderFailed", None, "True/ProviderFailed")
    assert found.stalled == Finding("True", "ProviderFailed", "OOM: Use less.")
    assert found.ready == Finding("False", "ProviderFailed", "OOM: Use less.")
    assert row(of_decision(Nothing(), memory(), (), seen(State.FAILED), REST)) == row(found)


@pytest.mark.parametrize(
    ("result", "synced"),
    [("Applied", "True/Applied"), ("AppliedUnverified", "True/AppliedUnverified"), ("Matched", "True/Matched")],
)
def test_how_the_last_write_was_settled_is_told(result: str, synced: str) -> None:
    found = of_decision(Nothing(), memory(result), (), seen(State.RUNNING), REST)
    assert told(found.synced) == synced
    assert found.synced is not None
    assert ("version 3" in found.synced.message) == (result != "Matched")
    without = of_decision(Nothing(), memory(result, version=None), (), seen(State.RUNNING), REST)
    assert without.synced is not None
    assert "version 3" not in without.synced.message
    assert "None" not in without.synced.message


@pytest.mark.parametrize(
    ("action", "drift", "expected", "handled"),
    [
        (Nothing(), DRIFT, ("False/Drifted", "True/Serving", None, None), True),
        (OnlyReport(), DRIFT, ("False/Drifted", "True/Serving", None, None), True),
        (OnlyReport(), (), ("True/Matched", "True/Serving", None, None), True),
        (
            Hold(acknowledged=True),
            (),
            ("Unknown/WriteUndecided", "Unknown/Updating", "True/WriteUndecided", None),
            False,
        ),
        (
            Hold(acknowledged=False),
            (),
            ("Unknown/WriteUndecided", "Unknown/Updating", "True/WriteUndecided", None),
            False,
        ),
        (Wait("why", 1), (), ("False/Waiting", "False/NotSynced", "True/Waiting", None), False),
        (LookDeeper(), (), ("False/Waiting", "False/NotSynced", "True/Waiting", None), False),
        (Refuse("Conflict", "why"), (), ("False/Conflict", "False/Conflict", None, "True/Conflict"), True),
    ],
)
def test_what_a_decision_means(
    action: Action, drift: tuple[Difference, ...], expected: tuple[str | None, ...], *, handled: bool
) -> None:
    found = of_decision(action, memory(), drift, seen(State.RUNNING), REST)
    assert (row(found), found.handled) == (expected, handled)
    if isinstance(action, Wait | Refuse):
        assert {each.message for each in (found.synced, found.ready) if each} == {"why"}
    if drift:
        assert found.synced is not None
        assert "a, b" in found.synced.message


def test_a_confirmed_write_and_an_undecided_one_are_told_apart() -> None:
    messages = {of_settling(acknowledged=acknowledged).reconciling for acknowledged in (True, False)}
    assert len(messages) == 2


REFUSALS: list[tuple[EndpointError, str, bool]] = [
    (InvalidSpec("why"), "InvalidSpec", True),
    (CredentialsRejected("why"), "CredentialsRejected", True),
    (SecretMissing("why", credentials=True), "CredentialsRejected", True),
    (SecretMissing("why", credentials=False), "SecretNotFound", True),
    (NotFound("why"), "EndpointNotFound", True),
    (CapacityUnavailable("why"), "CapacityUnavailable", False),
    (Throttled("why"), "Throttled", False),
    (Unavailable("why"), "ProviderUnavailable", False),
]


@pytest.mark.parametrize(("error", "reason", "stalled"), REFUSALS)
def test_what_a_refusal_means(error: EndpointError, reason: str, *, stalled: bool) -> None:
    found = of_refusal(error)
    if stalled:
        assert row(found) == (f"False/{reason}", f"False/{reason}", None, f"True/{reason}")
    else:
        assert row(found) == (f"False/{reason}", "False/NotSynced", "True/Retrying", None)
    assert found.handled == stalled
    conditions = (found.synced, found.ready, found.reconciling, found.stalled)
    assert {each.message for each in conditions if each} == {"why"}
    paused = of_decision(Pause(error, 1), memory(), (), seen(State.RUNNING), REST)
    assert paused == found


def test_a_busy_provider_is_nobodys_fault() -> None:
    found = of_busy(InvalidSpec("why"))
    assert row(found) == ("False/Waiting", "False/NotSynced", "True/Waiting", None)
    assert found.synced is not None
    assert found.synced.message.endswith("why")


AT_REST = Standing(memory(), pending=False, fresh=True, ever_read=True)
STALE = Standing(memory(), pending=False, fresh=False, ever_read=True)
PENDING = Standing(memory(), pending=True, fresh=True, ever_read=True)
NEW = Standing(Memory(), pending=True, fresh=True, ever_read=False)
OPEN = Standing(memory(operation=OPERATION), pending=True, fresh=True, ever_read=True)
OPEN_AT_REST = Standing(memory(operation=OPERATION), pending=False, fresh=True, ever_read=True)
REJECTED = "CredentialsRejected"


@pytest.mark.parametrize(
    ("error", "standing", "expected"),
    [
        (Unavailable("x"), AT_REST, None),
        (Throttled("x"), AT_REST, None),
        (Unavailable("x"), STALE, (None, "Unknown/ProviderUnavailable", "True/Retrying", None)),
        (
            Unavailable("x"),
            PENDING,
            ("False/ProviderUnavailable", "Unknown/ProviderUnavailable", "True/Retrying", None),
        ),
        (Unavailable("x"), NEW, ("False/ProviderUnavailable", "Unknown/Pending", "True/Retrying", None)),
        (Unavailable("x"), OPEN, ("Unknown/WriteUndecided", "Unknown/ProviderUnavailable", "True/Retrying", None)),
        (
            Unavailable("x"),
            OPEN_AT_REST,
            ("Unknown/WriteUndecided", "Unknown/ProviderUnavailable", "True/Retrying", None),
        ),
        (CredentialsRejected("x"), AT_REST, (None, None, None, f"True/{REJECTED}")),
        (CredentialsRejected("x"), STALE, (None, f"Unknown/{REJECTED}", None, f"True/{REJECTED}")),
        (CredentialsRejected("x"), PENDING, (f"False/{REJECTED}", f"Unknown/{REJECTED}", None, f"True/{REJECTED}")),
        (CredentialsRejected("x"), OPEN, ("Unknown/WriteUndecided", f"Unknown/{REJECTED}", None, f"True/{REJECTED}")),
        (SecretMissing("x", credentials=True), STALE, (None, f"Unknown/{REJECTED}", None, f"True/{REJECTED}")),
        (SecretMissing("x", credentials=False), STALE, (None, "Unknown/SecretNotFound", None, "True/SecretNotFound")),
        (NotFound("x"), AT_REST, ("False/EndpointNotFound", "False/EndpointNotFound", None, "True/EndpointNotFound")),
        (NotFound("x"), OPEN, ("Unknown/WriteUndecided", "False/EndpointNotFound", None, "True/EndpointNotFound")),
        (InvalidSpec("x"), AT_REST, (None, "False/InvalidSpec", None, "True/InvalidSpec")),
        (InvalidSpec("x"), PENDING, ("False/InvalidSpec", "False/InvalidSpec", None, "True/InvalidSpec")),
    ],
)
def test_what_a_failed_look_means(
    error: EndpointError, standing: Standing, expected: tuple[str | None, ...] | None
) -> None:
    assert row(of_failure(error, standing)) == expected


def test_a_missing_secret_has_a_time_of_grace() -> None:
    error = SecretMissing("why", credentials=True)
    grace = Standing(Memory(), pending=True, fresh=True, ever_read=False, in_grace=True)
    found = of_failure(error, grace)
    assert row(found) == ("False/Waiting", "Unknown/Pending", "True/Waiting", None)
    assert row(of_failure(Unavailable("x"), grace)) == row(of_failure(Unavailable("x"), NEW))


@pytest.mark.parametrize("credentials", [True, False])
def test_in_that_time_nobody_is_told_that_a_key_was_refused(*, credentials: bool) -> None:
    served = Standing(memory(), pending=True, fresh=True, ever_read=True, in_grace=True)
    found = of_failure(SecretMissing("why", credentials=credentials), served)
    assert row(found) == ("False/Waiting", "Unknown/Waiting", "True/Waiting", None)


@pytest.mark.parametrize(
    ("standing", "synced"),
    [(OPEN, "Unknown/WriteUndecided"), (PENDING, "False/InternalError"), (AT_REST, None)],
)
def test_our_own_failure_needs_a_human(standing: Standing, synced: str | None) -> None:
    found = of_bug(standing, "why")
    assert row(found) == (synced, "False/InternalError", None, "True/InternalError")
    assert found.stalled is not None
    assert found.stalled.message == "why"


def test_what_is_not_supported_is_told() -> None:
    found = of_unsupported("why")
    assert row(found) == ("False/NotSupported", "False/NotSupported", None, "True/NotSupported")
    assert found.stalled is not None
    assert found.stalled.message == "why"


SERVING, DOWN = Finding("True", "Serving", "It serves."), Finding("False", "NotServing", "It does not.")


@pytest.mark.parametrize(
    ("remembered", "in_sync", "ready", "expected"),
    [
        (memory(), True, SERVING, (None, "True/Serving")),
        (memory(), True, DOWN, (None, "Unknown/Suspended")),
        (memory(), True, None, (None, "Unknown/Suspended")),
        (memory(), False, SERVING, ("False/Suspended", "Unknown/Suspended")),
        (memory(operation=OPERATION), True, SERVING, ("Unknown/WriteUndecided", "Unknown/Suspended")),
        (memory(operation=OPERATION), False, SERVING, ("Unknown/WriteUndecided", "Unknown/Suspended")),
    ],
)
def test_what_suspension_keeps(
    remembered: Memory, ready: Finding | None, expected: tuple[str | None, str], *, in_sync: bool
) -> None:
    found = of_suspension(remembered, in_sync=in_sync, ready=ready, as_of="noon")
    assert (told(found.synced), told(found.ready)) == expected
    assert (told(found.suspended), found.reconciling, found.stalled, found.handled) == (
        "True/Suspended",
        None,
        None,
        True,
    )


def test_the_note_of_suspension_is_written_once() -> None:
    once = of_suspension(memory(), in_sync=True, ready=SERVING, as_of="noon").ready
    assert once is not None
    assert once.message.startswith("It serves.")
    assert "noon" in once.message
    assert of_suspension(memory(), in_sync=True, ready=once, as_of="noon").ready == once


def applied_as(result: str, version: int | None) -> Memory:
    entry = HistoryEntry(version=version, comment="", generation=1, time=APPLIED.time, result=result)
    return Memory(applied=APPLIED, version=version, history=(entry,))


@pytest.mark.parametrize(
    ("result", "version", "message"),
    [
        ("Applied", 7, "The provider holds this configuration as version 7."),
        ("Applied", None, "The provider holds this configuration."),
        (
            "AppliedUnverified",
            7,
            "Applied as version 7; only the version count shows it, the fields cannot be read back.",
        ),
        (
            "AppliedUnverified",
            None,
            "The provider holds this configuration; whether the last update arrived leaves no trace to read.",
        ),
        ("Matched", 7, "The endpoint already held this configuration; nothing was sent."),
    ],
)
def test_what_is_in_sync_says_how_that_is_known(result: str, version: int | None, message: str) -> None:
    found = of_decision(Nothing(), applied_as(result, version), (), seen(State.RUNNING), REST)
    assert found is not None
    assert found.synced == Finding("True", result, message)


def test_a_write_that_waits_for_its_answer_or_for_a_look_is_told_apart() -> None:
    assert of_open_write() == of_settling(acknowledged=False) != of_settling(acknowledged=True)
    for acknowledged in (True, False):
        held = of_decision(Hold(acknowledged=acknowledged), Memory(operation=OPERATION), (), seen(State.RUNNING), REST)
        assert held is not None
        assert held.synced == of_settling(acknowledged=acknowledged).synced
