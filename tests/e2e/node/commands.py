"""Running other people's programs: quiet while they succeed, and with their own words when they do not."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SECONDS: Final = 600.0
"""How long any of them may take."""


class CommandError(RuntimeError):
    """A program did not succeed; the message ends with what it said."""


def run(*command: str | Path, text: str | None = None) -> str:
    """Run a program and return what it printed.

    Args:
        command: The program and its arguments.
        text: What it reads from standard input.

    Raises:
        CommandError: It ended with another code than 0, or not in time.
    """
    said = " ".join(map(str, command))
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"`{said}` took more than {SECONDS:.0f} s: {_end(error.stdout, error.stderr)}") from None
    if done.returncode != 0:
        raise CommandError(f"`{said}` ended with {done.returncode}:\n{_end(done.stdout, done.stderr)}")
    return done.stdout


def succeeds(command: Sequence[str | Path]) -> bool:
    """Whether a program ends with 0; what it says does not matter."""
    return subprocess.run(command, capture_output=True, check=False, timeout=SECONDS).returncode == 0


def _end(*outputs: str | bytes | None) -> str:
    texts = (output.decode(errors="replace") if isinstance(output, bytes) else output or "" for output in outputs)
    return "\n".join(texts)[-4000:]
