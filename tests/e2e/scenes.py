"""Every situation of a resource that the GitOps tools are asked about, and what each of them must say of it.

No status is written by hand: an operator brings each situation about against emulated providers, and is killed. What it
has left in the API server is what the tools judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from inference_operator.api.names import API_VERSION, KIND, SUSPEND_ANNOTATION
from inference_operator.playground.emulators.accounts import fingerprint
from inference_operator.playground.emulators.faults import Fault
from rig import Rig, spec_of, wait_for

SETTINGS: Final[Mapping[str, Any]] = {
    "claim_seconds": 10,
    "request_timeout_seconds": 5,
    "settle_seconds": 5,  # until then, a difference may be an old read and no drift
    "secret_grace_seconds": 600,
}
"""Beside those that make an operator quick."""

AN_HOUR: Final = 3600
AS_IT_IS: Final = {"minReplicas": 0, "maxReplicas": 1}
"""What an emulated endpoint has from the beginning."""

HELD: Final = "example.com/held"
"""A finalizer of somebody else."""


class Verdicts(NamedTuple):
    """What the tools say, each in its own words; for Helm and kubectl, what `wait` does."""

    kstatus: str
    helm: str
    kubectl: str
    argo_cd: str
    flux: str


READY = Verdicts("Current", "ready", "met", "Healthy", "Current")
UNDER_WAY = Verdicts("InProgress", "waits", "waits", "Progressing", "InProgress")
FAILED = Verdicts("Failed", "fails at once", "waits", "Degraded", "Failed")

NOT_APPLICABLE = "-"

Conditions = Mapping[str, str]
"""Status and reason, by type."""


@dataclass
class Stage:
    """A rig, and what the situations have in common.

    Attributes:
        rig: The rig.
        last: What is done when everything else is in place, as it does not last; by the name of the resource.
        afterwards: What is done when the operator is gone.
    """

    rig: Rig
    last: dict[str, Callable[[], object]] = field(default_factory=dict)
    afterwards: list[Callable[[], object]] = field(default_factory=list)

    def endpoint(self, name: str, *, provider: str = "friendli", account: str = "") -> None:
        """A running endpoint; its id is made from the resource's name, so that messages are the same each time."""
        self.rig.emulators.create_endpoint(provider, f"ep-{name}", account or self.rig.namespace)

    def apply(self, name: str, number: int = 2, *, provider: str = "friendli", **changes: Any) -> None:
        """Apply a resource as people write it: one with an empty map of annotations would own that map as a whole."""
        spec = spec_of(provider, f"ep-{name}", number, **changes)
        self.rig._apply(f"{self.rig.path}/{name}", {"spec": spec}, API_VERSION, KIND, name)

    def in_sync(self, name: str, *, provider: str = "friendli", account: str = "", **changes: Any) -> None:
        """An endpoint and a resource that has it as it should be."""
        self.endpoint(name, provider=provider, account=account)
        self.apply(name, provider=provider, **changes)
        self.rig.wait(name, "Synced")
        self.rig.wait(name, "Ready")

    def account(self, name: str) -> Mapping[str, Any]:
        """An account and a Secret with its key, as faults of a key hit all that use it; a part of a spec."""
        self.rig.emulators.add_account(name, [self._token(name)])
        self.rig.secret(name, token=self._token(name))
        return {"credentialsSecretRef": {"name": name}}

    def refuse(self, name: str, status: int) -> None:
        """Answer every request with the key of an account by a status from now on."""
        self.rig.emulators.add_fault(Fault(token=fingerprint(self._token(name)), status=status, count=None))

    def _token(self, name: str) -> str:
        return f"{self.rig.token}-{name}"


# ── the situations ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Situation:
    """Something that a resource can be in.

    Attributes:
        words: How it is called in the documentation.
        conditions: What the status says.
        verdicts: What the tools must say.
        arrange: Begins to bring it about; the conditions are then waited for.
    """

    words: str
    conditions: Conditions
    verdicts: Verdicts
    arrange: Callable[[Stage, str], None]

    @property
    def name(self) -> str:
        """The name of the resource."""
        return re.sub(r"[^a-z]+", "-", self.words.lower())


SITUATIONS: list[Situation] = []


def situation(words: str, verdicts: Verdicts, **conditions: str) -> Callable[[Callable[[Stage, str], None]], None]:
    """Add a situation that the decorated function brings about."""

    def add(arrange: Callable[[Stage, str], None]) -> None:
        SITUATIONS.append(Situation(words, conditions, verdicts, arrange))

    return add


@situation("no status", UNDER_WAY)
def _no_status(stage: Stage, name: str) -> None:
    stage.afterwards.append(lambda: stage.apply(name))


@situation(
    "fresh, nothing read yet",
    UNDER_WAY,
    Synced="False ProviderUnavailable",
    Ready="Unknown Pending",
    Reconciling="True Retrying",
)
def _fresh(stage: Stage, name: str) -> None:
    key = stage.account(name)
    stage.endpoint(name, account=name)
    stage.refuse(name, 503)
    stage.apply(name, **key)


