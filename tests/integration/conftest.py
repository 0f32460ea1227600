"""What the tests of this folder share: a control plane and emulators per test process, a rig per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.process import emulator_process
from planes import control_plane, programs, pytest_collection_finish
from rig import Rig, rigged

__all__ = ["control_plane", "emulators", "programs", "pytest_collection_finish", "rig"]


@pytest.fixture(scope="session")
def emulators() -> Iterator[EmulatorControl]:
    """Both emulated providers, in a process that outlives any operator."""
    with emulator_process() as control:
        yield control


@pytest.fixture
def rig(control_plane: ControlPlane, emulators: EmulatorControl, tmp_path: Path) -> Iterator[Rig]:
    """A namespace, an account and operators of its own."""
    with rigged(control_plane, emulators, tmp_path) as made:
        yield made
        assert made.secrets_shown() == []
