"""What is held to a part of a core uses no more, and is let go again; tests of that are nightly, as they need root."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import quota
from bench.quota import NoControlGroupsError, check, limited
from bench.vitals import vitals

BUSY = "import threading\nthreading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()"
SECONDS = 1.5


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


@pytest.mark.nightly
def test_a_process_uses_what_it_is_allowed(busy: int) -> None:
    with limited([busy], cores=0.1):
        assert used(busy) < 0.2


@pytest.mark.nightly
def test_it_is_let_go_and_nothing_is_left(busy: int) -> None:
    def group() -> str:
        return Path(f"/proc/{busy}/cgroup").read_text()

    before = group()
    with limited([busy], cores=0.1):
        assert group() != before
        assert f"-{busy}" in group()
    assert group() == before
    assert not list(Path("/sys/fs/cgroup").glob(f"**/bench-*-{busy}"))


@pytest.mark.nightly
def test_of_several_each_has_its_own(busy: int) -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY]) as other:
        try:
            with limited([busy, other.pid], cores=0.1):
                groups = [Path(f"/proc/{pid}/cgroup").read_text() for pid in (busy, other.pid)]
        finally:
            other.kill()
    assert groups[0] != groups[1]


def test_who_may_not_limit_processes_is_told_what_it_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(quota, "_groups", lambda: (tmp_path / "missing", tmp_path))
    with pytest.raises(NoControlGroupsError, match="No such file or directory; limiting processes takes root"):
        check()


def test_a_group_that_cannot_be_set_up_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(quota, "_groups", lambda: (tmp_path, tmp_path))
    monkeypatch.setattr(quota, "_set", _refused)
    with pytest.raises(NoControlGroupsError, match="Permission denied"):
        check()
    assert list(tmp_path.iterdir()) == []


def _refused(*_: object) -> None:
    raise PermissionError(13, "Permission denied")
