"""One resource, one change, one trouble: what becomes of it is read from the provider's ledger."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fleet import wait_for_all
from inference_operator.playground.emulators.faults import Fault
from rig import Rig, spec_of
from tally import show

REST = 1.5
"""Seconds of watching, after everything has settled, that nothing more is sent."""

APPLIED = ("True", "Applied")
UNVERIFIED = ("True", "AppliedUnverified")

CHANGES = {
    "friendli": ("friendli", {}),
    "novita": ("novita", {}),
    "write-only": ("friendli", {"hfModelRepo": "org/model"}),
}
"""Kind of change to the provider and what the resource declares beside its scaling."""


@dataclass(frozen=True, eq=False)
class Trouble:
    """What befalls one update, and how often it has to be sent for it; a second time only if it was lost."""

    name: str
    fault: Fault | None = None
    knobs: dict[str, Any] = field(default_factory=dict)
    sent: int = 1


HTML = "<!doctype html><title>Welcome</title>"
LOST = [
    Trouble("reset after the commit", Fault(delivery="reset")),
    Trouble("reset before the commit", Fault(commit="never", delivery="reset"), sent=2),
    Trouble("closed after the commit", Fault(delivery="close")),
    Trouble("502 after the commit", Fault(status=502)),
    Trouble("502 before the commit", Fault(commit="never", status=502), sent=2),
    Trouble("408 after the commit", Fault(status=408)),
    Trouble("time-out after the commit", Fault(delivery="stall", size=20)),
    Trouble("time-out before the commit", Fault(commit="never", delivery="stall"), sent=2),
    Trouble("reset, lands late", Fault(commit="late", late_seconds=1.5, delivery="reset")),
    Trouble("time-out, lands late", Fault(commit="late", late_seconds=3.5, delivery="stall")),
    Trouble("200 with HTML", Fault(body=HTML, headers={"Content-Type": "text/html"})),
    Trouble("200 with half a JSON", Fault(delivery="truncate", size=1)),
    Trouble("200 with a JSON list", Fault(json=[])),
]
ANSWERED = [Trouble("nothing"), Trouble("reads lag by 2 s", knobs={"read_lag_seconds": 2.0})]


HEADER = ("provider and case", "sent", "committed", "until Synced", "Synced")


@dataclass
class Trial:
    """One resource on an endpoint of its own, with one change and one trouble."""

    kind: str
    trouble: Trouble
    endpoint_id: str
    number: int
    step: int = 1
    began: float = 0.0

    @property
    def provider(self) -> str:
        return CHANGES[self.kind][0]

    @property
    def name(self) -> str:
        return f"r{self.number}"

    @property
    def case(self) -> tuple[str, str]:
        return self.kind, self.trouble.name

    def spec(self, step: int) -> dict[str, Any]:
        """The resource at the beginning (0) or after a number of changes of its kind."""
        declared = {key: f"{value}-{step}" for key, value in CHANGES[self.kind][1].items()}
        return spec_of(self.provider, self.endpoint_id, 2 if declared else 2 + step, **{self.provider: declared})

    def fault(self, **changes: Any) -> Fault:
        assert self.trouble.fault is not None
        return replace(self.trouble.fault, operation="update", endpoint_id=self.endpoint_id, **changes)


def settled_trials(rig: Rig, troubles: Sequence[Trouble]) -> list[Trial]:
    """Resources that are in sync, one for each trouble and kind of change."""
    return settled(rig, [(kind, trouble) for kind in CHANGES for trouble in troubles])


def settled(rig: Rig, cases: Sequence[tuple[str, Trouble]]) -> list[Trial]:
    """Resources that are in sync, one for each case."""
    trials = [
        Trial(kind, trouble, rig.endpoint(CHANGES[kind][0]), number) for number, (kind, trouble) in enumerate(cases)
    ]
    for trial in trials:
        rig.apply(trial.name, trial.spec(0))
    wait_for_all(rig, [trial.name for trial in trials])
    for trial in trials:
        assert len(rig.mutations(trial.endpoint_id)) == 1
    return trials


def change(rig: Rig, trials: list[Trial]) -> None:
    for trial in trials:
        trial.began = time.monotonic()
        rig.apply(trial.name, trial.spec(trial.step))


def took(trial: Trial, seen: dict[str, float]) -> str:
    return f"{seen[trial.name] - trial.began:.1f} s"


def verdicts(rig: Rig, trials: list[Trial], seen: dict[str, float]) -> dict[tuple[str, str], Any]:
    """For each case: updates sent, updates committed, and Synced; prints them with the time that it took."""
    time.sleep(REST)
    rows, found = list[tuple[object, ...]](), {}
    for trial in trials:
        updates = rig.mutations(trial.endpoint_id)[1:]
        synced = rig.condition(trial.name, "Synced")
        found[trial.case] = (len(updates), sum(each.committed for each in updates), synced)
        rows.append((" ".join(trial.case), *found[trial.case][:2], took(trial, seen), "/".join(synced or ())))
        # The status never runs ahead of the provider.
        assert all(each.committed_at < seen[trial.name] for each in updates if each.committed_at)
    show("One change each", HEADER, rows)
    return found


def expected(trial: Trial) -> tuple[int, int, tuple[str, str]]:
    """One update takes effect; of a write-only change whose answer was lost only the version count tells."""
    unverified = trial.kind == "write-only" and trial.trouble.fault is not None and trial.trouble.sent == 1
    return trial.trouble.sent, 1, UNVERIFIED if unverified else APPLIED


def assert_holds(rig: Rig, trial: Trial, *, changes: int = 1) -> None:
    """The provider holds the last change, after so many versions beside the first, and the status says which."""
    kept = rig.emulators.get_endpoint(trial.provider, trial.endpoint_id)
    if trial.provider == "novita":
        assert kept["config"]["workerConfig"]["maxNum"] == 2 + trial.step
        return
    assert kept["version"] == rig.get(trial.name)["status"]["version"] == 1 + changes
    if trial.kind == "write-only":
        assert kept["config"]["hf_model_repo"] == f"org/model-{trial.step}"
    else:
        assert kept["config"]["autoscaling_max"] == 2 + trial.step
