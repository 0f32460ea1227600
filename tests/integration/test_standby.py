"""Two replicas in good times: one works, the other is ready, and a clean end hands the work over at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.replicas import Team, team
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from tally import show

HANDOVER_SECONDS = 2


@pytest.fixture(name="replicas")
def team_of_test(control_plane: ControlPlane, emulators: EmulatorControl, tmp_path: Path) -> Iterator[Team]:
    with team(control_plane, emulators, tmp_path) as made:
        yield made


@pytest.mark.covers("A7", "E3")
def test_a_standby_is_ready_calls_nobody_and_takes_over_from_a_clean_end_at_once(replicas: Team) -> None:
    leader, standby = replicas.pair()
    (subjects,) = replicas.subjects("each")
    both = (leader, standby)
    assert [replicas.rig.readiness(each.process) for each in both] == ["working\n", "standing by\n"]
    assert [each.metric("leader") for each in both] == [1, 0]
    assert [(each.metric("pass_duration_seconds_count") or 0) > 0 for each in both] == [True, False]
    holder = replicas.lease()["holderIdentity"]
    leader.process.popen.terminate()
    told = time.time()
    replicas.change()
    assert leader.exit_code() == 0
    ended = time.time()
    assert replicas.lease().get("holderIdentity") != holder
    first = replicas.await_first_work(holder)
    rows = [("the end of the process", f"{first - ended:.2f}"), ("SIGTERM", f"{first - told:.2f}")]
    show("Seconds until the standby works, since", ("", ""), rows)
    assert first - ended <= HANDOVER_SECONDS
    replicas.settle()
    replicas.assert_one_update_each()
    assert standby.metric("leader") == 1
    assert replicas.lease()["leaseTransitions"] == 1
    assert {len(replicas.updates(subject)) for subject in subjects} == {2}
