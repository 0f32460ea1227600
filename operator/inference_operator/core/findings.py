"""What a pass has found, in the language of conditions: one function for each kind of outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace

from inference_operator.core.compare import Difference
from inference_operator.core.memory import APPLIED, APPLIED_UNVERIFIED, MATCHED, Memory
from inference_operator.core.model import Observed, State
from inference_operator.core.plan import Action, Hold, LookDeeper, Nothing, OnlyReport, Pause, Refuse, Send, Wait
from inference_operator.errors import (
    CapacityUnavailable,
    CredentialsRejected,
    EndpointError,
    InvalidSpec,
    NotFound,
    SecretMissing,
    Throttled,
)

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """Status, reason and message of one condition."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All conditions of one pass.

    Attributes:
        synced: None keeps what was last reported.
        ready: None keeps what was last reported.
        reconciling: None where nothing is under way.
        stalled: None where no human must act.
        suspended: None where the resource is not suspended.
        handled: The generation was truly handled.
    """

    synced: Finding | None
    ready: Finding | None
    reconciling: Finding | None = None
    stalled: Finding | None = None
    suspended: Finding | None = None
    handled: bool = False

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way and nobody must act."""
        return self.reconciling is None and self.stalled is None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the rollout of our own last write is.

    Attributes:
        ours: A transition that our write began is under way.
        overdue: It takes longer than progressDeadlineSeconds.
    """

    ours: bool = False
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What was known before a pass that failed.

    Attributes:
        memory: The memory of the resource.
        pending: This generation is not yet applied.
        fresh: The last clean look is less than three polls old.
        ever_read: There was a clean look at some time.
        in_grace: A missing Secret may still be on its way.
    """

    memory: Memory
    pending: bool
    fresh: bool
    ever_read: bool
    in_grace: bool = False


# ── from a decision ───────────────────────────────────────────────────────────────────────────────────


def of_decision(
    action: Action, memory: Memory, drift: tuple[Difference, ...], observed: Observed, progress: Progress
) -> Findings:
    """The findings of a pass that looked and decided."""
    match action:
        case Nothing() if not drift:
            return _serving(_synced(memory), observed, progress)
        case OnlyReport() if not drift:
            message = "All fields that can be read back agree. Nothing is sent, as the resource is only observed."
            return _serving(Finding(TRUE, MATCHED, message), observed, progress)
        case Nothing() | OnlyReport():
            return _serving(Finding(FALSE, "Drifted", _drift_message(drift)), observed, progress)
        case Hold():
            return of_settling(acknowledged=action.acknowledged)
        case Wait():
            return _not_synced("Waiting", "Waiting", action.message)
        case Send() | LookDeeper():
            return _not_synced("Waiting", "Waiting", "About to send an update.")
        case Pause():
            return of_refusal(action.error)
        case Refuse():
            return _stalled(action.reason, action.message)


def of_open_write() -> Findings:
    """The findings at the moment between storing the intent and knowing the outcome."""
    return of_settling(acknowledged=False)


def of_settling(*, acknowledged: bool) -> Findings:
    """The findings while only looking can decide a write; `acknowledged` where the provider confirmed it."""
    message = (
        "The provider confirmed the update; its reads do not show it yet."
        if acknowledged
        else "An update may have arrived at the provider. Nothing more is sent until a read has decided it."
    )
    return Findings(
        synced=Finding(UNKNOWN, "WriteUndecided", message),
        ready=Finding(UNKNOWN, "Updating", message),
        reconciling=Finding(TRUE, "WriteUndecided", message),
    )


def _synced(memory: Memory) -> Finding:
    version = "" if memory.version is None else f" as version {memory.version}"
    match memory.result:
        case r if r == APPLIED_UNVERIFIED and memory.version is None:
            message = "The provider holds this configuration; whether the last update arrived leaves no trace to read."
            return Finding(TRUE, r, message)
        case r if r == APPLIED_UNVERIFIED:
            message = f"Applied{version}; only the version count shows it, the fields cannot be read back."
            return Finding(TRUE, r, message)
        case r if r == MATCHED:
            return Finding(TRUE, r, "The endpoint already held this configuration; nothing was sent.")
        case _:
            return Finding(TRUE, APPLIED, f"The provider holds this configuration{version}.")


