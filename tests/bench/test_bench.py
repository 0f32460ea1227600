from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.__main__ import _once, _parser, main
from bench.contestants import ONCE, TESTS
from bench.record import load

PATIENCE_SECONDS = 600


def bench(*choice: str) -> subprocess.CompletedProcess[str]:
    """One small run from the command line."""
    command = [sys.executable, "-m", "bench", *choice, "--blocks", "1", "--scale", "0.02"]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)


@pytest.mark.nightly
@pytest.mark.timeout(PATIENCE_SECONDS)
@pytest.mark.usefixtures("programs")
def test_a_small_run_counts_what_three_subjects_do(tmp_path: Path) -> None:
    kept = tmp_path / "run.json"
    done = bench("--subjects", "floor,safe,safe-typed", "--phases", "edit,burst", "--others", "1", "--json", str(kept))
    assert (
        "**Void**: single edits: FLOOR did not take part twice; SAFE was not held against its yardstick." in done.stdout
    ), done.stderr[-3000:]
    assert done.returncode == 1
    seen = {(each.subject, each.phase): each for each in load(kept).results}
    assert set(seen) == {(name, phase) for name in ("floor", "safe", "safe-typed") for phase in ("edit", "burst")}
    for (name, _), found in seen.items():
        expected = {"floor": (1, 0, 1), "safe": (1, 2, 2), "safe-typed": (1, 2, 2)}[name]
        per_change = (found.counts[kind] / found.changes for kind in ("mutations", "reads", "writes"))
        assert (found.resources, found.changes, tuple(per_change)) == (6, 6, expected)
        assert len(found.samples["request"]) == len(found.samples["synced"]) == 6
        assert found.resident > 0


@pytest.mark.nightly
@pytest.mark.timeout(PATIENCE_SECONDS)
@pytest.mark.usefixtures("programs")
def test_subjects_side_by_side_are_one_run(tmp_path: Path) -> None:
    kept = tmp_path / "run.json"
    choice = ("--subjects", "ours-novita,ours", "--phases", "rest", "--watch", "5", "--side-by-side")
    done = bench(*choice, "--json", str(kept))
    assert done.returncode == 0, done.stderr[-3000:]
    run = load(kept)
    assert run.command.endswith("--scale 0.02 --watch 5.0 --others 1.0 --side-by-side")
    assert {(each.subject, each.counts["mutations"]) for each in run.results} == {("ours", 0), ("ours-novita", 0)}
    assert [profile.name for profile in run.subjects] == ["ours-novita", "ours"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (("--subjects", "floor", "--once", "ours"), "not ['ours']"),
        (("--subjects", "ours", "--once", "ours", "--phases", "rest", "--side-by-side"), "side by side"),
    ],
)
def test_who_takes_part_once_takes_part_in_a_run_with_blocks(
    choice: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(choice)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choice", "once"),
    [
        ((), ONCE),
        (("--subjects", "ours,peer-d"), ()),
        (("--once", "peer-b"), ("peer-b",)),
        (("--side-by-side",), ()),
    ],
)
def test_of_the_usual_subjects_some_take_part_once(choice: Sequence[str], once: Sequence[str]) -> None:
    assert _once(_parser().parse_args(choice)) == list(once)


@pytest.mark.parametrize(("subjects", "phases"), [("floor,floor2", "edit"), ("floor,ours", "account")])
def test_edits_and_phases_that_are_not_for_all_do_not_run_side_by_side(
    subjects: str, phases: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--subjects", subjects, "--phases", phases, "--side-by-side"])
    assert f"not ['{phases}']" in capsys.readouterr().err
