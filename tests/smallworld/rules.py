"""The small world: one resource, one endpoint, a few processes and a few faults, in every order in which they can meet.

Every step of a pass that others can see is a step of its own, and time moves one tick at a time. What the provider may
do late keeps within the bounds of the design: an update lands before SETTLE is over since its sender gave it up, reads
show it before SETTLE is over since it landed or was given up, and a sender that died had REQUEST_TIMEOUT to give up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from inference_operator.core.schedule import Pace
from smallworld.dialogue import (
    Acknowledged,
    Answer,
    Failed,
    Held,
    Looking,
    Reading,
    Seen,
    Stored,
    Updating,
    Writing,
    aged_status,
)
from smallworld.states import Claim, Left, Replica, State, Step, Stray, Version, claim_of
from smallworld.stepping import Node, Stepper

FRESH = json.dumps({"observedGeneration": -1})
NEVER_CORRECTED = 1e9
PACE = Pace(
    poll=1,
    transition_poll=1,
    settle=1,
    request_timeout=1,
    claim=1,
    drift=NEVER_CORRECTED,
    drift_cooldown=NEVER_CORRECTED,
    scale_interval=0,
)


@dataclass(frozen=True)
class Setting:
    """What there is and what may happen, how often.

    Attributes:
        blocks: The provider's block of the spec by generation; that of 0 is what the endpoint holds at first.
        replicas: Processes, all of which may write.
        crashes: Processes that die, each at any moment; another takes its place.
        losses: Answers of the provider that are lost, or requests that it does not carry out.
        failures: Answers of the API server that are lost, or requests that it refuses.
        stale: Times that a process's watch falls behind.
        frozen: Times that a process is frozen between its last check and the socket.
        lag: Reads may show the past as long as the settle time allows, also after one that has shown the present.
        history: The provider keeps versions.
        patience: The most ticks that a pass may last.
        pace: All durations, in ticks.
    """

    blocks: Sequence[dict[str, Any]]
    replicas: int = 1
    crashes: int = 0
    losses: int = 0
    failures: int = 0
    stale: int = 0
    frozen: int = 0
    lag: bool = False
    history: bool = True
    patience: int = 0
    pace: Pace = PACE


@dataclass
class SmallWorld:
    """The rules by which one state follows another, and those that every state keeps."""

    setting: Setting
    stepper: Stepper = field(init=False)

    def __post_init__(self) -> None:
        """Make the processes' common mind reader."""
        setting = self.setting
        blocks = dict(enumerate(setting.blocks))
        self.stepper = Stepper(blocks, setting.pace, history=setting.history, patience=setting.patience)

    def start(self) -> State:
        """The resource was created just now."""
        setting = self.setting
        left = Left(setting.crashes, setting.losses, setting.failures, setting.stale, setting.frozen)
        return State(1, FRESH, (Replica(self.stepper.fresh),) * setting.replicas, (Version(0, 0),), (), left)

    def broken(self, state: State) -> Iterator[str]:
        """Which invariants do not hold."""
        generations = [version.generation for version in state.versions]
        if len(set(generations)) < len(generations):
            yield f"S1: a generation made two versions: {generations}"
        if sorted(generations) != generations:
            yield f"S3: an older spec after a newer one: {generations}"
        if len(state.strays) + sum(replica.may_land and not replica.frozen for replica in state.replicas) > 1:
            yield "S5: an update is sent while another may still land"
        synced, blocks = claim_of(state.status).synced, self.setting.blocks
        if synced is not None and blocks[generations[-1]] != blocks[synced]:
            yield f"S7: Synced=True for generation {synced}, but the provider holds that of {generations[-1]}"

    def is_converged(self, state: State) -> bool:
        """Whether the provider holds the spec, and the status says so."""
        claim, blocks = claim_of(state.status), self.setting.blocks
        holds = blocks[state.versions[-1].generation] == blocks[state.generation]
        return holds and not state.strays and claim == Claim(state.generation, None)

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that can happen next.

        Raises:
            Violation: A process does what it must not.
        """
        for number, replica in enumerate(state.replicas):
            yield from self._progress(state, number, replica)
            yield from self._mishaps(state, number, replica)
        yield from self._events(state)

    # ── a process goes on ─────────────────────────────────────────────────────────────────────────────

    def _progress(self, state: State, number: int, replica: Replica) -> Iterator[Step]:
        node = replica.node
        if node.slow is not None:
            yield from self._late_answer(state, number, node)
            return
        match node.question:
            case None:
                held = replica.view or Held(state.generation, state.status)
                yield Step(
                    number, "begins a pass", self._with(state, number, self.stepper.begin(node, held)), calm=True
                )
            case Looking():
                yield from self._looks(state, number)
            case Writing() as writing:
                yield from self._writes(state, number, writing)
            case Reading():
                held = Held(state.generation, state.status)
                yield Step(number, "reads the object", self._told(state.caught_up(number), number, held), calm=True)
                if state.left.failures:
                    yield Step(
                        number, "reads nothing", self._told(state.spent(failures=1), number, Failed("unavailable"))
                    )
            case Updating(generation):
                yield from self._updates(state, number, generation)

    def _late_answer(self, state: State, number: int, node: Node) -> Iterator[Step]:
        assert node.slow is not None
        if node.slow.age:  # at once would be the same as without any delay
            yield Step(number, "gets its answer", self._told(state, number, node.slow.answer), calm=True)
        if isinstance(node.question, Updating) and state.left.losses:
            yield Step(number, "gets no answer", self._told(state.spent(losses=1), number, Failed("ambiguous")))

    def _looks(self, state: State, number: int) -> Iterator[Step]:
        newest = len(state.versions)
        hidden = sum(version.hidden > 0 for version in state.versions) if self.setting.lag else 0
        for count in range(newest, newest - hidden - 1, -1):
            seen = Seen(tuple(version.generation for version in state.versions[:count]))
            yield Step(number, f"sees version {count - 1}", self._told(state, number, seen), calm=count == newest)
            yield from self._slowly(state, number, f"sees version {count - 1}", seen)
        if state.left.losses:
            yield Step(number, "sees nothing", self._told(state.spent(losses=1), number, Failed("unavailable")))

    def _writes(self, state: State, number: int, writing: Writing) -> Iterator[Step]:
        what = f"stores the intent {name}" if (name := claim_of(writing.status).operation) else "stores the outcome"
        if writing.current:
            stored = self._outdated(state).caught_up(number)._replace(status=writing.status)
            yield Step(number, what, self._told(stored, number, Stored()), calm=True)
            yield from self._slowly(stored, number, what, Stored())
            if state.left.failures:
                unanswered = self._told(stored.spent(failures=1), number, Failed("unavailable"))
                yield Step(number, f"{what}; the answer is lost", unanswered)
        else:
            yield Step(number, "meets a conflict", self._told(state, number, Failed("conflict")), calm=True)
        if state.left.failures:
            refused = self._told(state.spent(failures=1), number, Failed("unavailable"))
            yield Step(number, f"{what}: refused", refused)

    def _updates(self, state: State, number: int, generation: int) -> Iterator[Step]:
        settle, what = int(self.setting.pace.settle), f"updates to generation {generation}"
        state = state.at(number, state.replicas[number]._replace(frozen=False))
        done = state.landed(generation, settle)
        yield Step(number, what, self._told(done, number, Acknowledged()), calm=True)
        yield from self._slowly(done, number, what, Acknowledged())
        if state.left.losses:
            done, lost, ambiguous = done.spent(losses=1), state.spent(losses=1), Failed("ambiguous")
            stray = lost._replace(strays=(*state.strays, Stray(generation, settle)))
            yield Step(number, f"{what}; the answer is lost", self._told(done, number, ambiguous))
            yield Step(number, f"{what}: lost on the way", self._told(lost, number, ambiguous))
            yield Step(number, f"{what}: given up, and will land late", self._told(stray, number, ambiguous))
            yield Step(number, f"{what}: refused", self._told(lost, number, Failed("unavailable")))

    def _told(self, state: State, number: int, answer: Answer) -> State:
        name = state.new_name if isinstance(answer, Seen) else ""
        return self._with(state, number, self.stepper.answer(state.replicas[number].node, answer, name))

    def _slowly(self, state: State, number: int, what: str, answer: Answer) -> Iterator[Step]:
        replica = state.replicas[number]
        if replica.node.lasts < self.setting.patience:
            slow = replica._replace(node=self.stepper.slow(replica.node, answer))
            yield Step(number, f"{what}; the answer takes its time", state.at(number, slow))

    def _with(self, state: State, number: int, node: Node) -> State:
        if node.question is None:
            node = self.stepper.forget(node, state.stored_names)
        return state.at(number, state.replicas[number]._replace(node=node))

    def _outdated(self, state: State) -> State:
        """The object has changed."""
        outdated = [
            Replica(self.stepper.outdate(node), view and replace(view, current=False), frozen)
            for node, view, frozen in state.replicas
        ]
        return state._replace(replicas=tuple(outdated))

    # ── what happens to a process ─────────────────────────────────────────────────────────────────────

    def _mishaps(self, state: State, number: int, replica: Replica) -> Iterator[Step]:
        if state.left.crashes and replica.node is not self.stepper.fresh:
            yield from self._crashes(state, number, replica)
        if state.left.stale and replica.view is None:
            behind = replica._replace(view=Held(state.generation, state.status))
            yield Step(number, "falls behind with its watch", state.spent(stale=1).at(number, behind))
        if replica.view is not None:
            yield Step(number, "catches up with its watch", state.caught_up(number), calm=True)
        if state.left.frozen and replica.may_land and not replica.frozen and replica.node.waits == 0:
            frozen = state.spent(frozen=1).at(number, replica._replace(frozen=True))
            yield Step(number, "freezes before its update has left", frozen)

    def _crashes(self, state: State, number: int, replica: Replica) -> Iterator[Step]:
        crashed = state.spent(crashes=1).at(number, Replica(self.stepper.fresh))
        yield Step(number, "dies", crashed)
        if isinstance(replica.node.question, Updating) and replica.may_land and not replica.frozen:
            left = int(self.setting.pace.request_timeout + self.setting.pace.settle) - replica.node.waits
            stray = Stray(replica.node.question.generation, left)
            yield Step(number, "dies with its update on the way", crashed._replace(strays=(*state.strays, stray)))

    # ── what happens to the world ─────────────────────────────────────────────────────────────────────

    def _events(self, state: State) -> Iterator[Step]:
        if state.generation + 1 < len(self.setting.blocks):
            generation = state.generation + 1
            yield Step(
                None, f"the spec becomes generation {generation}", self._outdated(state)._replace(generation=generation)
            )
        if self._may_tick(state):
            yield Step(None, "a tick", self._ticked(state), calm=True)
        for number, stray in enumerate(state.strays):
            others = state.strays[:number] + state.strays[number + 1 :]
            hidden = min(stray.left, int(self.setting.pace.settle))
            landed = state._replace(strays=others).landed(stray.generation, hidden)
            yield Step(None, f"the update to generation {stray.generation} lands", landed, calm=True)

    def _may_tick(self, state: State) -> bool:
        if any(stray.left <= 1 for stray in state.strays):
            return False
        return not any(self._is_urgent(replica) for replica in state.replicas)

    def _is_urgent(self, replica: Replica) -> bool:
        node = replica.node
        if node.question is None or replica.frozen:
            return False
        is_call = isinstance(node.question, Looking | Updating)
        return node.lasts >= self.setting.patience or (is_call and node.waits >= self.setting.pace.request_timeout)

    def _ticked(self, state: State) -> State:
        replicas = [
            Replica(
                node if frozen else self.stepper.age(node),
                view and replace(view, status=aged_status(view.status)),
                frozen,
            )
            for node, view, frozen in state.replicas
        ]
        return state._replace(
            status=aged_status(state.status),
            replicas=tuple(replicas),
            versions=tuple(Version(generation, max(0, hidden - 1)) for generation, hidden in state.versions),
            strays=tuple(Stray(generation, left - 1) for generation, left in state.strays),
        )
