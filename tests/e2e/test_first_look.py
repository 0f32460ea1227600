"""The page of what people meet first is what a run prints now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from e2e.first_look import PAGE, page, steady


def test_the_page_shows_what_is_printed(tools: Mapping[str, Path], tmp_path: Path) -> None:
    del tools
    made = page(tmp_path)
    assert made == PAGE.read_text(encoding="utf-8"), "make it anew: uv run --directory tests python -m e2e.first_look"


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("a   9s    b", "a   12s   b"),
        ("a   48s   b", "a   12s   b"),
        ("9s          Warning", "12s         Warning"),
        ("True    Serving            7s", "True    Serving            12s"),
        ("Time: 2031-02-03T04:05:06.789Z", "Time: 2026-01-01T12:00:00Z"),
        ("  Resource Version:    123456", "  Resource Version:    4711"),
        ("3 s, v1s, sdxl 2", "3 s, v1s, sdxl 2"),
    ],
)
def test_only_what_differs_from_run_to_run_is_replaced(printed: str, expected: str) -> None:
    assert steady(printed) == expected
