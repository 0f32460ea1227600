"""An operator may die at any step: the next one brings it to its end, and no change is made twice or lost."""

from __future__ import annotations

from collections import Counter

import pytest

from faults.bench import Bench
from faults.plans import Calm, Plan, labels, living, single_crashes
from faults.workloads import CASES
from tally import show

pytestmark = pytest.mark.faults

CALM = [Calm(*case) for case in CASES]
CRASHES, LIVING = list(single_crashes()), list(living())


def test_there_are_plans_for_every_step_of_every_workload() -> None:
    counts = Counter((plan.workload.name, plan.subject.name) for plan in CRASHES)
    rows = [(*case, count) for case, count in counts.items()]
    show(
        f"{len(CRASHES)} single crashes, {len(LIVING)} more that the operator survives", ("workload", "", "plans"), rows
    )
    assert len(CRASHES) >= 180
    assert len(set(map(str, CRASHES + LIVING))) == len(CRASHES + LIVING)


@pytest.mark.parametrize("plan", CALM, ids=str)
def test_plans_are_made_of_the_steps_that_a_workload_has(plan_bench: Bench, plan: Calm) -> None:
    assert plan_bench.verdict(plan).steps == labels(plan.workload, plan.subject)


@pytest.mark.plan
@pytest.mark.covers("A1", "A2", "A3", "A4", "A5", "A6")
@pytest.mark.parametrize("plan", CRASHES, ids=str)
def test_no_crash_makes_a_second_version_or_loses_a_change(plan_bench: Bench, plan: Plan) -> None:
    assert plan_bench.verdict(plan).violations == []


@pytest.mark.plan
@pytest.mark.covers("D8")
@pytest.mark.parametrize("plan", LIVING, ids=str)
def test_no_lost_answer_and_no_conflict_of_a_kubernetes_write_does(plan_bench: Bench, plan: Plan) -> None:
    assert plan_bench.verdict(plan).violations == []
