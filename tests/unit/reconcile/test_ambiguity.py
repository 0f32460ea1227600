"""Writes of which nobody can say whether they arrived: never a second version, and never one lost without a word."""

from __future__ import annotations

import pytest

from faults.ambiguity import Campaign, ambiguous_writes
from faults.invariants import MISTAKEN
from world import PACE

FEW = 500
MANY = 5000
"""On each kind of provider."""

MANY_TOLD, MANY_UNTOLD = 0.1, 0.05
"""Shares of writes that foreign versions made nobody can tell from; measured: see what the test prints."""

LOOKS = 2
"""Until the verdict, on average."""


def check_campaign(campaign: Campaign, count: int) -> None:
    """The run itself has checked every write; here are the figures."""
    campaign.print()
    assert len(campaign.cases) >= count
    assert campaign.begun - len(campaign.cases) <= campaign.forgotten, "what nobody has forgotten is decided"
    told = campaign.unknowable[MISTAKEN] / len(campaign.cases)
    untold = sum(campaign.unknowable.values()) / len(campaign.cases) - told
    assert (told <= MANY_TOLD, untold <= MANY_UNTOLD) == (True, True), "not more than nobody could have known"
    assert campaign.looks <= LOOKS
    assert campaign.seconds(committed=True) <= 2 * PACE.transition_poll


@pytest.mark.covers("B1", "B2", "B3", "C2", "C9", "C10", "C16", "E8", "G2", "G6")
@pytest.mark.parametrize("history", [True, False], ids=["versions", "no versions"])
def test_ambiguous_writes_are_resolved_without_help(*, history: bool) -> None:
    check_campaign(ambiguous_writes(FEW, history=history, seed=1), FEW)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.covers("B1", "B2", "B3", "C2", "C9", "C10", "C16", "E8", "G2", "G6")
@pytest.mark.parametrize("history", [True, False], ids=["versions", "no versions"])
def test_ten_thousand_ambiguous_writes_are_resolved_without_help(*, history: bool) -> None:
    check_campaign(ambiguous_writes(MANY, history=history, seed=2), MANY)
