"""What subjects do while nobody edits their resources: at rest, after a start, and when others change an endpoint."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from bench.contestants import Ours, looks
from bench.editing import Kind
from bench.observer import Watched, wait_until
from bench.stage import PATIENCE_SECONDS, Outcome, Stage
from inference_operator.playground.emulators.ledger import Entry

SETTLING_SECONDS: Final = 180.0
"""Three minutes after edits or a start everybody does at rest what it always does: lists have been read twice."""

LIMITED_SECONDS: Final = 420.0
"""How much longer that takes with the calls that this operator ships: what comes of the first looks at a thousand
endpoints is over as long after the last one as they took."""

REST_SECONDS: Final = 65.0
"""A little more than the minute after which everybody who looks has looked once."""

POLLED_SECONDS: Final = 130.0
"""Two of these minutes."""

ACCOUNT_SECONDS: Final = 730.0
"""A dozen polls. What is read less often than that is spread evenly over the fleet, so that its share falls in here."""

COLD_SECONDS: Final = 65.0
"""How long a subject that looks at its endpoints may take to look at all of them after a start."""

CONFIGURATION: Final = "configuration"
STATE: Final = "state"

CONSOLE_SECONDS: Final = 60.0
"""Over which the changes by others are spread: everybody's poll."""

CONSOLE_EDITS: Final = 10
"""Of each kind of endpoint, and of each kind of change."""

_QUIET_SECONDS: Final = 3.0
_SHOWS_CONFIGURATION: Final = {"friendli": frozenset({"get_spec"}), "novita": frozenset({"get", "list"})}
_SHOWS_STATE: Final = {
    "friendli": frozenset({"get_status", "get_spec", "list"}),  # the specification shows the counts of replicas
    "novita": frozenset({"get", "list"}),
}


def rest(stage: Stage) -> Outcome:
    """Nothing happens for a little more than a poll."""
    return watched(stage, REST_SECONDS)


def polled(stage: Stage) -> Outcome:
    """Nothing happens for two polls."""
    return watched(stage, POLLED_SECONDS)


def account(stage: Stage) -> Outcome:
    """Nothing happens until everybody has also done what it does least often."""
    return watched(stage, ACCOUNT_SECONDS)


def watched(stage: Stage, seconds: float) -> Outcome:
    """Watch a subject at rest."""
    seconds = stage.watched or seconds
    began = time.monotonic()
    time.sleep(seconds)
    ledger = [entry for entry in stage.subject.rig.emulators.ledger() if entry.at >= began]
    per_second = Counter(int(entry.at - began) for entry in ledger)
    samples = {"calls": [float(per_second[second]) for second in range(int(seconds))]}
    kinds = {stage.wishes[name].endpoint_id: kind for name, kind in stage.kinds.items()}
    return Outcome(0, samples, {**asked(ledger, kinds), **stage.writes.count(stage.subject.plural)})


def asked(ledger: Sequence[Entry], kinds: Mapping[str, Kind]) -> dict[str, int]:
    """What was asked of the provider: updates, reads by operation, and reads of single endpoints by their kind."""
    reads = [entry for entry in ledger if entry.kind == "reads"]
    singles = Counter(kind for entry in reads if (kind := kinds.get(entry.endpoint_id or "")) is not None)
    existing = Counter(kinds.values())
    operations = Counter(entry.operation for entry in reads)
    return {
        "mutations": sum(entry.mutates for entry in ledger),
        "reads": len(reads),
        "lists": operations["list"],
        **{f"asked_{operation}": number for operation, number in operations.items()},
        **{f"reads_{kind}": singles[kind] for kind in existing},
        **{f"with_{kind}": number for kind, number in existing.items()},
    }


