from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from bench import turns
from bench.contestants import SUBJECTS
from bench.phases import PHASES, Phase
from bench.record import OTHERS, Absent, Result
from bench.running import whole_blocks
from bench.turns import Course, NotInSyncError, Plan

PLAN = Plan(subjects=("floor", "safe", "ours", "ours-3"), phases=("edit", "shards"), blocks=1, seed=6)


class Drawing:
    """Stands for a stage of which only the numbers matter."""

    draw = random.Random()  # noqa: S311 - replaced before every try
    watched = None


def course() -> Course:
    return Course(cast("Any", None), cast("Any", None), PLAN, lambda *_: None)


def result(block: int, others: float = 0.0) -> Result:
    known: dict[str, Any] = {"place": 0, "subject": "ours", "phase": "edit", "resources": 1, "changes": 1}
    known |= {"seconds": 1.0, "cpu": 0.0, "resident": 0.0, "descriptors": 0, "samples": {}, "counts": {}}
    return Result(**known, block=block, others=others)


@pytest.mark.parametrize(("turns_of_last", "whole"), [(1, 2), (5, 2), (6, 3)])
def test_of_an_interrupted_run_whole_blocks_count(turns_of_last: int, whole: int) -> None:
    """Edits are for all four, the burst of shards for two."""
    results = [result(block) for block in (0, 1) for _ in range(6)] + [result(2)] * turns_of_last
    assert whole_blocks(results, PLAN) == whole
    assert whole_blocks([], PLAN) == 0


@pytest.mark.parametrize(("turns_of_last", "whole"), [(3, 1), (4, 2)])
def test_who_takes_part_once_is_not_waited_for_in_later_blocks(turns_of_last: int, whole: int) -> None:
    """Without this operator there are three edits and one burst of shards."""
    results = [result(0)] * 6 + [result(1)] * turns_of_last
    assert whole_blocks(results, replace(PLAN, blocks=2, once=("ours",))) == whole


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
        return result(block=0, others=next(tries))

    monkeypatch.setattr(turns, "_carried_out", carried_out)
    whole = course()
    found = whole._undisturbed(cast("Any", Drawing()), PHASES["edit"], 0, 0)
    assert (None if found is None else found.others) == kept
    assert [each.others for each in whole.dropped] == dropped
    assert len(drawn) == len(others)
    assert len(set(drawn)) == 1


def test_what_prepares_a_phase_draws_what_the_phase_draws_and_comes_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    class Resting(Drawing):
        def let_rest(self) -> None:
            done.append("rest")

    def carried_out(stage: Any, *_: Any) -> Any:
        done.append(stage.draw.random())
        return Drawing

    monkeypatch.setattr(turns, "_carried_out", carried_out)
    monkeypatch.setattr(Drawing, "others", 0.0, raising=False)
    phase = replace(PHASES["edit"], prepare=lambda stage: done.append(stage.draw.random()))
    course()._undisturbed(cast("Any", Resting()), phase, 0, 0)
    assert done == [done[0], "rest", done[0]]


def test_only_those_take_part_that_a_phase_is_for() -> None:
    assert sorted(course()._order(0, [PHASES["shards"]])) == ["ours", "ours-3"]
    assert sorted(course()._order(0, [PHASES["edit"]])) == sorted(PLAN.subjects)
    orders = {tuple(course()._order(block, [PHASES["edit"]])) for block in range(20)}
    assert len(orders) > 1


@dataclass
class Standing:
    """Stands for a subject at work, of which only the name matters."""

    name: str
    draw: random.Random
    watched: float | None = 0.0

    @property
    def subject(self) -> Any:
        return type("Named", (), {"profile": SUBJECTS[self.name].profile})


