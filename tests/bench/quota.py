"""Limits of processor time, as a Kubernetes node sets them for containers; control groups of version 1 and 2."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from bench.vitals import family

_PERIOD_MICROSECONDS: Final = 100_000
"""After so long a used up quota is there again; as on nodes."""

_CONTROLLER: Final = "cpu"


class NoControlGroupsError(RuntimeError):
    """This user may not limit processes here, or the kernel has nothing to do it with."""


@contextmanager
def limited(roots: Iterable[int], cores: float) -> Iterator[None]:
    """Allow each process, with all that it has started, so much processor time per second, for as long as this lasts.

    Args:
        roots: The processes.
        cores: How many seconds of processor time each gets in a second.

    Raises:
        NoControlGroupsError: It cannot be done here.
    """
    parent, home = _groups()
    with ExitStack() as stack:
        for root in roots:
            group = parent / f"bench-{os.getpid()}-{root}"
            try:
                group.mkdir()
                stack.callback(group.rmdir)
                _set(group, cores)
                members = list(family(root))
                for pid in members:
                    (group / "cgroup.procs").write_text(str(pid))
                stack.callback(_release, home, members)
            except OSError as error:
                reason = (
                    f"{group}: {error.strerror}; limiting processes takes root and control groups that may be written"
                )
                raise NoControlGroupsError(reason) from error
        yield


def check() -> None:
    """See that processes can be limited.

    Raises:
        NoControlGroupsError: They cannot.
    """
    with limited([os.getpid()], cores=os.cpu_count() or 1):
        pass


def _groups() -> tuple[Path, Path]:
    """Where groups can be made in the hierarchy that limits processor time, and the group of this process."""
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for _, place, kind, options, *_ in mounts:
        old = kind == "cgroup" and _CONTROLLER in options.split(",")
        new = kind == "cgroup2" and _CONTROLLER in _controllers(Path(place))
        for _, names, group in groups:
            if (old and _CONTROLLER in names.split(",")) or (new and not names):
                return Path(place), Path(place) / group.lstrip("/")
    raise NoControlGroupsError("no control groups limit processor time here")


def _controllers(place: Path) -> list[str]:
    with suppress(OSError):
        return (place / "cgroup.controllers").read_text().split()
    return []


def _set(group: Path, cores: float) -> None:
    quota = round(cores * _PERIOD_MICROSECONDS)
    if (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
    else:
        (group / "cpu.max").write_text(f"{quota} {_PERIOD_MICROSECONDS}")


def _release(home: Path, members: Iterable[int]) -> None:
    for pid in members:
        with suppress(ProcessLookupError):
            (home / "cgroup.procs").write_text(str(pid))
