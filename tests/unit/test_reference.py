from __future__ import annotations

from pathlib import Path

import pytest

from inference_operator.metrics import Metrics
from inference_operator.reference import PAGES
from inference_operator.settings import catalogue

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_fresh(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run: python -m inference_operator.reference"


def test_the_settings_page_has_a_row_for_each_setting() -> None:
    rows = [line for line in PAGES["settings.md"]().splitlines() if line.startswith("| ") and "`--" in line]
    assert len(rows) == len(catalogue())
    for shown in catalogue().values():
        assert sum(f"`{shown.flag}`" in row and f"`{shown.variable}`" in row + "``" for row in rows) == 1


def test_the_metrics_page_has_a_row_for_each_metric() -> None:
    rows = [line for line in PAGES["metrics.md"]().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [metric.name for metric in Metrics().described()]


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(name: str) -> None:
    for table in PAGES[name]().split("\n\n"):
        rows = [line.replace("\\|", "") for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1