def _drift_message(drift: tuple[Difference, ...]) -> str:
    fields = ", ".join(difference.path for difference in drift)
    return f"The endpoint differs from the spec: {fields}. See status.drift; change the spec, or reapply it."


def _not_synced(reason: str, under_way: str, message: str) -> Findings:
    return Findings(
        synced=Finding(FALSE, reason, message),
        ready=Finding(FALSE, "NotSynced", message),
        reconciling=Finding(TRUE, under_way, message),
    )


def _stalled(reason: str, message: str) -> Findings:
    return Findings(
        synced=Finding(FALSE, reason, message),
        ready=Finding(FALSE, reason, message),
        stalled=Finding(TRUE, reason, message),
        handled=True,
    )


def _serving(  # noqa: C901, PLR0911 - one case for each state of a closed set
    synced: Finding, observed: Observed, progress: Progress
) -> Findings:
    found = Findings(synced=synced, ready=None, handled=True)
    if progress.ours and observed.state is State.RUNNING:
        return _under_way(found, "Updating", UNKNOWN, "The new configuration is being rolled out.", progress)
    match observed.state:
        case State.RUNNING:
            return replace(found, ready=Finding(TRUE, "Serving", "The endpoint serves."))
        case State.SLEEPING if observed.minimum == 0:
            return replace(found, ready=Finding(TRUE, "Asleep", "The endpoint sleeps, as zero replicas are allowed."))
        case State.SLEEPING:
            message = f"The endpoint sleeps although at least {observed.minimum} replicas are asked for."
            return replace(found, ready=Finding(FALSE, "NotServing", message))
        case State.WAKING if not progress.ours:
            return replace(found, ready=Finding(TRUE, "Waking", "The endpoint wakes for a request."))
        case State.WAKING:
            return _under_way(found, "Waking", UNKNOWN, "The endpoint wakes with the new configuration.", progress)
        case State.UPDATING:
            message = "The new configuration is being rolled out; the one before it still serves."
            return _under_way(found, "Updating", UNKNOWN, message, progress)
        case State.CREATING:
            return _under_way(found, "Starting", FALSE, "The endpoint is starting.", progress)
        case State.STOPPING | State.STOPPED:
            message = "The endpoint was stopped at the provider; start it there."
            return replace(found, ready=Finding(FALSE, "NotServing", message))
        case State.FAILED:
            return _failed(found, observed)
        case State.UNKNOWN:
            message = f"The provider reports a state that is not known: {observed.provider_state}."
            return replace(found, ready=Finding(UNKNOWN, "StateUnknown", message))
        case State.PENDING:
            return replace(found, ready=Finding(UNKNOWN, "Pending", "The provider has not begun."))


def _under_way(found: Findings, reason: str, ready: str, message: str, progress: Progress) -> Findings:
    if progress.overdue:
        late = f"{message} This takes longer than progressDeadlineSeconds; look at the provider's console."
        return replace(found, ready=Finding(ready, reason, late), reconciling=Finding(TRUE, "DeadlineExceeded", late))
    return replace(found, ready=Finding(ready, reason, message), reconciling=Finding(TRUE, reason, message))


def _failed(found: Findings, observed: Observed) -> Findings:
    failure = observed.failure
    message = f"{failure.code}: {failure.message}" if failure else "The provider reports a failure without a reason."
    return replace(
        found,
        ready=Finding(FALSE, "ProviderFailed", message),
        stalled=Finding(TRUE, "ProviderFailed", message),
    )


# ── from a failure ────────────────────────────────────────────────────────────────────────────────────


def of_refusal(error: EndpointError) -> Findings:
    """The findings after a write that was certainly not carried out."""
    match error:
        case InvalidSpec():
            return _stalled("InvalidSpec", error.message)
        case CredentialsRejected():
            return _stalled("CredentialsRejected", error.message)
        case SecretMissing():
            return _stalled("CredentialsRejected" if error.credentials else "SecretNotFound", error.message)
        case NotFound():
            return _stalled("EndpointNotFound", error.message)
        case CapacityUnavailable():
            return _not_synced("CapacityUnavailable", "Retrying", error.message)
        case Throttled():
            return _not_synced("Throttled", "Retrying", error.message)
        case EndpointError():
            return _not_synced("ProviderUnavailable", "Retrying", error.message)


