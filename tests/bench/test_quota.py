"""What is held to a part of a core uses no more, and is let go again."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.quota import NoControlGroupsError, check, limited
from bench.vitals import vitals

BUSY = "import threading\nthreading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()"
SECONDS = 1.5


@pytest.fixture(autouse=True)
def _control_groups() -> None:
    try:
        check()
    except NoControlGroupsError as error:
        pytest.skip(str(error))


@pytest.fixture
def busy() -> Iterator[int]:
    """A process that would use a whole core."""
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        yield process.pid
        process.kill()


def used(pid: int) -> float:
    """Of a core."""
    before, began = vitals([pid]).cpu, time.monotonic()
    time.sleep(SECONDS)
    return (vitals([pid]).cpu - before) / (time.monotonic() - began)


def test_a_process_uses_what_it_is_allowed(busy: int) -> None:
    with limited([busy], cores=0.1):
        assert used(busy) < 0.2


def test_it_is_let_go_and_nothing_is_left(busy: int) -> None:
    def group() -> str:
        return Path(f"/proc/{busy}/cgroup").read_text()

    before = group()
    with limited([busy], cores=0.1):
        assert group() != before
        assert f"-{busy}" in group()
    assert group() == before
    assert not list(Path("/sys/fs/cgroup").glob(f"**/bench-*-{busy}"))


def test_of_several_each_has_its_own(busy: int) -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY]) as other:
        try:
            with limited([busy, other.pid], cores=0.1):
                groups = [Path(f"/proc/{pid}/cgroup").read_text() for pid in (busy, other.pid)]
        finally:
            other.kill()
    assert groups[0] != groups[1]
