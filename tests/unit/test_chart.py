"""The chart's files agree with each other, and with the settings, the definition and the version of the operator."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference_operator import __version__
from inference_operator.api.names import CRD_NAME, KIND, VERSION
from inference_operator.crdgen import resource
from inference_operator.environment import load
from inference_operator.providers.registry import DRIVERS
from inference_operator.settings import Settings, catalogue
from inference_operator.validate import validate_text

CHART = Path(__file__).parents[2] / "charts" / "inference-operator"
META = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
TEXT = (CHART / "values.yaml").read_text(encoding="utf-8")
VALUES = yaml.safe_load(TEXT)

DECIDED_BY_THE_CHART = {
    "namespaces",
    "label_selector",
    "kubeconfig",
    "context",
    "ca_file",
    "proxy_url",
    "secrets",
    "leader_election",
    "lease_namespace",
    "http_address",
}
"""Settings that follow from other values, and those that make no sense in a pod."""

WORDED_FOR_A_FLAG = {"baseUrls"}


def camel(name: str) -> str:
    return re.sub("_(.)", lambda letter: letter[1].upper(), name)


SETTINGS = {camel(name): name for name in Settings.model_fields if name not in DECIDED_BY_THE_CHART}


def test_it_is_the_chart_of_this_version() -> None:
    assert (META["version"], META["appVersion"]) == (__version__, __version__)


def test_what_artifact_hub_shows_is_true() -> None:
    shown = META["annotations"]
    (definition,) = yaml.safe_load(shown["artifacthub.io/crds"])
    assert (definition["name"], definition["kind"], definition["version"]) == (CRD_NAME, KIND, VERSION)
    examples = yaml.safe_load(shown["artifacthub.io/crdsExamples"])
    assert sorted(each["spec"]["provider"] for each in examples) == sorted(driver.name for driver in DRIVERS)
    assert validate_text(yaml.safe_dump_all(examples), file="Chart.yaml", drivers=DRIVERS).findings == ()


def test_the_definition_is_fresh() -> None:
    stale = resource.check(CHART / "files" / f"{CRD_NAME}.yaml", DRIVERS)
    assert not stale, "run: inference-operator crds --output charts/inference-operator/files"


def test_the_readme_is_fresh() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    assert readme == runpy.run_path(str(CHART / "readme.py"))["render"](readme), (
        "run: python charts/inference-operator/readme.py"
    )


def test_the_links_of_the_readme_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (CHART / "README.md").read_text(encoding="utf-8"))
    assert len(links) >= 3
    assert [link for link in links if not (CHART / link).exists()] == []


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────


def test_every_setting_is_a_value_or_decided_by_the_chart() -> None:
    assert Settings.model_fields.keys() >= DECIDED_BY_THE_CHART
    assert SCHEMA["properties"]["settings"]["properties"].keys() == SETTINGS.keys()
    assert VALUES["settings"] == dict.fromkeys(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_has_the_meaning_default_and_choices_of_the_operator(name: str) -> None:
    schema = SCHEMA["properties"]["settings"]["properties"][name]
    shown = catalogue()[SETTINGS[name]]
    inside = load({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {}, providers=[])
    assert schema["default"] == getattr(inside, SETTINGS[name])
    if name not in WORDED_FOR_A_FLAG:
        assert schema["description"] == shown.meaning
    if "|" in shown.metavar:
        assert schema["enum"] == [*shown.metavar.split("|"), None]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("bound", ["minimum", "maximum", "exclusiveMinimum"])
def test_the_bounds_of_a_setting_are_within_those_of_the_operator(name: str, bound: str) -> None:
    schema = SCHEMA["properties"]["settings"]["properties"][name]
    if "number" not in schema.get("type", ()) and "integer" not in schema.get("type", ()):
        return
    assert schema.keys() & {"minimum", "exclusiveMinimum"}
    extreme = schema.get(bound)
    if extreme is None:
        return
    value = 1e-9 if bound == "exclusiveMinimum" else extreme
    given = (
        {SETTINGS[name]: value, "settle_seconds": 1e9} if name == "requestTimeoutSeconds" else {SETTINGS[name]: value}
    )
    if name == "settleSeconds":
        given["request_timeout_seconds"] = 1e-9
    assert getattr(Settings.model_validate(given), SETTINGS[name]) == value


def test_the_providers_with_another_url_are_those_of_the_registry() -> None:
    schema = SCHEMA["properties"]["settings"]["properties"]["baseUrls"]
    assert list(schema["patternProperties"]) == [f"^({'|'.join(driver.name for driver in DRIVERS)})$"]
    assert schema["additionalProperties"] is False


# ── values and their schema ───────────────────────────────────────────────────────────────────────────


def objects(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every part of a schema that has properties, by its path."""
    if "properties" in schema:
        yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from objects(inner, f"{path}/{name}")
    if isinstance(schema.get("items"), dict):
        yield from objects(schema["items"], f"{path}[]")


def test_the_schema_knows_exactly_the_values_and_no_others_are_allowed() -> None:
    known = {path: set(schema["properties"]) for path, schema in objects(SCHEMA) if "[]" not in path}
    known[""].remove("global")
    assert known == {path: set(at(path)) for path in known}
    everything = [
        *objects(SCHEMA),
        *(each for name, part in SCHEMA["definitions"].items() for each in objects(part, name)),
    ]
    open_to_all = [path for path, schema in everything if schema.get("additionalProperties") is not False]
    assert open_to_all == ["/extraVolumes[]"], "the kinds of volumes are too many to be repeated"


@pytest.mark.parametrize(("path", "schema"), [each for each in objects(SCHEMA) if "[]" not in each[0]])
def test_every_value_is_required_that_cannot_be_null(path: str, schema: Mapping[str, Any]) -> None:
    del path
    inner = {name: part for name, part in schema["properties"].items() if name != "global"}
    nullable = {name for name, part in inner.items() if "null" in part.get("type", ()) or None in part.get("enum", ())}
    # Helm drops a null, and the default with it, before it asks the schema, which so can only miss the value.
    assert schema.get("required", []) == [name for name in inner if name not in nullable]


def at(path: str) -> Any:
    """The value at a path."""
    value = VALUES
    for name in path.split("/")[1:]:
        value = value[name]
    return value


def described(schema: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[int, str, str]]:
    """Indentation, name and description of each value, in the schema's order."""
    for name, inner in schema["properties"].items():
        yield depth, name, inner.get("description", "")
        if "properties" in inner:
            yield from described(inner, depth + 1)


def commented() -> Iterator[tuple[int, str, str]]:
    """The same of values.yaml: each key with the comment right above it."""
    comment: list[str] = []
    for line in TEXT.splitlines():
        if found := re.fullmatch(r" *# (.*)", line):
            comment.append(found[1])
            continue
        if found := re.match(r"( *)([\w-]+):", line):
            yield len(found[1]) // 2, found[2], " ".join(comment)
        comment = []


def test_the_comments_say_what_the_schema_says() -> None:
    keys = list(commented())
    wanted = [each for each in described(SCHEMA) if each[1] != "global"]
    assert [each for each in keys if each in wanted] == wanted
    assert [each for each in keys if each not in wanted and each[2]] == []
    assert [name for _, name, text in wanted if not text and name not in groups()] == []


def groups() -> set[str]:
    """The names of groups, which explain themselves."""
    return {path.rpartition("/")[2] for path, _ in objects(SCHEMA)}
