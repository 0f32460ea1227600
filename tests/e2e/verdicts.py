"""What each GitOps tool makes of each situation of a resource, by the tool's own code.

`uv run --directory tests python -m e2e.verdicts` writes the table of `docs/gitops.md`, and the objects that the health
script for Argo CD is tested on.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import celpy
import yaml
from celpy.adapter import json_to_cel

from e2e.argocd import CUSTOMIZATION, Health, Scripts, dump
from e2e.scenes import NOT_APPLICABLE, Scene, Situation, Verdicts, bring_about, let_go
from inference_operator.api.names import (
    API_VERSION,
    KIND,
    REAPPLY_ANNOTATION,
    REFRESH_ANNOTATION,
    SINGULAR,
    SUSPEND_ANNOTATION,
)
from inference_operator.playground.binaries import ensure
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.process import emulator_process
from planes import CLIENTS, USERS
from rig import ROOT, Rig, rigged

PAGE: Final = ROOT / "docs" / "gitops.md"
TABLE: Final = re.compile(r"(<!-- verdicts -->\n).*?(<!-- end of verdicts -->)", re.DOTALL)
TESTDATA: Final = CUSTOMIZATION / "testdata"
ACTED: Final = CUSTOMIZATION / "actions" / "testdata"
HEALTH_TEST: Final = CUSTOMIZATION / "health_test.yaml"
SHORT, LONG = 4, 60
"""Seconds that a tool is given: to wait in vain, and to come to an end by itself on a busy machine."""

FLUX_ORDER: Final[Mapping[str, str]] = {"inProgress": "InProgress", "failed": "Failed", "current": "Current"}
"""Expressions in the order in which Flux asks them, and what each means. Flux's RFC 0009 lays down both."""

ACTED_ON: Final = "synced-and-serving"
ACTION_LEAVES: Final[Mapping[str, Mapping[str, str]]] = {
    "refreshed": {REFRESH_ANNOTATION: "2026-01-01T00:00:00Z"},
    "reapplied": {REAPPLY_ANNOTATION: "2026-01-01T00:00:00Z"},
    "suspended": {SUSPEND_ANNOTATION: "true"},
}
"""The annotations with which actions must leave a resource that had none; any time will do."""


# ── the judges ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Judgement:
    """What the tools have said about a scene.

    Attributes:
        verdicts: In a word each.
        health: What Argo CD shows.
        helm: All that Helm printed.
    """

    verdicts: Verdicts
    health: Health
    helm: str


def judge(rig: Rig, tools: Mapping[str, Path], folder: Path, found: Sequence[Scene]) -> Sequence[Judgement]:
    """Let every tool judge every scene; `folder` is for what Helm and kubectl write.

    The expressions are evaluated by one thread: CPython up to 3.11.7 and 3.12.1 counts the depth of every thread's
    syntax trees in one place (gh-106905), and the parser of CEL reads the literals of its grammar by such trees, so
    that two threads at it can raise SystemError.
    """
    resources = [scene.resource for scene in found]
    expressions = health_check_expressions()
    computed = kstatus(tools["kstatus"], resources)
    evaluated = [evaluate(expressions, resource) for resource in resources]

    def one(scene: Scene, verdict: str, flux: str) -> Judgement:
        health = Scripts(tools["argocd"]).health(scene.resource)
        expected = scene.situation.verdicts
        waited = kubectl_wait(rig, tools["kubectl"], folder, scene.resource, _patience(expected.kubectl))
        if scene.deleting:
            deployed, said = NOT_APPLICABLE, ""
        else:
            deployed, said = helm_wait(rig, tools["helm"], folder, scene.resource, _patience(expected.helm))
        return Judgement(Verdicts(verdict, deployed, waited, health.status, flux), health, said)

    with ThreadPoolExecutor(len(found)) as pool:
        return list(pool.map(one, found, computed, evaluated))