@situation(
    "waiting for a Secret",
    UNDER_WAY,
    Synced="False Waiting",
    Ready="Unknown Pending",
    Reconciling="True Waiting",
)
def _waiting_for_secret(stage: Stage, name: str) -> None:
    stage.apply(name, credentialsSecretRef={"name": "not-there"})


@situation("reconciling", UNDER_WAY, Synced="True Applied", Ready="Unknown Updating", Reconciling="True Updating")
def _reconciling(stage: Stage, name: str) -> None:
    stage.endpoint(name)
    stage.rig.emulators.set_knobs("friendli", f"ep-{name}", rollout_seconds=AN_HOUR)
    stage.apply(name)


@situation(
    "write undecided",
    UNDER_WAY,
    Synced="Unknown WriteUndecided",
    Ready="Unknown Updating",
    Reconciling="True WriteUndecided",
)
def _write_undecided(stage: Stage, name: str) -> None:
    stage.in_sync(name)
    lost = Fault(operation="update", endpoint_id=f"ep-{name}", commit="never", delivery="reset", count=None)
    stage.rig.emulators.add_fault(lost)
    stage.last[name] = lambda: stage.apply(name, 3)


@situation(
    "rollout beyond its deadline",
    UNDER_WAY,
    Synced="True Applied",
    Ready="Unknown Updating",
    Reconciling="True DeadlineExceeded",
)
def _overdue(stage: Stage, name: str) -> None:
    stage.endpoint(name)
    stage.rig.emulators.set_knobs("friendli", f"ep-{name}", rollout_seconds=AN_HOUR)
    stage.apply(name, progressDeadlineSeconds=1)


@situation("synced and serving", READY, Synced="True Applied", Ready="True Serving")
def _serving(stage: Stage, name: str) -> None:
    stage.in_sync(name, provider="novita", scaling={"replicas": 2})


@situation("asleep as asked", READY, Synced="True Applied", Ready="True Asleep")
def _asleep(stage: Stage, name: str) -> None:
    stage.in_sync(name)
    stage.rig.emulators.set_endpoint("friendli", f"ep-{name}", state="SLEEPING", replicas=0)


@situation("waking for a request", READY, Synced="True Applied", Ready="True Waking")
def _waking(stage: Stage, name: str) -> None:
    stage.in_sync(name)
    stage.rig.emulators.set_endpoint("friendli", f"ep-{name}", state="AWAKING")


@situation("asleep not as asked", UNDER_WAY, Synced="True Applied", Ready="False NotServing")
def _asleep_unasked(stage: Stage, name: str) -> None:
    stage.in_sync(name, scaling={"minReplicas": 1, "maxReplicas": 2, "cooldownSeconds": 300})
    stage.rig.emulators.set_endpoint("friendli", f"ep-{name}", state="SLEEPING", replicas=0)


@situation("stopped at the provider", UNDER_WAY, Synced="True Applied", Ready="False NotServing")
def _stopped(stage: Stage, name: str) -> None:
    stage.in_sync(name)
    stage.rig.emulators.set_endpoint("friendli", f"ep-{name}", state="TERMINATED", replicas=0)


@situation("stalled by spec", FAILED, Synced="False InvalidSpec", Ready="False InvalidSpec", Stalled="True InvalidSpec")
def _invalid(stage: Stage, name: str) -> None:
    stage.endpoint(name)
    stage.apply(name, friendli={"instanceOptionId": "nothing-like-it"})


@situation(
    "stalled by credentials",
    FAILED,
    Synced="False CredentialsRejected",
    Ready="Unknown CredentialsRejected",
    Stalled="True CredentialsRejected",
)
def _rejected(stage: Stage, name: str) -> None:
    stage.endpoint(name)
    stage.rig.secret(name, token=f"{stage.rig.token}-unknown")
    stage.apply(name, credentialsSecretRef={"name": name})


@situation(
    "endpoint missing",
    FAILED,
    Synced="False EndpointNotFound",
    Ready="False EndpointNotFound",
    Stalled="True EndpointNotFound",
)
def _missing(stage: Stage, name: str) -> None:
    stage.apply(name)


@situation(
    "failed at the provider",
    FAILED,
    Synced="True Applied",
    Ready="False ProviderFailed",
    Stalled="True ProviderFailed",
)
def _failed(stage: Stage, name: str) -> None:
    stage.in_sync(name)
    error = "INFERENCE_ENGINE_MEMORY_ERROR"
    stage.rig.emulators.set_endpoint("friendli", f"ep-{name}", state="FAILED", error=error)


@situation(
    "provider down", UNDER_WAY, Synced="True Applied", Ready="Unknown ProviderUnavailable", Reconciling="True Retrying"
)
def _down(stage: Stage, name: str) -> None:
    stage.in_sync(name, account=name, **stage.account(name))
    stage.refuse(name, 503)


@situation(
    "throttled",
    UNDER_WAY,
    Synced="False Throttled",
    Ready="Unknown ProviderUnavailable",
    Reconciling="True Retrying",
)
def _throttled(stage: Stage, name: str) -> None:
    key = stage.account(name)
    stage.in_sync(name, account=name, **key)
    stage.refuse(name, 429)
    stage.apply(name, 3, **key)


