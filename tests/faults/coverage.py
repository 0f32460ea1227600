"""Which tests show which rows of the fault matrix, read from the marks in their sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]


class Proof(NamedTuple):
    """A test, or a whole file of tests, that shows a row.

    Attributes:
        row: The row's id.
        file: Path below `tests/`.
        test: Name of the test or class; empty for the whole file.
        when: Mark that keeps it out of the default run: `faults`, `nightly`, or empty.
    """

    row: str
    file: str
    test: str
    when: str


def proofs(root: Path = TESTS) -> list[Proof]:
    """All marks `covers` in the tests below a folder, in the order of files and lines."""
    return [proof for path in sorted(root.rglob("test_*.py")) for proof in _in_file(path, root)]


def _in_file(path: Path, root: Path) -> Iterator[Proof]:
    tree, file = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(root).as_posix()
    shared = [mark for node in tree.body if _sets_pytestmark(node) for mark in _marks(node)]
    for row in _rows(shared):
        yield Proof(row, file, "", _when(shared))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            marks = [mark for decorator in node.decorator_list for mark in _marks(decorator)]
            for row in _rows(marks):
                yield Proof(row, file, node.name, _when(marks + shared))


def _sets_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets
    )


def _marks(node: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """The marks in a piece of source, with their arguments that are texts."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Attribute) and part.value.attr == "mark":
            yield part.attr, []
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            texts = [each.value for each in part.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            yield part.func.attr, texts


def _rows(marks: list[tuple[str, list[str]]]) -> list[str]:
    return [row for name, rows in marks if name == "covers" for row in rows]


def _when(marks: list[tuple[str, list[str]]]) -> str:
    names = {name for name, _ in marks}
    return next((mark for mark in ("nightly", "faults") if mark in names), "")
