"""Weighs what the API server sends: `uv run --no-sync --directory tests python -m bench.weighing FILE`.

Resources of this operator are put in sync, watched as an operator watches them, and edited once each.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import BaseModel, ConfigDict

import audit
from bench.vitals import vitals
from fleet import wait_for_all
from inference_operator.api.names import API_VERSION, KIND, PLURAL
from inference_operator.kube.api import CHUNK
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.process import emulator_process
from planes import USERS, api_client
from rig import UNHURRIED, Rig, rigged, spec_of

RESOURCES: Final = 100
MORE: Final = 3000
"""Resources that nobody works on, to tell what a question costs for each."""

QUESTIONS: Final = 200
TRAIL_SECONDS: Final = 2.0
"""How long after the last change what else comes is counted."""


class Weights(BaseModel):
    """What was weighed.

    Attributes:
        server: Version of the API server.
        resources: How many there were.
        changes: How many edits were made.
        object_bytes: What one of them takes in a list, its status included.
        lists: How often the operator has listed all of them at its start.
        watch_events: Events of one watch for all edits together.
        watch_bytes: Their bytes.
        writes: Writes of resources for all edits together, the edits included, by the audit log.
        questions: How often the operator asked who else names an endpoint, for all edits, each a first write.
        question_ms: Processor milliseconds of the API server for one such question, for each thousand resources.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str
    resources: int
    changes: int
    object_bytes: int
    lists: int
    watch_events: int
    watch_bytes: int
    writes: int
    questions: int
    question_ms: float


def weighed(resources: int = RESOURCES) -> Weights:
    """Weigh, with a control plane, a provider and an operator of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ControlPlane(users=USERS) as plane,
        emulator_process() as emulators,
        rigged(plane, emulators, Path(folder)) as rig,
    ):
        specs = {f"r{number:05d}": spec_of("friendli", rig.endpoint("friendli")) for number in range(resources)}
        for name, spec in specs.items():
            rig.apply(name, spec)
        rig.start(**{**UNHURRIED, "poll-seconds": 600, "drift-seconds": 600, "max-rollouts": 0, "log-level": "info"})
        wait_for_all(rig, specs)
        time.sleep(TRAIL_SECONDS)
        lists = _requests(rig)["list"]
        whole = rig.api.get(rig.path).raise_for_status()
        before, position = _requests(rig), whole.json()["metadata"]["resourceVersion"]
        with _watching(rig, position) as lines:
            for name in specs:
                rig.merge(name, {"spec": {"scaling": {"maxReplicas": 5}}})
            wait_for_all(rig, specs)
            time.sleep(TRAIL_SECONDS)
        made = _requests(rig) - before
        rig.processes[-1].terminate()
        return Weights(
            server=rig.api.get("/version").raise_for_status().json()["gitVersion"],
            resources=resources,
            changes=len(specs),
            object_bytes=len(whole.content) // resources,
            lists=lists,
            watch_events=len(lines),
            watch_bytes=sum(map(len, lines)),
            writes=made["patch"],
            questions=made["question"],
            question_ms=_question_ms(rig, specs),
        )


@contextmanager
def _watching(rig: Rig, position: str) -> Iterator[Sequence[str]]:
    """Collects the events of a watch from there on."""
    lines, over = list[str](), threading.Event()
    thread = threading.Thread(target=_collect, args=(rig, position, lines, over), daemon=True)
    thread.start()
    yield lines
    over.set()
    thread.join()


def _collect(rig: Rig, position: str, lines: list[str], over: threading.Event) -> None:
    with api_client(rig.plane) as client:
        while not over.is_set():
            query = {"watch": "1", "resourceVersion": position}
            with (
                suppress(httpx.ReadTimeout),  # a silence ends the request, and another goes on from there
                client.stream("GET", rig.path, params=query, timeout=httpx.Timeout(30, read=TRAIL_SECONDS)) as events,
            ):
                for line in events.raise_for_status().iter_lines():
                    lines.append(line)
                    position = json.loads(line)["object"]["metadata"]["resourceVersion"]


def _requests(rig: Rig) -> Counter[str]:
    """What the operator and the editor have asked for about resources, by verb; `question` for lists of claims."""
    audit.settle(rig.plane)
    events = audit.audit_events(rig.plane.audit_log)
    concerned = (
        event
        for event in events
        if event["stage"] == "ResponseComplete"
        and event["user"]["username"] in USERS
        and event.get("objectRef", {}).get("resource") == PLURAL
    )
    return Counter("question" if "fieldSelector=" in event["requestURI"] else event["verb"] for event in concerned)


def _question_ms(rig: Rig, specs: Mapping[str, Mapping[str, Any]]) -> float:
    """What a question costs the API server more, divided by the thousands of resources that there are more."""
    name, spec = next(iter(specs.items()))
    few = _seconds_to_answer(rig, spec)

    def create(number: int) -> None:
        other, metadata = {**spec, "endpointId": "ep-none"}, {"name": f"{name}-{number}"}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": other}
        rig.editor.post(rig.path, json=body).raise_for_status()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(MORE)))
    time.sleep(TRAIL_SECONDS)
    return round(1000 * (_seconds_to_answer(rig, spec) - few) / (MORE / 1000), 2)


def _seconds_to_answer(rig: Rig, spec: Mapping[str, Any]) -> float:
    """Processor time of the API server for one question, as this operator asks it."""
    pid = rig.plane._components["kube-apiserver"].process.pid
    selector = f"spec.endpointId={spec['endpointId']},spec.provider={spec['provider']}"
    query = {"fieldSelector": selector, "limit": str(CHUNK)}
    before = vitals([pid]).cpu
    for _ in range(QUESTIONS):
        rig.api.get(rig.path, params=query).raise_for_status()
    return (vitals([pid]).cpu - before) / QUESTIONS


def load(path: Path) -> Weights:
    """What was kept.

    Raises:
        ValueError: The file holds something else.
    """
    return Weights.model_validate_json(path.read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Weigh, and keep it in a file."""
    (path,) = map(Path, sys.argv[1:] if arguments is None else arguments)
    path.write_text(json.dumps(weighed().model_dump(), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
