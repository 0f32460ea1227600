"""The whole model: people, several operators, an API server and a provider, each step of which may go wrong.

Every rule of the state machine and every line of a scripted or random run is a method of `Model`. Operators are the
real `Reconciler`; their passes stand still at every request and answer, so that anything may happen in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

import world
from faults.invariants import Invariants, Sender
from faults.pausing import Pass
from faults.timed_account import IGNORED, Landed, TimedAccount, TimedConnector
from faults.watches import LoggingServer, Watch
from inference_operator.api.names import REAPPLY_ANNOTATION
from inference_operator.core.memory import age_seconds
from inference_operator.core.model import FieldPath, Json, Resource
from inference_operator.core.situation import Recollection
from inference_operator.providers.memory.account import OBSERVE
from inference_operator.reconcile import Reconciler
from world import Allowed, Silent, World, spec

ENDPOINT = "ep-1"
PACE = replace(world.PACE, drift=2 * world.PACE.poll, drift_cooldown=2 * world.PACE.poll)
"""Slow things happen sooner, so that fewer polls lie between them."""

LONGEST_WAIT = 0.8 * PACE.request_timeout
"""For one answer; a process that is frozen for longer than a request may take is a documented limit."""

AT_ONCE_LIMIT = 50


@dataclass
class Operator:
    """One process after another in one place.

    Attributes:
        active: Whether it works; the others are on standby.
        passes: Passes under way, by uid.
        due: When each resource is to be looked at again.
        triggered: Resources that changed while their pass was under way.
        intents: Resources as they were stored with the intent of a write, by uid.
        met: Ids of the writes that it has begun, or has met at the beginning of a pass.
    """

    reconciler: Reconciler
    view: Watch
    observer: Silent
    authority: Allowed
    active: bool = True
    passes: dict[str, Pass] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    triggered: set[str] = field(default_factory=set)
    intents: dict[str, Resource] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)


class Model(World):
    """A world in which everything may happen at any time."""

    server: LoggingServer
    account: TimedAccount

    def __init__(self, *, history: bool = True, operators: int = 1, clamp: int | None = None) -> None:
        self.time = 1000.0
        account = TimedAccount(lambda: self.time, PACE, token="flp_0123456789")
        super().__init__(pace=PACE, history=history, server=LoggingServer(), account=account)
        self.invariants = Invariants(account, PACE, ENDPOINT, history=history)
        self.passes = 0
        self.tokens = 0
        self.bent, self.handovers = clamp is not None, False
        self.running: tuple[Operator, str] | None = None
        self.violation: AssertionError | None = None
        self.operators = [self._process(active=number == 0) for number in range(operators)]
        if clamp is not None:
            account.clamp["memory.size"] = clamp
        account.add(ENDPOINT, {"memory.size": 1, "memory.name": "n0", "memory.model": "m0"})
        account.sending, account.landed = self._sends, self._version_made
        self.server.stored = self._stored

    def restart(self) -> None:
        """Processes are born by `crash` and `activate` here."""

    def _process(self, *, active: bool, succeeded_at: float | None = None) -> Operator:
        view, observer = Watch(self.server, clock=lambda: self.time), Silent()
        authority = Allowed(allowed=active, succeeded_at=succeeded_at)
        connector = TimedConnector(self.account, self.history)
        reconciler = self.reconciler_of(view, observer, connector, authority)
        return Operator(reconciler, view, observer, authority, active)

    # ── what people do ────────────────────────────────────────────────────────────────────────────────

    def create(self, name: str, block: Mapping[str, Any], **changes: Any) -> None:
        """A resource on the endpoint."""
        if self.server.named(name) is None:
            self._wish(self.server.create(name, spec(memory=dict(block), **changes)))

    def edit(self, name: str, **changes: Any) -> None:
        """Change fields of the spec; `memory` is the provider's block."""
        if found := self.server.named(name):
            self._wish(self.server.edit(found, {**found.spec, **changes}))

    def reapply(self, name: str) -> None:
        """Ask for the same once more."""
        if found := self.server.named(name):
            request = f"request {len(self.server.log)}"
            self._wish(self.server.put(replace(found, annotations={REAPPLY_ANNOTATION: request})))

    def delete(self, name: str) -> None:
        """The resource is gone at once."""
        if found := self.server.named(name):
            self.server.delete(found)
            self.handovers = True
            for operator in self.operators:
                operator.view.saw_deletion(found)

    def recreate(self, name: str, *, with_status: bool) -> None:
        """The same name with a new uid, and, as backup tools do, with the status that the old one had."""
        if found := self.server.named(name):
            self.delete(name)
            status = found.status if with_status else {}
            self._wish(self.server.create(name, found.spec, **status))

    def restore(self, name: str, changes_ago: int) -> None:
        """The very object that there was some time ago, as from a backup of the cluster's storage."""
        found = self.server.named(name)
        backups = [old for uid, old in self.server.log if found and uid == found.uid and old]
        if found and backups:
            old = backups[max(0, len(backups) - changes_ago)]
            self.server.objects[old.uid] = old
            self.server.log.append((old.uid, old))
            self.invariants.restored(old)
            self._trigger(old.uid)

    def erase_status(self, name: str) -> None:
        """Somebody with the right to do so empties the status."""
        if found := self.server.named(name):
            self.invariants.restored(self.server.put(replace(found, status={"observedGeneration": -1})))
            self._trigger(found.uid)

    def lose_key(self) -> None:
        """The Secret is deleted."""
        self.server.secrets.pop(("team", "key"), None)
        for uid in self.server.objects:
            self._trigger(uid)

    def rotate(self) -> None:
        """A new key; the provider refuses the old one from now on."""
        self.tokens += 1
        self.account.token = f"flp_{self.tokens:010}"
        self.server.secret("key", token=self.account.token)
        for uid in self.server.objects:
            self._trigger(uid)

    def foreign(self, **values: Json) -> None:
        """Somebody edits the endpoint in the provider's console."""
        self.account.foreign(ENDPOINT, {f"memory.{name}": value for name, value in values.items()})

    def take_back(self) -> None:
        """Somebody puts the endpoint back to the version before the newest."""
        versions = self.account.endpoints[ENDPOINT].versions
        self.account.foreign(ENDPOINT, versions[max(0, len(versions) - 2)])

    def ignore(self) -> None:
        """The provider confirms the next update and does nothing."""
        self.account.trouble, self.bent = IGNORED, True

    def _wish(self, resource: Resource) -> None:
        self.invariants.wished(resource)
        self._trigger(resource.uid)

    # ── what befalls operators ────────────────────────────────────────────────────────────────────────

    def crash(self, number: int) -> None:
        """The process dies where it stands, and another takes its place."""
        operator = self._at(number)
        if operator.active:
            self.operators[number % len(self.operators)] = self._successor(operator)

    def crash_into_the_past(self, number: int, changes: int) -> None:
        """The successor's first list is an old one."""
        self.crash(number)
        operator = self._at(number)
        operator.view.begin_in_the_past(changes)
        operator.due |= dict.fromkeys(operator.view.shown(), self.time)

    def activate(self, number: int) -> None:
        """A standby begins to work, whether or not another still does."""
        operator = self._at(number)
        if not operator.active:
            self.operators[number % len(self.operators)] = self._successor(operator)

    def lose_lease(self, number: int) -> None:
        """An operator may write no more, and ends when its passes do, unless it is the last one."""
        if sum(each.active for each in self.operators) > 1 and self._at(number).active:
            operator = self._at(number)
            operator.authority.allowed = operator.active = False
            for uid in list(operator.passes):
                self._finish(operator, uid)

    def move_shard(self, name: str, number: int) -> None:
        """One operator no longer looks after a resource, another does; both may overlap."""
        if len(self.operators) > 1:
            old, new = self._at(number), self._at(number + 1)
            new.view.elsewhere.discard(name)
            old.view.leave_to_others(name)
            if found := self.server.named(name):
                new.due[found.uid] = self.time

    def _successor(self, operator: Operator) -> Operator:
        for each in operator.passes.values():
            each.kill()
        made = self._process(active=True, succeeded_at=self.time)
        made.view.elsewhere = operator.view.elsewhere
        made.due = dict.fromkeys(self.server.objects, self.time)
        return made

    def _at(self, number: int) -> Operator:
        return self.operators[number % len(self.operators)]

    def _trigger(self, uid: str) -> None:
        for operator in self.operators:
            if operator.view.live:
                self._trigger_at(operator, uid)

    def _trigger_at(self, operator: Operator, uid: str) -> None:
        operator.due[uid] = self.time
        if uid in operator.passes:
            operator.triggered.add(uid)

    def hang(self, number: int) -> None:
        """An operator's watch stands still."""
        self._at(number).view.hang()

    def lose(self, number: int) -> None:
        """The next change never arrives at an operator whose watch hangs."""
        self._at(number).view.lose()

    def deliver(self, number: int) -> None:
        """The next change arrives at an operator whose watch hangs."""
        operator = self._at(number)
        if uid := operator.view.deliver():
            self._trigger_at(operator, uid)

    def list_anew(self, number: int) -> None:
        """An operator's watch works again."""
        operator = self._at(number)
        if not operator.view.live:
            operator.view.list_anew()
            for uid in self.server.objects:
                self._trigger_at(operator, uid)

    @property
    def looks(self) -> int:
        """How often an endpoint was looked at so far."""
        return sum(call.operation == OBSERVE for call in self.account.calls)

    # ── passes ────────────────────────────────────────────────────────────────────────────────────────

    def look(self, number: int, name: str) -> None:
        """A whole pass, and more if it asks for them, or what is left of the one under way."""
        operator, found = self._at(number), self.server.named(name)
        if operator.active and found:
            self._run_at_once(operator, found.uid)

    def step(self, number: int, name: str) -> None:
        """A pass goes on to its next request or answer."""
        operator, found = self._at(number), self.server.named(name)
        if operator.active and found:
            self._advance(operator, found.uid)

    def pass_time(self, seconds: float) -> None:
        """Time goes by, and whatever comes due is done."""
        end = self.time + seconds
        for moment, action in iter(lambda: self._next_before(end), None):
            self.time = max(self.time, moment)
            action()
        self.time = end
        self.account.land_due()

    def _next_before(self, end: float) -> tuple[float, Callable[[], object]] | None:
        found: list[tuple[float, Callable[[], object]]] = []
        for operator in self.operators:
            for uid, each in operator.passes.items():
                found.append((each.waiting_since + LONGEST_WAIT, partial(self._finish, operator, uid)))
            for uid, moment in operator.due.items():
                if operator.active and uid not in operator.passes:
                    found.append((moment, partial(self._run_at_once, operator, uid)))
        first = min(found, key=lambda each: each[0], default=None)
        return first if first is not None and first[0] <= end else None

    def _run_at_once(self, operator: Operator, uid: str) -> None:
        for _ in range(AT_ONCE_LIMIT):
            self._finish(operator, uid)
            if operator.due.get(uid, float("inf")) > self.time:
                return
        raise AssertionError("a hot loop")

    def _finish(self, operator: Operator, uid: str) -> None:
        while not self._advance(operator, uid):
            pass

    def _advance(self, operator: Operator, uid: str) -> bool:
        if uid not in operator.passes:
            operator.triggered.discard(uid)
            operator.met |= _open_write(operator.view.current(uid))
            operator.passes[uid] = Pass(operator.reconciler.reconcile(uid), self.time)
            self.passes += 1
        under_way, outer = operator.passes[uid], self.running
        self.running = operator, uid
        over = under_way.advance(self.time)
        self.running = outer
        if self.violation is not None:  # operators survive their own exceptions, also those that watchers raise
            raise self.violation
        if over:
            del operator.passes[uid]
            self._plan_next(operator, uid, under_way.delay)
        return over

    def _plan_next(self, operator: Operator, uid: str, delay: float | None) -> None:
        assert "bug" not in operator.observer.results, "S12: a fault of our own"
        operator.observer.results.clear()
        operator.due.pop(uid, None)
        if uid in operator.triggered:
            operator.due[uid] = self.time
        elif delay is not None:
            operator.due[uid] = self.time + delay

    # ── what is watched ───────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as violation:
            self.violation = violation
            raise

    def _stored(self, before: Resource, after: Resource) -> None:
        with self._watching():
            assert self.account.token not in repr(after.status), "S8: a status holds the key"
            self.invariants.reported(before, after, young=self._is_young(before))
        operation, was = after.status.get("operation"), before.status.get("operation")
        if self.running and operation and (was is None or was["id"] != operation["id"]):
            self.running[0].intents[after.uid] = after
            self.running[0].met |= _open_write(after)

    def _is_young(self, before: Resource) -> bool:
        """Whether the process at work cannot know yet that all reads show what was applied last."""
        applied = before.status.get("applied")
        if self.running is None or applied is None:
            return False
        known = self.running[0].reconciler._recollections.get(before.uid, Recollection())
        longest = self.pace.settle + 2 * self.pace.request_timeout
        now_first_seen = known.applied not in {None, f"{applied['time']} {applied['generation']} {applied['hash']}"}
        recently_seen = self.time - known.applied_since < longest
        begun = self.time if known.first_look_at is None else known.first_look_at
        by_calendar = self.time - begun < longest and age_seconds(applied["time"], self.wall()) < longest
        return now_first_seen or recently_seen or by_calendar

    def _sends(self, values: Mapping[FieldPath, Json]) -> Sender:
        assert self.running is not None
        operator, uid = self.running
        found = operator.view.current(uid)
        with self._watching():
            assert operator.authority.allowed, "S4: a write without the right to"
            return self.invariants.sends(operator.intents[uid], found, values, met=operator.met)

    def _version_made(self, landed: Landed) -> None:
        with self._watching():
            self.invariants.version_made(landed)

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────

    def calm_down(self) -> None:
        """All faults are over; one operator is left, which sees everything, and is asked for nothing."""
        self.account.trouble, self.account.read_lag, self.account.rollout = None, 0.0, 0
        self.account.blind = None
        if ("team", "key") not in self.server.secrets:
            self.rotate()
        self.server.lose_answers = self.server.fail_writes = 0
        for number, operator in enumerate(self.operators):
            for uid in list(operator.passes):
                self._finish(operator, uid)
            operator.active = number == self._last_active()
            operator.view.elsewhere.clear()
            self.list_anew(number)
        for resource in list(self.server.objects.values()):
            self._at(self._last_active()).due.setdefault(resource.uid, self.time)
            if resource.spec.get("suspend"):
                self.edit(resource.name, suspend=False)

    def _last_active(self) -> int:
        return max(number for number, operator in enumerate(self.operators) if operator.active)


def _open_write(resource: Resource | None) -> set[str]:
    operation = resource.status.get("operation") if resource else None
    return {operation["id"]} if operation else set()


@contextmanager
def quietly() -> Iterator[None]:
    """Without the operators' logs, but for faults of their own."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        yield
    finally:
        structlog.configure(**before)
