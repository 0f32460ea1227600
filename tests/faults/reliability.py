"""Makes `docs/reliability.md` from the tests: `uv run --directory tests python -m faults.reliability`.

The page holds nothing that a test or a run has not shown: the rows of the fault matrix are taken from the marks of the
tests, the comparison from what a run of it has counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from faults.comparison import load, render
from faults.coverage import Proof, proofs
from faults.matrix import GROUPS, LEFT_OUT, ROWS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"

INTRODUCTION = """\
# Reliability

<!-- Made by `uv run --directory tests python -m faults.reliability`; a test fails when it is out of date. -->

A provider makes a version, and restarts workers, for every update that it gets, whether or not anything has changed.
Neither provider knows idempotency keys. So the operator stores what it is about to send before it sends it, and when
an answer is lost it looks at the endpoint instead of sending again. What follows is how far that carries, and what
shows it.

## How to repeat it

@COMMANDS@

## What cannot be known

- **A change of fields that cannot be read back** (a model at Friendli), whose answer was lost while somebody else made
  a version with the same readable fields: the version count moved, by whom is not to be seen. `Synced` says
  `AppliedUnverified`.
- **A console that puts the old values back right after our update**, on a provider without versions (Novita), with our
  answer lost: reads as though nothing had arrived, and the update is sent once more. So does a value that the provider
  replaced by the old one.
- **A reapply on a provider without versions**, whose answer was lost: what was there is there, whether or not it came
  again. `Synced` says `AppliedUnverified`, and it is not sent once more; ask for another reapply.
- **A foreign version that touches only fields which the resource does not declare**, between our look and an update
  whose request was lost: is taken for ours with other values. `NotConverging` says so, and nothing is sent until a
  person edits the resource or asks for a reapply.
- **A status from before an update, put back while that update may still land, and a process that starts after that**:
  nothing tells it to wait. A process that has met the update does wait; `status.updates`, which otherwise never falls,
  tells it that the status is an old one.
- **A process that is frozen in the few instructions between its last check and the socket**, and goes on after another
  one has taken over, sends late: a version too many, or an older spec after a newer one. No provider offers a condition
  that would stop it. The small world counts the states in which that happens; with real processes it is tried often and
  counted.

Commits may land, and reads may lag, for up to `SETTLE_SECONDS`. A provider that is slower breaks the promise; the
setting is yours.
"""


COMMANDS = {
    "uv run pytest": "everything but what is marked; includes the model of the decisions, every state of the small "
    "world, and ten thousand lost answers in memory",
    "uv run pytest -m faults": "all crash plans, several replicas, faults of the Kubernetes API, a thousand resources; "
    "real processes, at most 20 minutes on two cores",
    "uv run pytest -m nightly": "pairs of crashes, long runs",
    "uv run python tests/faults/seed_bugs.py": "that the tests notice: each seeded bug must make one fail",
    "uv run python tests/faults/compare.py": "the same faults for others; makes the last section's numbers",
}


def page() -> str:
    """The whole page."""
    commands = [f"| `{command}` | {what} |" for command, what in COMMANDS.items()]
    table = "\n".join(["| command | what it shows |", "| --- | --- |", *commands])
    return "\n".join(
        [
            INTRODUCTION.replace("@COMMANDS@", table),
            *_matrix(proofs()),
            "## Beside others",
            "",
            render(load()).rstrip(),
            "",
        ]
    )


def _matrix(found: Sequence[Proof]) -> Iterator[str]:
    shown = defaultdict[str, list[Proof]](list)
    for proof in found:
        shown[proof.row].append(proof)
    yield f"## The fault matrix\n\n{len(ROWS)} rows, {len(ROWS.keys() & shown.keys())} of them shown by tests."
    yield "A test in *italics* runs with `-m faults` or `-m nightly` only.\n"
    for letter, title in GROUPS.items():
        yield f"### {letter}. {title}\n"
        yield from _table(letter, shown)
        yield ""


def _table(letter: str, shown: Mapping[str, Sequence[Proof]]) -> Iterator[str]:
    yield "| | fault | what must hold | shown by |"
    yield "| --- | --- | --- | --- |"
    for name, row in ROWS.items():
        if name.startswith(letter):
            by = [_link(proof) for proof in shown.get(name, ())]
            by += [f"not run: {LEFT_OUT[name]}"] if name in LEFT_OUT else []
            yield f"| {name} | {row.fault} | {row.holds} | {'<br>'.join(by)} |"


def _link(proof: Proof) -> str:
    words = proof.test.removeprefix("test_").replace("_", " ") or f"all of {Path(proof.file).name}"
    link = f"[{words}](../tests/{proof.file})"
    return f"*{link}*" if proof.when else link


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
