"""Runs the emulators as a child process, so that they outlive whatever happens to the program under test."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from inference_operator.playground.emulators.control import EmulatorControl

if TYPE_CHECKING:
    from collections.abc import Iterator

_STOP_SECONDS = 10.0


@contextmanager
def emulator_process() -> Iterator[EmulatorControl]:
    """Starts emulators on free ports, yields their control, and stops them at the end.

    They end as well when the calling process is killed.

    Raises:
        RuntimeError: If they do not come up.
    """
    command = [sys.executable, "-m", "inference_operator.playground.emulators", "--json", "--until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own module
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RuntimeError("the emulators did not start")
            with EmulatorControl(json.loads(line)["control"]) as control:
                yield control
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)
