"""What a process remembers of other resources that name an endpoint."""

from __future__ import annotations

import pytest

from inference_operator.core.claims import Rivalry


def test_what_was_asked_is_remembered_from_meeting_to_meeting() -> None:
    met = Rivalry(waiting={"a": 5.0}, asked_at=7.0).meets(None, {"a", "b"}, lost=False, now=10)
    assert met == Rivalry(None, {"a": 5.0, "b": 10}, None, 7.0)


@pytest.mark.parametrize(
    ("waiting", "matters", "misses"),
    [
        ({"a": 10.5}, (), True),
        ({"a": 10.5}, ("a",), False),
        ({"a": 10.0}, (), False),
        ({"a": 9.5}, (), False),
        ({"a": 9.5}, ("a",), False),
        ({"a": 10.5, "b": 9.5}, ("a",), False),
        ({}, ("a",), False),
    ],
)
def test_something_is_missed_that_was_waited_for_only_a_while(
    waiting: dict[str, float], matters: tuple[str, ...], *, misses: bool
) -> None:
    assert Rivalry(waiting=waiting).misses(matters, since=10.0) == misses
