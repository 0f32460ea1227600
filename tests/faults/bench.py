"""Carries out plans several at a time, a little ahead of the tests that ask for them: most of a plan is waiting."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faults.judgement import violations
from faults.steps import labels_of
from faults.trial import Script, Trial, trial
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.process import emulator_process

SLOTS = 8
"""Plans at a time: as many as keep two cores busy."""


@dataclass(frozen=True)
class Verdict:
    """What has become of a plan.

    Attributes:
        violations: What did not hold.
        sent: Updates that reached the provider.
        committed: Those that took effect.
        steps: What the operators have done.
        seconds: How long it took.
    """

    violations: Sequence[str]
    sent: int
    committed: int
    steps: Sequence[str]
    seconds: float


class Bench:
    """A control plane with places to try plans at, each with emulated providers of its own."""

    def __init__(
        self, plane: ControlPlane, folder: Path, ahead: Sequence[Script], slots: Sequence[EmulatorControl]
    ) -> None:
        """Make a bench.

        Args:
            plane: The control plane that all share.
            folder: Where logs go.
            ahead: The plans in the order in which they will be asked for.
            slots: The control of each place's emulators.
        """
        self._plane = plane
        self._folder = folder
        self._ahead = list(ahead)
        self._slots: queue.SimpleQueue[EmulatorControl] = queue.SimpleQueue()
        for slot in slots:
            self._slots.put(slot)
        self._pool = ThreadPoolExecutor(len(slots))
        self._verdicts: dict[str, Future[Verdict]] = {}

    def verdict(self, script: Script) -> Verdict:
        """What has become of a plan; those that come next are begun meanwhile."""
        place = self._ahead.index(script)
        for each in self._ahead[place : place + 2 * SLOTS]:
            if str(each) not in self._verdicts:
                self._verdicts[str(each)] = self._pool.submit(self._try, each)
        verdict = self._verdicts[str(script)].result()
        print(f"{script}: {verdict}")
        return verdict

    def close(self) -> None:
        """Wait for what has begun, and begin nothing more."""
        self._pool.shutdown(cancel_futures=True)

    def _try(self, script: Script) -> Verdict:
        slot = self._slots.get()
        began = time.monotonic()
        try:
            with trial(self._plane, slot, self._folder, script) as tried:
                script.carry_out(tried)
                return _verdict(tried, time.monotonic() - began)
        finally:
            self._slots.put(slot)


def _verdict(tried: Trial, seconds: float) -> Verdict:
    mutations = tried.mutations()
    return Verdict(
        violations=violations(tried),
        sent=len(mutations),
        committed=sum(entry.committed for entry in mutations),
        steps=labels_of(tried.calls(), mutations),
        seconds=seconds,
    )


@contextmanager
def bench(plane: ControlPlane, folder: Path, ahead: Sequence[Script]) -> Iterator[Bench]:
    """A bench for plans in the order in which they will be asked for."""
    with ExitStack() as stack:
        slots = [stack.enter_context(emulator_process()) for _ in range(min(SLOTS, len(ahead)))]
        made = Bench(plane, folder, ahead, slots)
        stack.callback(made.close)
        yield made


@pytest.fixture(scope="session")
def plan_bench(
    request: pytest.FixtureRequest, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A bench for all chosen tests with an argument `plan`, in their order; one worker runs all tests of a file."""
    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    chosen: list[Any] = [item.callspec.params["plan"] for item in tests if "plan_bench" in item.fixturenames]
    with bench(control_plane, tmp_path_factory.mktemp("plans"), chosen) as made:
        yield made
