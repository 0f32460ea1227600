"""Where a declared configuration and a read one differ; the only place that compares the two."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from inference_operator.core.model import Desired, FieldPath, Json, Snapshot

Agrees = Callable[[FieldPath, Json, Json], bool]
"""The driver's notion of two spellings of one value; gets None for an absent value."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field whose live value is not the wished one; None stands for absent.

    Values may be confidential and therefore show in no repr.
    """

    path: FieldPath
    wanted: Json = field(repr=False)
    seen: Json = field(repr=False)


def shows(snapshot: Snapshot, path: FieldPath, wanted: Json, agrees: Agrees) -> bool:
    """Whether any evidence in the snapshot agrees with the wanted value; None is wished to be absent."""
    if wanted is None:
        return snapshot.values.get(path) is None
    if agrees(path, wanted, snapshot.values.get(path)):
        return True
    return path in snapshot.hints and agrees(path, wanted, snapshot.hints[path])


def differences(desired: Desired, snapshot: Snapshot, agrees: Agrees) -> tuple[Difference, ...]:
    """All declared, readable fields that the snapshot contradicts, and what it has too much in owned lists."""
    wrong = [
        Difference(path, declared.value, snapshot.values.get(path))
        for path, declared in desired.readable.items()
        if not shows(snapshot, path, declared.value, agrees)
    ]
    surplus = [Difference(path, None, seen) for path, seen in snapshot.values.items() if _is_surplus(path, desired)]
    return tuple(sorted(wrong + surplus, key=lambda difference: difference.path))


def holds_exactly(desired: Desired, snapshot: Snapshot) -> bool:
    """Whether the snapshot shows every declared field, each with the very value and no other evidence.

    Stricter than the absence of differences: it may stand in for a write, which leniency never may.
    """
    if desired.unverifiable or any(_is_surplus(path, desired) for path in snapshot.values):
        return False
    return all(snapshot.values.get(path) == declared.value for path, declared in desired.fields.items())


def _is_surplus(path: FieldPath, desired: Desired) -> bool:
    return path not in desired.fields and owner(path, desired.owned) is not None


def owner(path: FieldPath, owned: Iterable[FieldPath]) -> FieldPath | None:
    """The owned list that a path lies in: `novita.envs[A]` lies in `novita.envs`."""
    return next((prefix for prefix in owned if path.startswith(f"{prefix}[")), None)
