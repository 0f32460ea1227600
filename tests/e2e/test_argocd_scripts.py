"""The scripts for Argo CD, run by Argo CD's own code on the files of its own layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.argocd import ACTIONS, CONFIG_MAP, CUSTOMIZATION, ActionRefusedError, Health, Scripts, config_map
from inference_operator.api.names import REAPPLY_ANNOTATION, REFRESH_ANNOTATION

HEALTH = CUSTOMIZATION / "health_test.yaml"
ACTION = CUSTOMIZATION / "actions" / "action_test.yaml"
NOW = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(name="scripts", scope="module")
def scripts_as_pasted(tools: Mapping[str, Path]) -> Scripts:
    return Scripts(tools["argocd"])


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def cases(path: Path, kind: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{case.get('action', number)}-{Path(case['inputPath']).stem}")
        for number, case in enumerate(load(path)[kind])
    ]


@pytest.mark.parametrize("case", cases(HEALTH, "tests"))
def test_health(scripts: Scripts, case: Mapping[str, Any]) -> None:
    assert scripts.health(load(CUSTOMIZATION / case["inputPath"])) == Health(**case["healthStatus"])


@pytest.mark.parametrize("case", cases(ACTION, "discoveryTests"))
def test_discovery(scripts: Scripts, case: Mapping[str, Any]) -> None:
    found = scripts.actions(load(ACTION.parent / case["inputPath"]))
    assert found == {each["name"]: not each.get("disabled", False) for each in case["result"]}


@pytest.mark.parametrize("case", cases(ACTION, "actionTests"))
def test_action(scripts: Scripts, case: Mapping[str, Any]) -> None:
    resource = load(ACTION.parent / case["inputPath"])
    allowed = scripts.actions(resource)[case["action"]]
    if "expectedErrorMessage" in case:
        with pytest.raises(ActionRefusedError) as refused:
            scripts.act(resource, case["action"])
        assert (str(refused.value), allowed) == (case["expectedErrorMessage"], False)
    else:
        expected = load(ACTION.parent / case["expectedOutputPath"])
        assert (_without_time(scripts.act(resource, case["action"])), allowed) == (_without_time(expected), True)


def _without_time(resource: dict[str, Any]) -> dict[str, Any]:
    """The time of a request is replaced, after a check that it is one; an empty map of annotations is none."""
    annotations = resource["metadata"].pop("annotations", {})
    for name in {REFRESH_ANNOTATION, REAPPLY_ANNOTATION} & annotations.keys():
        assert NOW.fullmatch(annotations[name])
        annotations[name] = "some time"
    return {**resource, "annotations": annotations}


def test_every_action_is_tried_and_refused() -> None:
    tested = load(ACTION)["actionTests"]
    for action in ACTIONS:
        outcomes = {"expectedErrorMessage" in each for each in tested if each["action"] == action}
        assert outcomes == {True, False}
    assert {path.parent.name for path in ACTION.parent.glob("*/action.lua")} == set(ACTIONS)


def test_what_users_paste_is_made_from_the_scripts() -> None:
    message = "run: uv run --directory tests python -m e2e.argocd"
    assert CONFIG_MAP.read_text(encoding="utf-8") == config_map(), message


def test_a_second_request_has_another_value(scripts: Scripts) -> None:
    """Only a new value asks again."""
    refreshed = load(ACTION.parent / "testdata" / "refreshed.yaml")
    again = scripts.act(refreshed, "refresh")["metadata"]["annotations"][REFRESH_ANNOTATION]
    assert again > refreshed["metadata"]["annotations"][REFRESH_ANNOTATION]


@pytest.mark.parametrize("status", [None, {}, {"conditions": []}, {"observedGeneration": 1}])
def test_a_status_that_nobody_has_written_is_in_progress(scripts: Scripts, status: Mapping[str, Any] | None) -> None:
    """Also where the definition is not ours, and gives no default."""
    resource = load(CUSTOMIZATION / "testdata" / "no-status.yaml")
    resource.pop("status")
    found = scripts.health(resource if status is None else {**resource, "status": status})
    assert found.status == "Progressing"
