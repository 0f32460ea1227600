"""What people do to a resource, in pieces between which an operator may die.

Whatever is changed is changed in two fields at once, so that a payload that mixes two wishes gives itself away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference_operator.api.names import REAPPLY_ANNOTATION
from rig import spec_of

if TYPE_CHECKING:
    from faults.trial import Trial

Json = Mapping[str, Any]
FIRST_REPLICAS, FIRST_COOLDOWN = 2, 300


@dataclass(frozen=True)
class Subject:
    """What is changed, at which provider; a wish is one of its states, counted from 0.

    Attributes:
        name: For people.
        provider: The provider.
        declare: The resource's members that say a wish, beside those of every resource.
        sent: The numbers of the wishes that the two fields of a payload say.
        kept: The same for a configuration as the provider keeps it.
        by_secret: The wish stands in the Secret `value`, and the resource only refers to it.
        readable: Whether what the provider keeps can be read back.
    """

    name: str
    provider: str
    declare: Callable[[int], dict[str, Any]]
    sent: Callable[[Json], set[int | None]]
    kept: Callable[[Json], set[int | None]]
    by_secret: bool = False
    readable: bool = True

    def spec(self, endpoint_id: str, wish: int) -> dict[str, Any]:
        """The resource that says a wish."""
        return spec_of(self.provider, endpoint_id, FIRST_REPLICAS) | self.declare(wish)


def _scaling(wish: int) -> dict[str, Any]:
    return {
        "scaling": {
            "minReplicas": 0,
            "maxReplicas": FIRST_REPLICAS + wish,
            "cooldownSeconds": FIRST_COOLDOWN + wish,
        }
    }


def _model(wish: int) -> dict[str, Any]:
    return {"friendli": {"hfModelRepo": f"org/model-{wish}", "hfModelRepoRevision": f"rev-{wish}"}}


def _values(_: int) -> dict[str, Any]:
    envs = [{"name": key.upper(), "valueFrom": {"secretKeyRef": {"name": "value", "key": key}}} for key in ("a", "b")]
    return {"novita": {"envs": envs}}


def _scaled(replicas: object, cooldown: object) -> set[int | None]:
    return {int(str(replicas)) - FIRST_REPLICAS, int(str(cooldown)) - FIRST_COOLDOWN}


def _numbered(*texts: str | None) -> set[int | None]:
    return {int(text.rpartition("-")[2]) if text else None for text in texts}


def _policy(body: Json) -> set[int | None]:
    return _scaled(body["autoscalingPolicy"]["maxReplica"], body["autoscalingPolicy"]["cooldownPeriod"])


def _workers(body: Json) -> set[int | None]:
    return _scaled(body["workerConfig"]["maxNum"], body["workerConfig"]["freeTimeout"])


def _variables(body: Json) -> set[int | None]:
    return _numbered(*(each["value"] for each in body["envs"]))


FRIENDLI = Subject(
    "friendli",
    "friendli",
    _scaling,
    _policy,
    lambda kept: _scaled(kept["autoscaling_max"], kept["autoscaling_cooldown"]),
)
WRITE_ONLY = Subject(
    "write-only",
    "friendli",
    _model,
    lambda body: _numbered(body.get("hfModelRepo"), body.get("hfModelRepoRevision")),
    lambda kept: _numbered(kept["hf_model_repo"], kept["hf_model_repo_revision"]),
    readable=False,
)
NOVITA = Subject("novita", "novita", _scaling, _workers, _workers)
NOVITA_VALUE = Subject("novita-value", "novita", _values, _variables, _variables, by_secret=True)
"""Variables out of a Secret: to rotate that is to change the endpoint."""

SUBJECTS = (FRIENDLI, WRITE_ONLY, NOVITA)


@dataclass(frozen=True)
class Workload:
    """What people do, and what it must come to.

    Attributes:
        name: For people.
        act: What they do while the operator that may die is at work; waits for nothing.
        prepare: What comes before that, beyond a resource in sync at wish 0.
        begins: Whether the operator that may die is only started by `act`.
        after: What they do between its death and the start of the next.
        final: The wish that the provider must hold in the end.
        fates: What the provider makes of the updates, one after the other; arguments of `Fault`.
        deletes: Whether the resource is gone in the end.
        recreates: Whether it is another resource of the same name in the end.
        repeats: Whether the update changes nothing; without versions it cannot be seen then.
        another: Whether `after` asks for another change, which takes an update of its own.
    """

    name: str
    act: Callable[[Trial], None]
    prepare: Callable[[Trial], None] | None = None
    begins: bool = False
    after: Callable[[Trial], None] | None = None
    final: int = 1
    fates: Sequence[Mapping[str, Any]] = field(default=())
    deletes: bool = False
    recreates: bool = False
    repeats: bool = False
    another: bool = False

    def leaves_no_trace(self, subject: Subject) -> bool:
        """Whether nobody can tell if the update was carried out, so that one that was lost is not sent again."""
        return self.repeats and subject.provider == "novita"

    def expected(self, subject: Subject, earlier: int) -> int:
        """How many updates must take effect.

        Args:
            subject: What is changed.
            earlier: How many had taken effect when people went on after the fault.
        """
        if self.deletes:
            return earlier
        forgotten = self.recreates and not subject.readable  # the new resource cannot see what the old one has sent
        return earlier + 1 if self.another or forgotten else 1


def _edit(trial: Trial) -> None:
    trial.wish(1)


def _edit_again(trial: Trial) -> None:
    trial.wish(2)


def _begin(trial: Trial) -> None:
    trial.wish(1)
    trial.start()


def _revoke_and_edit(trial: Trial) -> None:
    trial.revoke_key()
    trial.wish(1)
    trial.wait_for_stall()
    trial.wait_for_event("CredentialsRejected", times=2)  # else the second could come among what follows


def _let_settle(trial: Trial) -> None:
    """Without versions a read tells of a write only once it cannot show the state before the last one any more."""
    trial.let_settle()


def _rotate(trial: Trial) -> None:
    trial.store_key()


def _reapply(trial: Trial) -> None:
    trial.rig.merge(trial.name, {"metadata": {"annotations": {REAPPLY_ANNOTATION: "once more"}}})


def _delete(trial: Trial) -> None:
    trial.delete()


def _recreate(trial: Trial) -> None:
    trial.delete()
    trial.wish(1)


UNCLEAR = {"status": 502}
LOST = {"commit": "never", "status": 502}

WORKLOADS = (
    Workload("adopt", _begin, begins=True),
    Workload("update", _edit),
    Workload("rotation", _rotate, prepare=_revoke_and_edit),
    Workload("deletion", _edit, after=_delete, deletes=True),
    Workload("recreation", _edit, after=_recreate, recreates=True),
    Workload("second-edit", _edit, after=_edit_again, final=2, another=True),
    Workload("reapply", _reapply, final=0, repeats=True),
    Workload("unclear-update", _edit, prepare=_let_settle, fates=(UNCLEAR,)),
    Workload("lost-update", _edit, fates=(LOST,)),
)
VALUE_ROTATION = Workload("rotation", _edit)

CASES = (
    *((workload, subject) for workload in WORKLOADS for subject in SUBJECTS),
    (VALUE_ROTATION, NOVITA_VALUE),
)
"""Every workload with everything that it is tried on."""
