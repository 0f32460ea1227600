"""Friendli as a provider: the driver that the registry lists, and its connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from inference_operator.core.port import Capabilities
from inference_operator.errors import Throttled
from inference_operator.providers.friendli import translate
from inference_operator.providers.friendli.client import FriendliClient, refine
from inference_operator.providers.friendli.options import RULES, FriendliOptions

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from inference_operator.api.base import ApiModel
    from inference_operator.api.spec import InferenceEndpointSpec
    from inference_operator.core.model import (
        Credentials,
        Desired,
        EndpointRef,
        FieldPath,
        History,
        Json,
        Look,
        Observed,
        SecretValues,
    )
    from inference_operator.core.port import Page, Rule
    from inference_operator.providers.friendli.wire import Spec, Status
    from inference_operator.providers.transport import Transport

TEAM_HEADER = "X-Friendli-Team"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FriendliConnection:
    """Friendli, spoken to with one key as one team."""

    client: FriendliClient

    async def reserve(self) -> None:
        """Take the budget token of the next update; raises as the port says."""
        await self.client.channel.reserve_write()

    async def observe(self, ref: EndpointRef, look: Look) -> Observed:
        """Read what of configuration, state and history is asked for and not known, at once; raises as the port says.

        All reads are waited for, and the first of them in this order names the error: which one answers
        first must not show in status. Only what comes after a 429 is spared: it speaks of the key, and each of the
        others would bring a pause of its own, in which nobody else with this key has a turn.
        """
        if look.listed is not None and not look.history:  # most looks at endpoints at rest; one read needs no tasks
            return translate.observed(await self._spec(ref, look), look.listed, None)
        reads: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(read)
            for read in (self._spec(ref, look), self._status(ref, look), self._history(ref, look))
        ]
        for place, read in enumerate(reads, start=1):
            read.add_done_callback(partial(_spare, reads[place:]))
        spec, status, history = await asyncio.gather(*reads, return_exceptions=True)
        return translate.observed(_sound(spec), _sound(status), _sound(history))

    async def _spec(self, ref: EndpointRef, look: Look) -> Spec:
        known: Spec | None = look.document
        return known or await self.client.get_spec(ref.endpoint_id, look.urgency)

    async def _status(self, ref: EndpointRef, look: Look) -> Status:
        known: Status | None = look.listed
        return known or await self.client.get_status(ref.endpoint_id, look.urgency)

    async def _history(self, ref: EndpointRef, look: Look) -> History | None:
        return await self.client.get_history(ref.endpoint_id, look.base, look.urgency) if look.history else None

    async def page(self, cursor: str | None, wanted: Container[str]) -> Page:
        """A hundred statuses; raises as the port says."""
        return await self.client.get_statuses(cursor, wanted)

    async def update(self, ref: EndpointRef, body: Json) -> Spec:
        """Send one update, which makes one version; raises as the port says."""
        return await self.client.update(ref.endpoint_id, body)


def _spare(later: Sequence[asyncio.Future[Any]], read: asyncio.Future[Any]) -> None:
    if not read.cancelled() and isinstance(read.exception(), Throttled):
        for each in later:
            each.cancel()


def _sound(result: Result | BaseException) -> Result:
    if isinstance(result, BaseException):
        raise result
    return result


@dataclass(frozen=True, slots=True)
class FriendliDriver:
    """Friendli Dedicated Endpoints; pure but for `connect`."""

    name: str = translate.NAME
    options: type[ApiModel] = FriendliOptions
    rules: Sequence[Rule] = RULES
    capabilities: Capabilities = field(default=Capabilities(history=True, gpu_type=True))
    origin: str = "https://api.friendli.ai"

    def desired(self, spec: InferenceEndpointSpec, options: ApiModel, secrets: SecretValues) -> Desired:  # noqa: ARG002 - no field of Friendli's takes a Secret
        """What the spec declares, by path.

        Raises:
            InvalidSpec: The spec asks for what an update cannot say.
        """
        return translate.desired(spec, cast("FriendliOptions", options))

    def secret_names(self, options: ApiModel) -> frozenset[str]:  # noqa: ARG002 - as above
        """None: no field of Friendli's takes a Secret."""
        return frozenset()

    def agrees(self, path: FieldPath, wanted: Json, seen: Json) -> bool:
        """Whether two spellings of one field mean the same to Friendli."""
        return translate.agrees(path, wanted, seen)

    def confidential(self, path: FieldPath) -> bool:  # noqa: ARG002 - as above
        """Never: no field of Friendli's takes a Secret."""
        return False

    def render(self, desired: Desired, observed: Observed, comment: str) -> Json:
        """The body of an update: all that the spec declares."""
        return translate.render(desired, observed, comment)

    def connect(self, transport: Any, *, origin: str, credentials: Credentials, team: str | None) -> FriendliConnection:
        """A connection for one key and team."""
        shared: Transport = transport
        channel = shared.channel(
            provider=self.name,
            origin=origin,
            credentials=credentials,
            headers={} if team is None else {TEAM_HEADER: team},
            refine=refine,
        )
        return FriendliConnection(FriendliClient(channel))


DRIVER = FriendliDriver()
