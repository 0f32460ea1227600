"""The same with several operators at once, whose watches hang, lose events and go back in time."""

from __future__ import annotations

import pytest

from faults.machine import Replicas, explore

STEPS = 25_000
EXAMPLES = 280


class ReplicasReadBack(Replicas):
    """No versions."""

    history = False


@pytest.mark.timeout(1200)  # for busy machines
@pytest.mark.covers("D6", "D7", "D8", "D9", "E1", "E2", "B1", "B3", "C10")
@pytest.mark.parametrize("machine", [Replicas, ReplicasReadBack])
def test_several_operators_make_no_more_versions_than_one(machine: type[Replicas]) -> None:
    assert explore(machine, EXAMPLES)["steps"] >= STEPS
