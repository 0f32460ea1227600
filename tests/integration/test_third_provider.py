"""A third provider: one folder, one line in the registry, and everything else follows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from inference_operator.api.names import API_VERSION, CRD_NAME, KIND
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from planes import USERS
from provider_subjects import MEMORY_SPEC
from rig import CRD, UNHURRIED, Rig, rigged, spec_of, wait_for
from tally import Meter, show

ENDPOINT = "ep-1"
THIRD = f"""
from inference_operator.providers import memory, registry
registry.DRIVERS = (*registry.DRIVERS, memory.DRIVER)
memory.DRIVER.account.add({ENDPOINT!r}, {{"memory.size": 1, "scaling.minReplicas": 1, "scaling.maxReplicas": 1}})
from inference_operator.cli import main
main()
"""
"""The registry with one more line and, as this provider lives in the process, an endpoint; then the command line."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", THIRD, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def rig(emulators: EmulatorControl, tmp_path: Path) -> Iterator[Rig]:
    """A rig with a control plane of its own, because the definition that it installs is another one."""
    with ControlPlane(users=USERS) as plane, rigged(plane, emulators, tmp_path) as made:
        made.program = ("-c", THIRD)
        yield made


def install(rig: Rig, definition: str) -> None:
    answer = rig.api.patch(
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD_NAME}",
        params={"fieldManager": "rig", "force": "true"},
        headers={"Content-Type": "application/apply-patch+yaml"},
        content=definition,
    )
    answer.raise_for_status()
    trial = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "trial"}, "spec": a_spec(size=1)}
    wait_for(
        lambda: rig.api.post(rig.path, params={"dryRun": "All"}, json=trial).is_success,
        what="the definition to know the third provider",
        state=lambda: rig.api.post(rig.path, params={"dryRun": "All"}, json=trial).text,
    )


def a_spec(**block: Any) -> dict[str, Any]:
    named = {"provider": "memory", "endpointId": ENDPOINT, "credentialsSecretRef": {"name": "key"}}
    return {**named, "memory": block}


def test_the_custom_resource_knows_it(tmp_path: Path) -> None:
    definition = run("crds")
    assert definition.returncode == 0, definition.stderr
    spec = _spec_schema(definition.stdout)
    assert spec["provider"]["enum"] == ["friendli", "novita", "memory"]
    assert set(spec["memory"]["properties"]) == {"name", "model", "size"}
    without = _spec_schema(CRD.read_text())
    assert {name: each for name, each in spec.items() if name not in {"memory", "provider"}} == {
        name: each for name, each in without.items() if name != "provider"
    }
    manifest = tmp_path / "memory.yaml"
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "a"}, "spec": MEMORY_SPEC}
    manifest.write_text(yaml.safe_dump(document))
    judged = run("validate", str(manifest))
    assert judged.returncode == 0, judged.stdout


def _spec_schema(definition: str) -> dict[str, Any]:
    schema = yaml.safe_load(definition)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(schema["properties"]["spec"]["properties"])


def test_the_operator_keeps_it_beside_the_others(rig: Rig) -> None:
    install(rig, run("crds").stdout)
    process = rig.start(**UNHURRIED)
    beside = rig.endpoint("friendli")
    rig.apply("beside", spec_of("friendli", beside, 4))
    rig.apply("third", a_spec(size=1))
    rig.wait("third", "Synced", reason="Matched")
    rig.wait("beside")
    meter = Meter(rig, [])
    rows = []
    for size in (2, 3, 4):
        rig.apply("third", a_spec(size=size, model=f"repo/model-{size}"))
        resource = rig.wait("third", "Synced", reason="Applied")
        rig.wait("third", "Ready", reason="Serving")
        rows.append((f"size {size}", resource["status"]["version"], meter.spent().writes))
    metrics = httpx.get(f"{process.address}/metrics", trust_env=False).text
    lines = [line for line in metrics.splitlines() if 'provider="memory"' in line]
    show("a third provider", ("change", "version", "writes"), rows)
    show("its metrics", ("series",), [(line,) for line in lines])
    assert [version for _, version, _ in rows] == [1, 2, 3]
    assert all(writes <= 2 for *_, writes in rows)
    assert 'inference_operator_writes_total{outcome="confirmed",provider="memory"} 3.0' in lines
    assert 'inference_operator_resources{provider="memory",state="Running"} 1.0' in lines
    assert len(rig.mutations(beside)) == 1
