"""Every GitOps tool's verdict on every situation, by the tool's own code, is the documented one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.scenes import (
    NOT_APPLICABLE,
    SITUATIONS,
    Scene,
    Situation,
    bring_about,
    conditions,
    let_go,
)
from e2e.verdicts import (
    HEALTH_TEST,
    PAGE,
    TESTDATA,
    Judgement,
    as_sample,
    environment,
    judge,
    page_with,
    table,
)
from inference_operator.api.names import API_VERSION, KIND
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from rig import Rig, rigged, spec_of

TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z")


@dataclass(frozen=True)
class Run:
    """All situations, and what the tools have said, by the name of the resource."""

    rig: Rig
    folder: Path
    judged: Mapping[str, tuple[Scene, Judgement]]


@pytest.fixture(scope="module")
def run(
    control_plane: ControlPlane,
    emulators: EmulatorControl,
    tools: Mapping[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Run]:
    """One operator brings everything about, and is gone when the tools are asked."""
    folder = tmp_path_factory.mktemp("verdicts")
    with rigged(control_plane, emulators, folder) as rig:
        try:
            found = bring_about(rig)
            judgements = judge(rig, tools, folder, found)
            pairs = zip(found, judgements, strict=True)
            yield Run(rig, folder, {scene.situation.name: (scene, judgement) for scene, judgement in pairs})
        finally:
            let_go(rig)


every_situation = pytest.mark.parametrize("situation", SITUATIONS, ids=lambda each: each.name)


@every_situation
def test_every_tool_judges_as_documented(run: Run, situation: Situation) -> None:
    scene, judgement = run.judged[situation.name]
    assert conditions(scene.resource) == situation.conditions
    assert judgement.verdicts == situation.verdicts


@every_situation
def test_no_verdict_surprises(run: Run, situation: Situation) -> None:
    """What follows from the status alone, whatever the table says."""
    scene, judgement = run.judged[situation.name]
    resource, said = scene.resource, judgement.verdicts
    current = resource["status"]["observedGeneration"] == resource["metadata"]["generation"]
    held = {kind for kind, status in conditions(resource).items() if status.startswith("True ")} if current else set()
    assert not {"Ready", "Reconciling"} <= held
    assert not {"Reconciling", "Stalled"} <= held
    good = (said.kstatus == "Current", said.kubectl == "met", said.argo_cd == "Healthy", said.flux == "Current")
    assert good == ("Ready" in held,) * 4
    assert (said.kstatus == "Failed", said.argo_cd == "Degraded", said.flux == "Failed") == ("Stalled" in held,) * 3
    assert (said.argo_cd == "Suspended") == ("Suspended" in held and "Ready" not in held)
    assert said.helm == HELM_DOES.get(said.kstatus, NOT_APPLICABLE)


HELM_DOES = {"Current": "ready", "InProgress": "waits", "Failed": "fails at once"}


def test_all_situations_that_the_issue_names_are_there_and_differ() -> None:
    assert len(SITUATIONS) == len({each.name for each in SITUATIONS}) == 25
    told = [(each.conditions, each.verdicts) for each in SITUATIONS]
    assert max(told.count(one) for one in told) == 2  # asleep and stopped are told apart by the message


def test_what_fails_a_release_says_what_to_do(run: Run) -> None:
    said = 0
    for scene, judgement in run.judged.values():
        if judgement.verdicts.helm == "fails at once":
            found = scene.resource["status"]["conditions"]
            stalled = next(each["message"] for each in found if each["type"] == "Stalled")
            assert stalled in judgement.helm
            assert judgement.health.message == stalled
            said += 1
    assert said == 4


def test_the_tools_change_neither_spec_nor_status(run: Run) -> None:
    """Helm has applied each of them once more with its own field manager and without force."""
    stored = {resource["metadata"]["name"]: resource for resource in run.rig.list()}
    for scene, judgement in run.judged.values():
        now = stored[scene.situation.name]
        assert (now["spec"], now["status"]) == (scene.resource["spec"], scene.resource["status"])
        assert now["metadata"]["generation"] == scene.resource["metadata"]["generation"]
        managers = {each["manager"] for each in now["metadata"]["managedFields"]}
        assert ("helm" in managers) == (judgement.verdicts.helm != NOT_APPLICABLE)


def test_the_table_of_the_documentation_is_that_of_this_run(run: Run) -> None:
    rows = table([(scene.situation, judgement.verdicts) for scene, judgement in run.judged.values()])
    text = PAGE.read_text(encoding="utf-8")
    assert text == page_with(text, rows), "run: uv run --directory tests python -m e2e.verdicts"
    assert rows in text


def test_the_samples_for_argo_cd_are_what_this_operator_writes(run: Run) -> None:
    """Times, and what follows from them, differ in each run; all that a health script reads does not."""
    said = {each["inputPath"]: each["healthStatus"] for each in yaml.safe_load(HEALTH_TEST.read_text())["tests"]}
    assert {path.name for path in TESTDATA.iterdir()} == {f"{each.name}.yaml" for each in SITUATIONS}
    for name, (scene, judgement) in run.judged.items():
        sample = yaml.safe_load((TESTDATA / f"{name}.yaml").read_text())
        assert _timeless(sample) == _timeless(yaml.safe_load(as_sample(run.rig, scene))), name
        health = {"status": judgement.health.status, "message": judgement.health.message}
        if not scene.deleting:
            assert TIME.sub("", str(said.pop(f"testdata/{name}.yaml"))) == TIME.sub("", str(health))
    assert said == {}


def _timeless(sample: Mapping[str, Any]) -> str:
    status = sample["status"]
    readable = {key: status.get(key) for key in ("state", "observedGeneration", "conditions", "drift")}
    return TIME.sub("", str((sample["metadata"]["name"], sample["spec"], readable)))


# ── waiting with kubectl, and applying with anything ──────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "code"), [("synced-and-serving", 0), ("endpoint-missing", 1), ("reconciling", 1)])
def test_the_documented_wait_for_two_conditions_ends_early_when_stalled(
    run: Run, tools: Mapping[str, Path], name: str, code: int
) -> None:
    """Ready: success. Stalled: failure long before the time-out. Neither: failure at the time-out."""
    script = next(
        block for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL) if "condition=Stalled" in block
    )
    assert script.count("ie/llama-chat") == 2
    seconds = 3 if name == "reconciling" else 120
    script = script.replace("ie/llama-chat", f"--namespace={run.rig.namespace} ie/{name}")
    for documented, used in (("30m", seconds), ("31m", seconds + 5)):
        assert script.count(f"--timeout={documented}") == 1
        script = script.replace(f"--timeout={documented}", f"--timeout={used}s")
    script = script.replace("kubectl", str(tools["kubectl"]))
    done = subprocess.run(
        ["bash", "-c", script],
        env={**environment(run.rig, run.folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == code, (done.stdout, done.stderr)


def test_applying_beside_a_working_operator_never_conflicts_and_the_operator_owns_the_status_only(rig: Rig) -> None:
    rig.start()
    endpoint_id = rig.endpoint("friendli")
    for number in (2, 3, 4):
        for _ in range(20):  # while the operator is at work on the first of them
            _apply_unforced(rig, spec_of("friendli", endpoint_id, number), "git")
        rig.wait("shared")
        assert rig.committed(endpoint_id) == number - 1
    _apply_unforced(rig, spec_of("friendli", endpoint_id, 4), "helm")
    resource = rig.get("shared")
    owned = {each["manager"]: each for each in resource["metadata"]["managedFields"]}
    assert owned.keys() == {"git", "helm", "inference-operator"}
    assert owned["inference-operator"]["fieldsV1"] == {"f:status": {}}
    assert "f:status" not in owned["git"]["fieldsV1"] | owned["helm"]["fieldsV1"]
    assert resource["metadata"]["generation"] == 3


def _apply_unforced(rig: Rig, spec: Mapping[str, Any], manager: str) -> None:
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "shared"}, "spec": dict(spec)}
    answer = rig.editor.patch(
        f"{rig.path}/shared",
        params={"fieldManager": manager},
        headers={"Content-Type": "application/apply-patch+yaml"},
        content=yaml.safe_dump(document),
    )
    assert answer.is_success, answer.text
