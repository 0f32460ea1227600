"""What is read of the providers, call by call: for a change, at rest, and when something moves at the console."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from rig import UNHURRIED, Rig, rigged, spec_of, wait_for

POLL_SECONDS = 1.0
FLAGS: dict[str, Any] = {
    **UNHURRIED,
    "poll-seconds": POLL_SECONDS,
    "settle-seconds": 1,
    "request-timeout-seconds": 1,
    "drift-seconds": 86_400,  # at any moment of which each is read whole for the first time
    "scale-interval-seconds": 0.001,
}
FLEET = 5
BEFORE = {"friendli": {"get_spec": 1, "get_version_history": 1}, "novita": {"get": 1}}
AFTER = {"friendli": {"get_status": 1, "get_version_history": 1}, "novita": {"get": 1}}
A_LOOK = {"friendli": {"get_spec": 1, "get_status": 1, "get_version_history": 1}, "novita": {"get": 1}}


@dataclass
class Fleet:
    """Resources of one provider, with fixed replicas, in sync and at rest, and listed since."""

    rig: Rig
    provider: str
    specs: dict[str, dict[str, Any]]

    def forget(self) -> None:
        self.rig.emulators.reset_ledger()

    def operations(self, name: str) -> list[str]:
        """What was asked about the endpoint of a resource since, in order."""
        endpoint_id = self.specs[name]["endpointId"]
        return [str(entry.operation) for entry in self.rig.emulators.ledger() if entry.endpoint_id == endpoint_id]

    def calls(self) -> Counter[str]:
        return Counter(str(entry.operation) for entry in self.rig.emulators.ledger())

    def come_to_rest(self) -> None:
        """Wait until nothing has been read by itself for some polls."""

        def rests() -> bool:
            self.forget()
            time.sleep(3 * POLL_SECONDS)
            return self.calls().keys() == {"list"}

        wait_for(rests, what="rest")

    def scale(self, name: str, replicas: int) -> None:
        self.specs[name] = {**self.specs[name], "scaling": {"replicas": replicas}}
        self.rig.apply(name, self.specs[name])
        self.rig.wait(name, "Synced")
        self.rig.wait(name, "Ready")


@pytest.fixture(scope="module", params=["friendli", "novita"])
def fleet(
    request: pytest.FixtureRequest,
    control_plane: ControlPlane,
    emulators: EmulatorControl,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    with rigged(control_plane, emulators, tmp_path_factory.mktemp("reads")) as rig:
        names = [f"{request.param}-{number}" for number in range(FLEET)]
        specs = {name: spec_of(request.param, rig.endpoint(request.param), 1) for name in names}
        made = Fleet(rig, request.param, specs)
        rig.start(**FLAGS)
        for name in names:
            made.scale(name, 2)
        made.come_to_rest()
        yield made


def test_a_change_reads_no_more_than_it_needs(fleet: Fleet) -> None:
    for number, name in enumerate(fleet.specs):
        fleet.forget()
        fleet.scale(name, 3 + number)
        operations = fleet.operations(name)
        place = operations.index("update")
        assert Counter(operations[:place]) == BEFORE[fleet.provider]
        after = AFTER[fleet.provider]
        assert Counter(operations[place + 1 : place + 1 + sum(after.values())]) == after


def test_at_rest_only_lists_are_read(fleet: Fleet) -> None:
    fleet.come_to_rest()
    fleet.forget()
    began = time.monotonic()
    time.sleep(5 * POLL_SECONDS)
    calls, polls = fleet.calls(), (time.monotonic() - began) / POLL_SECONDS
    assert calls.keys() == {"list"}
    assert 3 <= calls["list"] <= polls + 1


def test_what_moves_is_read_by_itself_and_nothing_else_is(fleet: Fleet) -> None:
    moved, *others = fleet.specs
    fleet.come_to_rest()
    fleet.forget()
    state = {"friendli": "TERMINATED", "novita": "stopped"}[fleet.provider]
    fleet.rig.emulators.set_endpoint(fleet.provider, fleet.specs[moved]["endpointId"], state=state)
    wait_for(lambda: fleet.rig.get(moved)["status"]["state"] == "Stopped", what="Stopped")
    time.sleep(3 * POLL_SECONDS)
    assert Counter(fleet.operations(moved)) == A_LOOK[fleet.provider]
    assert not any(fleet.operations(name) for name in others)


def test_a_change_at_the_console_is_seen_although_nobody_is_due_to_look(fleet: Fleet) -> None:
    name = list(fleet.specs)[-1]
    endpoint_id = fleet.specs[name]["endpointId"]
    fleet.scale(name, 9)
    body = {**fleet.rig.mutations(endpoint_id)[-1].body, **_seven_replicas(fleet.rig, fleet.provider, endpoint_id)}
    fleet.come_to_rest()
    fleet.rig.emulators.foreign_write(fleet.provider, endpoint_id, body)
    drift = wait_for(lambda: fleet.rig.get(name)["status"].get("drift"), what="drift")
    assert 7 in [each["observed"] for each in drift]


def _seven_replicas(rig: Rig, provider: str, endpoint_id: str) -> dict[str, Any]:
    if provider == "friendli":
        return {"simplescale": {"replicas": 7}}
    workers = rig.mutations(endpoint_id)[-1].body["workerConfig"]
    return {"workerConfig": {**workers, "minNum": 7, "maxNum": 7}}
