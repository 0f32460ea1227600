"""The control plane that tests share: one per test process, so one per pytest-xdist worker."""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest

from inference_operator.playground.binaries import ensure
from inference_operator.playground.controlplane import ADMIN, ControlPlane

USERS = {"operator": ["system:masters"], "editor": ["system:masters"]}
"""The operator under test, and whoever edits resources: two names in the audit log."""


PROGRAMS = ("etcd", "kube-apiserver")
CLIENTS = ("kube-controller-manager", "kubectl", "helm", "kstatus", "argocd")
"""What the tests of `e2e` judge the operator by."""


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """The control plane's programs, for a test that starts a control plane of its own in another process."""
    return ensure(PROGRAMS)


@pytest.fixture(scope="session")
def tools() -> dict[str, Path]:
    """The programs of the tools that users have, by name."""
    return ensure(CLIENTS)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A running control plane with the users `USERS`. Its objects outlive a test: use a namespace per test."""
    with ControlPlane(users=USERS) as plane:
        yield plane


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the programs before the first test if any test needs them; import this into a `conftest.py`."""
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    planes = PROGRAMS if used & {"control_plane", "programs"} else ()
    build_programs(session.config, (*planes, *(CLIENTS if "tools" in used else ())))


def build_programs(config: pytest.Config, names: Sequence[str]) -> None:
    """Build programs unless they are there. A build takes longer than a test may, and here its progress is seen."""
    if config.option.collectonly or not names:
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        ensure(names)


def api_client(plane: ControlPlane, user: str = ADMIN) -> httpx.Client:
    """A client of the API server that authenticates as a user and verifies the server."""
    return httpx.Client(
        base_url=plane.url,
        headers={"Authorization": f"Bearer {plane.token_of(user)}"},
        verify=ssl.create_default_context(cafile=plane.ca_file),
        timeout=30,
        trust_env=False,
    )