def of_busy(error: EndpointError) -> Findings:
    """The findings after a refusal that only means that the provider is at work on the endpoint."""
    return _not_synced("Waiting", "Waiting", f"The provider is at work on the endpoint and refused: {error.message}")


def of_failure(error: EndpointError, standing: Standing) -> Findings | None:
    """The findings of a pass that could not look; None leaves everything as it was last reported."""
    if isinstance(error, SecretMissing) and standing.in_grace:
        found = _not_synced("Waiting", "Waiting", error.message)
    else:
        found = of_refusal(error)
    if standing.memory.write_id is not None:
        found = replace(found, synced=of_open_write().synced)
    elif not standing.pending and not isinstance(error, NotFound):
        found = replace(found, synced=None)
    lasting = isinstance(error, InvalidSpec | NotFound)
    if lasting:
        return found
    if standing.fresh and not standing.pending and standing.memory.write_id is None:
        return replace(found, ready=None) if found.stalled else None
    return replace(found, ready=_unknown(error, standing))


def _unknown(error: EndpointError, standing: Standing) -> Finding:
    wanting = isinstance(error, CredentialsRejected | SecretMissing)
    if not standing.ever_read and (standing.in_grace or not wanting):
        return Finding(UNKNOWN, "Pending", f"Nothing was read yet. {error.message}")
    match error:
        case SecretMissing() if standing.in_grace:
            return Finding(UNKNOWN, "Waiting", error.message)
        case SecretMissing(credentials=False):
            return Finding(UNKNOWN, "SecretNotFound", error.message)
        case SecretMissing() | CredentialsRejected():
            return Finding(UNKNOWN, "CredentialsRejected", error.message)
        case _:
            return Finding(UNKNOWN, "ProviderUnavailable", error.message)


def of_bug(standing: Standing, message: str) -> Findings:
    """The findings after our own code has failed."""
    found = _stalled("InternalError", message)
    if standing.memory.write_id is not None:
        return replace(found, synced=of_open_write().synced)
    return found if standing.pending else replace(found, synced=None)


def of_unsupported(message: str) -> Findings:
    """The findings for a spec that this version cannot carry out yet."""
    return _stalled("NotSupported", message)


def of_unbound(findings: Findings, error: EndpointError) -> Findings:
    """The findings of a pass whose ConfigMap of `spec.writeConnectionTo` was not written."""
    message = f"spec.writeConnectionTo: {error.message}"
    if findings.stalled is not None:
        return findings
    found = replace(findings, ready=Finding(FALSE, "ConnectionNotWritten", message))
    if isinstance(error, InvalidSpec):
        return replace(found, reconciling=None, stalled=Finding(TRUE, "ConnectionNotWritten", message))
    return replace(found, reconciling=findings.reconciling or Finding(TRUE, "Retrying", message))


# ── from suspension ───────────────────────────────────────────────────────────────────────────────────


def of_suspension(memory: Memory, *, in_sync: bool, ready: Finding | None, as_of: str) -> Findings:
    """The findings while nothing may be called.

    Args:
        memory: The memory of the resource.
        in_sync: The present generation is the applied one.
        ready: What was last reported.
        as_of: Since when the resource is suspended.
    """
    suspended = Finding(TRUE, "Suspended", "No provider is called while the resource is suspended.")
    synced = None if in_sync else Finding(FALSE, "Suspended", "The spec changed while the resource is suspended.")
    if memory.write_id is not None:
        return Findings(of_open_write().synced, _not_looked_at(), suspended=suspended, handled=True)
    if not in_sync or ready is None or ready.status != TRUE:
        return Findings(synced, _not_looked_at(), suspended=suspended, handled=True)
    note = f" (as of {as_of}, when it was suspended)"
    kept = ready if ready.message.endswith(note) else replace(ready, message=ready.message + note)
    return Findings(synced, kept, suspended=suspended, handled=True)


def _not_looked_at() -> Finding:
    return Finding(UNKNOWN, "Suspended", "The provider is not looked at while the resource is suspended.")
