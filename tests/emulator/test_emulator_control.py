from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from inference_operator.playground.emulators.accounts import fingerprint
from inference_operator.playground.emulators.control import ControlError, EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.process import emulator_process
from inference_operator.playground.emulators.server import CONTROL_OPERATIONS, Emulators
from inference_operator.playground.emulators.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "flp_0123456789"
COMMAND = [sys.executable, "-m", "inference_operator.playground.emulators"]


@pytest.fixture(scope="module")
def running() -> Iterator[EmulatorControl]:
    with emulator_process() as control:
        yield control


@pytest.fixture
def control(running: EmulatorControl, request: pytest.FixtureRequest) -> Iterator[EmulatorControl]:
    """The same process for all tests; each has an account and endpoints of its own."""
    name = request.node.name
    running.add_account(name, [TOKEN])
    running.create_endpoint("friendli", f"ep-{name}", name)
    running.create_endpoint("novita", f"sls-{name}", name, spec={"workerConfig": {"minNum": 1}})
    running.reset_ledger()
    yield running
    running.clear_faults()
    running.set_tokens(name, [])


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> str:
    return f"ep-{request.node.name}"


@pytest.fixture
def friendli(control: EmulatorControl) -> Iterator[httpx.Client]:
    url = control.urls()["friendli"] + "/dedicated/beta/endpoint"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False) as client:
        yield client


def test_every_control_operation_has_a_method_on_both_sides() -> None:
    for operation in CONTROL_OPERATIONS:
        assert callable(getattr(World, operation))
        assert callable(getattr(EmulatorControl, operation))


def test_a_write_is_seen_from_outside(control: EmulatorControl, friendli: httpx.Client, endpoint: str) -> None:
    assert friendli.put(f"/{endpoint}", json={"name": "new"}).status_code == 200
    assert control.get_endpoint("friendli", endpoint)["config"]["name"] == "new"
    (entry,) = control.mutations(endpoint)
    assert (entry.version, entry.committed, entry.token) == (1, True, fingerprint(TOKEN))
    friendli.get(f"/{endpoint}")
    assert [read.operation for read in control.reads(endpoint)] == ["get_spec"]
    assert control.ledger_counts() == {"mutations": 1, "committed": 1, "reads": 1, "foreign": 0}
    assert control.ledger(after=control.ledger()[-1].seq) == []


def test_knobs_states_and_limits(control: EmulatorControl, friendli: httpx.Client, endpoint: str) -> None:
    control.set_knobs("friendli", endpoint, rollout_seconds=60)
    friendli.put(f"/{endpoint}", json={})
    assert control.get_endpoint("friendli", endpoint)["status"] == "UPDATING"
    assert control.peak_transitions() == {fingerprint(TOKEN): 1}
    control.set_endpoint("friendli", endpoint, state="FAILED", error="INFERENCE_ENGINE_MEMORY_ERROR")
    assert friendli.get(f"/{endpoint}/status").json()["errorCode"] == "INFERENCE_ENGINE_MEMORY_ERROR"
    control.set_limits(maxWorkerNum=7)
    url = control.urls()["novita"] + "/gpu-instance/openapi/v1/endpoint/limit"
    fields = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    assert httpx.get(url, headers=fields, trust_env=False).json()["maxWorkerNum"] == 7


def test_a_test_acts_between_commit_and_answer(control: EmulatorControl, friendli: httpx.Client, endpoint: str) -> None:
    control.add_fault(Fault(provider="friendli", method="PUT", endpoint_id=endpoint, gate_after="after_commit"))
    answers: list[httpx.Response] = []
    sender = threading.Thread(target=lambda: answers.append(friendli.put(f"/{endpoint}", json={"name": "new"})))
    sender.start()
    assert control.wait_for_gate("after_commit", seconds=5) == [control.mutations(endpoint)[0].seq]
    assert control.get_endpoint("friendli", endpoint)["config"]["name"] == "new"
    assert answers == []
    assert control.release_gate("after_commit") == 1
    sender.join(5)
    assert answers[0].status_code == 200
    assert control.fault_counts()[-1]["hits"] == 1


def test_waiting_in_vain_is_a_timeout(control: EmulatorControl) -> None:
    with pytest.raises(TimeoutError):
        control.wait_for_gate("nobody", seconds=0.05)


def test_a_killed_client_leaves_its_held_write(control: EmulatorControl, endpoint: str) -> None:
    control.add_fault(Fault(method="PUT", endpoint_id=endpoint, gate_before="g"))
    program = (
        "import httpx, sys; httpx.put(sys.argv[1], json={'name': 'new'}, "
        "headers={'Authorization': 'Bearer ' + sys.argv[2]}, timeout=30, trust_env=False)"
    )
    url = f"{control.urls()['friendli']}/dedicated/beta/endpoint/{endpoint}"
    with subprocess.Popen([sys.executable, "-c", program, url, TOKEN]) as client:
        control.wait_for_gate("g", seconds=10)
        client.kill()
    assert control.get_endpoint("friendli", endpoint)["config"]["name"] == endpoint
    control.release_gate("g")
    deadline = time.monotonic() + 5
    while not control.mutations(endpoint)[0].committed:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert control.get_endpoint("friendli", endpoint)["config"]["name"] == "new"