@dataclass(frozen=True)
class ConsoleEdit:
    """A change that others made.

    Attributes:
        at: When, monotonic.
        name: The resource of the endpoint.
        endpoint_id: The endpoint.
        place: Its place in the account's lists, from 0.
        kind: Its kind.
        what: `configuration` or `state`.
        reading: The operations of the provider that show it.
        before: What the status told before.
    """

    at: float
    name: str
    endpoint_id: str
    place: int
    kind: Kind
    what: str
    reading: frozenset[str]
    before: Told

    def read_at(self, ledger: Sequence[Entry], places: Mapping[str, int]) -> float | None:
        """When the subject first asked for it, or for a page of a list that shows it.

        Args:
            ledger: What was asked of the provider.
            places: Of all endpoints in the account's lists, by id.
        """
        moments = (
            entry.at
            for entry in ledger
            if entry.kind == "reads"
            and entry.operation in self.reading
            and (entry.endpoint_id == self.endpoint_id or self.place in _listed_places(entry, places))
        )
        return next((at for at in moments if at >= self.at), None)

    def shown_at(self, told: Mapping[Told, float]) -> float | None:
        """When the status first told it."""
        moments = (at for found, at in told.items() if self._is_told_by(found) and at >= self.at)
        return min(moments, default=None)

    def _is_told_by(self, found: Told) -> bool:
        if found.name != self.name:
            return False
        return found.drifted if self.what == CONFIGURATION else found.state != self.before.state


def _listed_places(entry: Entry, places: Mapping[str, int]) -> range:
    """What one page of a list shows; the emulator's cursors name the last endpoint of the page before."""
    query = dict(parse_qsl(urlsplit(entry.path).query))
    if entry.operation != "list":
        return range(0)
    if "pageNum" in query:
        size = int(query["pageSize"])
        return range(int(query["pageNum"]) * size, (int(query["pageNum"]) + 1) * size)
    cursor = base64.urlsafe_b64decode(query.get("cursor", "")).decode()
    begin = places[cursor] + 1 if cursor else 0
    return range(begin, begin + int(query["limit"]))


class Told(NamedTuple):
    """What a status tells of an endpoint.

    Attributes:
        name: The resource.
        drifted: Whether its configuration is another than asked for.
        state: Its state and how many replicas it has.
    """

    name: str
    drifted: bool
    state: tuple[str | None, int | None]


def told_by(resource: Mapping[str, Any]) -> Told:
    """What this operator's status tells; the other subjects' tell neither."""
    status = resource.get("status", {})
    state = status.get("state"), status.get("currReplicaCnt")
    return Told(resource["metadata"]["name"], bool(status.get("drift")), state)


def console(stage: Stage) -> Outcome:
    """Others change the configuration of some endpoints, and only the state of others, at the provider's console."""
    subject = stage.subject
    before = {name: told_by(found) for name, found in subject.resources().items()}
    places = {wish.endpoint_id: place for place, wish in enumerate(stage.wishes.values())}
    with Watched(subject, lambda found: [told_by(found)]) as told:
        edits = []
        for pause, name, what in _chosen(stage):
            time.sleep(pause)
            edits.append(_changed_by_others(stage, what, before[name], places))

        def unseen() -> list[ConsoleEdit]:
            ledger = subject.rig.emulators.ledger()
            missing = [edit for edit in edits if edit.read_at(ledger, places) is None]
            return missing + [
                edit for edit in edits if isinstance(subject, Ours) and edit.shown_at(dict(told.seen)) is None
            ]

        wait_until(lambda: not unseen(), stage.watched or ACCOUNT_SECONDS)
        late = {edit.name for edit in unseen()}
    ledger = subject.rig.emulators.ledger()
    samples: dict[str, list[float]] = {}
    for edit in edits:
        for name, at in (("read", edit.read_at(ledger, places)), ("shown", edit.shown_at(told.seen))):
            if at is not None:
                samples.setdefault(f"{name}_{edit.what}_{edit.kind}", []).append(at - edit.at)
    return Outcome(0, samples, {"console": len(edits), "unseen": len(late)})


