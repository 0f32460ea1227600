"""What the tests of this folder share: a control plane and emulators per test process, a rig per test."""

from faults.bench import plan_bench
from planes import control_plane, programs, pytest_collection_finish
from rig import emulators, rig_of_test

__all__ = ["control_plane", "emulators", "plan_bench", "programs", "pytest_collection_finish", "rig_of_test"]
