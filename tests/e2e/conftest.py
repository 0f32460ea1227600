"""What every test of the operator in its surroundings starts from: a control plane, providers, users' tools."""

from planes import control_plane, programs, pytest_collection_finish, tools
from rig import emulators, rig_of_test

__all__ = ["control_plane", "emulators", "programs", "pytest_collection_finish", "rig_of_test", "tools"]
