"""An API server that remembers what happened, and views of it that are late, lose events or go back in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from faults.pausing import pause
from inference_operator.core.model import Resource
from inference_operator.errors import Unavailable
from world import EPOCH, ApiServer, View

Claim = tuple[str, str]


@dataclass
class LoggingServer(ApiServer):
    """Keeps every version of every object, for views that are behind and for backups.

    Attributes:
        log: All changes in order: uid, and the object, or None for its deletion.
        fail_writes: How many of the next status writes are turned away.
        stored: Is told of each status write: the object before it and after it.
    """

    log: list[tuple[str, Resource | None]] = field(default_factory=list)
    fail_writes: int = 0
    stored: Callable[[Resource, Resource], None] = lambda *_: None

    def named(self, name: str) -> Resource | None:
        """The object of a name."""
        return next((each for each in self.objects.values() if each.name == name), None)

    def put(self, resource: Resource) -> Resource:
        """Store an object as a new version."""
        made = replace(resource, resource_version=self.version())
        self.objects[made.uid] = made
        self.log.append((made.uid, made))
        return made

    def create(self, name: str, spec: Mapping[str, Any], **status: Any) -> Resource:
        """A new object, with a uid of its own."""
        number = len(self.log)
        uid = f"uid-{name}-{number}"
        created = EPOCH + timedelta(seconds=number)
        made = Resource("team", name, uid, 1, "", created, False, {}, dict(spec), {"observedGeneration": -1} | status)
        return self.put(made)

    def edit(self, resource: Resource, spec: Mapping[str, Any]) -> Resource:
        """Change the spec; the generation moves when it differs."""
        return self.put(replace(resource, spec=dict(spec), generation=resource.generation + (resource.spec != spec)))

    def delete(self, resource: Resource) -> None:
        """There is no finalizer: it is gone at once."""
        del self.objects[resource.uid]
        self.version()
        self.log.append((resource.uid, None))


@dataclass
class Watch(View):
    """What one operator sees of the API server.

    Attributes:
        clock: Monotonic.
        live: Whether every change shows at once; otherwise `deliver` brings the next.
        known: What is seen while not live.
        position: Of the next change in the server's log.
        elsewhere: Names that another shard looks after.
    """

    server: LoggingServer
    clock: Callable[[], float] = lambda: 0.0
    live: bool = True
    known: dict[str, Resource] = field(default_factory=dict)
    position: int = 0
    elsewhere: set[str] = field(default_factory=set)

    def shown(self) -> Mapping[str, Resource]:
        """All objects as they are seen, of other shards too."""
        return self.server.objects if self.live else self.known

    def current(self, uid: str) -> Resource | None:
        """The object as it is seen; None for one of another shard."""
        found = self.shown().get(uid)
        return None if found is None or found.name in self.elsewhere else found

    # ── what befalls a watch ──────────────────────────────────────────────────────────────────────────

    def hang(self) -> None:
        """From now on changes show only when delivered."""
        if self.live:
            self.live, self.known, self.position = False, dict(self.server.objects), len(self.server.log)

    def deliver(self) -> str | None:
        """The next change arrives; returns its uid."""
        if self.live or self.position >= len(self.server.log):
            return None
        uid, resource = self.server.log[self.position]
        self.position += 1
        if resource is None:
            self._saw_gone(self.known.pop(uid, None))
        elif self._is_news(resource):
            self.known[uid] = resource
        return uid

    def lose(self) -> None:
        """The next change never arrives."""
        if not self.live and self.position < len(self.server.log):
            self.position += 1

    def begin_in_the_past(self, changes: int) -> None:
        """A new process gets a list that is some changes old."""
        self.live, self.known, self.position = False, {}, max(0, len(self.server.log) - changes)
        for uid, resource in self.server.log[: self.position]:
            self.known.pop(uid, None)
            if resource is not None:
                self.known[uid] = resource

    def list_anew(self) -> None:
        """A fresh list, and a watch that works."""
        if not self.live:
            for uid in self.known.keys() - self.server.objects.keys():
                self._saw_gone(self.known[uid])
            self.live = True

    def saw_deletion(self, resource: Resource) -> None:
        """The server has deleted an object just now."""
        if self.live:
            self._saw_gone(resource)

    def leave_to_others(self, name: str) -> None:
        """Another shard looks after the object from now on."""
        self.elsewhere.add(name)
        self._saw_gone(self.server.named(name))

    def _saw_gone(self, resource: Resource | None) -> None:
        if resource is not None:
            self.removed[str(resource.spec["provider"]), str(resource.spec["endpointId"])] = self.clock()

    def _is_news(self, resource: Resource) -> bool:
        known = self.known.get(resource.uid)
        return known is None or int(known.resource_version) < int(resource.resource_version)

    # ── Cluster ───────────────────────────────────────────────────────────────────────────────────────

    async def read(self, resource: Resource) -> Resource | None:
        """Ask the server."""
        await pause()
        found = self.server.objects.get(resource.uid)
        if found is None:
            self._saw_gone(self.known.pop(resource.uid, None))
        else:
            self.known[resource.uid] = found
        return found

    async def write_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource:
        """Store a status; both ways take their time."""
        await pause()
        if self.server.fail_writes:
            self.server.fail_writes -= 1
            raise Unavailable("HTTP 503")
        before = self.server.objects.get(resource.uid)
        lost: Unavailable | None = None
        try:
            stored = await super().write_status(resource, status)
        except Unavailable as error:  # stored all the same
            lost, stored = error, self.server.objects[resource.uid]
        assert before is not None
        self.server.log.append((stored.uid, stored))
        self.server.stored(before, stored)
        await pause()
        if lost is not None:
            raise lost
        self.known[stored.uid] = stored
        return stored

    def rivals(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        """All other resources of this shard on the endpoint, as far as they are seen."""
        return [
            each
            for each in self.shown().values()
            if each.uid != resource.uid
            and each.name not in self.elsewhere
            and (each.spec.get("provider"), each.spec.get("endpointId")) == (provider, endpoint_id)
        ]

    async def claims(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        """All others anywhere, asked of the server."""
        await pause()
        return View.rivals(self, resource, provider, endpoint_id)
