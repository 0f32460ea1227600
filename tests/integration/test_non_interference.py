"""Two runs of one schedule with different keys say the same: nothing about a key can be learned from the outside."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.process import emulator_process
from rig import Rig, rigged, spec_of
from secrecy import CORE

PROVIDERS = ("friendli", "novita")
KEYS = {"short": f"flp_{CORE[:16]}", "long": f"flp_{CORE[::-1]}{CORE}_0123456789-abc"}
"""Keys that differ in every character and in length; `{}` of an account's name keeps those of two accounts apart."""

MASKS = [
    (re.compile(pattern), mask)
    for pattern, mask in (
        (r"t-[0-9a-f]{8}", "<namespace>"),
        (r"ep-[0-9a-z-]+", "<endpoint>"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
        (r"\b[0-9a-f]{32}\b", "<id>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        (r"127\.0\.0\.1:\d+", "<address>"),
        (r'"resourceVersion": ?"\d+"', "<version>"),
        (r"\b[\w.]+-[0-9a-f]{8}\b", "<identity>"),
        (r"\d+(\.\d+)?(e-\d+)? ?(s|seconds|ms)\b", "<duration>"),
    )
]
"""What differs between any two runs."""

NOISE = re.compile(r"asyncio|kopf|throttl|keep-alive|watch-stream", re.IGNORECASE)
"""Lines of the framework whose number and order depend on the machine."""


def masked(text: str) -> str:
    for pattern, mask in MASKS:
        text = pattern.sub(mask, text)
    return text


def settle(rig: Rig, name: str, **condition: str) -> Any:
    return rig.wait(name, **condition)["status"]


def schedule(rig: Rig, provider: str, key: str) -> list[Any]:
    """What befalls one resource; returns the statuses on the way."""
    endpoint_id, name = f"ep-{provider}-{rig.namespace}", provider
    rig.emulators.add_account(endpoint_id, [key])
    rig.emulators.create_endpoint(provider, endpoint_id, endpoint_id)
    rig.emulators.set_knobs(provider, endpoint_id, echo_headers=True)
    rig.secret("own", token=f"{key}\n")
    spec = {
        number: spec_of(provider, endpoint_id, number, credentialsSecretRef={"name": "own"}) for number in range(2, 7)
    }
    rig.apply(name, spec[2])
    seen = [settle(rig, name)]
    rig.emulators.add_fault(Fault(operation="update", endpoint_id=endpoint_id, status=502))
    rig.apply(name, spec[3])
    seen.append(settle(rig, name))
    rig.emulators.add_fault(Fault(operation="update", endpoint_id=endpoint_id, status=422, commit="never"))
    rig.apply(name, spec[4])
    seen.append(settle(rig, name, kind="Stalled", reason="InvalidSpec"))
    rig.emulators.add_fault(Fault(endpoint_id=endpoint_id, status=401, commit="never", count=None))
    rig.apply(name, spec[5])
    seen.append(settle(rig, name, kind="Stalled", reason="CredentialsRejected"))
    rig.emulators.clear_faults()
    rig.secret("own", token=f"{key} {key}")
    time.sleep(0.5)
    seen.append(settle(rig, name, kind="Stalled", reason="CredentialsRejected"))
    rig.secret("own", token=key)
    seen.append(settle(rig, name))
    return seen


def said(rig: Rig) -> Mapping[str, Any]:
    """Everything that the operator has said, without what differs between any two runs."""
    process = rig.processes[0]
    lines = {
        masked(json.dumps(json.loads(line), sort_keys=True))
        for line in process.log.read_text().splitlines()
        if not NOISE.search(line)
    }
    events = rig.api.get(f"/apis/events.k8s.io/v1/namespaces/{rig.namespace}/events").json()["items"]
    told = {(event["reason"], event["type"], masked(event.get("note", ""))) for event in events}
    return {"log": sorted(lines), "events": sorted(told)}


def run(rig: Rig, provider: str, key: str) -> Mapping[str, Any]:
    process = rig.start("--workers", "1", poll_seconds=60)
    statuses = schedule(rig, provider, f"{key}{rig.namespace}")
    process.terminate()
    return {"statuses": masked(json.dumps(statuses, sort_keys=True)), **said(rig)}


@pytest.fixture
def rigs(control_plane: ControlPlane, tmp_path: Any) -> Iterator[dict[str, Rig]]:
    """A rig for each key, with emulators of its own: one run must not clear the faults of the other."""
    with ExitStack() as stack:
        made = {}
        for kind in KEYS:
            folder = tmp_path / kind
            folder.mkdir()
            made[kind] = stack.enter_context(rigged(control_plane, stack.enter_context(emulator_process()), folder))
        yield made


@pytest.mark.parametrize("provider", PROVIDERS)
def test_two_runs_with_different_keys_say_the_same(rigs: dict[str, Rig], provider: str) -> None:
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(run, rigs[kind], provider, KEYS[kind]) for kind in KEYS]
        short, long = (each.result() for each in runs)
    assert short["statuses"] == long["statuses"]
    assert short["events"] == long["events"]
    assert short["log"] == long["log"]
    print(f"{provider}: {len(short['log'])} different lines, {len(short['events'])} Events, 6 statuses: all the same")
    assert len(short["log"]) > 8, "there is something to compare"
