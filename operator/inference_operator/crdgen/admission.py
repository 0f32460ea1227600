"""Judges a resource as the API server would on creation, from the schema and the rules that it is given.

Unknown fields are errors, as under kubectl's strict validation. Rules that compare with an older object are left
out, since there is none. Values are never quoted in a message: environment variables may be secret.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import celpy
from celpy.adapter import json_to_cel

from inference_operator.api.base import LIST_MAP_KEYS
from inference_operator.api.names import SUBDOMAIN
from inference_operator.crdgen.resource import VALIDATIONS
from inference_operator.crdgen.schema import Schema

Path = tuple[str | int, ...]

_TEXTS: Schema = {"type": "object", "nullable": True, "additionalProperties": {"type": "string"}}

METADATA: Schema = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": SUBDOMAIN, "maxLength": 253},
        "namespace": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63},
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "finalizers": {"type": "array"},
        "ownerReferences": {"type": "array"},
        "generateName": {},
        "creationTimestamp": {},
        "deletionGracePeriodSeconds": {},
        "deletionTimestamp": {},
        "generation": {},
        "managedFields": {},
        "resourceVersion": {},
        "selfLink": {},
        "uid": {},
    },
}
"""What a resource may say about itself: the fields of `ObjectMeta`, checked as far as people write them."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that the API server refuses.

    Attributes:
        path: Where: keys and list indexes from the root of the resource.
        message: What to write instead.
    """

    path: Path
    message: str


class Admission:
    """The judgement of one schema; compiles each rule once."""

    def __init__(self, schema: Schema) -> None:
        """Take the schema of a whole resource (`resource.resource_schema`)."""
        properties = {**schema["properties"], "metadata": METADATA}
        properties.pop("status")
        self._schema = schema | {"properties": properties, "required": ["metadata", *schema["required"]]}
        self._environment = celpy.Environment()
        self._programs: dict[str, celpy.Runner] = {}

    def judge(self, resource: Mapping[str, Any]) -> list[Violation]:
        """What is wrong with a resource; its status is not looked at.

        The rules are asked only if the schema holds, because they may rely on it.
        """
        written = {key: value for key, value in resource.items() if key != "status"}
        return list(_check(self._schema, written, ())) or list(self._broken_rules(self._schema, written, ()))

    def _broken_rules(self, schema: Schema, value: Any, path: Path) -> Iterator[Violation]:
        for rule in schema.get(VALIDATIONS, ()):
            if "oldSelf" not in rule["rule"] and not self._holds(rule["rule"], value):
                yield Violation(path, rule["message"])
        for step, child, child_schema in _children(schema, value):
            yield from self._broken_rules(child_schema, child, (*path, step))

    def _holds(self, rule: str, value: Any) -> bool:
        if rule not in self._programs:
            self._programs[rule] = self._environment.program(self._environment.compile(rule))
        return bool(self._programs[rule].evaluate({"self": json_to_cel(value)}))


def _check(schema: Schema, value: Any, path: Path) -> Iterator[Violation]:
    """Everything in which a value differs from a structural schema."""
    wanted = schema.get("type")
    if value is None and schema.get("nullable"):
        return
    if wanted and not _is(wanted, value):
        yield Violation(path, _wrong_type(wanted, value))
        return
    for keyword, (holds, message) in _LIMITS.items():
        if keyword in schema and not holds(value, schema[keyword]):
            yield Violation(path, message.format(_listed(schema[keyword])))
    yield from _foreign_fields(schema, value, path)
    yield from _repeated_items(schema, value, path)
    for step, child, child_schema in _children(schema, value):
        yield from _check(child_schema, child, (*path, step))


def _is(wanted: str, value: Any) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    return isinstance(value, _PYTHON[wanted])


def _foreign_fields(schema: Schema, value: Any, path: Path) -> Iterator[Violation]:
    """Fields that must be there and are not, and the other way round."""
    yield from (
        Violation(path, f"{name} is missing; write it") for name in schema.get("required", ()) if name not in value
    )
    known = schema.get("properties", {})
    for name in value if known else ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            cure = f"write {near[0]}" if near else f"remove it; known here: {', '.join(known)}"
            yield Violation((*path, name), f"there is no such field; {cure}")


def _repeated_items(schema: Schema, value: Any, path: Path) -> Iterator[Violation]:
    """Items of a keyed list that share their key."""
    for key in schema.get(LIST_MAP_KEYS, ()):
        names = Counter(str(item.get(key)) for item in value if isinstance(item, dict))
        repeated = (name for name, count in names.items() if count > 1)
        yield from (Violation(path, f"two entries have the {key} {name}; keep one of them") for name in repeated)


def _children(schema: Schema, value: Any) -> Iterator[tuple[str | int, Any, Schema]]:
    """The fields or items of a value that the schema knows, each with its own schema."""
    if isinstance(value, dict):
        fields, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for name, child in value.items():
            child_schema = fields.get(name, rest)
            if child_schema is not None:
                yield name, child, child_schema
    elif isinstance(value, list) and "items" in schema:
        yield from ((index, item, schema["items"]) for index, item in enumerate(value))


_PYTHON: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}

_LIMITS: Mapping[str, tuple[Callable[[Any, Any], bool], str]] = {
    "enum": (lambda value, allowed: value in allowed, "is none of the possible values; write one of {}"),
    # `$` also matches before a last newline in Python, and only at the very end in the API server's dialect.
    "pattern": (
        lambda value, pattern: re.search(re.sub(r"\$$", r"\\Z", pattern), value) is not None,
        "has a form that is not allowed; write a text that matches {}",
    ),
    "minLength": (lambda value, limit: len(value) >= limit, "is too short; write at least {} characters"),
    "maxLength": (lambda value, limit: len(value) <= limit, "is too long; write at most {} characters"),
    "minimum": (lambda value, limit: value >= limit, "is too small; write at least {}"),
    "maximum": (lambda value, limit: value <= limit, "is too large; write at most {}"),
    "maxItems": (lambda value, limit: len(value) <= limit, "has too many entries; write at most {}"),
}
"""Keyword to the test of a value of the right type, and what to say where it fails."""


def _listed(limit: object) -> str:
    return ", ".join(map(str, limit)) if isinstance(limit, list) else str(limit)


def _wrong_type(wanted: str, found: object) -> str:
    if found is None:
        return f"has no value; write one of type {wanted}, or remove the field"
    if wanted == "string" and isinstance(found, bool | int | float):
        return "is not a text as YAML reads it; put it in quotes"
    return f"is of the wrong type; write one of type {wanted}"
