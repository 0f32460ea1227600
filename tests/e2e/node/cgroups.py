"""The control groups of the node's pods, as the kernel shows them on the host; version 1 and version 2."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from e2e.node.configuration import CGROUP

_UNIFIED: Final = "cgroup2"
_REMOVAL_SECONDS: Final = 10.0


def create() -> None:
    """Make the subtree that kubelet is told to use, with every controller that there is."""
    for kind, root in _hierarchies():
        (root / CGROUP).mkdir(exist_ok=True)
        if kind == _UNIFIED:
            with suppress(OSError):  # a hierarchy without controllers, beside those of version 1
                enabled = " ".join(f"+{name}" for name in (root / "cgroup.controllers").read_text().split())
                (root / "cgroup.subtree_control").write_text(enabled)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1, which then takes no process
            with suppress(OSError):
                (root / CGROUP / setting).write_text((root / setting).read_text())


def remove() -> None:
    """Remove the subtree once its processes have ended; the kernel takes a moment to notice that they have."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while any([not _removed(root / CGROUP) for _, root in _hierarchies()]) and time.monotonic() < deadline:  # noqa: C419 - each of them
        time.sleep(0.1)


def memory_group(container: str) -> Path:
    """The folder through which the kernel accounts for a container's memory.

    Raises:
        LookupError: No such container runs.
    """
    for _, root in _hierarchies():
        for found in (root / CGROUP).rglob(container):
            if any((found / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
                return found
    raise LookupError(f"no running container {container}")


def processes(group: Path) -> list[int]:
    """The ids, on the host, of the processes in a control group."""
    return [int(line) for line in (group / "cgroup.procs").read_text().split()]


def _hierarchies() -> Iterator[tuple[str, Path]]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind in {"cgroup", _UNIFIED}:
            yield kind, Path(place)


def _removed(group: Path) -> bool:
    with suppress(OSError):
        for inner in sorted(group.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):
                inner.rmdir()
        group.rmdir()
    return not group.exists()
