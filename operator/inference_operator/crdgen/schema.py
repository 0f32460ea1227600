"""Translates a model into the structural schema that a custom resource needs, or refuses.

Pydantic speaks JSON Schema; the API server takes a small dialect of it and ignores or rejects the rest. The
translator works from an allow list, so that whoever writes a model learns at once what cannot be held.

| pydantic | structural schema |
| --- | --- |
| `$ref` | inlined |
| null beside a type | dropped: absent means absent |
| title, default | dropped: noise, and how a reader takes an absent field is not for the server to store |
| const | an enum of one |
| `Any` | any JSON value, preserved as it is |
| a list | keyed as its field says (`api.base.keyed_by`), else atomic |
| anything else | `UnsupportedSchemaError` |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inference_operator.api.base import LIST_MAP_KEYS, LIST_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

Schema = dict[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"

_REF_PREFIX = "#/$defs/"
_NULL = {"type": "null"}
_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean"})
_COPIED = (
    "type",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "maxItems",
    "required",
    LIST_TYPE,
    LIST_MAP_KEYS,
)
_CHILDREN = ("properties", "items", "additionalProperties")
_KNOWN = frozenset({*_COPIED, *_CHILDREN, "description", "const", "title", "default", "$defs"})
_ORDER = ("description", *_COPIED, PRESERVE, "nullable", *_CHILDREN)
_CURES = {
    "exclusiveMinimum": "give the inclusive bound (ge)",
    "exclusiveMaximum": "give the inclusive bound (le)",
    "prefixItems": "use a list instead of a tuple",
    "uniqueItems": "use a list with keyed_by instead of a set",
    "oneOf": "use optional fields and a rule",
    "allOf": "write the fields out",
    "not": "use a rule",
}


class UnsupportedSchemaError(TypeError):
    """A model uses what a structural schema cannot hold; the message names the place and the cure."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model, with its field docstrings as descriptions.

    Raises:
        UnsupportedSchemaError: The model uses what a structural schema cannot hold.
    """
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _Translator(document.get("$defs", {})).node(document, model.__name__, ())


class _Translator:
    """Walks one model's JSON Schema; `path` is for messages, `inside` are the references being inlined."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def node(self, source: Schema, path: str, inside: tuple[str, ...]) -> Schema:
        if "$ref" in source:
            return self._reference(source, path, inside)
        if "anyOf" in source:
            return self._optional(source, path, inside)
        _refuse_foreign(source, path)
        target = {keyword: source[keyword] for keyword in _COPIED if keyword in source}
        if "description" in source:
            target["description"] = " ".join(source["description"].split())
        if "const" in source:
            target["enum"] = [source["const"]]
        return _finished(target | self._children(source, path, inside))

    def _children(self, source: Schema, path: str, inside: tuple[str, ...]) -> Schema:
        children: Schema = {}
        if "properties" in source:
            properties = source["properties"].items()
            children["properties"] = {name: self.node(child, f"{path}.{name}", inside) for name, child in properties}
        if "items" in source:
            children["items"] = self.node(source["items"], f"{path}[]", inside)
        if "additionalProperties" in source:
            children["additionalProperties"] = self._values(source, path, inside)
        return children

    def _reference(self, source: Schema, path: str, inside: tuple[str, ...]) -> Schema:
        name = source["$ref"].removeprefix(_REF_PREFIX)
        if name in inside:
            raise UnsupportedSchemaError(path, f"{name} contains itself; a structural schema has no references")
        siblings = {keyword: value for keyword, value in source.items() if keyword != "$ref"}
        return self.node(self._definitions[name] | siblings, path, (*inside, name))

    def _optional(self, source: Schema, path: str, inside: tuple[str, ...]) -> Schema:
        branches = [branch for branch in source["anyOf"] if branch != _NULL]
        if len(branches) != 1 or len(branches) == len(source["anyOf"]):
            raise UnsupportedSchemaError(path, "a union of types is not allowed; give each its own field")
        siblings = {keyword: value for keyword, value in source.items() if keyword != "anyOf"}
        return self.node(branches[0] | siblings, path, inside)

    def _values(self, source: Schema, path: str, inside: tuple[str, ...]) -> Schema:
        if "properties" in source:
            raise UnsupportedSchemaError(path, "additionalProperties beside properties is not allowed")
        values = source["additionalProperties"]
        if values is False:
            raise UnsupportedSchemaError(path, "an object that can hold nothing; give it fields")
        return self.node({} if values is True else values, f"{path}{{}}", inside)


def _finished(target: Schema) -> Schema:
    """Adds what pydantic leaves implicit: how a list merges, and that a node without a type holds anything."""
    if target.get("type") == "array":
        target.setdefault(LIST_TYPE, "atomic")
    if "type" not in target:
        target |= {PRESERVE: True, "nullable": True}
    return {keyword: target[keyword] for keyword in _ORDER if keyword in target}


def _refuse_foreign(source: Schema, path: str) -> None:
    # What has a cure is told first: a tuple shows as prefixItems beside bounds of its length.
    for keyword in sorted(source.keys() - _KNOWN, key=lambda keyword: (keyword not in _CURES, keyword)):
        cure = _CURES.get(keyword)
        complaint = f"{keyword} is not allowed in a structural schema" + (f"; {cure}" if cure else "")
        raise UnsupportedSchemaError(path, complaint)
    if "type" in source and source["type"] not in _TYPES:
        raise UnsupportedSchemaError(path, f"type {source['type']} is not allowed")
    if "type" not in source and ("enum" in source or "const" in source):
        raise UnsupportedSchemaError(path, "an enum of several types is not allowed; give its values one type")
