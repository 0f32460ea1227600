"""The same on a provider that keeps no versions, so that reading back decides; all of its fields can be read back."""

from __future__ import annotations

import pytest

from faults.machine import Everything, explore

STEPS = 50_000
EXAMPLES = 540


class EverythingReadBack(Everything):
    """No versions."""

    history = False


@pytest.mark.timeout(1200)  # for busy machines
@pytest.mark.covers("B1", "B2", "B3", "C2", "C7", "C10", "C16", "C17", "D8", "D9", "E5", "E6", "F3", "G7")
def test_one_operator_keeps_every_invariant_on_a_provider_without_versions() -> None:
    assert explore(EverythingReadBack, EXAMPLES)["steps"] >= STEPS
