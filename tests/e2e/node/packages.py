"""What the node needs of the machine that it runs on: Debian packages, and the right to install and use them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import debian

PACKAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "buildah": "buildah",
        "conntrack": "conntrack",
        "containerd": "containerd",
        "containernetworking-plugins": "/usr/lib/cni/ptp",
        "debootstrap": "debootstrap",
        "iproute2": "ip",
        "iptables": "iptables",
        "nftables": "nft",
        "openssl": "openssl",
        "runc": "runc",
    }
)
"""Debian packages, and a program of each by which it is known to be there."""


def install() -> None:
    """Install the packages that are missing.

    Raises:
        UnfitMachineError: This is not root on Linux, or packages are missing and cannot be installed.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise debian.UnfitMachineError("a node needs namespaces, cgroups and mounts: run this as root on Linux")
    debian.install(PACKAGES)
