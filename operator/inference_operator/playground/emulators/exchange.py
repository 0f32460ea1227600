"""The vocabulary between the HTTP front and the providers: a call comes in, a reply goes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference_operator.playground.emulators.accounts import Account

NO_BODY = b""


@dataclass(slots=True, kw_only=True)
class Call:
    """One request as an operation sees it.

    Attributes:
        operation: Name of the operation.
        endpoint_id: The endpoint it names, if it names one.
        account: Who calls.
        team: The team the call runs as, None for the account's default.
        by: Fingerprint of the caller's token.
        at: When it is carried out, monotonic seconds.
        query: Query parameters.
        body: The JSON body, None without one.
        write: False computes the reply of a write without keeping its effect.
    """

    operation: str
    endpoint_id: str | None
    account: Account
    team: str | None
    by: str
    at: float
    query: Mapping[str, str]
    body: Any
    write: bool = True


@dataclass(slots=True, kw_only=True)
class Reply:
    """What an operation answers, and what it did.

    Attributes:
        status: HTTP status.
        body: A JSON value, or bytes that are sent as they are.
        headers: Headers beside the content type.
        endpoint_id: The endpoint that was concerned or made.
        version: Number of the version that was made.
        committed: Whether state was changed.
        errors: What was wrong with the request.
    """

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    endpoint_id: str | None = None
    version: int | None = None
    committed: bool = False
    errors: list[str] = field(default_factory=list)


class Refused(Exception):  # noqa: N818 - it is an answer, not an error of the emulator
    """Ends an operation with a reply of refusal."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply
