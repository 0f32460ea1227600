"""Any interleaving of edits, faults, crashes and time: never one version too many, and convergence afterwards."""

from __future__ import annotations

import pytest

from faults.machine import Everything, Lives, Replicas, explore

STEPS = 50_000
EXAMPLES = 540
EXAMPLES_AT_NIGHT = 30_000


@pytest.mark.timeout(1200)  # for busy machines
@pytest.mark.covers("B1", "B2", "B3", "C2", "C7", "C8", "C9", "C10", "C16", "C17")
@pytest.mark.covers("D8", "D9", "E2", "E5", "E6", "F3", "G7")
def test_one_operator_keeps_every_invariant_on_a_provider_with_versions() -> None:
    tally = explore(Everything, EXAMPLES)
    assert tally["steps"] >= STEPS
    assert tally["corrections"] >= EXAMPLES // 5, "foreign changes are corrected as well"


@pytest.mark.nightly
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("history", [True, False], ids=["versions", "no versions"])
@pytest.mark.parametrize("machine", [Everything, Replicas, Lives])
def test_nothing_else_is_found_in_a_night(machine: type[Everything], *, history: bool) -> None:
    tally = explore(type(machine.__name__, (machine,), {"history": history}), EXAMPLES_AT_NIGHT, at_random=True)
    assert tally["steps"] >= EXAMPLES_AT_NIGHT
