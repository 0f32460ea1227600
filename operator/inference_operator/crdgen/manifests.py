"""Reads manifests as Kubernetes does, and remembers on which line each field stands.

Kubernetes reads YAML 1.1 with Go's rules, which differ from Python's: `y` is true, `12:30` and `2001-01-01` are
texts, `0o7` and `1e3` are numbers, a key must not appear twice. A verdict that is given without a cluster has to
read the same values. (Compared with kube-apiserver value by value in the integration tests.)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode
from yaml.constructor import ConstructorError

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_TEXT = f"{_TAG}str"
_PLAIN = "plain"

_WORDS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
}
_NOT_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER = re.compile(r"[-+]?(0[bB][01]+|0[oO][0-7]+|0[xX][0-9a-fA-F]+|[0-9]+)")
_OCTAL = re.compile(r"[-+]?0[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document, or one item of a List.

    Attributes:
        value: What it says, as JSON.
        node: Where it says so.
    """

    value: Any
    node: Node

    def line(self, path: tuple[str | int, ...]) -> int:
        """The line of a field, counted from 1; of the closest one around it if it is not written."""
        node, line = self.node, self.node.start_mark.line
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return line + 1


def read_manifests(text: str) -> Iterator[Manifest]:
    """The documents of a text, and the items of each List; empty documents are left out.

    Raises:
        yaml.YAMLError: The text is not YAML, or holds what cannot be said in JSON.
    """
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            value = _json(loader, node, ()) if node else None
            if node and value is not None:
                yield from _items(Manifest(value, node))
    finally:
        loader.dispose()


def _items(manifest: Manifest) -> Iterator[Manifest]:
    match manifest.value:
        case {"kind": "List", "items": [*items]}:
            _, nodes = next(pair for pair in manifest.node.value if pair[0].value == "items")
            yield from (Manifest(item, node) for item, node in zip(items, nodes.value, strict=True))
        case _:
            yield manifest


class _Loader(yaml.SafeLoader):
    """Leaves plain scalars unresolved, so that they can be read by Go's rules."""

    def resolve(self, kind: type[Node], value: str | None, implicit: Any) -> str:
        if kind is ScalarNode and implicit[0]:
            return _MERGE if value == "<<" else _PLAIN
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]  # the stubs leave it bare


def _json(loader: _Loader, node: Node, inside: tuple[Node, ...]) -> Any:
    if node in inside:
        raise ConstructorError(None, None, "an anchor contains itself", node.start_mark)
    match node:
        case MappingNode():
            return _mapping(loader, node, (*inside, node))
        case SequenceNode():
            return [_json(loader, item, (*inside, node)) for item in node.value]
        case _:
            return _scalar(node)


def _mapping(loader: _Loader, node: MappingNode, inside: tuple[Node, ...]) -> dict[str, Any]:
    own = set()
    for key_node, _ in node.value:
        if key_node.tag != _MERGE and _key(key_node) in own:
            raise ConstructorError(None, None, f"the key {_key(key_node)} appears twice", key_node.start_mark)
        own.add(_key(key_node))
    loader.flatten_mapping(node)
    return {_key(key_node): _json(loader, value_node, inside) for key_node, value_node in node.value}


def _key(node: Node) -> str:
    if not isinstance(node, ScalarNode):
        raise ConstructorError(None, None, "a key must be a text", node.start_mark)
    value = _scalar(node)
    return value if isinstance(value, str) else json.dumps(value)


def _scalar(node: Node) -> Any:
    text = str(node.value)
    if node.tag in {_TEXT, _MERGE} or not (node.tag == _PLAIN or node.tag.startswith(_TAG)):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_JSON.fullmatch(text):
        raise ConstructorError(None, None, f"{text} is not a number in JSON", node.start_mark)
    return _number(text)


def _number(text: str) -> int | float | str:
    """The number that Go reads in a plain scalar, else the text itself. Whole floats are integers in JSON."""
    digits = text.replace("_", "") if text[0] != "_" else text
    if _OCTAL.fullmatch(digits):
        return int(digits, 8)
    if _INTEGER.fullmatch(digits) and not re.match(r"[-+]?0[89]", digits):
        return int(digits, 0)
    if _FLOAT.fullmatch(digits) and math.isfinite(value := float(digits)):
        return int(value) if value.is_integer() else value
    return text


def _child(node: Node, step: str | int) -> tuple[Node, int] | None:
    match node:
        case MappingNode():
            found = ((value, key.start_mark.line) for key, value in node.value if key.value == step)
            return next(found, None)
        case SequenceNode() if isinstance(step, int) and step < len(node.value):
            return node.value[step], node.value[step].start_mark.line
        case _:
            return None
