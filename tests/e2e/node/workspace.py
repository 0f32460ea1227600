"""Folders of one process at a time, in the user's cache, so that what a killed process has left is found again."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.node.commands import run
from inference_operator.playground.binaries import PROGRAMS, cache_folder


class InUseError(RuntimeError):
    """Another process uses the folder; the message names it."""


@contextmanager
def workspace(name: str) -> Iterator[Path]:
    """An empty folder, which is this process's alone while the context is open and gone afterwards.

    Raises:
        InUseError: Another process uses it. The kernel notices when that one ends, however it ends.
    """
    folder = cached(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(f"another process uses {folder}") from None
        _remove(folder)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _remove(folder)


def cached(name: str) -> Path:
    """Where something of that name is kept: beside the programs that `binaries` builds."""
    return cache_folder(PROGRAMS["kubelet"].module).with_name(name)


def _remove(folder: Path) -> None:
    mounted = [Path(line.split()[1]) for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed([each for each in mounted if each.is_relative_to(folder)]):
        run("umount", "--lazy", place)
    if folder.exists():
        shutil.rmtree(folder)
