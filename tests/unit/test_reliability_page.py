"""The page on reliability tells what the tests show, and every row of the fault matrix is accounted for."""

from __future__ import annotations

from pathlib import Path

from faults.coverage import proofs
from faults.matrix import GROUPS, LEFT_OUT, ROWS
from faults.reliability import PAGE, page


def test_every_row_is_shown_by_a_test_or_says_why_not() -> None:
    named = {proof.row for proof in proofs()}
    assert named - ROWS.keys() == set(), "these rows do not exist"
    assert ROWS.keys() - named - LEFT_OUT.keys() == set(), "these rows are neither shown nor left out"
    assert len(ROWS) == 93
    assert {row[0] for row in ROWS} == GROUPS.keys()


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: uv run --directory tests python -m faults.reliability"


def test_marks_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "import pytest\n"
        "pytestmark = [pytest.mark.covers('A1'), pytest.mark.faults]\n"
        "@pytest.mark.covers('B1', 'B2')\n"
        "async def test_x(): ...\n"
        "@pytest.mark.nightly\n"
        "@pytest.mark.covers('C1')\n"
        "class TestY:\n"
        "    @pytest.mark.covers('D1')\n"
        "    def test_z(self): ...\n"
    )
    found = {(proof.row, proof.test, proof.when) for proof in proofs(tmp_path)}
    assert found == {
        ("A1", "", "faults"),
        ("B1", "test_x", "faults"),
        ("B2", "test_x", "faults"),
        ("C1", "TestY", "nightly"),
        ("D1", "test_z", "faults"),
    }
