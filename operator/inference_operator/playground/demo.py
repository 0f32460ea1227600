"""One command that shows the operator at work, for people who have neither a cluster nor an account.

It counts as well: it succeeds only if every sample converged, and if the providers received exactly the updates that
were due. The requests are counted where they arrive, not where they are sent.
"""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx
from rich.console import Console

from inference_operator.playground import scenario
from inference_operator.playground.binaries import ensure
from inference_operator.playground.cluster import ClusterError
from inference_operator.playground.controlplane import ControlPlaneError
from inference_operator.playground.emulators.control import ControlError
from inference_operator.playground.screen import Screen, print_line, screen
from inference_operator.playground.stage import Stage, StageError, stage
from inference_operator.playground.toolchain import BuildError
from inference_operator.playground.view import LATEST_READS, Picture, resources_table, row

LIMIT_SECONDS: Final = 60.0
"""The longest that the samples may take to converge, and after that the edit; a busy machine needs a third of it."""

REST_SECONDS: Final = 3.0
"""How long nothing may be written at the end; long enough for a look at every endpoint."""

ROLLOUT_SECONDS: Final = 5.0
"""How long a rollout takes for people to watch it; providers need minutes."""

BRIEF_ROLLOUT_SECONDS: Final = 2.0
"""How long it takes when nobody watches."""

TICK_SECONDS: Final = 0.25
PIPE_WIDTH: Final = 120

CONVERGED, FAILED = 0, 1
"""Exit codes."""

ENDING: Final = (signal.SIGINT, signal.SIGTERM)
"""What ends the demonstration."""

_RECENT: Final = 10 * LATEST_READS
_BROKEN: Final = (ClusterError, ControlError, StageError, httpx.TransportError)


class UnmetError(RuntimeError):
    """The demonstration did not go as it should; the message says what is the case instead."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the demonstration ended.

    Attributes:
        picture: How everything was at the end.
        failure: What went wrong; empty where nothing did.
        log: The end of the operator's log.
    """

    picture: Picture
    failure: str
    log: str


def run(*, exit_when_done: bool) -> int:
    """Play the demonstration.

    Args:
        exit_when_done: End once everything has converged, instead of running on until Ctrl-C or SIGTERM.

    Returns:
        0 when everything converged as expected or the user ended it, 1 otherwise.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    with _interruptible():
        try:
            ensure(_programs(exit_when_done=exit_when_done))
            outcome = _perform(console, exit_when_done=exit_when_done)
        except KeyboardInterrupt:
            print_line(console, "Interrupted before anything was shown.")
            return FAILED if exit_when_done else CONVERGED
        except (BuildError, ControlPlaneError, *_BROKEN) as error:
            print_line(console, f"Not started: {_words(error)}")
            return FAILED
    _print(console, outcome)
    return FAILED if outcome.failure else CONVERGED


def _programs(*, exit_when_done: bool) -> list[str]:
    """The control plane's, and kubectl for whoever will be invited to use it and has none."""
    lacking = not exit_when_done and shutil.which("kubectl") is None
    return ["etcd", "kube-apiserver", *["kubectl"] * lacking]


def _perform(console: Console, *, exit_when_done: bool) -> Outcome:
    rollout_seconds = BRIEF_ROLLOUT_SECONDS if exit_when_done else ROLLOUT_SECONDS
    with screen(console) as shown, stage(shown.say, rollout_seconds=rollout_seconds) as running:
        play, failure = Play(running, shown), ""
        try:
            play.perform()
            if not exit_when_done:
                shown.invite(_invitation(running))
                play.go_on()
        except KeyboardInterrupt:
            failure = "interrupted" if exit_when_done else ""
        except (UnmetError, *_BROKEN) as error:
            failure = _words(error)
        finally:
            for number in ENDING:
                signal.signal(number, signal.SIG_IGN)  # from here on everything ends by itself
        return Outcome(play.picture, failure, running.operator_log)


