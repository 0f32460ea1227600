"""An operator may die once more while the next one recovers from the death of the first: that changes nothing."""

from __future__ import annotations

import pytest

from faults.bench import Bench
from faults.plans import Pair, pairs

PAIRS = list(pairs())


@pytest.mark.nightly
@pytest.mark.covers("A9")
@pytest.mark.parametrize("plan", PAIRS, ids=str)
def test_no_pair_of_crashes_makes_a_second_version_or_loses_a_change(plan_bench: Bench, plan: Pair) -> None:
    assert plan_bench.verdict(plan).violations == []
