"""Two resources on one endpoint, worked on by one process or by two shards, in memory and step by step."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from inference_operator.core.model import Credentials, EndpointRef, Json, Look, Observed, Resource
from inference_operator.core.port import Connection
from inference_operator.errors import Unavailable
from inference_operator.providers.memory.account import MemoryAccount
from inference_operator.providers.memory.driver import MemoryConnection
from inference_operator.reconcile import Options, Reconciler
from world import EPOCH, ApiServer, Connector, Silent, View, World, spec

SENIOR, JUNIOR = "uid-1", "uid-2"
SIZES = {SENIOR: 2, JUNIOR: 3}
"""What each wants."""


class Step:
    """A moment at which something else may happen first."""

    def __await__(self) -> Generator[None, None, None]:
        yield


@dataclass
class Shard(View):
    """The view of a process that watches some resources only, and whose requests take effect one after the other."""

    mine: frozenset[str] = frozenset(SIZES)
    lists: int = 0
    lost_lists: frozenset[int] = frozenset()
    steps: bool = False

    def rivals(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        return [each for each in super().rivals(resource, provider, endpoint_id) if each.uid in self.mine]

    async def claims(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        await self.step()
        self.lists += 1
        if self.lists in self.lost_lists:
            raise Unavailable("no answer")
        return super().rivals(resource, provider, endpoint_id)

    async def write_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource:
        await self.step()
        return await super().write_status(resource, status)

    async def step(self) -> None:
        if self.steps:
            await Step()


@dataclass
class Sent:
    """One update: whose it was, and which writes were open at that moment."""

    uid: str
    own: str
    others: frozenset[str]


@dataclass
class Ledger:
    """Everything that was sent."""

    server: ApiServer
    sent: list[Sent] = field(default_factory=list)

    def enter(self, comment: str) -> None:
        uid = comment.split(maxsplit=1)[0].rpartition("/")[2]  # a resource's name is its uid here
        statuses = {uid: each.status for uid, each in self.server.objects.items()}
        opened = {uid: status["operation"]["id"] for uid, status in statuses.items() if "operation" in status}
        self.sent.append(Sent(uid, opened[uid], frozenset(opened.values()) - {opened[uid]}))

    @property
    def writers(self) -> list[str]:
        return [each.uid for each in self.sent]

    def overlaps(self) -> bool:
        """Whether something was sent while another write was open that was sent as well."""
        sent = {each.own for each in self.sent}
        return any(each.others & sent for each in self.sent)


@dataclass(frozen=True, slots=True)
class SteppedConnection(MemoryConnection):
    """Reads and updates take effect one after the other."""

    ledger: Ledger
    steps: bool

    async def observe(self, ref: EndpointRef, look: Look) -> Observed:
        if self.steps:
            await Step()
        return await MemoryConnection.observe(self, ref, look)

    async def update(self, ref: EndpointRef, body: Json) -> None:
        if self.steps:
            await Step()
        self.ledger.enter(body["comment"])
        await MemoryConnection.update(self, ref, body)


@dataclass
class SteppedConnector(Connector):
    ledger: Ledger = field(kw_only=True)
    steps: bool = False

    def connect(self, provider: str, credentials: Credentials, team: str | None) -> Connection:
        del provider, credentials, team
        return SteppedConnection(self.account, self.ledger, self.steps)


class Rivals(World):
    """Two resources on one endpoint, worked on by one process, or each by the process of its shard."""

    def __init__(self, *, shards: bool, apart: float = 5, senior: bool = True) -> None:
        super().__init__(account=MemoryAccount())
        self.account.add("ep-1", {"memory.size": 1})
        self.ages = {SENIOR: 0.0, JUNIOR: apart}
        self.shards = shards
        self.ledger = Ledger(self.server)
        self.start()
        self.create(JUNIOR)
        if senior:
            self.create(SENIOR)

    def start(self) -> None:
        """Every process starts anew."""
        self.options = Options(sharded=self.shards)
        scopes = [frozenset({uid}) for uid in SIZES] if self.shards else [frozenset(SIZES)] * 2
        processes = [self.process(scope) for scope in scopes]
        if not self.shards:
            processes = [processes[0]] * 2
        self.of = dict(zip(SIZES, processes, strict=True))

    def process(self, scope: frozenset[str]) -> tuple[Reconciler, Shard, SteppedConnector]:
        view, connector = Shard(self.server, mine=scope), SteppedConnector(self.account, ledger=self.ledger)
        return self.reconciler_of(view, Silent(), connector, self.authority), view, connector

    def create(self, uid: str, **changes: Any) -> None:
        wanted = spec(memory={"size": SIZES[uid]}, **changes)
        created = EPOCH + timedelta(seconds=self.ages[uid])
        self.server.apply(uid, wanted, uid=uid, created_at=created)

    def edit(self, uid: str, **changes: Any) -> None:
        self.server.apply(uid, dict(self.server.objects[uid].spec) | changes)

    def delete(self, uid: str) -> None:
        """Its own process sees it go; that of another shard is told nothing."""
        del self.server.objects[uid]
        self.of[uid][1].removed["memory", "ep-1"] = self.time

    async def passes(self, uid: str) -> float:
        """Passes until the resource need not be looked at again at once."""
        while uid in self.server.objects:
            delay = await self.of[uid][0].reconcile(uid)
            if delay is None:
                break
            if delay > 0:
                return delay
        return 1.0

    async def live(self, seconds: float, only: Sequence[str] = tuple(SIZES)) -> None:
        """Time passes, and everybody looks whenever it is due."""
        end, due = self.time + seconds, dict.fromkeys(only, self.time)
        while (uid := min(due, key=lambda each: due[each])) and due[uid] <= end:
            self.time = max(self.time, due[uid])
            self._tick()
            due[uid] = self.time + await self.passes(uid)
        self.time = end

    def stepping(self, steps: bool) -> None:  # noqa: FBT001 - a switch
        for _, view, connector in self.of.values():
            view.steps = connector.steps = steps

    def digest(self) -> str:
        """Everything that the future depends on, but for the random ids of writes."""
        objects = sorted((uid, each.generation, repr(each.status)) for uid, each in self.server.objects.items())
        processes = [sorted(process._recollections.items()) for process, _, _ in self.of.values()]
        text = repr((self.time, objects, processes, self.account.endpoints, self.ledger.writers))
        known: dict[str, str] = {}
        return re.sub("[0-9a-f]{32}", lambda found: known.setdefault(found[0], f"#{len(known)}"), text)

    def standing(self, uid: str) -> tuple[str, str] | None:
        return self.condition(uid, "Stalled") or self.condition(uid, "Synced")