class Play:
    """The demonstration, step by step.

    Attributes:
        picture: How everything was at the last look.
    """

    def __init__(self, running: Stage, shown: Screen) -> None:
        """Take the stage, on which the samples are applied already, and the screen to show it on."""
        self._stage = running
        self._screen = shown
        self._like = scenario.PARTS[0].manifest
        self.picture = Picture()

    def perform(self) -> None:
        """Wait for the samples, edit one, and see that nothing more is written.

        Raises:
            UnmetError: Something did not converge in time, or other updates were sent than were due.
            StageError: The operator has ended.
        """
        due = scenario.expected_writes(edited=False)
        self._say(f"{len(due)} resources applied; {sum(due.values())} updates of their endpoints are due")
        self._until_converged()
        self._require_writes(due)
        self._say(f"All converged after {sum(due.values())} updates, one for each change")
        self._say(f"Editing {scenario.edited_manifest()['metadata']['name']}: {scenario.EDIT_IN_WORDS}")
        scenario.apply_edit(self._stage.cluster)
        self._until_converged()
        self._require_writes(scenario.expected_writes(edited=True))
        self._say("Converged again: exactly one more update was sent")
        looks = self._rest()
        self._say(f"At rest for {REST_SECONDS:.0f} s: {looks} more reads, and nothing was written anywhere")

    def go_on(self) -> None:
        """Show whatever happens until somebody ends it."""
        while True:
            self._look()
            time.sleep(TICK_SECONDS)

    def _say(self, line: str) -> None:
        self._look()
        self._screen.say(line)

    def _until_converged(self) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not self._is_converged():
            if time.monotonic() > deadline:
                raise UnmetError(f"not converged within {LIMIT_SECONDS:.0f} s: {self._laggards()}")
            time.sleep(TICK_SECONDS)

    def _is_converged(self) -> bool:
        self._look()
        rows = self.picture.rows
        return len(rows) == len(scenario.PARTS) and all(each.converged for each in rows)

    def _laggards(self) -> str:
        return "; ".join(
            f"{each.name} ({each.reason}) {each.message}" for each in self.picture.rows if not each.converged
        )

    def _require_writes(self, due: dict[str, int]) -> None:
        """Compare what has arrived with what was due, per endpoint."""
        found = Counter(entry.endpoint_id or "" for entry in self.picture.writes)
        if found != Counter(due):
            counts = (f"{name}: {found[name]} instead of {due.get(name, 0)}" for name in sorted(due.keys() | found))
            raise UnmetError(f"other updates than were due: {', '.join(counts)}")
        refused = [entry for entry in self.picture.writes if not entry.committed]
        if refused:
            raise UnmetError(f"updates were refused: {', '.join(str(entry.errors) for entry in refused)}")

    def _rest(self) -> int:
        """See that nothing is written, neither to a provider nor to a resource; returns how many reads there were."""
        before, reads = self._versions(), self.picture.read_count
        until = time.monotonic() + REST_SECONDS
        while time.monotonic() < until:
            time.sleep(TICK_SECONDS)
            self._look()
        self._require_writes(scenario.expected_writes(edited=True))
        if self._versions() != before:
            raise UnmetError("a resource was written to although nothing had changed")
        return self.picture.read_count - reads

    def _versions(self) -> list[str]:
        return [each.resource_version for each in self.picture.rows]

    def _look(self) -> None:
        self._stage.check()
        providers = self._stage.providers
        counts = providers.ledger_counts()
        total = counts["mutations"] + counts["reads"] + counts["foreign"]
        self.picture = Picture(
            rows=[row(resource) for resource in self._stage.cluster.items(self._like)],
            writes=providers.mutations(),
            reads=providers.ledger(kind="reads", after=max(0, total - _RECENT)),
            read_count=counts["reads"],
        )
        self._screen.show(self.picture)


def _invitation(running: Stage) -> list[str]:
    """What to try; kubectl may be one that was built for this."""
    kubectl = shutil.which("kubectl") or str(ensure(["kubectl"])["kubectl"])
    alias = [] if shutil.which("kubectl") else [f"  alias kubectl={kubectl}"]
    return [
        "It runs until Ctrl-C. In another terminal:",
        f"  export KUBECONFIG={running.kubeconfig}",
        *alias,
        f"  kubectl -n {scenario.NAMESPACE} get ie --watch",
        f"  kubectl -n {scenario.NAMESPACE} scale ie summarizer --replicas=3",
        f"  kubectl -n {scenario.NAMESPACE} describe ie translator",
    ]


def _print(console: Console, outcome: Outcome) -> None:
    picture = outcome.picture
    console.print()
    console.print(resources_table(picture.rows))
    console.print()
    converged = sum(each.converged for each in picture.rows)
    counts = f"{len(picture.writes)} provider writes, {picture.read_count} provider reads."
    if outcome.failure:
        print_line(console, f"The end of the operator's log:\n{outcome.log}\n")
    print_line(console, f"{converged} of {len(picture.rows)} resources converged; {counts}")
    if outcome.failure:
        print_line(console, f"Failed: {outcome.failure}")


def _words(error: Exception) -> str:
    # What httpx says may quote a header.
    return f"{type(error).__name__} from the emulated providers" if isinstance(error, httpx.HTTPError) else str(error)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM interrupt, even where a shell has had SIGINT ignored, and give both back at the end."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
