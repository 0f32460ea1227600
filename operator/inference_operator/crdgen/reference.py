"""The reference page of the resource, from the same schema that the API server and `kubectl explain` get."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inference_operator.api import names
from inference_operator.api.base import LIST_MAP_KEYS
from inference_operator.api.spec import INT32_MAX
from inference_operator.crdgen.resource import VALIDATIONS, resource_schema
from inference_operator.crdgen.schema import Schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inference_operator.crdgen.rules import ProviderBlock

_DEFAULT = re.compile(r"\s*Default: (.+?)\.(?=\s|$)")
_TABLE = "| Field | Type | Default | Description |\n| --- | --- | --- | --- |\n"


def reference(drivers: Sequence[ProviderBlock]) -> str:
    """The page `docs/fields.md`: every field of spec and status, and every rule of the API server."""
    properties = resource_schema(drivers)["properties"]
    return (
        "<!-- Generated from the models; do not edit. -->\n\n"
        f"# Fields of {names.KIND}\n\n"
        f"`apiVersion: {names.API_VERSION}`. No field of the spec has a default in the cluster: what is not written\n"
        "is not stored, and has the meaning that the column Default gives.\n\n"
        f"## Spec\n\n{_TABLE}{_rows(properties['spec'], 'spec')}\n"
        "## What the API server refuses\n\n"
        "Each message as it is given, with the place that it is given for.\n\n"
        f"{_refusals(properties['spec'])}\n"
        "## Status\n\n"
        f"Written by the operator only.\n\n{_TABLE}{_rows(properties['status'], 'status')}"
    )


def _walk(schema: Schema, path: str, *, required: bool = False) -> Iterator[tuple[str, Schema, bool]]:
    yield path, schema, required
    for name, child in schema.get("properties", {}).items():
        yield from _walk(child, f"{path}.{name}", required=name in schema.get("required", ()))
    if "items" in schema:
        yield from _walk(schema["items"], f"{path}[]")


def _rows(schema: Schema, root: str) -> str:
    nodes = (node for node in _walk(schema, root) if node[0] != root and not node[0].endswith("[]"))
    return "".join(_row(path, node, required=required) for path, node, required in nodes)


def _row(path: str, node: Schema, *, required: bool) -> str:
    description = node.get("description", "")
    found = _DEFAULT.search(description)
    default = "required" if required else found[1] if found else ""
    cells = (f"`{path}`", _type(node), default, _DEFAULT.sub("", description))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _type(node: Schema) -> str:
    match node:
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "integer", "minimum": low, "maximum": high}:
            return f"integer, {low} to {high}" if high != INT32_MAX else f"integer, at least {low}"
        case {"type": "array"}:
            keys = node.get(LIST_MAP_KEYS)
            return f"list by {keys[0]}" if keys else "list"
        case {"type": "object", "additionalProperties": _}:
            return "map"
        case {"type": name}:
            return str(name)
        case _:
            return "any"


def _refusals(schema: Schema) -> str:
    rules = ((path, rule["message"]) for path, node, _ in _walk(schema, "spec") for rule in node.get(VALIDATIONS, ()))
    return "".join(f"- `{path}`: {message}\n" for path, message in rules)
