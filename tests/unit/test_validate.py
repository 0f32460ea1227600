"""The verdict without a cluster: the API server's and the planner's, with file, line and what to write instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from crd_case import GONE, Bad, resource
from crd_cases import BAD, SAMPLES
from inference_operator.crdgen.rules import spec_rules
from inference_operator.errors import InvalidSpec, SecretMissing
from inference_operator.providers.friendli.driver import FriendliDriver
from inference_operator.providers.registry import DRIVERS
from inference_operator.validate import Finding, Severity, validate_files, validate_text

if TYPE_CHECKING:
    from inference_operator.core.model import Desired


def verdict(text: str) -> list[Finding]:
    return list(validate_text(text, file="file.yaml", drivers=DRIVERS).findings)


def test_every_sample_is_valid() -> None:
    report = validate_files(SAMPLES, DRIVERS)
    assert report.findings == ()
    assert report.ok
    assert report.resources == len(SAMPLES) >= 10


def test_there_are_enough_cases_and_each_has_its_name() -> None:
    assert len({case.name for case in BAD}) == len(BAD) >= 45
    assert sum(case.by_rule for case in BAD) >= 30


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_a_bad_resource_is_refused_with_a_word_of_help(case: Bad) -> None:
    report = validate_text(case.text, file="file.yaml", drivers=DRIVERS)
    assert not report.ok
    assert (case.path, True) in [(finding.path, case.message in finding.message) for finding in report.findings]


def test_a_field_without_a_value_is_refused_because_server_side_apply_refuses_it() -> None:
    (finding,) = verdict(yaml.safe_dump(resource("friendli", {"spec.scaling": {"replicas": None}})))
    assert finding.path == "spec.scaling.replicas"
    assert finding.message == "has no value; write one of type integer, or remove the field"


def test_every_rule_but_those_of_updates_has_a_case() -> None:
    said = {finding.message for finding in verdict("---\n".join(case.text for case in BAD))}
    unheard = [rule.message for rule in spec_rules(DRIVERS) if rule.message not in said and "oldSelf" not in rule.rule]
    assert unheard == []


def test_a_finding_names_file_line_and_field() -> None:
    text = Path(SAMPLES[0]).read_text() + "---\n" + yaml.safe_dump(resource("novita"), sort_keys=False)
    text += "    envs:\n    - name: FIRST\n      value: x\n    - name: SECOND\n"
    (finding,) = verdict(text)
    assert finding.line == text.splitlines().index("    - name: SECOND") + 1
    assert str(finding).startswith(f"file.yaml:{finding.line}: error: spec.novita.envs[1]: an environment variable has")


def test_values_are_not_quoted() -> None:
    secret = "swordfish" * 20_000
    edits = {"spec.novita.envs": [{"name": "A", "value": secret}], "spec.novita.image": {"image": secret}}
    found = verdict(yaml.safe_dump(resource("novita", edits)))
    assert {finding.path for finding in found} == {"spec.novita.envs[0].value", "spec.novita.image.image"}
    assert not any("swordfish" in str(finding) for finding in found)


def test_other_resources_are_passed_over_with_a_note() -> None:
    report = validate_text("apiVersion: v1\nkind: Secret\nmetadata: {name: key}\n", file="f", drivers=DRIVERS)
    assert report.ok
    assert report.resources == 0
    assert report.findings[0].severity is Severity.NOTE
    assert report.findings[0].message == "Secret is not judged, only InferenceEndpoint is"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not a Kubernetes resource"),
        ("kind: InferenceEndpoint", "apiVersion is missing; write apiVersion: inference-operator.io/v1alpha1"),
        ("apiVersion: inference-operator.io/v1alpha1", "kind is missing"),
        ("apiVersion: inference-operator.io/v1\nkind: InferenceEndpoint", "there is no such resource; write"),
        ("apiVersion: inference-operator.io/v1alpha1\nkind: Inferenceendpoint", "there is no such resource; write"),
        ("a: [", "is not YAML that Kubernetes reads"),
        ("a: 1\na: 2", "the key a appears twice"),
        ("a: \x00", "is not YAML that Kubernetes reads"),
    ],
)
def test_what_is_no_resource_is_an_error(text: str, message: str) -> None:
    (finding,) = verdict(text)
    assert finding.severity is Severity.ERROR
    assert message in finding.message


def test_an_empty_file_has_nothing_to_say() -> None:
    assert verdict("# nothing\n---\n") == []


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    paths = [tmp_path / "absent.yaml", tmp_path / "binary.yaml", tmp_path, SAMPLES[0]]
    report = validate_files(paths, DRIVERS)
    assert not report.ok
    assert report.resources == 1
    assert [finding.message.split(": ", 1)[0] for finding in report.findings] == ["cannot be read"] * 3


def test_the_status_of_an_object_from_the_cluster_does_not_matter() -> None:
    seen: dict[str, Any] = resource() | {"status": {"anything": 1}}
    seen["metadata"] |= {"uid": "u", "generation": 3, "managedFields": [{"manager": "x"}]}
    assert verdict(yaml.safe_dump(seen)) == []


class Planner(FriendliDriver):
    """A driver whose planner gives one verdict."""

    error: Exception = InvalidSpec("spec.gpu cannot shrink; write the old count")

    def desired(self, *_: object) -> Desired:
        raise self.error


class Secretive(Planner):
    """The same, for want of a Secret."""

    error = SecretMissing("there is no Secret hf", credentials=False)


def test_the_planner_has_the_last_word() -> None:
    text = yaml.safe_dump(resource(), sort_keys=False)
    (finding,) = validate_text(text, file="f", drivers=[Planner()]).findings
    assert (finding.path, finding.line, finding.message) == ("spec", 5, "spec.gpu cannot shrink; write the old count")


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"spec.endpointId": GONE}, "Creating endpoints is not supported yet: set spec.endpointId"),
        ({"spec.deletionPolicy": "Delete"}, "deletionPolicy Delete is not supported yet: use Retain"),
    ],
)
def test_what_the_api_server_takes_and_this_version_cannot_do_is_said(edits: dict[str, Any], words: str) -> None:
    (finding,) = verdict(yaml.safe_dump(resource("novita", edits)))
    assert words in finding.message


def test_a_secret_that_cannot_be_read_here_is_no_matter() -> None:
    assert validate_text(yaml.safe_dump(resource()), file="f", drivers=[Secretive()]).ok


def test_only_the_given_providers_exist() -> None:
    only = replace(FriendliDriver(), name="acme")
    findings = validate_text(yaml.safe_dump(resource()), file="f", drivers=[only]).findings
    assert {finding.path for finding in findings} == {"spec.provider", "spec.friendli"}
    renamed: dict[str, Any] = resource("friendli", {"spec.provider": "acme", "spec.acme": {}, "spec.friendli": GONE})
    assert validate_text(yaml.safe_dump(renamed), file="f", drivers=[only]).ok
