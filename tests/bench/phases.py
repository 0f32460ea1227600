"""What subjects are put through, one phase after the other, in front of the one observer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from bench import resting
from bench.contestants import SHARD, SHARDS, SUBJECTS, OursInShards
from bench.editing import Edit, Made, Ramp, carry_out, climbing, evenly, together
from bench.observer import claims, model_of, update_of, wait_until
from bench.quota import check, limited
from bench.stage import PATIENCE_SECONDS, Outcome, Stage
from bench.statistics import percentile
from bench.vitals import pin
from faults.peers.wish import Wish
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.ledger import Entry

SINGLE_EDITS: Final = 25
GAP_SECONDS: Final = 0.2
"""Between single edits: more than any subject needs for one, so that none waits for another."""

TRAIL_SECONDS: Final = 1.0
"""How long after the last claim what else comes is counted."""

SLOW_EDITS: Final = 15
SLOW_GAP_SECONDS: Final = 0.8
STUCK_EDITS: Final = 200
"""So many that the p99 is not the slowest one, which is a matter of chance."""

STUCK_GAP_SECONDS: Final = 0.1
"""Still more than any subject needs for one; twice as many seconds would make a block twice as long."""

SLOW_MEDIAN_SECONDS: Final = 0.15
SLOW_SPREAD: Final = 0.8
"""Of the logarithm: one call in a hundred takes a second."""

RAMP: Final = Ramp(slowest=10.0, fastest=400.0, seconds=30.0)
"""Its end is beyond what SAFE can do, and each resource has its next turn so late that nobody can skip edits and still
seem to be in time."""

KEPT_OF_RAMP: Final = 10
"""Of so many samples one is kept: all of them would be megabytes, and a tenth tells the moment of overload as well."""


BURST_OF_SHARDS: Final = 3000

CORES_OF_SHARD: Final = 0.2
"""What a process of `shards` may use, as by a container's limit. A machine of a few cores then has enough for three
processes, the API server, the provider and the observer together."""

OVERLOADED_SECONDS: Final = 30.0
"""How long those are waited for that the ramp has overloaded: a bare loop may never claim the newest generation."""

MOVED_EDITS: Final = 400
MOVED_GAP_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Phase:
    """One thing that subjects are put through.

    Attributes:
        name: By which the command line and the results know it.
        title: For readers, with a place for the number of resources.
        resources: How many resources each subject has.
        run: Does it; begins after `Stage.reset`.
        only: The subjects that it is for; empty for all.
        shipped: With endpoints of every kind on one account, and with the limits that subjects ship.
        control: The figure by which FLOOR must agree with itself, or times of this phase say nothing; None where
            nobody edits anything, so that FLOOR does nothing.
        prepare: What everybody goes through first; counts for nothing, and draws what `run` will draw.
        settling: Seconds of rest before it begins.
        stands: Everybody stays at work from block to block. Not for what counts all that is asked of a provider, nor
            for what leaves a subject in another state than it was.
        check: Raises `NoControlGroupsError` where the phase cannot be done; None for what can be done anywhere.
    """

    name: str
    title: str
    resources: int
    run: Callable[[Stage], Outcome]
    only: frozenset[str] = frozenset()
    shipped: bool = False
    control: str | None = None
    prepare: Callable[[Stage], None] | None = None
    settling: float = 0.0
    stands: bool = False
    check: Callable[[], None] | None = None

    def is_for(self, subject: str) -> bool:
        """Whether a subject takes part."""
        return not self.only or subject in self.only


def _edited(stage: Stage, edits: Sequence[Edit], patience: float = PATIENCE_SECONDS) -> Outcome:
    """Make edits, wait until everything has come of them that will, and measure."""
    with claims(stage.subject) as claimed:
        made = carry_out(stage.subject, edits)
        stage.wishes |= {each.edit.name: each.edit.wish for each in made}
        emulators, newest = stage.subject.rig.emulators, {each.edit.name: each for each in made}
        end = time.monotonic() + patience
        for over in (
            lambda: emulators.ledger_counts()["mutations"] >= len(newest),
            lambda: _are_sent(stage, list(newest.values())),
            stage.all_claim,
        ):
            wait_until(over, end - time.monotonic())
        time.sleep(TRAIL_SECONDS)
        seen = dict(claimed.seen)
    return measured(made, emulators.ledger(), seen, stage.writes.count(stage.subject.plural))


def _are_sent(stage: Stage, made: Sequence[Made]) -> bool:
    entries = stage.subject.rig.emulators.mutations()
    sent = {(entry.endpoint_id, model_of(entry)) for entry in entries}
    return sent >= {(each.edit.wish.endpoint_id, each.edit.wish.model) for each in made}


def measured(
    made: Sequence[Made], ledger: Sequence[Entry], claimed: Mapping[tuple[str, int], float], written: Mapping[str, int]
) -> Outcome:
    """Samples and counts of edits, from what the provider, the API server and its watch have seen."""
    by_endpoint: dict[str, list[Entry]] = {}
    for entry in ledger:
        by_endpoint.setdefault(entry.endpoint_id or "", []).append(entry)
    samples: dict[str, list[float]] = {name: [] for name in ("planned", "request", "synced")}
    samples["served"] = [each.answered - each.sent for each in made]
    samples["late"] = [percentile([each.sent - each.planned for each in made], 0.99)]
    begin = min(each.planned for each in made)
    before = unserved = 0
    for each in made:
        wish = each.edit.wish
        entries = by_endpoint.get(wish.endpoint_id, [])
        update = update_of(entries, wish.endpoint_id, wish.model)
        if update is None:
            unserved += 1
            continue
        samples["planned"].append(each.planned - begin)
        samples["request"].append(update.at - each.planned)
        before += sum(each.sent <= entry.at <= update.at for entry in entries if entry.kind == "reads")
        moments = [at for (name, number), at in claimed.items() if name == each.edit.name and number >= each.generation]
        samples["synced"] += [at - each.planned for at in sorted(moments)[:1] if at >= update.at]
    concerned = [entry for each in {made.edit.wish.endpoint_id for made in made} for entry in by_endpoint.get(each, ())]
    counts = {
        "unserved": unserved,
        "mutations": sum(entry.mutates for entry in concerned),
        "reads": sum(entry.kind == "reads" for entry in concerned),
        "reads_before": before,
        **written,
    }
    return Outcome(len(made), samples, counts)


def edit(stage: Stage) -> Outcome:
    """Single edits with idle resources beside them."""
    count = min(SINGLE_EDITS, len(stage.wishes))
    return _edited(stage, evenly(stage.wishes, count, GAP_SECONDS, stage.draw))


def burst(stage: Stage) -> Outcome:
    """All resources at once."""
    return _edited(stage, together(stage.wishes, len(stage.wishes), stage.draw))


def first_of_shards(stage: Stage) -> None:
    """The first change of those that `shards` edits, before which every resource asks who else names its endpoint."""
    _edited(stage, _many(stage))


def shards(stage: Stage) -> Outcome:
    """Many of very many at once, each process held to a part of a core."""
    with limited(stage.pids, CORES_OF_SHARD):
        return _edited(stage, _many(stage))


def _many(stage: Stage) -> list[Edit]:
    return together(stage.wishes, min(BURST_OF_SHARDS, len(stage.wishes)), stage.draw)


def moving(stage: Stage) -> Outcome:
    """Edits go on while resources change from shard to shard, and while a shard ends and comes back."""
    edits = evenly(stage.wishes, min(MOVED_EDITS, len(stage.wishes)), MOVED_GAP_SECONDS, stage.draw)
    moves = [(name, stage.draw.randrange(SHARDS)) for name in stage.draw.sample(sorted(stage.wishes), len(edits))]
    with ThreadPoolExecutor(1) as pool:
        disturbance = pool.submit(_move, stage, moves)
        found = _edited(stage, edits)
        disturbance.result()
    sent = Counter((entry.endpoint_id, model_of(entry)) for entry in stage.subject.rig.emulators.mutations())
    unclaimed = sum(not stage.subject.claims(resource) for resource in stage.subject.resources().values())
    twice = sum(number > 1 for number in sent.values())
    return replace(found, counts={**found.counts, "twice": twice, "unclaimed": unclaimed})


def _move(stage: Stage, moves: Sequence[tuple[str, int]]) -> None:
    """Give resources other labels; a shard is away for the middle third of the moves."""
    subject, headers = stage.subject, {"Content-Type": "application/merge-patch+json"}
    if not isinstance(subject, OursInShards):
        raise TypeError(f"{subject.profile.title} has no shards")
    for number, (name, shard) in enumerate(moves):
        time.sleep(MOVED_GAP_SECONDS)
        if number == len(moves) // 3:
            subject.rig.processes[0].terminate()
        if number == 2 * len(moves) // 3:
            subject.start_shard(0)
        labels = {"metadata": {"labels": {SHARD: str(shard)}}}
        subject.rig.editor.patch(f"{subject.path}/{name}", headers=headers, json=labels).raise_for_status()


def sustained(stage: Stage) -> Outcome:
    """More and more edits per second, the subject on one core."""
    pin(stage.pids, 0)
    found = _edited(stage, climbing(stage.wishes, RAMP, stage.draw), OVERLOADED_SECONDS)
    return replace(found, samples={name: values[::KEPT_OF_RAMP] for name, values in found.samples.items()})


def slow(stage: Stage) -> Outcome:
    """Single edits at a provider that takes its time, the same for every subject, with a heavy tail."""
    edits = evenly(stage.wishes, min(SLOW_EDITS, len(stage.wishes)), SLOW_GAP_SECONDS, stage.draw)
    for each in edits:
        seconds = SLOW_MEDIAN_SECONDS * stage.draw.lognormvariate(0, SLOW_SPREAD)
        fault = Fault(
            provider=stage.subject.provider, endpoint_id=each.wish.endpoint_id, delay_before=seconds, count=None
        )
        stage.subject.rig.emulators.add_fault(fault)
    try:
        return _edited(stage, edits)
    finally:
        stage.subject.rig.emulators.clear_faults()


def _edits_of_stuck(stage: Stage, wishes: Mapping[str, Wish]) -> list[Edit]:
    return evenly(wishes, min(STUCK_EDITS, len(wishes)), STUCK_GAP_SECONDS, stage.draw)


def stuck(stage: Stage) -> Outcome:
    """Single edits, alone and then beside an endpoint whose calls never end and that is edited as well."""
    names = sorted(stage.wishes)
    victim, rest = names[0], {name: stage.wishes[name] for name in names[1:]}
    alone = _edited(stage, _edits_of_stuck(stage, rest))
    endpoint_id = stage.wishes[victim].endpoint_id
    stage.subject.rig.emulators.add_fault(Fault(endpoint_id=endpoint_id, delivery="stall", count=None))
    try:
        carry_out(stage.subject, together({victim: stage.wishes[victim]}, 1, stage.draw))
        rest = {name: stage.wishes[name] for name in names[1:]}
        made = carry_out(stage.subject, _edits_of_stuck(stage, rest))
        wait_until(lambda: _are_sent(stage, made), PATIENCE_SECONDS)
    finally:
        stage.subject.rig.emulators.clear_faults()
    beside = measured(made, stage.subject.rig.emulators.ledger(), {}, {})
    return Outcome(beside.changes, {**beside.samples, "alone": alone.samples["request"]}, {})


_OURS: Final = frozenset({"ours", "ours-novita"})
_LOOKING: Final = _OURS | {"peer-d", "peer-d100", "peer-c", "peer-c100", "peer-b", "peer-b10"}
_SHARDED: Final = frozenset({"ours", "ours-3"})
_FRIENDLI: Final = frozenset(SUBJECTS) - {"ours-novita"}

PHASES: Final[Mapping[str, Phase]] = {
    each.name: each
    for each in (
        Phase("edit", "One edit among {:,}, provider without delay", 300, edit, control="request", stands=True),
        Phase(
            "slow",
            "One edit among {:,}, provider with 150 ms and a heavy tail",
            300,
            slow,
            control="synced",
            stands=True,
        ),
        Phase("burst", "{:,} edits at once", 300, burst, control="request", stands=True),
        Phase("rest", "{:,} at rest", 300, resting.rest, settling=resting.SETTLING_SECONDS),
        Phase(
            "sustained",
            "More and more edits per second of {:,}, on one core",
            1000,
            sustained,
            only=_FRIENDLI,
            control="sustained",
        ),
        Phase("edit-10", "One edit among {:,}", 10, edit, only=_FRIENDLI, control="request", stands=True),
        Phase("edit-5000", "One edit among {:,}", 5000, edit, only=_FRIENDLI, control="request", stands=True),
        Phase(
            "polled",
            "{:,} looked at every minute",
            5000,
            resting.polled,
            only=_LOOKING,
            settling=resting.SETTLING_SECONDS,
        ),
        Phase(
            "account",
            "{:,} at rest on one account",
            1000,
            resting.account,
            only=_LOOKING,
            shipped=True,
            settling=resting.SETTLING_SECONDS,
        ),
        Phase(
            "console",
            "Changes by others among {:,}",
            1000,
            resting.console,
            only=_LOOKING,
            shipped=True,
            settling=resting.SETTLING_SECONDS,
        ),
        Phase("cold", "A start with {:,} in sync", 1000, resting.cold),
        Phase("stuck", "One endpoint of {:,} never answers", 1000, stuck, only=_FRIENDLI, control="request"),
        Phase("moving", "Edits while shards of {:,} change", 10_000, moving, only=frozenset({"ours-3"})),
        Phase(
            "shards",
            f"Thousands of edits at once among {{:,}}, {CORES_OF_SHARD} cores a process",
            10_000,
            shards,
            only=_SHARDED,
            prepare=first_of_shards,
            stands=True,
            check=check,
        ),
    )
}
"""Everything by name, in the order in which it is done and shown."""

USUAL: Final = ("edit", "slow", "burst")
