"""Images where no registry is in reach: a base out of Debian packages, and what a Dockerfile makes of it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e.node.commands import run
from e2e.node.workspace import cached, workspace

BASE: Final = "localhost/python:3.11-bookworm"
"""Debian with Python, in place of the public image; it sleeps as well, as the sandbox of every pod."""

_RELEASE: Final = "bookworm"
_CONTENT: Final = ("ca-certificates", "python3", "python3-venv")
_MIRROR: Final = "http://deb.debian.org/debian"
_CONTAINERFILE: Final = 'FROM scratch\nADD rootfs.tar /\nCMD ["sleep", "infinity"]\n'
_SURROUNDINGS: Final = ("/etc/ssl/certs", "/usr/share/ca-certificates", "/etc/pip.conf", "/etc/uv")
"""What leads to package registries from here, lent to a build without leaving a trace in its image."""


@dataclass(frozen=True)
class Builder:
    """A store of images of its own, in layers of overlayfs, which the node's containerd needs as well.

    Attributes:
        folder: Holds all of it.
    """

    folder: Path

    def build(self, context: Path, name: str, *, file: Path | None = None, **arguments: str) -> None:
        """Build an image from images that are here.

        Args:
            context: The folder that files are copied from.
            name: The name that the image gets.
            file: Its Dockerfile; the one in the context where not given.
            arguments: The build arguments.
        """
        volumes = (f"--volume={path}:{path}:ro" for path in _SURROUNDINGS if Path(path).exists())
        given = (f"--build-arg={key}={value}" for key, value in arguments.items())
        source = f"--file={file or context / 'Dockerfile'}"
        self._buildah("bud", "--isolation=chroot", "--pull-never", *volumes, *given, source, f"--tag={name}", context)

    def save(self, name: str) -> Path:
        """Write an image to an archive, for `Node.load`."""
        archive = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:12]}.tar"
        archive.unlink(missing_ok=True)
        self._buildah("push", name, f"docker-archive:{archive}:{name}")
        return archive

    def description(self, name: str) -> dict[str, Any]:
        """An image's configuration as the Open Container Initiative specifies it."""
        found: dict[str, Any] = json.loads(self._buildah("inspect", "--type=image", name))["OCIv1"]
        return found

    def _buildah(self, *arguments: str | Path) -> str:
        store = (f"--root={self.folder / 'images'}", f"--runroot={self.folder / 'state'}", "--storage-driver=overlay")
        return run("buildah", *store, *arguments)


@contextmanager
def builder() -> Iterator[Builder]:
    """A builder that has `BASE`; its images go with it.

    Raises:
        InUseError: Another process builds.
    """
    with workspace("images") as folder:
        file = folder / "base.Dockerfile"
        file.write_text(_CONTAINERFILE)
        made = Builder(folder)
        made.build(_base(folder / "root"), BASE, file=file)
        yield made


def _base(scratch: Path) -> Path:
    """A folder with the base's root file system, installed from Debian packages once, which takes a minute."""
    made_of = "\n".join([_RELEASE, *_CONTENT, platform.machine()])
    folder = cached(f"base-{_RELEASE}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}")
    archive, partial = folder / "rootfs.tar", folder / "partial.tar"
    if not archive.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        run("debootstrap", "--variant=minbase", f"--include={','.join(_CONTENT)}", _RELEASE, scratch, _mirror())
        downloads = ("--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*")
        run("tar", "--create", "--numeric-owner", *downloads, f"--directory={scratch}", f"--file={partial}", ".")
        partial.replace(archive)  # complete from the moment it has its name
    return folder


def _mirror() -> str:
    """Where this machine gets the packages of the release; the public address where it has no use for them."""
    targets = run("apt-get", "indextargets", "--format=$(REPO_URI)", f"Codename: {_RELEASE}", "Created-By: Packages")
    return next(iter(targets.split()), _MIRROR)
