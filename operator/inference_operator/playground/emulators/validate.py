"""Judges request bodies by schemas written from the providers' documents, never by the operator's own models.

Definitions are compiled once, with their references written out: looking a reference up costs more than the check
that it leads to, and emulators take part in benchmarks.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jsonschema import ValidationError

_LONGEST_MESSAGE = 300


class Problem(NamedTuple):
    """One way in which a value breaks its schema.

    Attributes:
        location: Keys and indexes that lead to the offending value, outermost first.
        rule: The schema keyword that was broken, for example ``required``.
        message: What is wrong, for people.
    """

    location: tuple[str | int, ...]
    rule: str
    message: str

    def __str__(self) -> str:
        """Returns location and message in one line."""
        return f"{'.'.join(map(str, self.location)) or 'body'}: {self.message}"


def _is_integer(_checker: object, value: object) -> bool:
    # JSON Schema takes 1.0 for an integer; a sender that writes it has lost the documented type.
    return isinstance(value, int) and not isinstance(value, bool)


_PLAIN_TYPES = {"string": str, "integer": int, "boolean": bool}
_PLAIN_KEYWORDS = frozenset({"type", "maxLength", "default"})


def _conforms_plainly(schema: Mapping[str, Any], value: Any) -> bool:
    """Tells cheaply that a leaf is good; False only means that the library has to look."""
    if value.__class__ is not _PLAIN_TYPES.get(str(schema.get("type"))) or not schema.keys() <= _PLAIN_KEYWORDS:
        return False
    longest = schema.get("maxLength")
    return longest is None or len(str(value)) <= longest


def _properties(
    validator: Any, properties: Mapping[str, Any], instance: Any, _schema: object
) -> Iterator[ValidationError]:
    """Does what the library's keyword does, without its expensive descent into leaves that are plainly good."""
    if not isinstance(instance, dict):
        return
    for name, schema in properties.items():
        if name in instance and not _conforms_plainly(schema, instance[name]):
            yield from validator.descend(instance[name], schema, path=name, schema_path=name)


_Validator = extend(  # type: ignore[no-untyped-call] # the stubs leave it untyped
    Draft202012Validator,
    validators={"properties": _properties},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


class Schemas:
    """The compiled definitions of one provider."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Compiles every entry of the document's ``$defs``."""
        definitions = document["$defs"]
        self._validators = {name: _Validator(_inlined(node, definitions)) for name, node in definitions.items()}

    def problems(self, definition: str, value: Any) -> list[Problem]:
        """Returns every way in which the value breaks the named definition; none means that it conforms."""
        return [_problem(error) for error in _causes(self._validators[definition].iter_errors(value))]


def load(provider: str) -> Schemas:
    """Compiles the definitions of ``friendli`` or ``novita``, which are shipped as package data."""
    text = resources.files(__package__).joinpath("schemas", f"{provider}.json").read_text("utf-8")
    return Schemas(json.loads(text))


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    return {key: _inlined(value, definitions) for key, value in node.items()}


def _causes(errors: Iterator[ValidationError]) -> Iterator[ValidationError]:
    """Looks behind "object or null": what the object got wrong says more than that it fits neither."""
    for error in errors:
        yield from [cause for cause in error.context or () if cause.validator_value != "null"] or (error,)


def _problem(error: ValidationError) -> Problem:
    message = error.message
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + "..."
    return Problem(tuple(error.absolute_path), str(error.validator), message)