def test_accounts_rates_and_foreign_writes(control: EmulatorControl, friendli: httpx.Client, endpoint: str) -> None:
    account = endpoint.removeprefix("ep-")
    entry = control.foreign_write("friendli", endpoint, {"name": "theirs"})
    assert (entry.foreign, entry.version) == (True, 1)
    control.set_rate(account, rate=0.01)
    assert [friendli.get(f"/{endpoint}").status_code for _ in range(2)] == [200, 429]
    control.set_rate(account, rate=0)
    control.set_tokens(account, ["flp_next"])
    assert friendli.get(f"/{endpoint}").status_code == 401


@pytest.mark.parametrize(
    ("operation", "arguments", "message"),
    [
        ("create_endpoint", ("friendli", "x", "nobody"), "there is no account 'nobody'; add it first"),
        ("create_endpoint", ("aws", "x", "nobody"), "nobody"),
        ("get_endpoint", ("friendli", "no-such"), "friendli has no endpoint 'no-such'"),
        ("get_endpoint", ("aws", "x"), "there is no provider 'aws'"),
        ("set_tokens", ("nobody", []), "there is no account 'nobody'; add it first"),
        ("foreign_write", ("friendli", "no-such"), "friendli has no endpoint 'no-such'"),
    ],
)
def test_mistakes_are_told(control: EmulatorControl, operation: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ControlError, match=message):
        getattr(control, operation)(*arguments)


def test_unknown_names_are_told(control: EmulatorControl, endpoint: str) -> None:
    account = endpoint.removeprefix("ep-")
    with pytest.raises(ControlError, match="no such knob: speed"):
        control.set_knobs("friendli", speed=1)
    with pytest.raises(ControlError, match="no such limit: maxSpeed"):
        control.set_limits(maxSpeed=1)
    with pytest.raises(ControlError, match="cannot change colour"):
        control.set_endpoint("friendli", endpoint, colour="red")
    with pytest.raises(ControlError, match="'ASLEEP' is not a status"):
        control.set_endpoint("friendli", endpoint, state="ASLEEP")
    with pytest.raises(ControlError, match="already"):
        control.create_endpoint("friendli", endpoint, account)
    with pytest.raises(ControlError, match="nonsense"):
        control.create_endpoint("friendli", "other", account, spec={"nonsense": 1})
    with pytest.raises(ControlError, match="no operation 'explode'"):
        control.foreign_write("friendli", endpoint, operation="explode")


def test_there_is_no_other_control_operation(control: EmulatorControl) -> None:
    url = control.urls()["control"]
    assert httpx.post(f"{url}/provider", json={"name": "friendli"}, trust_env=False).status_code == 404
    assert httpx.get(f"{url}/ledger", trust_env=False).status_code == 404
    assert httpx.post(f"{url}/ledger", content=b"[1]", trust_env=False).status_code == 400


def test_the_program_prints_its_origins_and_ends_on_sigterm() -> None:
    with subprocess.Popen([*COMMAND, "--json"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        urls = json.loads(process.stdout.readline())
        assert set(urls) == {"friendli", "novita", "control"}
        assert httpx.get(f"{urls['control']}/urls", trust_env=False).json() == urls
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stdout.read() == ""


def test_the_program_ends_with_the_one_who_started_it() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, "--json", "--until-eof"], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdin.close()
        assert process.wait(10) == 0


def test_the_program_also_talks_to_people() -> None:
    with subprocess.Popen([*COMMAND, "--host", "127.0.0.1"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("friendli  http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


async def test_stopping_waits_for_nobody() -> None:
    emulators = Emulators()
    await emulators.start()
    world = emulators.world
    world.add_account("us", [TOKEN])
    for number in range(3):
        world.create_endpoint("friendli", f"ep-{number}", "us")
    world.add_fault(Fault(endpoint_id="ep-0", delivery="stall"))
    world.add_fault(Fault(endpoint_id="ep-1", gate_before="g"))
    world.add_fault(Fault(endpoint_id="ep-2", commit="late", late_seconds=0.5))
    fields = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=emulators.friendli_url, headers=fields, trust_env=False) as client:
        sending = [
            asyncio.create_task(client.put(f"/dedicated/beta/endpoint/ep-{number}", json={})) for number in range(3)
        ]
        await world.wait_for_gate("g", seconds=5)
        await sending[2]
        begin = time.monotonic()
        await emulators.stop()
        assert time.monotonic() - begin < 3
        stalled, held = await asyncio.gather(*sending[:2], return_exceptions=True)
    await asyncio.sleep(0.6)
    assert isinstance(stalled, httpx.TransportError)
    assert isinstance(held, httpx.Response)
    assert not world.mutations("ep-2")[0].committed
