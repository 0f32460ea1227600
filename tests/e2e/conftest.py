"""What every test of the operator in its surroundings starts from: a control plane, providers, users' tools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inference_operator.playground.controlplane import ControlPlane
from planes import USERS, control_plane, programs, pytest_collection_finish, tools
from rig import emulators, rig_of_test

__all__ = ["control_plane", "emulators", "programs", "pytest_collection_finish", "rig_of_test", "tools"]


@pytest.fixture(scope="session")
def managed_plane(tools: object) -> Iterator[ControlPlane]:
    """A control plane with the controllers that every cluster has: garbage collection, namespaces, autoscaling."""
    del tools  # built with them
    with ControlPlane(users=USERS, controller_manager=True) as plane:
        yield plane
