"""Operators that are forked from a process which has imported everything, so that a start costs next to nothing.

What is forked has run nothing yet. It starts as `python -m inference_operator` does, with state of its own, and dies
by the same signals. Most of the time that a start takes is for imports.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import TimeoutExpired

PRELOADED = [
    "inference_operator.app",
    "inference_operator.cli",
    "inference_operator.environment",
]


@dataclass(frozen=True)
class Forked:
    """A process, with the methods of `subprocess.Popen`."""

    process: BaseProcess

    @property
    def pid(self) -> int:
        if self.process.pid is None:
            raise RuntimeError("the process was not started")
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Raises:
            TimeoutExpired: It does not come in time, in seconds.
        """
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise TimeoutExpired("inference-operator", timeout or 0.0)
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()

    def terminate(self) -> None:
        self.process.terminate()

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)


def fork(command: Sequence[str], log: Path) -> Forked:
    """Start `python -m inference_operator` with the arguments of such a command; its output goes to a file."""
    log.touch()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    program = command.index("inference_operator")
    process = context.Process(target=_operate, args=(list(command[program + 1 :]), log), daemon=True)
    process.start()
    return Forked(process)


def _operate(arguments: list[str], log: Path) -> None:
    with log.open("wb") as sink:
        os.dup2(sink.fileno(), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        os.dup2(sink.fileno(), sys.__stderr__.fileno() if sys.__stderr__ else 2)
    for name in [name for name in os.environ if name.startswith("INFERENCE_OPERATOR_")]:
        del os.environ[name]
    sys.argv = ["inference-operator", *arguments]

    from inference_operator.cli import main  # noqa: PLC0415 - preloaded in the child, and of no use in the parent

    main()
