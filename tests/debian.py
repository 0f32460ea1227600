"""Debian packages of programs that tests need and no language's registry has, installed when missing."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path


class UnfitMachineError(RuntimeError):
    """The tests cannot run on this machine; the message says what to do."""


def install(packages: Mapping[str, str]) -> None:
    """Install the packages that are missing, without starting the services that they bring.

    Args:
        packages: Debian packages, and a program of each by which it is known to be there.

    Raises:
        UnfitMachineError: Packages are missing and cannot be installed.
    """
    with (Path(tempfile.gettempdir()) / "debian-packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several workers may find the same missing
        missing = [package for package, program in packages.items() if shutil.which(program) is None]
        if missing:
            _install(missing)


def _install(missing: list[str]) -> None:
    advice = f"install these Debian packages: {' '.join(missing)}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise UnfitMachineError(advice)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", *arguments], capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            raise UnfitMachineError(f"{advice} (apt-get {arguments[0]} failed: {done.stderr.strip()[-500:]})")


def program(name: str, package: str) -> Path:
    """Where a program is, after installing its package if it is missing.

    Raises:
        UnfitMachineError: It is missing and cannot be installed.
    """
    install({package: name})
    return Path(shutil.which(name) or name)
