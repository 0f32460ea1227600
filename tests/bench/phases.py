"""What subjects are put through, one phase after the other, in front of the one observer."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bench.contestants import Ours
from bench.editing import Made, carry_out, evenly, ramp, together
from bench.observer import Claims, Writes, model_of, update_of, wait_until
from bench.vitals import pin
from faults.peers.subject import Subject
from faults.peers.wish import Wish
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.ledger import Entry

SINGLE_EDITS: Final = 15
GAP_SECONDS: Final = 0.3
"""Between single edits: more than any subject needs for one, so that none waits for another."""

PATIENCE_SECONDS: Final = 120.0
TRAIL_SECONDS: Final = 1.0
"""How long after the last claim what else comes is counted."""

SLOW_MEDIAN_SECONDS: Final = 0.15
SLOW_SPREAD: Final = 0.8
"""Of the logarithm: one call in a hundred takes a second."""

RAMP: Final = (5.0, 150.0, 20.0)
"""Edits per second at the beginning and at the end, and seconds between."""

REST_SECONDS: Final = 65.0
"""A little more than the minute after which everybody who looks has looked once."""

BURST_OF_SHARDS: Final = 3000


@dataclass
class Stage:
    """A subject at work, in sync and at rest, and those who watch it.

    Attributes:
        subject: Who.
        wishes: What each resource asks for now.
        writes: Counts its Kubernetes writes.
        draw: The same numbers for every subject of a block.
    """

    subject: Subject
    wishes: dict[str, Wish]
    writes: Writes
    draw: random.Random

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return [process.popen.pid for process in self.subject.rig.processes if process.popen.poll() is None]

    def reset(self) -> None:
        """Forget what was counted."""
        self.subject.rig.emulators.reset_ledger()
        self.writes.reset()

    def all_claim(self) -> bool:
        """Whether every resource claims its newest generation."""
        found = self.subject.resources()
        return all(name in found and found[name].get("status") is not None for name in self.wishes) and all(
            self.subject.claims(resource) for resource in found.values()
        )


@dataclass(frozen=True)
class Outcome:
    """What a phase has seen.

    Attributes:
        changes: How many edits were made.
        samples: Values by name.
        counts: Counts by name.
    """

    changes: int
    samples: Mapping[str, Sequence[float]]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Phase:
    """One thing that subjects are put through.

    Attributes:
        name: By which the command line and the results know it.
        title: For readers, with a place for the number of resources.
        resources: How many resources each subject has.
        run: Does it; begins after `Stage.reset`.
        only: The subjects that it is for; empty for all.
    """

    name: str
    title: str
    resources: int
    run: Callable[[Stage], Outcome]
    only: frozenset[str] = frozenset()


def _edited(stage: Stage, edits: Sequence[Any]) -> Outcome:
    """Make edits, wait until everything has come of them that will, and measure."""
    with Claims(stage.subject) as claims:
        made = carry_out(stage.subject, edits)
        stage.wishes |= {each.edit.name: each.edit.wish for each in made}
        emulators, newest = stage.subject.rig.emulators, {each.edit.name: each for each in made}
        wait_until(lambda: emulators.ledger_counts()["mutations"] >= len(newest), PATIENCE_SECONDS)
        wait_until(lambda: _are_sent(stage, list(newest.values())), PATIENCE_SECONDS)
        wait_until(stage.all_claim, PATIENCE_SECONDS)
        time.sleep(TRAIL_SECONDS)
        seen = dict(claims.seen)
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
    samples: dict[str, list[float]] = {name: [] for name in ("planned", "request", "synced", "late")}
    begin = min(each.planned for each in made)
    before = unserved = 0
    for each in made:
        wish = each.edit.wish
        entries = by_endpoint.get(wish.endpoint_id, [])
        samples["late"].append(each.sent - each.planned)
        update = update_of(entries, wish.endpoint_id, wish.model)
        if update is None:
            unserved += 1
            continue
        samples["planned"].append(each.planned - begin)
        samples["request"].append(update.at - each.planned)
        before += sum(each.planned <= entry.at <= update.at for entry in entries if entry.kind == "reads")
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


def shards(stage: Stage) -> Outcome:
    """Many of very many at once."""
    return _edited(stage, together(stage.wishes, min(BURST_OF_SHARDS, len(stage.wishes)), stage.draw))


def sustained(stage: Stage) -> Outcome:
    """More and more edits per second, the subject on one core."""
    pin(stage.pids, 0)
    return _edited(stage, ramp(stage.wishes, *RAMP, stage.draw))


def slow(stage: Stage) -> Outcome:
    """Single edits at a provider that takes its time, the same for every subject, with a heavy tail."""
    edits = evenly(stage.wishes, min(SINGLE_EDITS, len(stage.wishes)), 4 * GAP_SECONDS, stage.draw)
    for each in edits:
        seconds = SLOW_MEDIAN_SECONDS * stage.draw.lognormvariate(0, SLOW_SPREAD)
        fault = Fault(provider="friendli", endpoint_id=each.wish.endpoint_id, delay_before=seconds, count=None)
        stage.subject.rig.emulators.add_fault(fault)
    try:
        return _edited(stage, edits)
    finally:
        stage.subject.rig.emulators.clear_faults()


def stuck(stage: Stage) -> Outcome:
    """Single edits, alone and then beside an endpoint whose calls never end and that is edited as well."""
    names = sorted(stage.wishes)
    victim, rest = names[0], {name: stage.wishes[name] for name in names[1:]}
    alone = _edited(stage, evenly(rest, SINGLE_EDITS, GAP_SECONDS, stage.draw))
    endpoint_id = stage.wishes[victim].endpoint_id
    stage.subject.rig.emulators.add_fault(Fault(endpoint_id=endpoint_id, delivery="stall", count=None))
    try:
        carry_out(stage.subject, together({victim: stage.wishes[victim]}, 1, stage.draw))
        rest = {name: stage.wishes[name] for name in names[1:]}
        made = carry_out(stage.subject, evenly(rest, SINGLE_EDITS, GAP_SECONDS, stage.draw))
        wait_until(lambda: _are_sent(stage, made), PATIENCE_SECONDS)
    finally:
        stage.subject.rig.emulators.clear_faults()
    beside = measured(made, stage.subject.rig.emulators.ledger(), {}, {})
    return Outcome(beside.changes, {**beside.samples, "alone": alone.samples["request"]}, {})


def rest(stage: Stage) -> Outcome:
    """Nothing happens for a little more than a poll."""
    began = time.monotonic()
    time.sleep(REST_SECONDS)
    ledger = [entry for entry in stage.subject.rig.emulators.ledger() if entry.at >= began]
    per_second = Counter(int(entry.at - began) for entry in ledger)
    counts = {
        "mutations": sum(entry.mutates for entry in ledger),
        "reads": sum(entry.kind == "reads" for entry in ledger),
        **stage.writes.count(stage.subject.plural),
    }
    return Outcome(0, {"calls": [float(per_second[second]) for second in range(int(REST_SECONDS))]}, counts)


def cold(stage: Stage) -> Outcome:
    """The process is killed and started anew, with everything in sync."""
    subject = stage.subject
    subject.kill()
    subject.rig.processes.clear()
    stage.reset()
    began, wall = time.monotonic(), time.time()
    subject.start()
    samples: dict[str, list[float]] = {}
    if isinstance(subject, Ours):
        process = subject.rig.processes[-1]
        if wait_until(lambda: process._address() is not None and subject.rig.is_working(process), PATIENCE_SECONDS):
            samples["ready"] = [time.monotonic() - began]
    emulators = subject.rig.emulators
    wanted = {wish.endpoint_id for wish in stage.wishes.values()}
    wait_until(lambda: wanted <= {entry.endpoint_id for entry in emulators.ledger()}, REST_SECONDS)
    first: dict[str, float] = {}
    for entry in emulators.ledger():
        first.setdefault(entry.endpoint_id or "", entry.at - began)
    written = stage.writes.count(subject.plural)
    listed = _listed(stage, wall)
    samples |= {"looked": sorted(first.values()), "listed": [listed] if listed is not None else []}
    counts = {
        "mutations": sum(entry.mutates for entry in emulators.ledger()),
        "reads": sum(entry.kind == "reads" for entry in emulators.ledger()),
        "unseen": len(wanted - first.keys()),
    }
    return Outcome(0, samples, {**counts, **written})


def _listed(stage: Stage, since: float) -> float | None:
    """Seconds after a time (of the epoch) until the subject's first list of its resources was answered."""
    for event in stage.writes.seen:
        if event["verb"] == "list" and event.get("objectRef", {}).get("resource") == stage.subject.plural:
            at = datetime.fromisoformat(event["stageTimestamp"]).timestamp()
            if event["user"]["username"] == "operator" and at >= since:
                return at - since
    return None


PHASES: Final[Mapping[str, Phase]] = {
    each.name: each
    for each in (
        Phase("edit", "One edit among {:,}, provider without delay", 300, edit),
        Phase("slow", "One edit among {:,}, provider with 150 ms and a heavy tail", 300, slow),
        Phase("burst", "{:,} edits at once", 300, burst),
        Phase("rest", "{:,} at rest", 300, rest),
        Phase("sustained", "More and more edits per second of {:,}, on one core", 300, sustained),
        Phase("edit-10", "One edit among {:,}", 10, edit),
        Phase("edit-5000", "One edit among {:,}", 5000, edit),
        Phase("cold", "A start with {:,} in sync", 1000, cold),
        Phase("stuck", "One endpoint of {:,} never answers", 1000, stuck),
        Phase("shards", "Thousands of edits at once among {:,}", 10_000, shards, frozenset({"ours", "ours-3"})),
    )
}
"""Everything by name, in the order in which it is done and shown."""

USUAL: Final = ("edit", "slow", "burst", "rest")
