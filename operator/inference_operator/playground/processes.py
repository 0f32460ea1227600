"""Child processes that cannot outlive the process that started them.

A control plane that stays behind after a crashed test run holds ports and half a gigabyte of memory. Nothing a program
does on its way out helps when it is killed, so the kernel has to do it: a process group whose leader waits for the end
of a pipe that only the owner holds open.
"""

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Self

# Not prctl(PR_SET_PDEATHSIG): that is Linux only, and fires when the *thread* that started the child ends.
_LEADER = ("/bin/sh", "-c", "read -r _; kill -KILL 0")


class ProcessGroup:
    """A group of children that dies with its owner, however the owner dies.

    It is not the terminal's foreground group: Ctrl-C reaches the owner alone, which ends its children when it likes.
    """

    def __init__(self) -> None:
        self._leader = subprocess.Popen(_LEADER, stdin=subprocess.PIPE, process_group=0)  # noqa: S603 - a constant
        self._children: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        stdout: int | IO[str] = subprocess.DEVNULL,
        stderr: int | IO[str] = subprocess.DEVNULL,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a child in this group, without standard input.

        Raises:
            OSError: The program cannot be started.
        """
        child = subprocess.Popen(  # noqa: S603 - every caller passes a list, never a shell line
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=env,
            text=True,
            process_group=self._leader.pid,
        )
        self._children.append(child)
        return child

    def terminate(self, *, grace_seconds: float) -> None:
        """Ask all children to end and give them the same `grace_seconds` together; `close` ends the rest."""
        for child in self._children:
            child.terminate()
        deadline = time.monotonic() + grace_seconds
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Kill what is left, grandchildren included, and collect every child. May be called twice."""
        self._leader.communicate()  # closes the pipe, upon which the leader kills the group and itself
        while self._children:
            child = self._children.pop()
            child.kill()
            child.communicate()


def free_ports(count: int) -> tuple[int, ...]:
    """Distinct loopback TCP ports that nobody listens on at the moment of the call.

    Another process can take one before it is used: whoever uses them tries again with new ones.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return tuple(sock.getsockname()[1] for sock in sockets)


def last_lines(log: Path, *, count: int = 15) -> str:
    """The end of a log file for an error message; empty when there is no such file."""
    with suppress(FileNotFoundError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    return ""