def worked_through(
    monkeypatch: pytest.MonkeyPatch,
    *phases: str,
    subjects: Sequence[str],
    blocks: int,
    once: Sequence[str] = (),
    unable: str = "",
    absent: list[Absent] | None = None,
) -> list[str]:
    """What a course does: who comes, who goes, and whose turn it is in which phase; one may not get in sync."""
    done: list[str] = []

    @contextmanager
    def stage(_: Course, name: str, phase: Phase) -> Iterator[Standing]:
        if name == unable:
            raise NotInSyncError(name, 7, phase.resources, 150.0, "what it logged")
        done.append(f"+{name} {phase.resources}")
        yield Standing(name, random.Random())  # noqa: S311 - an order
        done.append(f"-{name} {phase.resources}")

    def undisturbed(_: Course, stage: Standing, phase: Phase, block: int, place: int) -> None:
        del block, place
        done.append(f"{stage.name} {phase.name}")

    monkeypatch.setattr(Course, "_stage", stage)
    monkeypatch.setattr(Course, "_undisturbed", undisturbed)
    plan = replace(PLAN, subjects=subjects, phases=phases, blocks=blocks, once=once)
    missed = [] if absent is None else absent
    assert list(Course(cast("Any", None), cast("Any", None), plan, lambda *_: None, absent=missed).run()) == []
    return done


def test_everybody_stays_for_edits_from_block_to_block_and_has_turns_phase_by_phase(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = worked_through(monkeypatch, "edit", "burst", "edit-10", subjects=("floor", "ours"), blocks=2)
    assert sorted(done[:2]) == ["+floor 300", "+ours 300"]
    assert [turn.split()[1] for turn in done[2:6]] == ["edit", "edit", "burst", "burst"]
    assert sorted(done[6:8]) == ["+floor 10", "+ours 10"]
    assert len(done) == 4 + 2 * 6 + 4
    assert all(each.startswith("-") for each in done[-4:])


def test_what_is_counted_at_rest_has_the_cluster_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    done = worked_through(monkeypatch, "edit", "rest", subjects=("ours",), blocks=2)
    block = ["+ours 300", "ours edit", "-ours 300", "+ours 300", "ours rest", "-ours 300"]
    assert done == 2 * block


def test_those_that_leave_connections_open_start_anew_for_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    done = worked_through(monkeypatch, "edit", "burst", subjects=("floor", "peer-b"), blocks=1)
    assert done[0] == "+floor 300"
    assert [each for each in done if "peer-b" in each] == [
        *("+peer-b 300", "peer-b edit", "-peer-b 300"),
        *("+peer-b 300", "peer-b burst", "-peer-b 300"),
    ]


def test_who_takes_part_once_has_turns_in_the_first_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    done = worked_through(monkeypatch, "edit", subjects=("floor", "peer-b"), blocks=3, once=("peer-b",))
    assert done.count("floor edit") == 3
    assert done.count("peer-b edit") == 1
    assert done.index("peer-b edit") < done.index("floor edit", done.index("floor edit") + 1)


def test_a_peer_that_is_never_in_sync_is_a_result_and_the_others_have_their_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent: list[Absent] = []
    phases = ("edit", "burst", "rest")
    done = worked_through(monkeypatch, *phases, subjects=("ours", "peer-d"), blocks=1, unable="peer-d", absent=absent)
    assert [each for each in done if each.split()[-1] in phases] == ["ours edit", "ours burst", "ours rest"]
    assert sorted(phase for each in absent for phase in each.phases) == sorted(phases)
    assert {(each.subject, each.block, each.in_sync, each.resources) for each in absent} == {("peer-d", 0, 7, 300)}


@pytest.mark.parametrize("phase", ["edit", "rest"])
def test_a_run_ends_where_anybody_else_is_not_in_sync(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotInSyncError, match="7 of 300 resources in sync after 150 s:\nwhat it logged"):
        worked_through(monkeypatch, phase, subjects=("ours", "peer-d"), blocks=1, unable="ours")


def test_endpoints_of_an_account_are_of_every_kind() -> None:
    kinds = turns._kinds(9)
    assert list(kinds) == [f"r{number:05d}" for number in range(9)]
    assert [list(kinds.values()).count(kind) for kind in set(kinds.values())] == [3, 3, 3]