@situation(
    "out of capacity",
    UNDER_WAY,
    Synced="False CapacityUnavailable",
    Ready="False NotSynced",
    Reconciling="True Retrying",
)
def _out_of_capacity(stage: Stage, name: str) -> None:
    stage.endpoint(name)
    refusal = Fault(operation="update", endpoint_id=f"ep-{name}", status=402, commit="never", count=None)
    stage.rig.emulators.add_fault(refusal)
    stage.apply(name)


@situation("suspended in sync", READY, Synced="True Applied", Ready="True Serving", Suspended="True Suspended")
def _suspended(stage: Stage, name: str) -> None:
    stage.in_sync(name)
    stage.rig.merge(name, {"metadata": {"annotations": {SUSPEND_ANNOTATION: "true"}}})


@situation(
    "suspended with a newer spec",
    UNDER_WAY._replace(argo_cd="Suspended"),
    Synced="False Suspended",
    Ready="Unknown Suspended",
    Suspended="True Suspended",
)
def _suspended_newer(stage: Stage, name: str) -> None:
    stage.in_sync(name)
    stage.apply(name, 3, suspend=True)


@situation("observed only", READY, Synced="True Matched", Ready="True Serving")
def _observed(stage: Stage, name: str) -> None:
    stage.in_sync(name, managementPolicy="Observe", scaling=AS_IT_IS)


@situation("drift reported", READY, Synced="False Drifted", Ready="True Serving")
def _drifted(stage: Stage, name: str) -> None:
    stage.in_sync(name)
    console = {"autoscalingPolicy": {"minReplica": 0, "maxReplica": 7}}
    stage.rig.emulators.foreign_write("friendli", f"ep-{name}", console)


@situation("spec edited, operator away", UNDER_WAY, Synced="True Applied", Ready="True Serving")
def _unseen(stage: Stage, name: str) -> None:
    stage.in_sync(name)
    stage.afterwards.append(lambda: stage.apply(name, 3))


@situation(
    "mended, operator away",
    UNDER_WAY,
    Synced="False EndpointNotFound",
    Ready="False EndpointNotFound",
    Stalled="True EndpointNotFound",
)
def _mended(stage: Stage, name: str) -> None:
    stage.apply(name)
    stage.afterwards.append(lambda: stage.apply(name, friendli={"teamId": "team-1"}))


@situation(
    "deleting",
    UNDER_WAY._replace(kstatus="Terminating", helm=NOT_APPLICABLE),
    Synced="True Applied",
    Ready="True Serving",
)
def _deleting(stage: Stage, name: str) -> None:
    stage.in_sync(name)
    stage.rig.merge(name, {"metadata": {"finalizers": [HELD]}})
    stage.rig.delete(name)


@dataclass(frozen=True)
class Scene:
    """A situation as an operator has left it.

    Attributes:
        situation: The situation.
        resource: The whole object as stored, but for the fields that only the API server is concerned with.
    """

    situation: Situation
    resource: Mapping[str, Any]

    @property
    def deleting(self) -> bool:
        """Whether it is being deleted. Helm has nothing to wait for then, and Argo CD asks no script."""
        return "deletionTimestamp" in self.resource["metadata"]


def bring_about(rig: Rig) -> Sequence[Scene]:
    """Bring every situation about with one operator, which is killed in the end."""
    stage = Stage(rig)
    process = rig.start(**SETTINGS)
    with ThreadPoolExecutor(len(SITUATIONS)) as pool:
        list(pool.map(lambda each: each.arrange(stage, each.name), SITUATIONS))

    def wait(missing: Collection[str] = ()) -> None:
        wait_for(
            lambda: _astray(rig).keys() <= set(missing),
            what="the situations",
            seconds=90,
            state=lambda: _astray(rig),
            log=process.log,
        )

    wait(missing=stage.last)
    for act in stage.last.values():
        act()
    wait()
    process.kill()
    for act in stage.afterwards:
        act()
    return [Scene(each, _stored(rig, each.name)) for each in SITUATIONS]


def conditions(resource: Mapping[str, Any]) -> Conditions:
    """Status and reason of every condition."""
    found = resource.get("status", {}).get("conditions", [])
    return {each["type"]: f"{each['status']} {each['reason']}" for each in found}


def _astray(rig: Rig) -> Mapping[str, Conditions]:
    """The conditions of resources that are not yet in their situation."""
    found = {resource["metadata"]["name"]: conditions(resource) for resource in rig.list()}
    now = [(each, found.get(each.name, {})) for each in SITUATIONS]
    return {each.name: said for each, said in now if said != each.conditions}


def _stored(rig: Rig, name: str) -> Mapping[str, Any]:
    resource = rig.get(name)
    return {
        **resource,
        "metadata": {key: value for key, value in resource["metadata"].items() if key != "managedFields"},
    }


def let_go(rig: Rig) -> None:
    """Let deleted resources go."""
    for resource in rig.list():
        if HELD in resource["metadata"].get("finalizers", []):
            rig.merge(resource["metadata"]["name"], {"metadata": {"finalizers": None}})
