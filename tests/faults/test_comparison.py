"""The comparison with what people would use instead: what was recorded is complete, and holds when run again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from faults.comparison import RESULTS, Comparison, Counts, Profile, Row, load, render
from faults.peers.command import SUBJECTS
from faults.peers.ordeals import ORDEALS

COMMAND = Path(__file__).with_name("compare.py")


def test_every_subject_has_counts_for_every_row() -> None:
    found = load()
    assert found.subjects == tuple(each.profile for each in SUBJECTS)
    assert found.rows == tuple(Row(name=each.name, title=each.title, beyond=each.beyond) for each in ORDEALS)
    assert {name: list(counts) for name, counts in found.counts.items()} == {
        each.profile.name: [ordeal.name for ordeal in ORDEALS] for each in SUBJECTS
    }


def test_the_operator_has_none_of_the_four_in_any_row_that_it_promises_to_endure() -> None:
    found = load()
    promised = {row.name: found.counts["ours"][row.name].faults for row in found.rows if not row.beyond}
    assert {name: faults for name, faults in promised.items() if faults} == {}
    assert promised


def test_the_results_name_no_place_of_the_machine_that_found_them() -> None:
    assert re.findall(r"(?<![\w.])/(?:\w+/)+\w*|127\.0\.0\.1|localhost", RESULTS.read_text()) == []


def test_every_table_is_whole() -> None:
    found = load()
    tables = [table.splitlines() for table in re.findall(r"(?:^\|.*\n)+", render(found), re.MULTILINE)]
    assert [len(table) - 2 for table in tables] == [len(found.rows), 7, len(found.rows)]
    assert {line.count("|") for table in tables for line in table} == {len(found.subjects) + 2}
    for table in tables:
        assert table[0].split(" | ")[1:] == [
            *(each.title for each in found.subjects[:-1]),
            found.subjects[-1].title + " |",
        ]
    for row in found.rows:
        assert sum(line.startswith(f"| {row.title} ") for table in tables for line in table) == 2


CLEAN = Counts(extra=0, lost=0, stuck=0, false=0, sent=10, writes=20, seconds=3.0)
ROWS = (Row(name="kill", title="Killed"), Row(name="late", title="Late", beyond=True))
SMALL = Comparison(
    date="2026-01-02T03:04:05+00:00",
    seed=7,
    resources=10,
    poll_seconds=2,
    watched_seconds=12,
    patience_seconds=12,
    kubernetes="v1.0.0",
    subjects=tuple(Profile(name=name, title=name.title(), version="1", settings="as shipped") for name in ("a", "b")),
    rows=ROWS,
    counts={
        "a": {"kill": CLEAN, "late": CLEAN.model_copy(update={"extra": 3, "lost": None, "seconds": None})},
        "b": {
            "kill": CLEAN.model_copy(update={"seconds": 1.5}),
            "late": CLEAN.model_copy(update={"lost": 2, "false": 4}),
        },
    },
)


def test_the_tables_say_what_was_counted() -> None:
    said = render(SMALL)
    assert "| Killed | 0 | 0 |" in said
    assert "| Late † | 3 extra | 2 lost, 4 false |" in said
    assert "| rows without any of the four | 1 of 2 | 1 of 2 |" in said
    assert "| extra versions | 3 | 0 |" in said
    assert "| Killed | 3.0 / 20 | 1.5 / 20 |" in said
    assert "| Late † | - / 20 | 3.0 / 20 |" in said
    assert "- **B**: none of the four in 1 of 2 rows; by more than a second sooner done than A in: Killed." in said


@pytest.mark.nightly
@pytest.mark.usefixtures("programs")
def test_a_part_of_the_comparison_run_again_counts_the_same(tmp_path: Path) -> None:
    subjects, rows = ("ours", "naive"), ("reset-after", "kill")
    kept = tmp_path / "found.json"
    command = [
        sys.executable,
        str(COMMAND),
        "--subjects",
        ",".join(subjects),
        "--faults",
        ",".join(rows),
        "--json",
        str(kept),
    ]
    subprocess.run(command, check=True, timeout=280)
    again, recorded = load(kept), load()
    assert again.rows == tuple(row for row in recorded.rows if row.name in rows)
    for subject in subjects:
        for row in rows:
            assert again.counts[subject][row].faults == recorded.counts[subject][row].faults
