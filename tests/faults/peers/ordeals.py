"""What befalls every subject: a change of each resource, and something that goes wrong meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from faults.peers.subject import TIMEOUT_SECONDS
from faults.peers.wish import Wish
from inference_operator.playground.emulators.faults import Fault

if TYPE_CHECKING:
    from faults.peers.trial import Trial

AFTER_SECONDS: Final = 2.0
"""How long after its sender gave up a late write lands."""

UNREADABLE_SECONDS: Final = 10.0
"""How long reads fail."""

RETRY_AFTER_SECONDS: Final = 8.0
"""What the provider asks for with a 429."""


class End(Enum):
    """How it has to end."""

    HELD = auto()
    """The provider holds what the resource asks for, and the status says so."""

    REFUSED = auto()
    """The provider will not hold it, and the status does not claim it."""

    GONE = auto()
    """The resource is gone, and nothing was written after that."""


def more_replicas(wish: Wish) -> Wish:
    return replace(wish, replicas=3)


def other_model(wish: Wish) -> Wish:
    return replace(wish, model="org/model-b")


def other_comment(wish: Wish) -> Wish:
    return replace(wish, comment="second")


def too_many_replicas(wish: Wish) -> Wish:
    return replace(wish, replicas=6)


def nothing(_: Trial) -> None:
    """Nothing goes wrong."""


@dataclass(frozen=True, kw_only=True)
class Ordeal:
    """One row of the comparison.

    Attributes:
        name: By which the command line knows it.
        title: What happens, for readers.
        change: The one change of every resource; None for none.
        before: What is arranged beforehand.
        meanwhile: What happens once the changes have been made.
        versions: How many versions each resource needs.
        end: How it has to end.
        copies: How many processes of the subject run at once.
        together: All resources are changed at one moment, and not at moments spread over a poll.
        correct: Changes by others are to be undone.
        retry_after: The seconds that a 429 asks for, where one is answered.
        beyond: This operator does not promise to endure it.
    """

    name: str
    title: str
    change: Callable[[Wish], Wish] | None = more_replicas
    before: Callable[[Trial], None] = nothing
    meanwhile: Callable[[Trial], None] = nothing
    versions: int = 1
    end: End = End.HELD
    copies: int = 1
    together: bool = False
    correct: bool = False
    retry_after: float | None = None
    beyond: bool = False


def on_update(**fate: Any) -> Callable[[Trial], None]:
    """The next update of every endpoint meets this fate."""
    return lambda trial: trial.afflict(Fault(operation="update", **fate))


def on_reads(**fate: Any) -> Callable[[Trial], None]:
    """Every read meets this fate until the faults are lifted."""
    return on_all(method="GET", **fate)


def on_all(**fate: Any) -> Callable[[Trial], None]:
    """Every request of a kind meets this fate until the faults are lifted."""

    def arrange(trial: Trial) -> None:
        trial.emulators.add_fault(Fault(count=None, **fate))

    return arrange


def lagging(seconds: float, trial: Trial) -> None:
    for wish in trial.wishes.values():
        trial.emulators.set_knobs("friendli", wish.endpoint_id, read_lag_seconds=seconds)


def lagging_and_lost(trial: Trial) -> None:
    lagging(AFTER_SECONDS, trial)
    on_update(delivery="reset")(trial)


def clamping(trial: Trial) -> None:
    for wish in trial.wishes.values():
        trial.emulators.set_knobs("friendli", wish.endpoint_id, clamp_replicas=4)


def lifted(seconds: float, trial: Trial) -> None:
    trial.watch(seconds)
    trial.emulators.clear_faults()


def killed(trial: Trial) -> None:
    trial.wait_for_updates_held()
    trial.subject.kill()
    trial.emulators.release_gate("held")
    trial.subject.start()


def killed_with_a_late_commit(trial: Trial) -> None:
    trial.wait_for_updates_held()
    trial.subject.kill()
    trial.restart_until_first_request()
    trial.watch(1)
    trial.emulators.release_gate("held")


def console_edit(trial: Trial, **body: Any) -> None:
    for wish in trial.wishes.values():
        trial.emulators.foreign_write("friendli", wish.endpoint_id, body)


def console_edit_in_between(trial: Trial) -> None:
    trial.wait_for_updates_held()
    advanced = trial.wish("r0").body()["advanced"]
    console_edit(trial, advanced=advanced | {"max_batch_size": 32})
    trial.emulators.release_gate("held")


def more_replicas_by_console(trial: Trial) -> None:
    console_edit(trial, autoscalingPolicy={"minReplica": 0, "maxReplica": 7, "cooldownPeriod": 300})


def deleted(trial: Trial) -> None:
    trial.wait_for_updates_held()
    for name in trial.wishes:
        trial.subject.delete(name)
    trial.watch(0.5)
    trial.emulators.release_gate("held")


def claimed_twice(trial: Trial) -> None:
    for name, wish in trial.wishes.items():
        trial.rivals[f"{name}-rival"] = replace(wish, replicas=5)
    for name, wish in trial.rivals.items():
        trial.subject.apply(name, wish)


_HTML = {"status": 200, "body": "<!doctype html><title>Sign in</title>", "headers": {"Content-Type": "text/html"}}
_429 = {"status": 429, "headers": {"Retry-After": f"{RETRY_AFTER_SECONDS:g}"}}

ORDEALS: Final = (
    Ordeal(name="rest", title="Nothing happens", change=None, versions=0),
    Ordeal(name="change", title="A change, nothing goes wrong"),
    Ordeal(name="model", title="A change of only the model, which cannot be read back", change=other_model),
    Ordeal(
        name="comment",
        title="A change of only the version comment",
        change=other_comment,
    ),
    Ordeal(name="reset-after", title="Connection reset after the commit", before=on_update(delivery="reset")),
    Ordeal(
        name="reset-before",
        title="Connection reset before the commit",
        before=on_update(commit="never", delivery="reset"),
    ),
    Ordeal(name="502-after", title="502 after the commit", before=on_update(status=502)),
    Ordeal(name="unreadable-answer", title="200 with an HTML page after the commit", before=on_update(**_HTML)),
    Ordeal(
        name="late-reset",
        title="Connection reset, the commit lands 2 s later",
        before=on_update(commit="late", late_seconds=AFTER_SECONDS, delivery="reset"),
    ),
    Ordeal(
        name="late-time-out",
        title="Time-out, the commit lands 2 s later",
        before=on_update(commit="late", late_seconds=TIMEOUT_SECONDS + AFTER_SECONDS, delivery="stall"),
    ),
    Ordeal(
        name="too-late",
        title="Connection reset, the commit lands 8 s later: longer than the settle time",
        before=on_update(commit="late", late_seconds=8.0, delivery="reset"),
        beyond=True,
    ),
    Ordeal(name="short-lag", title="Reads lag by a quarter of a poll", before=partial(lagging, 0.5)),
    Ordeal(name="lag", title="Reads lag by a little more than a poll", before=partial(lagging, 2.5)),
    Ordeal(
        name="lag-and-reset", title="Reads lag by a poll, connection reset after the commit", before=lagging_and_lost
    ),
    Ordeal(
        name="kill",
        title="Killed (`kill -9`) at the commit, restarted",
        before=on_update(gate_after="held"),
        meanwhile=killed,
        together=True,
    ),
    Ordeal(
        name="late-kill",
        title="Killed, restarted, the commit lands after that",
        before=on_update(gate_before="held"),
        meanwhile=killed_with_a_late_commit,
        together=True,
    ),
    Ordeal(name="two-copies", title="Two copies at once, no election", copies=2),
    Ordeal(
        name="two-copies-reset",
        title="Two copies at once, connection reset after the commit",
        before=on_update(delivery="reset"),
        copies=2,
    ),
    Ordeal(
        name="reads-429",
        title="Reads answered with 429 for 10 s, nothing changes",
        change=None,
        versions=0,
        before=on_reads(**_429),
        meanwhile=partial(lifted, UNREADABLE_SECONDS),
        retry_after=RETRY_AFTER_SECONDS,
    ),
    Ordeal(
        name="reads-500",
        title="Reads answered with 500 for 10 s, nothing changes",
        change=None,
        versions=0,
        before=on_reads(status=500),
        meanwhile=partial(lifted, UNREADABLE_SECONDS),
    ),
    Ordeal(
        name="reads-500-change",
        title="Reads answered with 500 for 10 s, a change meanwhile",
        before=on_reads(status=500),
        meanwhile=partial(lifted, UNREADABLE_SECONDS),
    ),
    Ordeal(
        name="reads-html-change",
        title="Reads answered with an HTML page for 10 s, a change meanwhile",
        before=on_reads(**_HTML),
        meanwhile=partial(lifted, UNREADABLE_SECONDS),
    ),
    Ordeal(
        name="reads-cut-change",
        title="Reads cut off in the body for 10 s, a change meanwhile",
        before=on_reads(delivery="truncate", size=20),
        meanwhile=partial(lifted, UNREADABLE_SECONDS),
    ),
    Ordeal(
        name="refused",
        title="The change is refused with 422",
        before=on_update(status=422, commit="never", count=None),
        versions=0,
        end=End.REFUSED,
    ),
    Ordeal(
        name="clamped",
        title="The provider keeps a smaller value than asked for",
        change=too_many_replicas,
        before=clamping,
        end=End.REFUSED,
    ),
    Ordeal(
        name="throttled",
        title="Updates answered with 429, Retry-After 8 s, for that long",
        before=on_all(operation="update", commit="never", **_429),
        meanwhile=partial(lifted, RETRY_AFTER_SECONDS),
        retry_after=RETRY_AFTER_SECONDS,
    ),
    Ordeal(
        name="foreign-between",
        title="Somebody else's version just before ours, connection reset after the commit",
        before=on_update(gate_before="held", delivery="reset"),
        meanwhile=console_edit_in_between,
        together=True,
    ),
    Ordeal(
        name="console",
        title="Somebody else changes a value at rest; to be undone",
        change=None,
        meanwhile=more_replicas_by_console,
        correct=True,
    ),
    Ordeal(
        name="deleted",
        title="Deleted while the update is on its way",
        before=on_update(gate_before="held"),
        meanwhile=deleted,
        end=End.GONE,
        together=True,
    ),
    Ordeal(
        name="rivals",
        title="A second resource claims the same endpoint with another value",
        change=None,
        versions=0,
        meanwhile=claimed_twice,
    ),
)
"""Every row, in the order of the table."""
