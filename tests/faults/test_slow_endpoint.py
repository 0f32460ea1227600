"""An endpoint that answers drop by drop and never ends, beside many that are well."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from faults.vitals import STALL_SECONDS, Managed, Pulse, apply, await_all, once_each, outcomes, placed
from inference_operator.playground.emulators.faults import Fault
from rig import UNHURRIED, Rig


@pytest.mark.faults
@pytest.mark.covers("H5")
def test_an_endpoint_that_never_answers_slows_nobody_else(rig: Rig) -> None:
    assert_others_do_not_notice(rig, 100)


@pytest.mark.nightly
@pytest.mark.covers("H5")
@pytest.mark.timeout(1800)
def test_an_endpoint_that_never_answers_slows_none_of_a_thousand(rig: Rig) -> None:
    assert_others_do_not_notice(rig, 1000)


def assert_others_do_not_notice(rig: Rig, count: int) -> None:
    process = rig.start(max_rollouts=0, **{**UNHURRIED, "poll-seconds": 20})
    slow, others = placed(rig, 2, "slow-"), placed(rig, count, "other-")
    apply(rig, [*slow, *others], 2)
    await_all(rig, [*slow, *others])
    alone = seconds_to_change(rig, others, 3)
    for each in slow:
        rig.emulators.add_fault(Fault(endpoint_id=each.endpoint_id, delivery="endless", interval=1, count=None))
    apply(rig, slow, 3)
    with Pulse(process.address) as pulse:
        beside = seconds_to_change(rig, others, 4)
    assert outcomes(rig, slow) == once_each(slow)  # while nobody answers: a well endpoint would be sent the change
    rig.emulators.clear_faults()
    await_all(rig, slow)
    alone = max(alone, seconds_to_change(rig, others, 5))  # the machine may have become slower meanwhile
    print(f"{count} changes: {alone:.1f} s alone, {beside:.1f} s beside endpoints that never answer")
    assert beside < 2 * alone + 3
    assert pulse.slowest < STALL_SECONDS
    assert outcomes(rig, others) == once_each(others, 4)
    assert outcomes(rig, slow) == once_each(slow, 2)


def seconds_to_change(rig: Rig, fleet: Sequence[Managed], number: int) -> float:
    began = time.monotonic()
    apply(rig, fleet, number)
    await_all(rig, fleet)
    return time.monotonic() - began
