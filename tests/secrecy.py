"""Finds a token in whatever form it may show: all tokens of the tests have a core that occurs nowhere else."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

CORE: Final = "xKQzrWvTgYpLhNsJmUwRqGtZoHyPiVnS"
"""The part of a token that must show nowhere, not even eight characters of it."""

WINDOW: Final = 8


def forms(secret: str = CORE) -> frozenset[bytes]:
    """Every run of `WINDOW` characters of a secret: plain, hexadecimal, and in base64 at each alignment.

    Percent-encoding, JSON and the repr of bytes leave letters as they are, so that the plain form finds them.
    """
    plain = {secret[start : start + WINDOW].encode() for start in range(len(secret) - WINDOW + 1)}
    return frozenset(form for window in plain for form in (window, *_hexadecimal(window), *_base64(window)))


def _hexadecimal(window: bytes) -> Iterator[bytes]:
    yield binascii.hexlify(window)
    yield binascii.hexlify(window).upper()


def _base64(window: bytes) -> Iterator[bytes]:
    """What remains the same of the window whatever stands around it."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + window)
        first = -(-before * 8 // 6)
        last = (before + len(window)) * 8 // 6
        yield whole[first:last]


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[bytes]:
    return re.compile(b"|".join(map(re.escape, sorted(forms()))))


def shows(content: bytes | str) -> bool:
    """Whether any form of a token is in a text."""
    return _pattern().search(content.encode() if isinstance(content, str) else content) is not None


def files_that_show(folder: Path, *, apart: Iterable[Path] = ()) -> list[Path]:
    """The files below a folder that hold any form of a token; those that are meant to hold tokens are left out."""
    meant = set(apart)
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in meant and _file_shows(path)]


def _file_shows(path: Path) -> bool:
    try:
        return shows(path.read_bytes())
    except OSError:  # it went while it was looked for
        return False