def kstatus(program: Path, resources: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """The verdict of the library that Helm 4 and Flux wait by."""
    done = subprocess.run(
        [program], input="".join(json.dumps(each) for each in resources), capture_output=True, text=True, check=True
    )
    return [json.loads(line)["status"] for line in done.stdout.splitlines()]


def _patience(expected: str) -> int:
    return SHORT if expected == "waits" else LONG


def kubectl_wait(rig: Rig, program: Path, folder: Path, resource: Mapping[str, Any], seconds: int) -> str:
    """Whether `kubectl wait` for Ready is `met`, or `waits` until it gives up."""
    done = subprocess.run(
        [
            *(program, "wait", "--for=condition=Ready", f"{SINGULAR}/{resource['metadata']['name']}"),
            *(f"--namespace={rig.namespace}", f"--timeout={seconds}s"),
        ],
        env=environment(rig, folder),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return "met"
    assert "timed out waiting for the condition" in done.stderr, done.stderr
    return "waits"


def helm_wait(rig: Rig, program: Path, folder: Path, resource: Mapping[str, Any], seconds: int) -> tuple[str, str]:
    """What `helm upgrade --install --wait` does with a chart that holds just this resource, and all that it prints."""
    name = resource["metadata"]["name"]
    chart = folder / name
    (chart / "templates").mkdir(parents=True, exist_ok=True)
    (chart / "Chart.yaml").write_text(f"{{apiVersion: v2, name: {name}, version: 1.0.0}}\n")
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": resource["spec"]}
    (chart / "templates" / "endpoint.yaml").write_text(yaml.safe_dump(manifest))
    done = subprocess.run(
        [
            *(program, "upgrade", "--install", name, chart, "--namespace", rig.namespace),
            *("--take-ownership", "--wait", "--timeout", f"{seconds}s"),
        ],
        env=environment(rig, folder),
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    timed_out = "context deadline exceeded" in said
    match done.returncode, re.findall(r"not ready\. status: (\w+)", said), timed_out:
        case 0, [], False:
            return "ready", said
        case 1, ["InProgress"], True:
            return "waits", said
        case 1, ["Failed"], False:
            return "fails at once", said
        case 1, ["Unknown"], True if seconds < LONG:  # the time was over before Helm had seen anything
            return helm_wait(rig, program, folder, resource, LONG)
        case _:
            raise AssertionError(said)


def environment(rig: Rig, folder: Path) -> dict[str, str]:
    """The environment of a tool of the administrator, who keeps everything in one folder."""
    return {
        "HOME": str(folder),
        "KUBECONFIG": str(rig.plane.kubeconfig),
        **{f"HELM_{place}_HOME": str(folder / place.lower()) for place in ("CACHE", "CONFIG", "DATA")},
    }


def health_check_expressions() -> Mapping[str, str]:
    """Flux's health check expressions for our kind, as the documentation gives them."""
    for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for document in yaml.safe_load_all(block):
            for each in document.get("spec", {}).get("healthCheckExprs", []):
                if (each["apiVersion"], each["kind"]) == (API_VERSION, KIND):
                    return {name: each[name] for name in FLUX_ORDER}
    raise LookupError(f"{PAGE} has no health check expressions for {KIND}")


def evaluate(expressions: Mapping[str, str], resource: Mapping[str, Any]) -> str:
    """The verdict of Flux by the expressions: nothing is asked of a status that is not of this generation."""
    status = resource.get("status", {})
    if "observedGeneration" in status and status["observedGeneration"] != resource["metadata"]["generation"]:
        return "InProgress"
    environment = celpy.Environment()
    activation = {key: json_to_cel(value) for key, value in resource.items()}
    for name, verdict in FLUX_ORDER.items():
        if environment.program(environment.compile(expressions[name])).evaluate(activation):
            return verdict
    return "InProgress"


# ── what is made of it ────────────────────────────────────────────────────────────────────────────────


def table(rows: Sequence[tuple[Situation, Verdicts]]) -> str:
    """The table of the documentation."""
    lines = [
        "| Situation | Synced | Ready | also | kstatus | Helm `--wait` | `kubectl wait` | Argo CD | Flux expression |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each, verdicts in rows:
        others = [
            kind if said.endswith(f" {kind}") else f"{kind} {said.split()[1]}"
            for kind, said in each.conditions.items()
            if kind not in {"Synced", "Ready"}
        ]
        cells = (each.conditions.get("Synced", ""), each.conditions.get("Ready", ""), ", ".join(others), *verdicts)
        lines.append(f"| {' | '.join([each.words, *cells])} |")
    return "\n".join(lines) + "\n"


def page_with(text: str, rows: str) -> str:
    """The page with the table in its place."""
    return TABLE.sub(lambda found: found[1] + rows + found[2], text)


def as_sample(rig: Rig, scene: Scene) -> str:
    """The file that a health script is tested on: the object, without the random name of its namespace."""
    return dump(scene.resource).replace(rig.namespace, "team-a")


def _publish(rig: Rig, found: Sequence[Scene], judgements: Sequence[Judgement]) -> None:
    """Write the table, the objects, and what the health script says of each."""
    rows = [(scene.situation, judgement.verdicts) for scene, judgement in zip(found, judgements, strict=True)]
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), table(rows)), encoding="utf-8")
    for path in TESTDATA.glob("*.yaml"):
        path.unlink()
    tests = []
    for scene, judgement in zip(found, judgements, strict=True):
        (TESTDATA / f"{scene.situation.name}.yaml").write_text(as_sample(rig, scene), encoding="utf-8")
        health = {"status": judgement.health.status, "message": judgement.health.message}
        if not scene.deleting:
            tests.append({"healthStatus": health, "inputPath": f"testdata/{scene.situation.name}.yaml"})
    HEALTH_TEST.write_text(dump({"tests": tests}), encoding="utf-8")
    for name, left in ACTION_LEAVES.items():
        document = yaml.safe_load((TESTDATA / f"{ACTED_ON}.yaml").read_text(encoding="utf-8"))
        document["metadata"]["annotations"] = dict(left)
        (ACTED / f"{name}.yaml").write_text(dump(document), encoding="utf-8")


def main() -> None:
    """Bring about, judge, and write."""
    tools = ensure(CLIENTS)
    with (
        tempfile.TemporaryDirectory() as place,
        ControlPlane(users=USERS) as plane,
        emulator_process() as emulators,
        rigged(plane, emulators, Path(place)) as rig,
    ):
        found = bring_about(rig)
        judgements = judge(rig, tools, Path(place), found)
        let_go(rig)
        _publish(rig, found, judgements)


if __name__ == "__main__":
    main()
