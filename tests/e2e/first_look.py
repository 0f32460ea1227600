"""Makes `docs/first-look.md` from a real run: `uv run --directory tests python -m e2e.first_look`.

What people meet first is printed by the real kubectl, about resources that the real operator keeps at emulated
providers. Only what differs from run to run is replaced: times, ages, uids, resource versions.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from inference_operator.playground.binaries import ensure
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.process import emulator_process
from planes import USERS
from rig import ROOT, Rig, rigged

PAGE: Final = ROOT / "docs" / "first-look.md"

TEMPLATE: Final = """\
# What you meet first

<!-- Made by `uv run --directory tests python -m e2e.first_look`; a test fails when it is out of date. -->

Four resources, as `kubectl` shows them. Two are as they should be, one is asleep because it may be, and one names an
endpoint that its key cannot see. Times, ages and uids are examples; everything else was printed by a real run.

## At a glance

@get ie@

`CURRENT` and `DESIRED` are replicas as the provider counts them. `REASON` says why `READY` is what it is.

@get ie -o wide@

## One in full

@describe ie llama-chat@

`Status.Unverifiable` names what was sent and cannot be read back. `Status.Applied` is the operator's memory of its last
update, by which it knows after a restart that nothing needs to be sent.

## One that needs somebody

@get ie embedder -o jsonpath='{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\\n"}{end}'@

## What happened

@get events@

## What the fields mean

@explain ie.spec.friendli.advanced@

The same is in [fields.md](fields.md).
"""

RESOURCES: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama-chat": {
        "provider": "friendli",
        "endpointId": "ep-abc123",
        "gpu": {"type": "H100", "count": 2},
        "scaling": {"minReplicas": 1, "maxReplicas": 4, "cooldownSeconds": 300},
        "versionComment": "roll out r2",
        "friendli": {"hfModelRepo": "meta-llama/Llama-3.1-8B-Instruct", "hfModelRepoRevision": "0e9e39f"},
    },
    "sdxl": {
        "provider": "novita",
        "endpointId": "a1b2c3",
        "scaling": {"replicas": 2},
        "novita": {"image": {"image": "registry.example/sdxl:2"}},
        "writeConnectionTo": {"configMapName": "sdxl-endpoint"},
    },
    "summarizer": {
        "provider": "friendli",
        "endpointId": "ep-def456",
        "scaling": {"minReplicas": 0, "maxReplicas": 2, "cooldownSeconds": 120},
        "friendli": {},
    },
    "embedder": {
        "provider": "friendli",
        "endpointId": "ep-gone",
        "scaling": {"minReplicas": 0, "maxReplicas": 1},
        "friendli": {},
    },
}

NAMESPACE: Final = "team-a"
TIME: Final = "2026-01-01T12:00:00Z"
AGE: Final = "12s"

VARYING: Final[tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]] = (
    (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", TIME),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "0f3c1a52-6a0e-4a6e-9d0a-2c1f0e5b7d11"),
    (r"(Resource Version: +)\d+", r"\g<1>4711"),
    (r"(?<= )\d{1,2}s *(?=\S|$)", lambda found: AGE + found[0][len(AGE) :].rjust(max(0, len(found[0]) - len(AGE)))),
    (r"^\d{1,2}s( *)", lambda found: AGE + " " * (len(found[0]) - len(AGE))),
)
"""What differs from run to run, and what stands in its place."""


def steady(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def page(folder: Path) -> str:
    """The page, from a run of its own.

    Args:
        folder: For what the operator logs.
    """
    with (
        emulator_process() as emulators,
        ControlPlane(users=USERS) as plane,
        rigged(plane, emulators, folder, namespace=NAMESPACE) as rig,
    ):
        play(rig)
        commands = re.findall(r"^@(.+)@$", TEMPLATE, re.MULTILINE)
        shown = {command: steady(kubectl(rig, command)) for command in commands}
    return re.sub(r"^@(.+)@$", lambda found: _block(found[1], shown[found[1]]), TEMPLATE, flags=re.MULTILINE)


def _block(command: str, printed: str) -> str:
    return f"```console\n$ kubectl {command}\n{printed}\n```"


def play(rig: Rig) -> None:
    """Bring the resources to where the page shows them, one after the other."""
    for provider, endpoint_id in (("friendli", "ep-abc123"), ("novita", "a1b2c3"), ("friendli", "ep-def456")):
        rig.emulators.create_endpoint(provider, endpoint_id, rig.namespace)
    rig.start()
    for name, spec in RESOURCES.items():
        rig.apply(name, {"credentialsSecretRef": {"name": "key"}, **spec})
        if name == "embedder":
            rig.wait(name, "Stalled", reason="EndpointNotFound")
        else:
            rig.wait(name, "Ready", reason="Serving")
    rig.emulators.set_endpoint("friendli", "ep-def456", state="SLEEPING", replicas=0)
    rig.wait("summarizer", "Ready", reason="Asleep")


def kubectl(rig: Rig, command: str) -> str:
    """What kubectl prints."""
    program = [str(ensure(["kubectl"])["kubectl"]), "--kubeconfig", str(rig.plane.kubeconfig), "--namespace", NAMESPACE]
    return subprocess.run([*program, *shlex.split(command)], capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
