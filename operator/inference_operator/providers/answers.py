"""Reads answers that nobody can be trusted to have written well: what they say, and which error they are.

Pure, and safe on any bytes: nothing in an answer can crash the process, hold up its event loop, or bring
a key into a message.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from inference_operator.errors import (
    CredentialsRejected,
    EndpointError,
    InvalidSpec,
    NotFound,
    Throttled,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

MAX_TEXT = 256
"""Characters of the provider's own words that a message may hold."""

MAX_SCANNED = 4096
"""Characters of the provider's own words that are looked at."""

MAX_RETRY_AFTER = 3600.0
"""Seconds; whoever asks for more silence than this is not believed."""

MAX_VALUES = 50_000
"""Values in one body; more would hold up the event loop while they are read."""

WINDOW = 8
"""Characters in a row that a text may not share with a key."""

_DIGITS = 19
"""Digits of the greatest 64-bit integer; no field of any provider needs more."""

_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that arrived whole.

    Attributes:
        status: HTTP status.
        content: Decoded body; may hold anything, so that no repr shows it.
        retry_after: Seconds of silence that it asks for.
    """

    status: int
    content: bytes = field(repr=False)
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No answer, or none that arrived whole.

    Attributes:
        why: What happened, as a clause.
        sent: The request may have arrived: it was handed to a connection.
    """

    why: str
    sent: bool


def decode(content: bytes) -> Any:
    """The JSON value of a body, or None where there is none that can be relied on.

    Refused beside broken JSON: names that come twice in one object (readers differ in which they believe),
    numbers that no other program could hold, nesting beyond the parser's limit, and text that is not Unicode.
    """
    if content.count(b",") >= MAX_VALUES:
        return None
    try:
        text = content.decode("utf-8-sig")
        document = _DECODER.decode(text)
        if "\\ud" in text.lower():  # half of a surrogate pair cannot be encoded again
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name comes twice")
    return document


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS and len(digits.lstrip("-")) > _DIGITS:
        raise ValueError("an integer beyond 64 bits")
    return int(digits)


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError("a number beyond a double")
    return number


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def retry_after(values: Iterable[str], now: datetime) -> float:
    """Seconds that Retry-After headers ask for, at most an hour; 0 for what is past, negative or not understood.

    Args:
        values: All headers of that name: seconds, fractions allowed, or HTTP dates.
        now: The time, with a zone.
    """
    return max((min(_seconds(value.strip(), now), MAX_RETRY_AFTER) for value in values), default=0.0)


def _seconds(value: str, now: datetime) -> float:
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (TypeError, ValueError, OverflowError):  # TypeError: a date without a zone
        return 0.0


class Redaction:
    """Knows one key, and every text that gives a piece of it away."""

    def __init__(self, token: str) -> None:
        raw = token.encode()
        encoded = (
            # A key in the middle of a text has one of three spellings, as Base64 takes three bytes at a time.
            encode(b"\0" * shift + raw)[math.ceil(shift * 8 / 6) :].decode()
            for encode in (base64.b64encode, base64.urlsafe_b64encode)
            for shift in range(3)
        )
        self._forms = tuple(form.lower() for form in (token, quote(token, safe=""), raw.hex(), *encoded))

    def leaks(self, text: str) -> bool:
        """Whether the text holds the key or a piece of it, in clear or in a usual encoding."""
        folded = "".join(text.lower().split())
        size = min(WINDOW, len(self._forms[0]))
        windows = {folded[at : at + size] for at in range(len(folded) - size + 1)}
        return any(window in form for window in windows for form in self._forms)


def words(document: Any, redaction: Redaction) -> str:
    """What an error body says, in one printable line; empty where it says nothing fit to be shown."""
    text = _said(document)[:MAX_SCANNED]
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    if redaction.leaks(line):
        return ""
    return line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT - 1]}…"


def _said(document: Any) -> str:
    if not isinstance(document, dict):
        return ""
    error = document.get("error")
    candidates = (
        _detail(document.get("detail")),
        document.get("message"),
        error.get("message") if isinstance(error, dict) else error,
        document.get("reason"),
    )
    return next((text for text in candidates if isinstance(text, str) and text.strip()), "")


def _detail(detail: Any) -> Any:
    """FastAPI's two shapes: a text, or a list of `{"loc": […], "msg": …}`."""
    if not isinstance(detail, list):
        return detail
    return "; ".join(_complaint(each) for each in detail[:16] if isinstance(each, dict))


def _complaint(error: dict[str, Any]) -> str:
    where, what = error.get("loc"), error.get("msg")
    place = ".".join(str(step) for step in where if step != "body") if isinstance(where, list) else ""
    return ": ".join(part for part in (place, what if isinstance(what, str) else "") if part)


CURES: Mapping[type[EndpointError], str] = MappingProxyType(
    {
        CredentialsRejected: "The key is not valid for this; check it in its Secret.",
        NotFound: "The endpoint does not exist, or this key cannot see it.",
        Throttled: "This key calls too often.",
    }
)
"""What people should make of a refusal that the provider's words alone do not explain."""


def cured(error: type[EndpointError], message: str) -> EndpointError:
    """The error that a refusal means, its message ending in what to make of it."""
    return error(f"{message.rstrip('.')}. {CURES[error]}" if error in CURES else message)


def refusal(who: str, status: int, said: str, *, write: bool) -> EndpointError:
    """What a complete 4xx means where the provider gives it no meaning of its own.

    Args:
        who: The provider and the operation.
        status: 400 to 499, but not 408.
        said: The provider's words, checked.
        write: Whether the request was to change something.
    """
    message = f"{who}: {answered(status, said)}"
    match status:
        case 401 | 403:
            return cured(CredentialsRejected, message)
        case 404:
            return cured(NotFound, message)
        case 429:
            return cured(Throttled, message)
        case 400 | 422 if not write:
            return InvalidSpec(message)
        case _ if write:
            return InvalidSpec(message, maybe_busy=status in {400, 409})
        case _:
            return Unavailable(message)  # no spec makes a read answer so; it must be tried again soon


def answered(status: int, said: str) -> str:
    """A clause that tells an answer."""
    return f"HTTP {status}: {said}" if said else f"HTTP {status}"
