"""Lets a mutation tool change the core everywhere, one small change at a time, and compares what survives with a list.

    uv run --no-sync --with mutmut==3.8.1 python tests/faults/mutate_core.py [--jobs N] [--only MODULE…] [--write]

The tool is mutmut. It wants a source folder of its own naming and tests without child processes, so that it works on a
copy, which `--folder` keeps for the next time: then only what has changed since, and what survived, is tried again.
Changes that touch nothing but a sentence for people are left out. Each survivor stands in `mutants/survivors.md` with
the reason why it may; one that does not, or one of the list that is killed, ends this with 1. `--write` makes the list
anew and keeps the reasons.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants") / "survivors.md"
PACKAGE = "inference_operator"
CORE = Path("src") / PACKAGE / "core"
MODULES = sorted(path.stem for path in (ROOT / "operator" / PACKAGE / "core").glob("[a-z]*.py"))
TESTS = (
    "tests/unit/core",
    "tests/unit/reconcile/test_passes.py",
    "tests/unit/reconcile/test_sending.py",
    "tests/unit/reconcile/test_stale_looks.py",
    "tests/unit/reconcile/test_restores.py",
)
"""Those without chance, which finds something else each time; the fastest first."""

SURVIVED = {0, 5, 33}
"""What mutmut notes for a mutant that passes all tests, or that no test meets."""

Function = ast.FunctionDef | ast.AsyncFunctionDef

CONFIGURATION = """
[tool.pytest.ini_options]
pythonpath = ["tests"]
addopts = ["--import-mode=importlib", "-p", "no:cacheprovider", "-m=not faults and not nightly"]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
markers = ["faults: -", "nightly: -", "covers(*rows): -"]
[tool.mutmut]
source_paths = ["src/inference_operator"]
only_mutate = ["src/inference_operator/core/*"]
pytest_add_cli_args_test_selection = [{tests}]
timeout_multiplier = 4.0
timeout_constant = 3.0
track_dependencies = false
use_git_change_detection = false
"""

QUIET = """

import structlog


def _drop(*_: object) -> dict[str, object]:
    raise structlog.DropEvent


structlog.configure(processors=[_drop])
"""
"""Drawing the traceback of every pass that a change breaks would take most of the time."""

HEAD = """# What survives in the core

Made and checked by

    uv run --no-sync --with mutmut==3.8.1 python tests/faults/mutate_core.py

which changes `core/` in every place where mutmut knows a change. Of the changes below no test of the core takes notice,
and none has to, for the reason given. Sentences for people are not changed.

"""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One small change: in which function, and what its lines were and are."""

    where: str
    before: str
    after: str

    @property
    def module(self) -> str:
        """The file that it changes."""
        return self.where.partition(" ")[0]

    def __str__(self) -> str:
        return f"`{self.where}`: `{self.before}` → `{self.after}`"


class _WithoutProse(ast.NodeTransformer):
    """Takes the words out of sentences."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if (
            isinstance(node.value, str)
            and re.search(r"\s", node.value)
            and re.search(r"[a-z]", node.value, re.IGNORECASE)
        ):
            return ast.Constant("a sentence")
        return node


def _skeleton(function: Function) -> str:
    body = ast.parse(ast.unparse(ast.Module(function.body, [])))
    return ast.dump(_WithoutProse().visit(body))


def prepare(folder: Path) -> None:
    """Bring the copy up to date; files that did not change keep their time, by which mutmut knows them."""
    for source, target in ((ROOT / "operator" / PACKAGE, folder / "src" / PACKAGE), (ROOT / "tests", folder / "tests")):
        wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        for path in wanted:
            here, there = source / path, target / path
            if not there.exists() or here.read_bytes() != there.read_bytes():
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(here, there)
        for path in [path for path in target.rglob("*.py") if path.relative_to(target) not in wanted]:
            path.unlink()
    with (folder / "tests" / "conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write(QUIET)
    shutil.rmtree(folder / "mutants" / "tests", ignore_errors=True)  # mutmut copies them anew
    chosen = ", ".join(map(json.dumps, TESTS))
    (folder / "pyproject.toml").write_text(CONFIGURATION.format(tests=chosen), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Tried:
    """One change, and how its tests ended: mutmut's code for it, None where it is still to be tried."""

    change: Change
    code: int | None


