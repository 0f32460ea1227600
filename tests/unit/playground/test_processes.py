"""Process groups must end with their owner, whichever way it ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from inference_operator.playground.processes import ProcessGroup, free_ports, last_lines

OWNER = """
import time
from inference_operator.playground.processes import ProcessGroup
group = ProcessGroup()
print(group.spawn(["sleep", "60"]).pid, group.spawn(["sh", "-c", "sleep 60 & wait"]).pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def members(group: int) -> list[int]:
    """The running members of a process group."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,pgid="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in table.splitlines())
    return [int(pid) for pid, pgid in rows if int(pgid) == group and alive(int(pid))]


def wait_until_empty(group: int) -> None:
    deadline = time.monotonic() + 10
    while members(group):
        assert time.monotonic() < deadline, f"still running: {members(group)}"
        time.sleep(0.02)


def test_children_die_when_their_owner_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        children = [int(pid) for pid in owner.stdout.readline().split()]
        group = int(subprocess.check_output(["ps", "-o", "pgid=", "-p", str(children[0])], text=True))
        assert len(members(group)) >= 4  # the leader, two children and a grandchild
        assert owner.pid not in members(group)
        owner.send_signal(signal.SIGKILL)
    wait_until_empty(group)


def test_close_kills_children_that_ignore_termination_and_their_children() -> None:
    with ProcessGroup() as group:
        stubborn = "trap '' TERM; echo ready; sleep 60; sleep 60"
        child = group.spawn(["sh", "-c", stubborn], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        leader = group._leader.pid
        group.terminate(grace_seconds=0.2)
        assert child.poll() is None
    assert child.returncode == -signal.SIGKILL
    wait_until_empty(leader)


def test_terminate_lets_children_end_by_themselves() -> None:
    with ProcessGroup() as group:
        child = group.spawn(["sleep", "60"])
        group.terminate(grace_seconds=10)
        assert child.returncode == -signal.SIGTERM


def test_close_may_be_called_twice() -> None:
    group = ProcessGroup()
    group.spawn(["true"], stderr=subprocess.PIPE)
    group.close()
    group.close()


def test_ports_are_distinct_and_can_be_bound() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20


def test_last_lines_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\ntwo\nthree\n")
    assert last_lines(tmp_path / "log", count=2) == "two\nthree"
    assert last_lines(tmp_path / "absent") == ""
