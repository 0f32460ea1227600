"""Writes of which nobody can say whether they arrived: never a second version, and never one lost without a word."""

from __future__ import annotations

import pytest

from faults.ambiguity import Campaign, ambiguous_writes
from world import PACE

FEW = 500
MANY = 5000
"""On each kind of provider."""

LOOKS = 2
"""Until the verdict, on average."""


def check(campaign: Campaign, count: int) -> None:
    """The run itself has checked every write; here are the figures."""
    campaign.print()
    assert len(campaign.cases) >= count
    assert all(case.decided_at is not None for case in campaign.cases)
    assert campaign.looks <= LOOKS
    assert campaign.seconds(committed=True) <= 2 * PACE.transition_poll


@pytest.mark.covers("B1", "B2", "B3", "C2", "C9", "C10", "C16", "E8", "G2", "G6")
@pytest.mark.parametrize("history", [True, False], ids=["versions", "no versions"])
def test_ambiguous_writes_are_resolved_without_help(*, history: bool) -> None:
    check(ambiguous_writes(FEW, history=history, seed=1), FEW)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.covers("B1", "B2", "B3", "C2", "C9", "C10", "C16", "E8", "G2", "G6")
@pytest.mark.parametrize("history", [True, False], ids=["versions", "no versions"])
def test_ten_thousand_ambiguous_writes_are_resolved_without_help(*, history: bool) -> None:
    check(ambiguous_writes(MANY, history=history, seed=2), MANY)
