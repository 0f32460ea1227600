"""The Novita driver: joins the pure translation to the client, and remembers the limits for a while."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

from inference_operator.core.port import Capabilities, Page, Rule
from inference_operator.errors import EndpointError
from inference_operator.providers.novita import translate
from inference_operator.providers.novita.client import HEADERS, NovitaClient, refine
from inference_operator.providers.novita.options import RULES, NovitaOptions
from inference_operator.providers.novita.words import HIDDEN, quotes

if TYPE_CHECKING:
    from inference_operator.api.base import ApiModel
    from inference_operator.api.spec import InferenceEndpointSpec
    from inference_operator.core.model import (
        Credentials,
        Desired,
        EndpointRef,
        FieldPath,
        Json,
        Look,
        Observed,
        SecretValues,
        Urgency,
    )
    from inference_operator.providers.budget import Budget
    from inference_operator.providers.transport import Transport

LIMITS_SECONDS = 600.0
"""How long the parameter limits are taken to hold; they are the account's and change rarely."""

NO_LIMITS_SECONDS = 60.0
"""How long a failed read of them is not repeated: a write goes on without."""


@dataclass(slots=True)
class Limits:
    """The parameter limits of one key, None while they cannot be read; `until` is monotonic."""

    values: Mapping[str, int] | None = None
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class NovitaConnection:
    """Speaks to Novita with one key."""

    client: NovitaClient
    limits: Limits

    async def observe(self, ref: EndpointRef, look: Look) -> Observed:
        """Read the endpoint in one call, and the limits in a second one when they are wanted and not known."""
        endpoint = await self.client.get_endpoint(ref.endpoint_id, look.urgency)
        return translate.observed(endpoint, await self._limits(look.urgency) if look.limits else None)

    async def page(self, cursor: str | None, wanted: Container[str]) -> Page:
        """A hundred endpoints; the cursor is the number of the page, and of those seen before it."""
        number, seen = map(int, cursor.split()) if cursor else (0, 0)
        page = await self.client.list_endpoints(number)
        entries = {}
        for item in page.endpoints:
            endpoint_id = item.get("id")
            if isinstance(endpoint_id, str) and endpoint_id in wanted:
                entries[endpoint_id] = translate.listed(item)
        seen += len(page.endpoints)
        return Page(entries, f"{number + 1} {seen}" if page.endpoints and seen < page.total else None)

    async def reserve(self) -> None:
        """Wait for the budget that the next update needs."""
        await self.client.channel.reserve_write()

    async def update(self, ref: EndpointRef, body: Json) -> None:  # noqa: ARG002 - the body names the endpoint
        """Replace the configuration; Novita does not show what it has made of it."""
        try:
            await self.client.update(body)
        except EndpointError as error:
            if quotes(error.message, (env["value"] for env in body.get("envs", ()))):
                error.message = f"{translate.NAME} update: {HIDDEN}"
                error.args = (error.message,)
            raise

    async def _limits(self, urgency: Urgency) -> Mapping[str, int] | None:
        now = time.monotonic()
        if now >= self.limits.until:
            try:
                self.limits.values, self.limits.until = await self.client.limits(urgency), now + LIMITS_SECONDS
            except EndpointError:
                self.limits.values, self.limits.until = None, now + NO_LIMITS_SECONDS
        return self.limits.values


@dataclass(frozen=True, slots=True)
class NovitaDriver:
    """Novita Serverless GPU Endpoints, API v1."""

    name: str = translate.NAME
    options: type[ApiModel] = NovitaOptions
    rules: Sequence[Rule] = RULES
    capabilities: Capabilities = field(default=Capabilities())
    origin: str = "https://api.novita.ai"
    _limits: WeakKeyDictionary[Budget, Limits] = field(default_factory=WeakKeyDictionary, repr=False, compare=False)

    def desired(self, spec: InferenceEndpointSpec, options: ApiModel, secrets: SecretValues) -> Desired:
        """See `translate.desired`."""
        return translate.desired(spec, cast("NovitaOptions", options), secrets)

    def secret_names(self, options: ApiModel) -> frozenset[str]:
        """See `translate.secret_names`."""
        return translate.secret_names(cast("NovitaOptions", options))

    def agrees(self, path: FieldPath, wanted: Json, seen: Json) -> bool:
        """See `translate.agrees`."""
        return translate.agrees(path, wanted, seen)

    def confidential(self, path: FieldPath) -> bool:
        """See `translate.confidential`."""
        return translate.confidential(path)

    def render(self, desired: Desired, observed: Observed, comment: str) -> Json:  # noqa: ARG002 - Novita takes no comment
        """See `translate.render`."""
        return translate.render(desired, observed)

    def connect(
        self,
        transport: Transport,
        *,
        origin: str,
        credentials: Credentials,
        team: str | None,  # noqa: ARG002 - a key belongs to one account
    ) -> NovitaConnection:
        """A connection for one key; limits are remembered for as long as the transport keeps a budget for the key."""
        channel = transport.channel(
            provider=self.name, origin=origin, credentials=credentials, headers=HEADERS, refine=refine
        )
        return NovitaConnection(NovitaClient(channel), self._limits.setdefault(channel.budget, Limits()))


DRIVER = NovitaDriver()
