"""Novita's operations, one method each, and what its error reasons mean.

The API answers almost every refusal with HTTP 400 and tells them apart by a `reason` in the body; not found
is one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from inference_operator.core.model import Json, Urgency
from inference_operator.errors import (
    CapacityUnavailable,
    CredentialsRejected,
    EndpointError,
    InvalidSpec,
    NotFound,
    Throttled,
    Unavailable,
)
from inference_operator.providers.answers import cured
from inference_operator.providers.novita.translate import NAME
from inference_operator.providers.novita.wire import Endpoint, EndpointAnswer, EndpointPage, read_limits
from inference_operator.providers.novita.words import words
from inference_operator.providers.transport import Channel, segment

ROOT = "/gpu-instance/openapi/v1"

HEADERS: Mapping[str, str] = {"Content-Type": "application/json"}
"""The reference pages require it of every call, reads included."""

PAGE_SIZE = 100
"""Endpoints of one page; no bound is documented, and 10 is the default. A server that gives fewer is asked on."""

GONE = frozenset({"SERVERLESS_ENDPOINT_NOT_FOUND", "RESOURCE_NOT_FOUND"})

INVALID = frozenset(
    {
        "VALIDATOR_PARAM",
        "INVALID_COMMAND_PARAM",
        "SERVERLESS_PRODUCT_NOT_FOUND",
        "SERVERLESS_APP_NAME_IS_EXIST",
        "IMAGE_NOT_FOUND",
        "NETWORK_STORAGE_NOT_FOUND",
        "CUR_CLUSTER_NETWORK_STORAGE_NOT_SUPPORT",
    }
)

INVALID_OR_BUSY = frozenset({"REQUEST", "CONFLICT"})
"""Reasons whose words do not say whether the request or the moment is wrong."""

NOT_NOW = frozenset(
    {
        "INSUFFICIENT_RESOURCE",
        "OPERATION_LIMIT",
        "CLUSTER_STATUS",
        "NODE_STATUS",
        "DEPENDENT_RESOURCE_STATE",
        "NETWORK_STORAGE_UNAVAILABLE",
        "NETWORK_STORAGE_IN_USE",
        "BALANCE_NOT_ENOUGH",
        "EXPIRED_OR_BALANCE_NOT_ENOUGH",
        "NOT_ENOUGH_BALANCE",
    }
)
"""Stock, quota, balance, or the state of something that the endpoint needs."""

UNWELCOME = frozenset({"UNAUTHORIZED", "FORBIDDEN", "BANNED_USER"})
TOO_FAST = "RATE_LIMIT_EXCEEDED"


def refine(status: int, document: Any) -> EndpointError | None:
    """What a refusal means by its reason (table of the page "basic error code"); None for one it does not list.

    Args:
        status: 400 to 499, but not 408: the request was refused, and so changed nothing.
        document: The JSON value of the body, None where there is none.
    """
    reason = document.get("reason") if isinstance(document, dict) else None
    if not isinstance(reason, str):
        return None
    said = document.get("message")
    message = words(f"{NAME}: HTTP {status}: {reason}" + (f": {said}" if isinstance(said, str) and said else ""))
    if reason in INVALID or reason in INVALID_OR_BUSY:
        return InvalidSpec(message, maybe_busy=reason in INVALID_OR_BUSY)
    for reasons, error in (
        (GONE, NotFound),
        (NOT_NOW, CapacityUnavailable),
        (UNWELCOME, CredentialsRejected),
        ({TOO_FAST}, Throttled),
    ):
        if reason in reasons:
            return cured(error, message)
    return None


@dataclass(frozen=True, slots=True)
class NovitaClient:
    """The operations over one channel. Every method raises only the errors of `errors.py`."""

    channel: Channel

    async def list_endpoints(self, number: int) -> EndpointPage:
        """Read a page of all endpoints, whole ones; pages count from 0.

        Raises:
            Unavailable: No clean answer.
            EndpointError: As `Channel.read` and `refine` have it.
        """
        params = {"pageSize": str(PAGE_SIZE), "pageNum": str(number)}
        document = await self.channel.read("list", f"{ROOT}/endpoints", params=params, urgency=Urgency.ROUTINE)
        try:
            return EndpointPage.model_validate(document)
        except ValidationError:
            raise Unavailable(f"{NAME} list: an answer without a list of endpoints") from None

    async def get_endpoint(self, endpoint_id: str, urgency: Urgency) -> Endpoint:
        """Read one endpoint.

        Raises:
            NotFound: Novita does not know it, or this key cannot see it.
            Unavailable: No clean answer, or one that is not the document of this endpoint.
            EndpointError: As `Channel.read` and `refine` have it.
        """
        params = {"id": segment(endpoint_id)}
        document = await self.channel.read("get", f"{ROOT}/endpoint", params=params, urgency=urgency)
        try:
            endpoint = EndpointAnswer.model_validate(document).endpoint
        except ValidationError as error:
            # The exception knows the document, which may hold secrets; only the names of its fields go on.
            places = ", ".join(sorted({".".join(map(str, each["loc"])) for each in error.errors(include_input=False)}))
            raise Unavailable(words(f"{NAME} get: an answer without a usable value for {places}")) from None
        if endpoint.id != endpoint_id:
            raise Unavailable(f"{NAME} get: an answer about another endpoint")
        return endpoint

    async def limits(self, urgency: Urgency) -> dict[str, int]:
        """Read the account's parameter limits, by name.

        Raises:
            EndpointError: As `Channel.read` and `refine` have it.
        """
        return read_limits(await self.channel.read("limits", f"{ROOT}/endpoint/limit", urgency=urgency))

    async def update(self, body: Json) -> None:
        """Replace an endpoint's configuration; the answer is documented nowhere and therefore not looked at.

        Raises:
            Ambiguous: The change may have arrived.
            EndpointError: As `Channel.write` and `refine` have it; nothing was changed.
        """
        await self.channel.write("update", "POST", f"{ROOT}/endpoint/update", body=body, empty_is_success=True)