def _chosen(stage: Stage) -> Iterator[tuple[float, str, str]]:
    """What is changed: after how long a pause, of which resource, and what of it. All within one poll."""
    chosen: list[tuple[str, str]] = []
    for kind in Kind:
        names = sorted(name for name, found in stage.kinds.items() if found is kind)
        count = min(CONSOLE_EDITS, len(names) // 2)
        drawn = stage.draw.sample(names, 2 * count)
        chosen += [(name, CONFIGURATION if place < count else STATE) for place, name in enumerate(drawn)]
    stage.draw.shuffle(chosen)
    moments = sorted(stage.draw.uniform(0, CONSOLE_SECONDS) for _ in chosen)
    for begin, end, (name, what) in zip([0.0, *moments], moments, chosen, strict=False):
        yield end - begin, name, what


def _changed_by_others(stage: Stage, what: str, before: Told, places: Mapping[str, int]) -> ConsoleEdit:
    """Change an endpoint past the subject: one replica more at most, or asleep or awake where it was the other."""
    provider, emulators = stage.subject.provider, stage.subject.rig.emulators
    name = before.name
    wish, kind = stage.wishes[name], stage.kinds[name]
    at = time.monotonic()
    if what == CONFIGURATION and provider == "friendli":
        emulators.foreign_write(provider, wish.endpoint_id, replace(wish, replicas=wish.replicas + 1).body())
    elif what == CONFIGURATION:
        config = emulators.get_endpoint(provider, wish.endpoint_id)["config"]
        worker = {**config["workerConfig"], "maxNum": wish.replicas + 1}
        emulators.foreign_write(provider, wish.endpoint_id, {**config, "workerConfig": worker})
    elif provider == "friendli":
        operation = "wake" if kind is Kind.ASLEEP else "sleep"
        emulators.foreign_write(provider, wish.endpoint_id, operation=operation)
    else:
        emulators.set_endpoint(provider, wish.endpoint_id, replicas=1 if kind is Kind.ASLEEP else wish.least - 1)
    reading = (_SHOWS_CONFIGURATION if what == CONFIGURATION else _SHOWS_STATE)[provider]
    return ConsoleEdit(at, name, wish.endpoint_id, places[wish.endpoint_id], kind, what, reading, before)


def cold(stage: Stage) -> Outcome:
    """The process is killed and started anew, with everything in sync."""
    subject = stage.subject
    began, wall = time.monotonic(), time.time()
    stage.start_afresh()
    samples: dict[str, list[float]] = {}
    if isinstance(subject, Ours):
        process = subject.rig.processes[-1]
        if wait_until(lambda: process._address() is not None and subject.rig.is_working(process), PATIENCE_SECONDS):
            samples["ready"] = [time.monotonic() - began]
    if looks(subject):
        stage.wait_until_looked(COLD_SECONDS)
    time.sleep(_QUIET_SECONDS)
    ledger = subject.rig.emulators.ledger()
    first: dict[str, float] = {}
    for entry in ledger:
        if entry.endpoint_id is not None:
            first.setdefault(entry.endpoint_id, entry.at - began)
    written = stage.writes.count(subject.plural)
    listed = _listed(stage, wall)
    samples |= {"looked": sorted(first.values()), "listed": [listed] if listed is not None else []}
    unseen = {wish.endpoint_id for wish in stage.wishes.values()} - first.keys()
    return Outcome(0, samples, {**asked(ledger, {}), "unseen": len(unseen), **written})


def _listed(stage: Stage, since: float) -> float | None:
    """Seconds after a time (of the epoch) until the subject's first list of its resources was answered."""
    for event in stage.writes.seen:
        if event["verb"] == "list" and event.get("objectRef", {}).get("resource") == stage.subject.plural:
            at = datetime.fromisoformat(event["stageTimestamp"]).timestamp()
            if event["user"]["username"] == "operator" and at >= since:
                return at - since
    return None
