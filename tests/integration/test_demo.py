"""The demonstration converges by itself, counts right, and leaves nothing behind; run as users run it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inference_operator.playground.scenario import EDITED, PARTS

pytestmark = pytest.mark.usefixtures("programs")

DEMO = [sys.executable, "-m", "inference_operator", "demo"]


@pytest.fixture(scope="module")
def done(programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:  # noqa: ARG001 - built beforehand
    """One run of `demo --exit`, in an empty folder."""
    command, folder = [*DEMO, "--exit"], tmp_path_factory.mktemp("empty")
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert list(folder.iterdir()) == []
    return ended


def test_it_ends_by_itself_with_everything_converged(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: line.split()[-4:-2] for name, line in table(done.stdout).items()} == {
        part.manifest["metadata"]["name"]: ["True", "True"] for part in PARTS
    }
    assert "8 of 8 resources converged; 8 provider writes" in done.stdout
    assert_nothing_is_left(done.stdout)


def test_the_edit_costs_exactly_one_update(done: subprocess.CompletedProcess[str]) -> None:
    before, edited, after = done.stdout.partition("Editing chat")
    endpoint = next(part.endpoint_id for part in PARTS if part.sample == EDITED)
    assert edited
    assert updates(before) == sorted(part.endpoint_id for part in PARTS if part.writes)
    assert updates(after) == [endpoint]
    assert f"({endpoint}): 200, version 2" in after


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_on_until_it_is_ended_and_cleans_up(how: signal.Signals) -> None:
    with running() as demo:
        assert demo.stdout is not None
        said = ""
        while "resources applied" not in said:
            line = demo.stdout.readline()
            print(line, end="")  # for the report, should the rest not come
            assert line
            said += line
        demo.send_signal(how)
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0
    assert "of 8 resources converged" in rest
    assert_nothing_is_left(said)


def test_ending_it_early_is_a_failure_where_it_should_have_converged() -> None:
    with running("--exit") as demo:
        assert demo.stdout is not None
        said = demo.stdout.readline()
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=60)
    assert "Starting" in said
    assert demo.returncode == 1


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demonstration that is killed where a test fails; the rest of it dies with it."""
    with subprocess.Popen([*DEMO, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def table(said: str) -> dict[str, str]:
    """The lines of the last table, by name."""
    lines = said[said.rindex("\nName ") :].strip().split("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line for line in lines}


def updates(said: str) -> list[str]:
    """The endpoints that received an update, in order of their ids."""
    return sorted(re.findall(r" (?:PUT|POST) \S+ \((\S+)\): 200", said))


def assert_nothing_is_left(said: str) -> None:
    found = re.search(r"log (\S+)/operator\.log", said)
    assert found is not None
    folder = Path(found[1])
    commands = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in commands
    assert not folder.exists()
