"""The model as a Hypothesis state machine: every rule is one thing that may happen, in any order, to anybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from faults.endings import converge, stays
from faults.model import PACE, Model, quietly
from faults.timed_account import Trouble
from inference_operator.errors import (
    Ambiguous,
    CapacityUnavailable,
    CredentialsRejected,
    EndpointError,
    InvalidSpec,
    NotFound,
    Throttled,
    Unavailable,
)

Block = dict[str, Any]

STEPS_PER_EXAMPLE = 120
REFUSALS: list[EndpointError] = [
    Unavailable("x"),
    Throttled("x", retry_after=3),
    InvalidSpec("x", maybe_busy=True),
    InvalidSpec("x"),
    CapacityUnavailable("x"),
]
BLINDNESS: list[EndpointError] = [
    Unavailable("x"),
    Throttled("x", retry_after=3),
    NotFound("x"),
    CredentialsRejected("x"),
]
OPERATORS = st.integers(0, 2)
SIZES = st.integers(1, 3)
NAMES = st.integers(0, 2)
BLOCKS = st.fixed_dictionaries(
    {"size": SIZES}, optional={"name": st.sampled_from(["n1", "n2"]), "model": st.sampled_from(["m1", "m2"])}
)
LATE = st.sampled_from([None, 0.0, 0.5, 20.0, 50.0])
LAGS = st.sampled_from([0.0, 0.3, 5.0, 30.0, 60.0])


class Everything(RuleBasedStateMachine):
    """The provider keeps versions, and has a field that cannot be read back."""

    history: ClassVar[bool] = True
    names: ClassVar[tuple[str, str, str]] = ("a", "a", "a")
    operators: ClassVar[int] = 1
    tally: ClassVar[Counter[str]] = Counter()

    @initialize(block=BLOCKS, clamp=st.sampled_from([None, None, 2]), match=st.booleans())
    def start(self, block: Block, clamp: int | None, *, match: bool) -> None:
        self.model = Model(history=self.history, operators=self.operators, clamp=clamp)
        policy = {"adoptionPolicy": "Match"} if match else {}
        self.model.create("a", self._readable(block), **policy)

    def _readable(self, block: Block) -> Block:
        """Without versions everything can be read back."""
        return block if self.history else {name: value for name, value in block.items() if name != "model"}

    # ── people ────────────────────────────────────────────────────────────────────────────────────────

    @rule(name=NAMES, block=BLOCKS)
    def edit(self, name: int, block: Block) -> None:
        self.model.edit(self.names[name], memory=self._readable(block))

    @rule(name=NAMES, comment=st.sampled_from("xyz"))
    def edit_the_comment(self, name: int, comment: str) -> None:
        self.model.edit(self.names[name], versionComment=comment)

    @rule(name=NAMES)
    def reapply(self, name: int) -> None:
        self.model.reapply(self.names[name])

    @rule(name=NAMES, suspend=st.booleans())
    def suspend_or_resume(self, name: int, *, suspend: bool) -> None:
        self.model.edit(self.names[name], suspend=suspend)

    @rule(name=NAMES, policy=st.sampled_from(["Manage", "Observe"]))
    def manage_or_observe(self, name: int, policy: str) -> None:
        self.model.edit(self.names[name], managementPolicy=policy)

    @rule(name=NAMES, policy=st.sampled_from(["Correct", "Report"]))
    def correct_or_report(self, name: int, policy: str) -> None:
        self.model.edit(self.names[name], driftPolicy=policy)

    @rule(field=st.sampled_from(["size", "name", "model"]), size=SIZES)
    def somebody_edits_the_endpoint(self, field: str, size: int) -> None:
        self.model.foreign(**{field: {"size": size, "name": "n3", "model": "mx"}[field]})

    @rule()
    def somebody_takes_the_last_version_back(self) -> None:
        self.model.take_back()

    @rule(name=NAMES, times=st.integers(1, 3))
    def somebody_keeps_changing_what_is_corrected(self, name: int, times: int) -> None:
        self.model.edit(self.names[name], driftPolicy="Correct", managementPolicy="Manage", suspend=False)
        for number in range(times):
            self.model.foreign(size=10 + number)
            self.model.pass_time(8 * PACE.poll)

    @rule()
    def rotate_the_key(self) -> None:
        self.model.rotate()

    @rule()
    def lose_the_key(self) -> None:
        self.model.lose_key()

    # ── time and passes ───────────────────────────────────────────────────────────────────────────────

    @rule(name=NAMES, operator=OPERATORS)
    def look(self, name: int, operator: int) -> None:
        self.model.look(operator, self.names[name])

    @rule(name=NAMES, operator=OPERATORS, exchanges=st.integers(1, 4))
    def go_on(self, name: int, operator: int, exchanges: int) -> None:
        for _ in range(exchanges):
            self.model.step(operator, self.names[name])

    @rule(seconds=st.sampled_from([0.3, 3.0, 10.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.model.pass_time(seconds)

    @rule(seconds=st.sampled_from([70.0, 130.0]))
    def much_time_passes(self, seconds: float) -> None:
        self.model.pass_time(seconds)

    # ── the provider ──────────────────────────────────────────────────────────────────────────────────

    @rule(lands=LATE)
    def the_next_answer_is_lost(self, lands: float | None) -> None:
        self.model.account.trouble = Trouble(Ambiguous("lost"), lands)

    @rule(error=st.sampled_from(REFUSALS))
    def the_next_update_is_refused(self, error: EndpointError) -> None:
        self.model.account.trouble = Trouble(error)

    @rule(error=st.sampled_from(BLINDNESS))
    def the_next_look_fails(self, error: EndpointError) -> None:
        self.model.account.blind = error

    @rule()
    def the_next_update_is_confirmed_and_not_kept(self) -> None:
        self.model.ignore()

    @rule(seconds=LAGS)
    def reads_lag(self, seconds: float) -> None:
        self.model.account.read_lag = seconds

    @rule(looks=st.integers(0, 3))
    def rollouts_take(self, looks: int) -> None:
        self.model.account.rollout = looks

    # ── Kubernetes and the process ────────────────────────────────────────────────────────────────────

    @rule()
    def the_api_server_loses_an_answer(self) -> None:
        self.model.server.lose_answers = 1

    @rule()
    def the_api_server_fails(self) -> None:
        self.model.server.fail_writes = 1

    @rule(seconds=st.sampled_from([0.0, 3600.0, -3600.0, 3.2e8, -3.2e8]))
    def the_calendar_jumps(self, seconds: float) -> None:
        self.model.wall_offset = seconds

    @rule(operator=OPERATORS)
    def crash(self, operator: int) -> None:
        self.model.crash(operator)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            converge(self.model)
            stays(self.model)
            counted = {"passes": self.model.passes, "steps": -1, "corrections": self.model.invariants.corrections}
            self.tally.update(counted, **self.model.invariants.unknowable)

    def check_invariants(self, *arguments: Any, **named: Any) -> None:
        """One more step was taken, or none yet; the model has watched all invariants meanwhile."""
        self.tally["steps"] += 1
        super().check_invariants(*arguments, **named)


class Replicas(Everything):
    """Up to three operators at once, whose watches hang, lose events and begin in the past, and shards that move."""

    operators = 3

    @rule(operator=OPERATORS)
    def another_becomes_active(self, operator: int) -> None:
        self.model.activate(operator)

    @rule(operator=OPERATORS)
    def lose_the_lease(self, operator: int) -> None:
        self.model.lose_lease(operator)

    @rule(operator=OPERATORS)
    def a_watch_hangs(self, operator: int) -> None:
        self.model.hang(operator)

    @rule(operator=OPERATORS)
    def a_watch_delivers(self, operator: int) -> None:
        self.model.deliver(operator)

    @rule(operator=OPERATORS)
    def a_watch_loses_an_event(self, operator: int) -> None:
        self.model.lose(operator)

    @rule(operator=OPERATORS)
    def a_watch_begins_anew(self, operator: int) -> None:
        self.model.list_anew(operator)

    @rule(operator=OPERATORS, changes=st.integers(1, 6))
    def crash_and_begin_with_an_old_list(self, operator: int, changes: int) -> None:
        self.model.crash_into_the_past(operator, changes)

    @rule(name=NAMES, operator=OPERATORS)
    def a_shard_moves(self, name: int, operator: int) -> None:
        self.model.move_shard(self.names[name], operator)


class Lives(Replicas):
    """Resources come and go, two on one endpoint, and come back with what they once knew, or with nothing."""

    names = ("a", "a", "b")

    @rule(name=NAMES, block=BLOCKS)
    def create(self, name: int, block: Block) -> None:
        self.model.create(self.names[name], self._readable(block))

    @rule(name=NAMES)
    def delete(self, name: int) -> None:
        self.model.delete(self.names[name])

    @rule(name=NAMES, with_status=st.booleans())
    def recreate(self, name: int, *, with_status: bool) -> None:
        self.model.recreate(self.names[name], with_status=with_status)

    @rule(name=NAMES, changes=st.integers(1, 8))
    def restore(self, name: int, changes: int) -> None:
        self.model.restore(self.names[name], changes)

    @rule(name=NAMES)
    def erase_the_status(self, name: int) -> None:
        self.model.erase_status(self.names[name])


@contextmanager
def unswayed() -> Iterator[None]:
    """Let chance not depend on what else the process has imported, whose constants Hypothesis would try."""
    with patch.object(providers, "_get_local_constants", Constants):
        providers.CONSTANTS_CACHE.cache.clear()
        yield
    providers.CONSTANTS_CACHE.cache.clear()


def explore(machine: type[Everything], examples: int, *, at_random: bool = False) -> Counter[str]:
    """Try many interleavings; returns what was counted.

    Args:
        machine: The rules.
        examples: How many sequences of up to `STEPS_PER_EXAMPLE` steps.
        at_random: Others each time; otherwise always the same ones, so that a run can be repeated.

    Raises:
        AssertionError: One of them violates an invariant; Hypothesis prints the shortest that it finds.
    """
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS_PER_EXAMPLE,
        derandomize=not at_random,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    machine.tally = Counter()
    with quietly(), unswayed():
        run_state_machine_as_test(machine, settings=chosen)
    versions = "with" if machine.history else "without"
    print(f"\n{machine.__name__}, {versions} versions: {dict(machine.tally)}, 0 violations")
    return machine.tally
