"""Pages with opaque cursors, as Friendli's lists have them: a map of at most ``limit`` members and the next cursor."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LARGEST = 100
_DEFAULT = 20


class LimitError(ValueError):
    """The query parameter ``limit`` is not a number in range."""


class CursorError(ValueError):
    """The query parameter ``cursor`` was not made here."""


def page(items: Iterable[tuple[str, dict[str, Any] | None]], query: Mapping[str, str]) -> dict[str, Any]:
    """Returns one page of items.

    A cursor names the last key that was shown and stays good while items come and go.

    Args:
        items: Key and value of every item in order; a value of None is not shown, but may still be the place where
            the page before ended.
        query: The query parameters ``limit`` (1 to 100, default 20) and ``cursor``.

    Raises:
        LimitError: For a limit out of range.
        CursorError: For a cursor that was not made here.
    """
    limit, after = _limit(query), _decoded(query.get("cursor"))
    data: dict[str, Any] = {}
    skipping, last = after is not None, ""
    for key, value in items:
        if skipping:
            skipping = key != after
        elif value is not None:
            if len(data) == limit:
                return {"data": data, "nextCursor": base64.urlsafe_b64encode(last.encode()).decode()}
            data[key] = value
            last = key
    if skipping:
        raise CursorError("Invalid cursor")
    return {"data": data, "nextCursor": None}


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(_DEFAULT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LARGEST:
        raise LimitError(f"Input should be an integer from 1 to {_LARGEST}")
    return int(text)


def _decoded(cursor: str | None) -> str | None:
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True).decode() if cursor else None
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise CursorError("Invalid cursor") from None
