"""The local control plane is a real one, is left behind by nobody, and survives what tests do to it."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from audit import Write, audit_events, settle, writes
from inference_operator.playground.binaries import PROGRAMS
from inference_operator.playground.controlplane import ADMIN, ControlPlane, ControlPlaneError
from inference_operator.playground.processes import free_ports
from planes import api_client

pytestmark = pytest.mark.timeout(1800)  # whatever runs first may have to build the programs

OWNER = """
import time
from inference_operator.playground.controlplane import ControlPlane
with ControlPlane() as plane:
    print(plane.url, plane.folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane for the tests of this file, which are harder on it than others would like."""
    with ControlPlane(users={"editor": ["system:masters"], "nobody": []}) as running:
        yield running


def test_the_audit_log_tells_who_wrote_what(plane: ControlPlane) -> None:
    with api_client(plane, "editor") as editor, api_client(plane, ADMIN) as admin:
        assert create_namespace(editor, "written").status_code == 201
        assert create_namespace(admin, "written").status_code == 409
        assert create_namespace(editor, "tried", dryRun="All").status_code == 201
        labelled = {"metadata": {"labels": {"team": "a"}}}
        merge = {"Content-Type": "application/merge-patch+json"}
        assert editor.patch("/api/v1/namespaces/written", json=labelled, headers=merge).status_code == 200
        assert editor.get("/api/v1/namespaces/tried").status_code == 404
    settle(plane)
    created = Write("create", "namespaces", "", "", "written", 201)
    assert writes(plane.audit_log, user="editor") == [
        created,
        Write("patch", "namespaces", "", "written", "written", 200),
    ]
    assert created._replace(code=409) in writes(plane.audit_log, user=ADMIN)
    assert created in writes(plane.audit_log)
    assert {event["level"] for event in audit_events(plane.audit_log)} == {"Metadata"}
    assert "RequestReceived" not in {event["stage"] for event in audit_events(plane.audit_log)}


def test_roles_decide_what_a_user_may_do(plane: ControlPlane) -> None:
    with api_client(plane, "nobody") as nobody:
        assert create_namespace(nobody, "forbidden").status_code == 403
        assert nobody.get("/api/v1/namespaces", headers={"Authorization": "Bearer invented"}).status_code == 401


def test_a_kubeconfig_is_private_and_complete(plane: ControlPlane) -> None:
    path = plane.kubeconfig_of("editor")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = yaml.safe_load(path.read_text())
    assert config["users"] == [{"name": "editor", "user": {"token": plane.token_of("editor")}}]
    (cluster,) = config["clusters"]
    assert cluster["cluster"].keys() == {"server", "certificate-authority-data"}
    assert cluster["cluster"]["server"] == plane.url
    assert plane.kubeconfig == plane.kubeconfig_of(ADMIN)
    with pytest.raises(KeyError):
        plane.kubeconfig_of("stranger")


@pytest.mark.skipif("KUBEBUILDER_ASSETS" in os.environ, reason="programs that were built elsewhere")
def test_it_reports_the_release_it_is_built_from(plane: ControlPlane) -> None:
    with api_client(plane) as admin:
        version = admin.get("/version").json()
    assert version["gitVersion"] == PROGRAMS["kube-apiserver"].module.version
    assert version["gitVersion"].startswith(f"v{version['major']}.{version['minor']}.")


def test_what_was_written_survives_a_crash_of_the_api_server(plane: ControlPlane) -> None:
    url = plane.url
    with api_client(plane) as before:
        assert create_namespace(before, "durable").status_code == 201
        plane.kill_apiserver()
        with pytest.raises(httpx.TransportError):
            before.get("/readyz")
    plane.restart_apiserver()
    plane.restart_apiserver()
    assert plane.url == url
    with api_client(plane, "editor") as after:
        assert after.get("/api/v1/namespaces/durable").status_code == 200


def test_the_controller_manager_finishes_deletions_under_its_own_name() -> None:
    with ControlPlane(controller_manager=True) as plane, api_client(plane) as admin:
        assert create_namespace(admin, "passing").status_code == 201
        assert admin.delete("/api/v1/namespaces/passing").status_code == 200
        wait_for(lambda: admin.get("/api/v1/namespaces/passing").status_code == 404)
        settle(plane)
        finalized = Write("update", "namespaces", "finalize", "passing", "passing", 200)
        assert finalized in writes(plane.audit_log, user="system:kube-controller-manager")


async def test_nothing_is_left_after_stop() -> None:
    async with ControlPlane() as plane:
        running = [component.process for component in plane._components.values()]
        assert len(running) == 2
        assert all(process.poll() is None for process in running)
        with api_client(plane) as admin, admin.stream("GET", "/api/v1/namespaces", params={"watch": "true"}) as watch:
            assert watch.status_code == 200
            plane.stop()  # an open watch does not hold it up
    assert all(process.poll() is not None for process in running)
    assert not plane.folder.exists()
    assert not listening(plane.url)
    with pytest.raises(ControlPlaneError, match="not running"):
        plane.restart_apiserver()


def test_nothing_keeps_running_when_the_owner_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        url, folder = owner.stdout.readline().split()
        assert listening(url)
        owner.send_signal(signal.SIGKILL)
    wait_for(lambda: not listening(url))
    wait_for(lambda: folder not in running_commands())
    subprocess.run(["rm", "-r", folder], check=True)


def test_a_port_taken_meanwhile_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        choices = iter([(*free_ports(2), port), (port, *free_ports(2)), free_ports(3)])
        monkeypatch.setattr("inference_operator.playground.controlplane.free_ports", lambda _: next(choices))
        with ControlPlane() as plane:
            assert next(choices, None) is None
            assert plane.url != f"https://127.0.0.1:{port}"


def test_a_component_that_ends_is_named_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "etcd"
    fake.write_text("#!/bin/sh\necho 'the disk is on fire'\nexit 7\n")
    fake.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    plane = ControlPlane()
    with pytest.raises(ControlPlaneError, match=r"^etcd ended with exit code 7:\nthe disk is on fire$"):
        plane.start()
    assert not plane.folder.exists()


def create_namespace(client: httpx.Client, name: str, **parameters: str) -> httpx.Response:
    return client.post("/api/v1/namespaces", json={"metadata": {"name": name}}, params=parameters)


def listening(url: str) -> bool:
    try:
        httpx.get(url, verify=False, trust_env=False)  # noqa: S501 - whether anybody answers is all that is asked
    except httpx.ConnectError:
        return False
    return True


def running_commands() -> str:
    return subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
