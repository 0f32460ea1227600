# ruff: noqa: INP001 - a program beside what it writes, part of no package
"""Writes the tables of README.md: each value with its default from values.yaml and its meaning from values.schema.json.

`uv run python charts/inference-operator/readme.py` does it, after any change of the two; a test finds a stale README.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent
README = CHART / "README.md"
BEGIN, END = "<!-- values: made by readme.py -->\n", "<!-- end of values -->\n"


def render(readme: str) -> str:
    """The text of README.md with fresh tables; the rest of it is written by hand."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + "".join(_tables()) + END + after


def _tables() -> Iterator[str]:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    for section in text.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        yield f"\n### {heading}\n\n| Value | Default | Meaning |\n| --- | --- | --- |\n"
        for name, value in yaml.safe_load(body).items():
            yield from _rows(name, value, schema["properties"][name])
    yield "\n"


def _rows(path: str, value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """The rows of one value, or of all that are below it."""
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from _rows(f"{path}.{name}", value[name], inner)
        return
    yield _row(path, schema.get("default", value) if value is None else value, schema["description"])
    for name, inner in schema.get("items", {}).get("properties", {}).items():
        if "description" in inner:
            yield _row(f"{path}[].{name}", None, inner["description"])


def _row(path: str, default: Any, meaning: str) -> str:
    shown = "" if default is None else f"`{json.dumps(default)}`"
    return f"| `{path}` | {shown} | {meaning} |\n"


if __name__ == "__main__":
    README.write_text(render(README.read_text(encoding="utf-8")), encoding="utf-8")
