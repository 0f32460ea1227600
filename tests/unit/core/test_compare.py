"""Where a wished and a read configuration differ."""

from __future__ import annotations

from typing import Any

import pytest

from inference_operator.core.compare import Difference, differences, holds_exactly, owner, shows
from inference_operator.core.model import Desired, EndpointRef, Field, Snapshot

REF = EndpointRef("p", "ep")


def agrees(path: str, wanted: Any, seen: Any) -> bool:
    """Equal, but for one field whose spelling does not matter."""
    return bool(wanted == seen or (path == "image" and str(seen).endswith(f"/{wanted}")))


@pytest.mark.parametrize(
    ("values", "hints", "wanted", "shown"),
    [
        ({"image": "x"}, {}, "x", True),
        ({"image": "docker.io/x"}, {}, "x", True),
        ({"image": "y"}, {}, "x", False),
        ({}, {}, "x", False),
        ({"image": "y"}, {"image": "x"}, "x", True),
        ({}, {"image": "docker.io/x"}, "x", True),
        ({"image": "y"}, {"image": "z"}, "x", False),
        ({}, {}, None, True),
        ({"image": "y"}, {}, None, False),
        ({"image": "y"}, {"image": None}, None, False),
    ],
)
def test_any_evidence_counts(values: dict[str, Any], hints: dict[str, Any], wanted: Any, *, shown: bool) -> None:
    assert shows(Snapshot(values, hints), "image", wanted, agrees) == shown


def test_differences_are_told_by_path_in_order() -> None:
    wanted = Desired(
        REF,
        {"b": Field(2), "a": Field(1), "same": Field(0), "hidden": Field(9, readable=False), "list[x]": Field(1)},
        owned=frozenset({"list"}),
    )
    live = Snapshot({"a": 7, "same": 0, "list[y]": 5, "listing[z]": 6, "other": 8})
    assert differences(wanted, live, agrees) == (
        Difference("a", 1, 7),
        Difference("b", 2, None),
        Difference("list[x]", 1, None),
        Difference("list[y]", None, 5),
    )


@pytest.mark.parametrize(
    ("wanted", "values", "held"),
    [
        (Desired(REF, {"image": Field("x")}), {"image": "x", "other": 1}, True),
        (Desired(REF, {"image": Field("x")}), {"image": "docker.io/x"}, False),
        (Desired(REF, {"image": Field("x")}), {}, False),
        (Desired(REF, {"image": Field("x"), "m": Field(1, readable=False)}), {"image": "x", "m": 1}, False),
        (Desired(REF, {"l[a]": Field(1)}, owned=frozenset({"l"})), {"l[a]": 1}, True),
        (Desired(REF, {"l[a]": Field(1)}, owned=frozenset({"l"})), {"l[a]": 1, "l[b]": 2}, False),
        (Desired(REF, {"l[a]": Field(1)}), {"l[a]": 1, "l[b]": 2}, True),
    ],
)
def test_only_the_very_values_and_no_surplus_stand_in_for_a_write(
    wanted: Desired, values: dict[str, Any], *, held: bool
) -> None:
    assert holds_exactly(wanted, Snapshot(values)) == held


def test_an_item_belongs_to_its_list_alone() -> None:
    assert owner("p.envs[A]", ["p.volumes", "p.envs"]) == "p.envs"
    assert owner("p.envsets[A]", ["p.envs"]) is None
    assert owner("p.envs", ["p.envs"]) is None
