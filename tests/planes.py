"""The control plane that tests share: one per test process, so one per pytest-xdist worker."""

import os
import ssl
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest

from inference_operator.playground.binaries import ensure
from inference_operator.playground.controlplane import ADMIN, ControlPlane

USERS = {"operator": ["system:masters"], "editor": ["system:masters"]}
"""The operator under test, and whoever edits resources: two names in the audit log."""


PROGRAMS = ("etcd", "kube-apiserver")


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """The control plane's programs, for a test that starts a control plane of its own in another process."""
    return ensure(PROGRAMS)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A running control plane with the users `USERS`. Its objects outlive a test: use a namespace per test."""
    with ControlPlane(users=USERS) as plane:
        yield plane


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the programs before the first test if any test needs them; import this into a `conftest.py`.

    A build takes longer than a test may, and its progress would be captured. Where several test processes wait for
    one build, the first of them shows it.
    """
    needing = {"control_plane", "programs"}
    needed = any(needing.intersection(getattr(item, "fixturenames", ())) for item in session.items)
    if needed and not session.config.option.collectonly:
        capture = session.config.pluginmanager.getplugin("capturemanager")
        shown = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            ensure(PROGRAMS, progress=None if shown else lambda _: None)


def api_client(plane: ControlPlane, user: str = ADMIN) -> httpx.Client:
    """A client of the API server that authenticates as a user and verifies the server."""
    return httpx.Client(
        base_url=plane.url,
        headers={"Authorization": f"Bearer {plane.token_of(user)}"},
        verify=ssl.create_default_context(cafile=plane.ca_file),
        trust_env=False,
    )
