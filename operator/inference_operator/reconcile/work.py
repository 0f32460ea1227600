"""The values that a pass hands from step to step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from inference_operator.api.names import REAPPLY_ANNOTATION
from inference_operator.api.spec import AdoptionPolicy
from inference_operator.api.status import InferenceEndpointStatus
from inference_operator.core.findings import TRUE
from inference_operator.core.memory import Memory
from inference_operator.core.model import EndpointRef, Observed, Resource
from inference_operator.core.port import Connection
from inference_operator.core.situation import Recollection


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say about all resources.

    Attributes:
        read_only: Nothing is ever written to a provider.
        adoption_policy: For resources that name none.
        reread_secrets: Read Secrets once more before each write, because nothing watches them.
        sharded: Other processes work on resources that this one does not watch.
    """

    read_only: bool = False
    adoption_policy: AdoptionPolicy = "Apply"
    reread_secrets: bool = False
    sharded: bool = False


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, so that tests can bring their own.

    Attributes:
        now: Monotonic seconds.
        wall: The calendar.
        jitter: Uniform in [0, 1).
        soon: Has a function called, in the context of the caller, once the pass waits for something.
    """

    now: Callable[[], float]
    wall: Callable[[], datetime]
    jitter: Callable[[], float]
    soon: Callable[[Callable[[], object]], object]

    def today(self) -> datetime:
        """The calendar in UTC without fractions of a second, as stored times have none."""
        return self.wall().astimezone(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Work:
    """One pass under way.

    Attributes:
        resource: The object; its resourceVersion guards the next status write.
        status: The status stored in it.
        reported: The status at the beginning of the pass, which Events are told against.
        memory: What the status remembers of writes.
        recollection: What this process remembers.
    """

    resource: Resource
    status: InferenceEndpointStatus
    reported: InferenceEndpointStatus
    memory: Memory
    recollection: Recollection

    @staticmethod
    def on(resource: Resource, recollection: Recollection, now: float) -> Work:
        """Begin a pass on an object as read."""
        status = InferenceEndpointStatus.model_validate(dict(resource.status))
        memory = Memory.of(status, resource.uid)
        recollection = recollection.meets(memory, now)
        memory = memory.counted(recollection.updates)
        if status.operation is not None and memory.operation is None and recollection.succeeds_at is None:
            recollection = replace(recollection, succeeds_at=now)  # the next status write will not hold it any more
        return Work(resource, status, status, memory, recollection)

    def stored(self, resource: Resource) -> Work:
        """Go on with the object as just stored or read, still about the generation that the pass began with."""
        status = InferenceEndpointStatus.model_validate(dict(resource.status))
        return replace(self, resource=replace(resource, generation=self.resource.generation), status=status)

    @property
    def uid(self) -> str:
        """The object's uid."""
        return self.resource.uid

    @property
    def is_in_conflict(self) -> bool:
        """Whether the status says that another resource owns the endpoint."""
        return any(each.type == "Stalled" and each.reason == "Conflict" for each in self.status.conditions)

    @property
    def was_ready(self) -> bool:
        """Whether the status says that all is well with this generation."""
        ready = [each for each in self.reported.conditions if each.type == "Ready" and each.status == TRUE]
        return any(each.observed_generation == self.resource.generation for each in ready)

    def novelty(self, message: str) -> int:
        """The level to log a failure at: what the status says already is told once."""
        return logging.DEBUG if any(message in each.message for each in self.reported.conditions) else logging.INFO

    @property
    def reapply(self) -> str:
        """The reapply annotation; empty for none."""
        return self.resource.annotations.get(REAPPLY_ANNOTATION, "")


@dataclass(frozen=True, slots=True)
class Sight:
    """A clean look.

    Attributes:
        observed: What was seen.
        begun: When the look began, monotonic.
        whole: It carried all that a write needs.
        fresh: All of it was read for this look; nothing that a list had confirmed was taken over.
    """

    observed: Observed
    begun: float
    whole: bool
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Rest:
    """An endpoint that a pass has found at rest.

    Attributes:
        account: Which key, at which provider.
        connection: Reads the endpoint, and the account's lists.
        ref: Which endpoint.
        listed: What the provider's lists show of it as of this look; None where there are none.
        restless: Its replica counts may move all the same.
        fingerprint: Of all that the look has shown but the version history.
        history: Fingerprint of the version history that a pass has seen last; None where none has.
        base: The version from which on the history was read.
        begun: When the look began.
        whole: The look has shown all that a look can.
        resource_version: Of the resource with the status that tells of the look.
        secrets: Versions of the Secrets that the pass has used, by name.
    """

    account: int
    connection: Connection = field(repr=False)
    ref: EndpointRef
    listed: Any = field(repr=False)
    restless: bool
    fingerprint: int = field(repr=False)
    history: int | None = field(repr=False)
    base: int | None
    begun: float
    whole: bool
    resource_version: str
    secrets: Mapping[str, str]

    def after(self, earlier: Rest | None) -> Rest:
        """With the version history that was seen before, where this look carried none."""
        if self.history is not None or earlier is None:
            return self
        return replace(self, history=earlier.history, base=earlier.base)

    def is_still_so(self, seen: Observed) -> bool:
        """Whether a later look shows the same; whether the versions are the same, only where it carries them."""
        same_history = seen.history is None or seen.history.fingerprint == self.history
        return same_history and seen.fingerprint == self.fingerprint


@dataclass(frozen=True, slots=True)
class Result:
    """How a pass ended.

    Attributes:
        name: One word for the metrics.
        delay: Seconds until the next look; None when only a trigger brings one.
        recollection: What this process remembers from now on.
        rest: Set where the endpoint is at rest, so that lists may tell when to look again, instead of `delay`.
        unchanged: It is still at rest, and everything as the last pass has left it.
    """

    name: str
    delay: float | None
    recollection: Recollection
    rest: Rest | None = None
    unchanged: bool = False
