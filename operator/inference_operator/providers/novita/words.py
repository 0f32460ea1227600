"""Makes Novita's own words fit for status and Events: one printable line, bounded, and without a user's secrets.

Novita knows the environment variables in clear, so that whatever it says may quote one.
"""

from __future__ import annotations

from collections.abc import Iterable

MAX_WORDS = 256
"""Characters that are passed on."""

MIN_QUOTE = 5
QUOTE = 8
"""Characters in a row that make a quotation; a value shorter than `MIN_QUOTE` gives nothing away."""

HIDDEN = "what Novita says quotes an environment variable and is not shown"


def words(text: str, limit: int = MAX_WORDS) -> str:
    """The text as one printable line of at most `limit` characters."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def quotes(text: str, values: Iterable[str]) -> bool:
    """Whether a text shares enough characters in a row with one of the values to give it away."""
    for value in values:
        length = min(QUOTE, len(value))
        if length >= MIN_QUOTE and any(text[at : at + length] in value for at in range(len(text) - length + 1)):
            return True
    return False
