"""Judges manifests without a cluster: the verdicts of the API server and of the planner, with file and line.

The schema and the rules are those of the generated custom resource definition, so that there is one source of
what is allowed. What only a cluster or a provider can tell (Secrets, limits, other resources) is not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import yaml

from inference_operator.api import names
from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.model import SecretValues
from inference_operator.crdgen.admission import Admission, Path
from inference_operator.crdgen.manifests import Manifest, read_manifests
from inference_operator.crdgen.resource import resource_schema
from inference_operator.errors import InvalidSpec, SecretMissing
from inference_operator.reconcile.resolve import Declared

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from inference_operator.core.port import Driver


class Severity(StrEnum):
    """What a finding means for the verdict."""

    ERROR = "error"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about a manifest.

    Attributes:
        file: Where it was read from, as the caller names it.
        line: Line in the file, counted from 1.
        path: Field, as users write it (`spec.novita.envs[3].value`); empty for the manifest as a whole.
        message: What to write instead.
        severity: Notes do not count against the verdict.
    """

    file: str
    line: int
    path: str
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        """`file:line: severity: path: message`, as editors and compilers write it."""
        place = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}: {self.severity}: {place}{self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a set of files.

    Attributes:
        findings: In the order of files and lines.
        resources: How many InferenceEndpoints were judged.
    """

    findings: tuple[Finding, ...]
    resources: int

    @property
    def ok(self) -> bool:
        """Whether everything that was judged is valid."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


def validate_files(paths: Iterable[pathlib.Path], drivers: Sequence[Driver]) -> Report:
    """The verdict on the manifests in these files; a file that cannot be read is a finding, not an exception."""
    judge = _Judge(drivers)
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            judge.findings.append(Finding(str(path), 1, "", f"cannot be read: {reason}"))
        else:
            judge.look_at(text, str(path))
    return Report(tuple(judge.findings), judge.resources)


def validate_text(text: str, *, file: str, drivers: Sequence[Driver]) -> Report:
    """The verdict on the manifests in a text; `file` is what the findings call it."""
    judge = _Judge(drivers)
    judge.look_at(text, file)
    return Report(tuple(judge.findings), judge.resources)


class _Judge:
    """Collects the findings of one run."""

    def __init__(self, drivers: Sequence[Driver]) -> None:
        self._drivers = {driver.name: driver for driver in drivers}
        self._admission = Admission(resource_schema(drivers))
        self.findings: list[Finding] = []
        self.resources = 0

    def look_at(self, text: str, file: str) -> None:
        try:
            for manifest in read_manifests(text):
                self.findings += self._judge(manifest, file)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            self.findings.append(Finding(file, line, "", f"is not YAML that Kubernetes reads: {error.problem}"))
        except yaml.YAMLError as error:
            self.findings.append(Finding(file, 1, "", f"is not YAML that Kubernetes reads: {error}"))

    def _judge(self, manifest: Manifest, file: str) -> Iterator[Finding]:
        resource = manifest.value
        line = manifest.line(())
        if not isinstance(resource, dict):
            yield Finding(file, line, "", "is not a Kubernetes resource; write one with apiVersion and kind")
            return
        kind, version = resource.get("kind"), resource.get("apiVersion")
        if not kind or not version:
            missing = "kind" if version else "apiVersion"
            yield Finding(
                file, line, "", f"{missing} is missing; write apiVersion: {names.API_VERSION}, kind: {names.KIND}"
            )
        elif not str(version).startswith(f"{names.GROUP}/"):
            yield Finding(file, line, "", f"{kind} is not judged, only {names.KIND} is", Severity.NOTE)
        elif (version, kind) != (names.API_VERSION, names.KIND):
            field = "kind" if version == names.API_VERSION else "apiVersion"
            wanted = f"write apiVersion: {names.API_VERSION}, kind: {names.KIND}"
            yield Finding(file, manifest.line((field,)), field, f"there is no such resource; {wanted}")
        else:
            self.resources += 1
            verdict = self._verdict(resource)
            findings = (Finding(file, manifest.line(path), _dotted(path), message) for path, message in verdict)
            yield from sorted(findings, key=lambda finding: finding.line)

    def _verdict(self, resource: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
        violations = self._admission.judge(resource)
        yield from ((violation.path, violation.message) for violation in violations)
        if not violations:
            yield from self._planned(resource["spec"])

    def _planned(self, raw: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
        """What the operator would refuse; Secrets behind `valueFrom` cannot be read here, and are no matter."""
        driver = self._drivers[raw["provider"]]
        spec, options = InferenceEndpointSpec.model_validate(raw), driver.options.model_validate(raw[driver.name])
        unsupported = Declared(spec, driver, options).unsupported
        if unsupported:
            yield ("spec",), unsupported
            return
        try:
            driver.desired(spec, options, SecretValues())
        except SecretMissing:
            return
        except InvalidSpec as error:
            yield ("spec",), error.message


def _dotted(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
