"""The page tells all reasons of Events and no other, and all attributes of spans; what it refers to is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from inference_operator import spans, tracing
from inference_operator.api.spec import AdoptionPolicy, DeletionPolicy, DriftPolicy, ManagementPolicy
from inference_operator.core.findings import FALSE, TRUE, UNKNOWN
from inference_operator.core.model import State

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "inference_operator"
PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
EVENTS = PAGE.partition("## Events")[2]
REASONS = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", EVENTS, re.MULTILINE)))
MEANINGS = re.findall(r"^\| (`.*?) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
OTHERS = {
    *State,
    *(TRUE, FALSE, UNKNOWN),
    *("Synced", "Ready", "Reconciling", "Stalled", "Suspended"),
    *(word for policy in (AdoptionPolicy, DeletionPolicy, DriftPolicy, ManagementPolicy) for word in get_args(policy)),
}
"""Words of the same form that are no reasons: states, statuses, kinds of conditions, values of the spec."""


def words() -> set[str]:
    """Every text in the code that decides and reports which is one word in the form of a reason."""
    files = [*PACKAGE.glob("core/*.py"), *PACKAGE.glob("reconcile/*.py")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files if file.name != "__init__.py"]
    values: list[Any] = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {each for each in values if isinstance(each, str) and re.fullmatch(r"([A-Z][a-z]+)+", each)}


def test_every_reason_of_an_event_is_told_and_none_that_there_is_not() -> None:
    assert len(REASONS) == len(set(REASONS)) > 25
    assert set(REASONS) - words() == set()
    assert words() - set(REASONS) - OTHERS == set()


def test_the_readme_says_what_each_reason_means_that_the_page_refers_to_it_for() -> None:
    assert set(REASONS) - set(re.findall(r"`(\w+)`", "".join(MEANINGS))) == {"WriteHazard"}


@pytest.mark.parametrize("name", [*tracing.ENDPOINTS, tracing.PROTOCOLS[1]])
def test_every_variable_that_is_looked_at_is_told(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_every_attribute_of_a_span_is_told() -> None:
    source = Path(spans.__file__).read_text(encoding="utf-8")
    attributes = set(re.findall(r'"inference_operator\.([\w.]+)"', source))
    attributes |= set(re.findall(r'"((?:http|k8s)\.[\w.]+)"', source))
    told = set(re.findall(r"`([\w.]+)`", PAGE.partition("## Traces")[2].partition("## Logs")[0]))
    assert len(attributes) >= 11
    assert attributes <= told


def test_every_link_leads_to_a_file() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", PAGE)]
    assert len(links) >= 4
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
