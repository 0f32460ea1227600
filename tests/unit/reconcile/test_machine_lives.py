"""The same with resources that come and go, share an endpoint, and are restored with an old status or with none."""

from __future__ import annotations

import pytest

from faults.machine import Lives, explore

STEPS = 25_000
EXAMPLES = 280


class LivesReadBack(Lives):
    """No versions."""

    history = False


@pytest.mark.timeout(1200)  # for busy machines
@pytest.mark.covers("D7", "E4", "E7", "E8", "E11", "G2", "G5", "G6")
@pytest.mark.parametrize("machine", [Lives, LivesReadBack])
def test_no_past_life_of_a_resource_makes_a_version(machine: type[Lives]) -> None:
    assert explore(machine, EXAMPLES)["steps"] >= STEPS
