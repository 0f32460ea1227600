from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import pytest

from bench import turns
from bench.phases import PHASES
from bench.record import OTHERS, Result
from bench.turns import Course, Plan

PLAN = Plan(subjects=("floor", "safe", "ours", "ours-3"), phases=("edit", "shards"), blocks=1, seed=6)


class Drawing:
    """Stands for a stage of which only the numbers matter."""

    draw = random.Random()  # noqa: S311 - replaced before every try
    watched = None


def course() -> Course:
    return Course(cast("Any", None), cast("Any", None), PLAN, lambda *_: None)


@pytest.mark.parametrize(
    ("others", "kept", "dropped"),
    [
        ([OTHERS], OTHERS, []),
        ([0.3, 0.0], 0.0, [0.3]),
        ([0.3, 0.11], None, [0.3, 0.11]),
    ],
)
def test_a_disturbed_turn_is_repeated_once_with_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, others: Sequence[float], kept: float | None, dropped: Sequence[float]
) -> None:
    tries, drawn = iter(others), []

    def carried_out(stage: Any, *_: Any) -> Result:
        drawn.append(stage.draw.random())
        known: dict[str, Any] = {
            "block": 0,
            "place": 0,
            "subject": "ours",
            "phase": "edit",
            "resources": 1,
            "changes": 1,
        }
        known |= {"seconds": 1.0, "cpu": 0.0, "resident": 0.0, "descriptors": 0, "samples": {}, "counts": {}}
        return Result(**known, others=next(tries))

    monkeypatch.setattr(turns, "_carried_out", carried_out)
    whole = course()
    found = whole._undisturbed(cast("Any", Drawing()), PHASES["edit"], 0, 0)
    assert (None if found is None else found.others) == kept
    assert [each.others for each in whole.dropped] == dropped
    assert len(drawn) == len(others)
    assert len(set(drawn)) == 1


def test_only_those_take_part_that_a_phase_is_for() -> None:
    assert sorted(course()._order(0, [PHASES["shards"]])) == ["ours", "ours-3"]
    assert sorted(course()._order(0, [PHASES["edit"]])) == sorted(PLAN.subjects)
    orders = {tuple(course()._order(block, [PHASES["edit"]])) for block in range(20)}
    assert len(orders) > 1


def test_endpoints_of_an_account_are_of_every_kind() -> None:
    kinds = turns._kinds(9)
    assert list(kinds) == [f"r{number:05d}" for number in range(9)]
    assert [list(kinds.values()).count(kind) for kind in set(kinds.values())] == [3, 3, 3]
