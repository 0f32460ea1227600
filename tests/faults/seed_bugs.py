"""Seeds one bug at a time into a copy of the tree and shows that the tests find it.

    uv run python tests/faults/seed_bugs.py [NAME…] [--jobs N] [--list]

Each mutant is a class of mistake that people make in such programs, written down in `mutants/*.toml` as a text of the
product and what stands there instead. It is first met by the tests that should find it; if they do not, by the whole
default suite. A mutant that survives is a hole in the tests. The exit code is 0 only if all were killed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS = Path(__file__).with_name("mutants")
PACKAGE = "inference_operator"

NOT_COPIED = (".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "build", "dist")

ONE_BY_ONE = ("-p", "no:cacheprovider", "-q", "-x", "--tb=no", "-rfE")
SERIAL = ("-n0",)
PATIENCE_SECONDS = 600.0
"""For the chosen tests; a mutant may make them hang, which is no less a finding than a failure."""

WHOLE = ("--ignore=tests/unit/test_mutants.py",)  # which fails for any mutant, as each is a changed tree
WHOLE_SECONDS = 3600.0


class NotApplicable(Exception):  # noqa: N818 - a finding about the catalogue
    """A mutant does not fit the product as it is."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One seeded bug.

    Attributes:
        name: Names it on the command line.
        mistake: The class of mistake, as a clause.
        file: The file, below the package.
        before: A text that occurs there exactly once.
        after: What stands there instead.
        tests: Arguments of pytest: what should find it, fastest first.
    """

    name: str
    mistake: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]

    @property
    def module(self) -> str:
        """The module that it changes."""
        return f"{PACKAGE}." + self.file.removesuffix(".py").replace("/", ".")

    def applied(self, source: str) -> str:
        """The source with the bug in it.

        Raises:
            NotApplicable: The text to be replaced is not there, or more than once.
        """
        if (found := source.count(self.before)) != 1:
            raise NotApplicable(f"{self.name}: its text occurs {found} times in {self.file}")
        return source.replace(self.before, self.after)


def catalogue(folder: Path = SEEDS) -> list[Mutant]:
    """All mutants, in the order of their files."""
    documents = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml"))]
    return [
        Mutant(**{**seed, "tests": tuple(seed.get("tests", document["tests"]))})
        for document in documents
        for seed in document["mutant"]
    ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: the test that failed, or None where none did, with a note if none could be run."""

    mutant: Mutant
    killer: str | None
    seconds: float
    note: str = ""

    def __str__(self) -> str:
        outcome = f"killed by {self.killer}" if self.killer else f"SURVIVED {self.note}".rstrip()
        return f"{self.mutant.name}: {outcome} ({self.seconds:.1f} s)"


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the tree, in which the package is imported from the copy, by child processes too."""

    root: Path

    @property
    def package(self) -> Path:
        """The folder of the package."""
        return self.root / "operator" / PACKAGE

    async def imported(self, module: str) -> Path:
        """The file that an import of a module leads to."""
        code = "import importlib, sys; print(importlib.import_module(sys.argv[1]).__file__)"
        status, output = await self._run("-c", code, module, seconds=60)
        if status:
            raise NotApplicable(f"{module} cannot be imported any more:\n{output}")
        return Path(output.splitlines()[-1])

    async def fails(self, *arguments: str, seconds: float) -> str | None:
        """The first test that fails; None if all pass.

        Raises:
            NotApplicable: The tests could not be run at all.
        """
        try:
            status, output = await self._run("-m", "pytest", *ONE_BY_ONE, *arguments, seconds=seconds)
        except TimeoutError:
            return f"the time limit of {seconds:g} s"
        failure = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)
        if status and failure is None:
            raise NotApplicable(f"pytest ended with {status}:\n{output[-2000:]}")
        return failure.group(1) if failure else None

    async def _run(self, *arguments: str, seconds: float) -> tuple[int, str]:
        path = os.pathsep.join((str(self.root / "operator"), str(self.root / "tests")))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(seconds):
                output, _ = await process.communicate()
        finally:
            with suppress(ProcessLookupError):  # what the tests have left, or all of them
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode or 0, output.decode(errors="replace")


@asynccontextmanager
async def a_copy(tree: Path) -> AsyncIterator[Copy]:
    """A copy of a tree in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="seeded-", ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "tree"
        await asyncio.to_thread(shutil.copytree, tree, root, ignore=shutil.ignore_patterns(*NOT_COPIED))
        yield Copy(root)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where mutants of one tree meet the tests, `places` at a time, and one at a time the whole suite."""

    tree: Path
    places: asyncio.Semaphore
    whole: asyncio.Lock

    async def judge(self, mutant: Mutant) -> Verdict:
        """Seed the bug and run the tests until one fails."""
        async with self.places:
            began = time.monotonic()
            try:
                killer, note = await self._killer(mutant), ""
            except NotApplicable as error:
                killer, note = None, f"({error})"
            return Verdict(mutant, killer, time.monotonic() - began, note)

    async def _killer(self, mutant: Mutant) -> str | None:
        async with a_copy(self.tree) as copy:
            target = copy.package / mutant.file
            target.write_text(mutant.applied(target.read_text(encoding="utf-8")), encoding="utf-8")
            if (found := await copy.imported(mutant.module)) != target:
                raise NotApplicable(f"{mutant.name}: {mutant.module} is imported from {found}, not from {target}")
            killer = await copy.fails(*SERIAL, *mutant.tests, seconds=PATIENCE_SECONDS)
            if killer is None:
                async with self.whole:
                    killer = await copy.fails(*WHOLE, seconds=WHOLE_SECONDS)
            return killer


async def seed(mutants: Sequence[Mutant], jobs: int) -> bool:
    """Judge all mutants and print each verdict as it comes; whether all were killed.

    All of them are copies of the tree as it was at the beginning, in which the chosen tests pass without any bug: what
    fails later fails for the bug.
    """
    began = time.monotonic()
    chosen = sorted({argument for mutant in mutants for argument in mutant.tests})
    async with a_copy(ROOT) as pristine:
        bench = Bench(pristine.root, asyncio.Semaphore(jobs), asyncio.Lock())
        async with a_copy(pristine.root) as copy:
            failing = await copy.fails(f"-n{jobs}", *chosen, seconds=WHOLE_SECONDS)
        if failing:
            print(f"nothing can be shown: {failing} fails without any bug seeded")
            return False
        print(f"the chosen tests pass without any bug seeded ({time.monotonic() - began:.0f} s)", flush=True)
        killed = 0
        for number, verdict in enumerate(asyncio.as_completed([bench.judge(each) for each in mutants]), start=1):
            judged = await verdict
            killed += judged.killer is not None
            print(f"[{number}/{len(mutants)}] {judged}", flush=True)
    print(f"{killed} of {len(mutants)} killed in {time.monotonic() - began:.0f} s")
    return killed == len(mutants)


def main() -> int:
    """The command line."""
    every = {mutant.name: mutant for mutant in catalogue()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to seed; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: 2)")
    parser.add_argument("--list", action="store_true", help="only print the mutants and their mistakes")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # so that nothing is left running, also in the background
        signal.signal(number, signal.default_int_handler)
    if unknown := set(given.names) - every.keys():
        parser.error(f"no such mutants: {', '.join(sorted(unknown))}")
    chosen = [every[name] for name in given.names or every]
    if given.list:
        print("\n".join(f"{mutant.name}: {mutant.mistake}" for mutant in chosen))
        return 0
    return 0 if asyncio.run(seed(chosen, given.jobs)) else 1


if __name__ == "__main__":
    sys.exit(main())
