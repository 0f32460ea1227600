from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inference_operator.kube.queue import Backlog, Trigger, WorkQueue
from virtual_time import in_virtual_time

KEYS = st.sampled_from("abcd")
TRIGGERS = st.sampled_from(Trigger)


class BacklogMachine(RuleBasedStateMachine):
    """Compares the backlog with what it is to be: one wish per key, searched through from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog: Backlog[str] = Backlog()
        self.now = 0.0
        self.wishes: dict[str, tuple[Trigger, float]] = {}
        self.running: set[str] = set()

    @rule(key=KEYS, trigger=TRIGGERS, delay=st.sampled_from([0.0, 1.0, 2.0, 60.0]))
    def add(self, key: str, trigger: Trigger, delay: float) -> None:
        known_trigger, known_due = self.wishes.get(key, (trigger, self.now + delay))
        self.wishes[key] = (max(trigger, known_trigger), min(self.now + delay, known_due))
        self.backlog.add(key, trigger, due=self.now + delay)

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def pop(self) -> None:
        due = {key: wish for key, wish in self.wishes.items() if wish[1] <= self.now and key not in self.running}
        turn = self.backlog.pop(self.now)
        if turn is None:
            assert not due
            return
        trigger, since = due[turn.key]
        assert turn.trigger == trigger == max(wish[0] for wish in due.values())
        assert turn.waited == self.now - since
        assert since == min(wish[1] for wish in due.values() if wish[0] == trigger)
        del self.wishes[turn.key]
        self.running.add(turn.key)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(key)
        self.backlog.done(key)

    @invariant()
    def it_knows_when_to_be_asked_next(self) -> None:
        startable = [due for key, (_, due) in self.wishes.items() if key not in self.running]
        told = self.backlog.next_due()
        assert (told is not None) >= bool(startable)
        if startable and told is not None:
            assert told <= max(self.now, min(startable))

    @invariant()
    def it_counts_who_waits(self) -> None:
        assert self.backlog.depth(self.now) == sum(due <= self.now for _, due in self.wishes.values())

    def teardown(self) -> None:
        """Nothing that was ever asked for is lost."""
        for key in self.running:
            self.backlog.done(key)
        served = set()
        while turn := self.backlog.pop(self.now + 1000):
            served.add(turn.key)
            self.backlog.done(turn.key)
        assert served == self.wishes.keys()


TestBacklog = BacklogMachine.TestCase


def test_outdated_times_do_not_pile_up() -> None:
    backlog: Backlog[int] = Backlog()
    for step in range(10_000):
        backlog.add(0, Trigger.POLL, due=20_000.0 - step)
    assert len(backlog._later) < 200
    turn = backlog.pop(20_000.0)
    assert turn is not None
    assert turn.waited == 9_999
    assert backlog.pop(20_000.0) is None


class Recorder:
    """A handler that keeps a diary and checks that no key is worked on twice at a time."""

    def __init__(self, takes: float = 1.0, again: float | None = None) -> None:
        self.diary: list[tuple[float, str, Trigger]] = []
        self.busy: set[str] = set()
        self.most = 0
        self._takes = takes
        self._again = again

    async def __call__(self, key: str, trigger: Trigger) -> float | None:
        assert key not in self.busy
        self.diary.append((now(), key, trigger))
        self.busy.add(key)
        self.most = max(self.most, len(self.busy))
        await asyncio.sleep(self._takes)
        self.busy.remove(key)
        return self._again


def now() -> float:
    return round(asyncio.get_running_loop().time(), 6)


async def play(
    handler: Callable[[str, Trigger], Awaitable[float | None]],
    script: Callable[[WorkQueue[str]], Awaitable[None]],
    *,
    workers: int = 1,
    on_error: Callable[[str, Exception], float | None] = lambda _key, _error: None,
) -> WorkQueue[str]:
    queue: WorkQueue[str] = WorkQueue(workers=workers, on_error=on_error)
    run = asyncio.create_task(queue.run(handler))
    await script(queue)
    queue.stop()
    await run
    assert await queue.drain(1000)
    return queue


def test_a_hundred_quick_edits_are_two_passes() -> None:
    recorder = Recorder(takes=1)

    async def script(queue: WorkQueue[str]) -> None:
        for _ in range(100):
            queue.add("a", Trigger.SPEC)
            await asyncio.sleep(0.005)
        await asyncio.sleep(10)

    in_virtual_time(play(recorder, script, workers=8))
    assert recorder.diary == [(0, "a", Trigger.SPEC), (1, "a", Trigger.SPEC)]


def test_a_trigger_shortens_a_delay_and_the_result_of_a_pass_schedules_the_next() -> None:
    recorder = Recorder(takes=0, again=60)

    async def script(queue: WorkQueue[str]) -> None:
        queue.add("a", Trigger.POLL)
        await asyncio.sleep(130)
        queue.add("a", Trigger.SECRET, after=5)
        queue.add("a", Trigger.POLL, after=20)
        await asyncio.sleep(10)

    in_virtual_time(play(recorder, script))
    assert recorder.diary == [
        (0, "a", Trigger.POLL),
        (60, "a", Trigger.POLL),
        (120, "a", Trigger.POLL),
        (135, "a", Trigger.SECRET),
    ]


def test_what_is_asked_for_during_a_pass_comes_right_after_it_even_if_the_pass_wants_to_rest() -> None:
    recorder = Recorder(takes=10, again=3600)

    async def script(queue: WorkQueue[str]) -> None:
        queue.add("a", Trigger.POLL)
        await asyncio.sleep(5)
        queue.add("a", Trigger.POLL, after=1)
        queue.add("a", Trigger.DELETION)
        await asyncio.sleep(30)

    in_virtual_time(play(recorder, script, workers=4))
    assert recorder.diary == [(0, "a", Trigger.POLL), (10, "a", Trigger.DELETION)]


def test_the_urgent_go_first_and_equals_in_the_order_in_which_they_fell_due() -> None:
    recorder = Recorder(takes=1)
    waits: list[tuple[Trigger, float]] = []

    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue(workers=1, on_error=lambda *_: None, on_wait=lambda *wait: waits.append(wait))
        for key, trigger in zip("abcde", [0, 1, 2, 3, 2], strict=True):
            queue.add(key, Trigger(trigger))
        assert queue.depth == 5
        run = asyncio.create_task(queue.run(recorder))
        await asyncio.sleep(10)
        assert queue.depth == 0
        queue.stop()
        await run

    in_virtual_time(scenario())
    assert [key for _, key, _ in recorder.diary] == list("dceba")
    assert [round(waited) for _, waited in waits] == [0, 1, 2, 3, 4]


def test_no_more_passes_at_a_time_than_workers() -> None:
    recorder = Recorder(takes=1)

    async def script(queue: WorkQueue[str]) -> None:
        for number in range(20):
            queue.add(str(number), Trigger.POLL)
        await asyncio.sleep(6.5)

    in_virtual_time(play(recorder, script, workers=3))
    assert recorder.most == 3
    assert len(recorder.diary) == 20
    assert recorder.diary[-1][0] == 6


def test_a_failing_pass_is_tried_again_when_on_error_says_and_harms_no_other() -> None:
    failures = []
    calls = itertools.count()

    async def handler(key: str, _: Trigger) -> float | None:
        if key == "bad" and next(calls) < 2:
            raise ValueError(key)
        return None

    def on_error(key: str, error: Exception) -> float:
        failures.append((now(), key, str(error)))
        return 7

    async def script(queue: WorkQueue[str]) -> None:
        queue.add("bad", Trigger.SPEC)
        await asyncio.sleep(20)
        assert queue.running == 0

    in_virtual_time(play(handler, script, on_error=on_error))
    assert failures == [(0, "bad", "bad"), (7, "bad", "bad")]
    assert next(calls) == 3


def test_after_stop_nothing_begins_and_what_is_late_is_cancelled() -> None:
    recorder = Recorder(takes=10)

    async def scenario() -> tuple[bool, float]:
        queue: WorkQueue[str] = WorkQueue(workers=2, on_error=lambda *_: None)
        run = asyncio.create_task(queue.run(recorder))
        queue.add("a", Trigger.SPEC)
        await asyncio.sleep(1)
        queue.stop()
        queue.add("b", Trigger.DELETION)
        await run
        return await queue.drain(4), now()

    assert in_virtual_time(scenario()) == (False, 5)
    assert recorder.diary == [(0, "a", Trigger.SPEC)]
    assert recorder.busy == {"a"}  # cut off in the middle


def test_an_idle_queue_drains_at_once() -> None:
    async def scenario() -> bool:
        return await WorkQueue[str](workers=1, on_error=lambda *_: None).drain(0)

    assert in_virtual_time(scenario())


@settings(max_examples=50, deadline=None)
@given(chance=st.randoms(use_true_random=False), workers=st.integers(1, 4))
def test_the_last_trigger_of_every_key_is_followed_by_a_pass(chance: random.Random, workers: int) -> None:
    recorder = Recorder(takes=0.3)
    last: dict[str, float] = {}

    async def script(queue: WorkQueue[str]) -> None:
        for _ in range(60):
            key = chance.choice("abcdef")
            after = chance.choice([0, 0, 0.1, 2])
            queue.add(key, chance.choice(list(Trigger)), after=after)
            last[key] = now()
            await asyncio.sleep(chance.choice([0, 0, 0.05, 0.4]))
        await asyncio.sleep(30)
        assert queue.depth == 0

    in_virtual_time(play(recorder, script, workers=workers))
    began = {key: at for at, key, _ in recorder.diary}
    assert all(began[key] >= at for key, at in last.items())
    assert recorder.most <= workers


def test_the_order_of_urgency() -> None:
    assert [trigger.name for trigger in sorted(Trigger)] == ["POLL", "SECRET", "SPEC", "DELETION"]


def test_what_is_asked_for_much_later_wakes_nobody() -> None:
    class Counting(WorkQueue[str]):
        sleeps = 0

        async def _sleep(self) -> None:
            self.sleeps += 1
            await super()._sleep()

    async def scenario() -> tuple[int, list[tuple[float, str, Trigger]]]:
        queue, recorder = Counting(workers=4, on_error=lambda _key, _error: None), Recorder(takes=0.5)
        run = asyncio.create_task(queue.run(recorder))
        queue.add("a", Trigger.POLL, after=10)
        await asyncio.sleep(1)
        for number in range(100):
            queue.add(f"later {number}", Trigger.POLL, after=1000)
        await asyncio.sleep(1)
        before = queue.sleeps
        queue.add("sooner", Trigger.POLL, after=2)
        await asyncio.sleep(20)
        queue.stop()
        await run
        return before, recorder.diary

    sleeps, diary = in_virtual_time(scenario())
    assert sleeps <= 2
    assert diary == [(4.0, "sooner", Trigger.POLL), (10.0, "a", Trigger.POLL)]