def tried(folder: Path, modules: Iterable[str]) -> dict[str, Tried]:
    """All changes that mutmut has made in the modules, by its names for them; not those of sentences for people."""
    found = {}
    for path in (folder / "mutants" / CORE / each for each in modules):
        functions = {
            node.name: node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, Function)
        }
        noted = json.loads(path.with_name(f"{path.name}.meta").read_text(encoding="utf-8"))["exit_code_by_key"]
        for name, code in noted.items():
            function, _, _ = (short := name.rpartition(".")[2]).partition("__mutmut_")
            before, after = functions[f"{function}__mutmut_orig"], functions[short]
            if _skeleton(before) != _skeleton(after):
                where = f"{path.name} {function.removeprefix('x').strip('_ǁ').replace('ǁ', '.')}"
                found[name] = Tried(Change(where, *_differing(_lines(before), _lines(after))), code)
    return found


def _lines(function: Function) -> list[str]:
    return [line.strip() for statement in function.body for line in ast.unparse(statement).splitlines()]


def _differing(before: list[str], after: list[str]) -> tuple[str, str]:
    differences = list(difflib.ndiff(before, after))
    return tuple(" ".join(line[2:] for line in differences if line.startswith(sign)) for sign in "-+")  # type: ignore[return-value] # two signs


def mutmut(folder: Path, *arguments: str, quiet: bool = False) -> None:
    """Run the tool."""
    sink = subprocess.DEVNULL if quiet else None
    subprocess.run([sys.executable, "-m", "mutmut", *arguments], cwd=folder, stdout=sink, check=not quiet)


@dataclass(frozen=True, slots=True)
class Listed:
    """The list: modules that were tried, and the changes that may survive in them, with their reasons."""

    modules: frozenset[str]
    reasons: Mapping[Change, str]

    @staticmethod
    def read() -> Listed:
        """The list as it stands."""
        text = LIST.read_text(encoding="utf-8") if LIST.exists() else ""
        entries = re.findall(r"^- `(.+?)`: `(.*)` → `(.*)`  — ?(.*)$", text, re.MULTILINE)
        modules = re.search(r"^Tried: (.*)\.$", text, re.MULTILINE)
        return Listed(
            frozenset(modules.group(1).split(", ") if modules else ()),
            {Change(where, before, after): reason for where, before, after, reason in entries},
        )

    def renewed(self, modules: Collection[str], found: Iterable[Change]) -> Listed:
        """The list after these modules were tried once more."""
        kept = {change: reason for change, reason in self.reasons.items() if change.module not in modules}
        return Listed(self.modules | {*modules}, kept | {change: self.reasons.get(change, "") for change in found})

    def write(self) -> None:
        """Store it."""
        lines = [f"- {change}  — {reason}".rstrip() for change, reason in sorted(self.reasons.items())]
        tried = f"Tried: {', '.join(sorted(self.modules))}.\n"
        LIST.write_text("\n".join((HEAD + tried, *lines, "")), encoding="utf-8")


def run(folder: Path, given: argparse.Namespace) -> int:
    """Try all changes; see the module."""
    modules = [f"{name}.py" for name in given.only or MODULES]
    prepare(folder)
    mutmut(folder, "run", "none", quiet=True)  # makes the changes, and tries none
    due = [name for name, each in tried(folder, modules).items() if each.code in {None, *SURVIVED}]
    if due and not given.reuse:
        mutmut(folder, "run", "--max-children", str(given.jobs), *due)
    every = tried(folder, modules).values()
    found = {each.change for each in every if each.code in SURVIVED}
    waiting = sum(each.code is None for each in every)
    print(f"{len(every)} changes: {len(found)} are not noticed, {waiting} not tried")
    known = Listed.read()
    if given.write:
        known = known.renewed(modules, found)
        known.write()
    expected = {change for change, reason in known.reasons.items() if reason and change.module in modules}
    for change in sorted(found - expected):
        print(f"without a reason: {change}")
    for change in sorted(expected - found):
        print(f"no survivor any more: {change}")
    return 0 if found == expected and not waiting else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="changes at a time (default: 2)")
    parser.add_argument("--only", nargs="*", default=[], metavar="MODULE", help="modules of the core; all by default")
    parser.add_argument("--folder", type=Path, help="where to work, kept; else a temporary one")
    parser.add_argument("--write", action="store_true", help="make the list anew")
    parser.add_argument("--reuse", action="store_true", help="only compare what the last run in the folder has noted")
    given = parser.parse_args()
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
        return run(given.folder.resolve(), given)
    with tempfile.TemporaryDirectory(prefix="mutate-core-") as folder:
        return run(Path(folder), given)


if __name__ == "__main__":
    sys.exit(main())
