"""Manifests mean what they mean to Kubernetes; the integration tests compare with a real API server."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from inference_operator.crdgen.manifests import read_manifests


def read(text: str) -> list[Any]:
    return [manifest.value for manifest in read_manifests(text)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("y", True),
        ("No", False),
        ("tRue", "tRue"),
        ("~", None),
        ("", None),
        ("0o7", 7),
        ("07", 7),
        ("08", 8),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e3", 1000),
        ("2.0", 2),
        ("1.5", 1.5),
        ("1e999", "1e999"),
        ("12:30", "12:30"),
        ("2001-01-01", "2001-01-01"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!int '3'", 3),
        ("!other x", "x"),
        ("<<", "<<"),
    ],
)
def test_a_scalar_is_read_by_the_rules_of_kubernetes(text: str, value: object) -> None:
    assert read(f"key: {text}") == [{"key": value}]
    assert type(read(f"key: {text}")[0]["key"]) is type(value)


def test_keys_are_texts() -> None:
    assert read("1: a\non: b\nc: d") == [{"1": "a", "true": "b", "c": "d"}]


def test_documents_anchors_and_merges() -> None:
    assert read("---\n# nothing\n---\na: &x {b: 1}\nc: {<<: *x, d: *x}\n---\n- 1\n") == [
        {"a": {"b": 1}, "c": {"b": 1, "d": {"b": 1}}},
        [1],
    ]


def test_what_is_written_wins_over_what_is_merged() -> None:
    assert read("a: {<<: {b: 1, c: 2}, b: 3}") == [{"a": {"b": 3, "c": 2}}]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\na: 2", "the key a appears twice"),
        ("a: &x [*x]", "an anchor contains itself"),
        ("a: .inf", "not a number in JSON"),
        ("? [a]\n: b", "a key must be a text"),
        ("a: [", "expected the node content"),
        ("a: *b", "found undefined alias"),
        ("\ta: b", "found character"),
    ],
)
def test_what_kubernetes_does_not_read_is_refused(text: str, problem: str) -> None:
    with pytest.raises(yaml.YAMLError, match=problem):
        read(text)


def test_a_field_is_found_on_its_line_and_a_missing_one_where_it_would_be() -> None:
    text = "# comment\nspec:\n  first: 1\n\n  list:\n    - name: a\n    - name: b\n      value: c\n"
    (manifest,) = read_manifests(text)
    assert manifest.line(()) == 2
    assert manifest.line(("spec",)) == 2
    assert manifest.line(("spec", "first")) == 3
    assert manifest.line(("spec", "list", 1)) == 7
    assert manifest.line(("spec", "list", 1, "value")) == 8
    assert manifest.line(("spec", "list", 1, "other")) == 7
    assert manifest.line(("spec", "absent", "deeper")) == 2


def test_the_items_of_a_list_are_resources_of_their_own() -> None:
    first, second = read_manifests("apiVersion: v1\nkind: List\nitems:\n- kind: A\n- kind: B\n")
    assert (first.value, first.line(("kind",))) == ({"kind": "A"}, 4)
    assert (second.value, second.line(("kind",))) == ({"kind": "B"}, 5)
