"""What a run has seen, as it is kept: raw samples and exact counts, no statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from faults.comparison import Profile

OTHERS: Final = 0.10
"""The share of the machine's processor time that others may use while a subject is measured, unless a run says more."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Result(_Record):
    """One phase of one subject in one block. Times are seconds.

    Attributes:
        block: Which block, from 0.
        place: Whose turn it was in the block, from 0.
        subject: By name.
        phase: By name.
        resources: How many resources the subject had.
        changes: How many edits were made.
        seconds: How long it took as a whole.
        cpu: Processor time of the subject's processes, user and system.
        resident: Resident memory of the subject's processes afterwards, MiB.
        descriptors: Open descriptors of the subject's processes afterwards.
        connections: Connections of the subject's processes afterwards, by whom they lead to.
        others: Share of the machine's processor time that went to others than this run.
        samples: Values by name, in the order of the edits.
        counts: Exact counts by name.
    """

    block: int
    place: int
    subject: str
    phase: str
    resources: int
    changes: int
    seconds: float
    cpu: float
    resident: float
    descriptors: int
    others: float
    samples: Mapping[str, Sequence[float]]
    counts: Mapping[str, int]
    connections: Mapping[str, int] = {}


class Dropped(_Record):
    """A turn that counts for nothing, because others used too much of the machine meanwhile.

    Attributes:
        block: Which block, from 0.
        subject: By name.
        phase: By name.
        others: Share of the machine's processor time that went to others than this run.
    """

    block: int
    subject: str
    phase: str
    others: float


class Absent(_Record):
    """A turn that was not taken, because a subject did not get its resources in sync.

    Attributes:
        block: Which block, from 0.
        subject: By name.
        phases: What it would have gone through, by name.
        seconds: How long it was waited for.
        resources: How many resources it had.
        in_sync: How many of them were in sync then.
    """

    block: int
    subject: str
    phases: Sequence[str]
    seconds: float
    resources: int
    in_sync: int


class Machine(_Record):
    """Where it ran."""

    cores: int
    model: str
    kernel: str
    memory_gib: int


class Run(_Record):
    """A whole run.

    Attributes:
        date: When it began.
        commit: Of this project.
        command: How to repeat it.
        seed: Decides orders, moments and delays.
        blocks: How many blocks there are.
        machine: Where it ran.
        versions: Of what is not a subject.
        subjects: Who took part, in the order of the tables.
        results: What was seen.
        dropped: What was dropped.
        others: The share of the machine's processor time with which a turn was dropped.
        absent: The turns that were not taken.
    """

    date: str
    commit: str
    command: str
    seed: int
    blocks: int
    machine: Machine
    versions: Mapping[str, str]
    subjects: Sequence[Profile]
    results: Sequence[Result]
    dropped: Sequence[Dropped] = []
    others: float = OTHERS
    absent: Sequence[Absent] = []


def merged(runs: Sequence[Run], command: str) -> Run:
    """Runs of one plan with different subjects as the one run that they were together.

    Args:
        runs: In the order of the subjects.
        command: How to repeat the whole.

    Raises:
        ValueError: They did not go through the same under the same conditions, or a subject took part twice.
    """
    alike = {(run.commit, run.seed, run.blocks, run.machine, *sorted(run.versions.items()), run.others) for run in runs}
    names = [profile.name for run in runs for profile in run.subjects]
    if len(alike) != 1 or len(set(names)) != len(names) or len({_phases(run) for run in runs}) != 1:
        raise ValueError("these runs are not parts of one")
    whole: dict[str, Any] = {
        "date": min(run.date for run in runs),
        "command": command,
        "subjects": [profile for run in runs for profile in run.subjects],
        "results": [result for run in runs for result in run.results],
        "dropped": [each for run in runs for each in run.dropped],
        "absent": [each for run in runs for each in run.absent],
    }
    return runs[0].model_copy(update=whole)


def _phases(run: Run) -> frozenset[str]:
    return frozenset(result.phase for result in run.results)


def save(run: Run, path: Path) -> None:
    """Keep a run, one line for each result."""
    names = ("results", "dropped", "absent")
    parts = [run.model_dump_json(indent=1, exclude=set(names)).removesuffix("\n}")]
    parts += [f' "{name}": [{_lines(getattr(run, name))}]' for name in names]
    path.write_text(",\n".join(parts) + "\n}\n", encoding="utf-8")


def _lines(records: Sequence[_Record]) -> str:
    return ",".join(f"\n  {record.model_dump_json()}" for record in records)


def load(path: Path) -> Run:
    """A kept run.

    Raises:
        ValueError: The file holds none.
    """
    return Run.model_validate_json(path.read_text(encoding="utf-8"))
