"""What a comparison has found, how it is kept, and the tables made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

RESULTS: Final = Path(__file__).parents[2] / "docs" / "reliability-peers.json"
"""Where the results of the last full run are kept."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Profile(_Record):
    """What was compared.

    Attributes:
        name: By which the command line and the counts know it.
        title: By which readers know it.
        version: Of which release.
        settings: How it was run.
    """

    name: str
    title: str
    version: str
    settings: str


class Row(_Record):
    """What befell it.

    Attributes:
        name: By which the command line and the counts know it.
        title: What happens.
        beyond: This operator does not promise to endure it.
    """

    name: str
    title: str
    beyond: bool = False


class Counts(_Record):
    """What one subject made of one row; None where a count makes no sense.

    Attributes:
        extra: Versions beyond those that the changes needed.
        lost: Endpoints that do not hold what their resource asks for.
        stuck: Resources that their own status does not show in sync, or that were to be deleted and are still there.
        false: Resources that claimed for more than two polls what the provider did not hold.
        sent: Updates sent, refused and lost ones included.
        writes: Kubernetes writes, Leases apart.
        early: Requests before the time that a 429 had asked for was over.
        seconds: Median time from a change to a status that says so, rightly and for good; None if any never does.
    """

    extra: int
    lost: int | None
    stuck: int | None
    false: int | None
    sent: int
    writes: int
    early: int | None = None
    seconds: float | None = None

    @property
    def faults(self) -> dict[str, int]:
        """The four counts by name, those that are not zero."""
        found = {"extra": self.extra, "lost": self.lost, "stuck": self.stuck, "false": self.false}
        return {name: count for name, count in found.items() if count}


class Comparison(_Record):
    """A whole run.

    Attributes:
        date: When it began, ISO 8601.
        seed: Decides at which moments of a poll the resources are changed.
        resources: How many of them each row had.
        poll_seconds: How often every subject looks by itself.
        watched_seconds: How long everybody was watched after the last thing went wrong.
        patience_seconds: How much longer those were watched that were not in sync by then.
        kubernetes: Version of the API server.
        subjects: What was compared.
        rows: What befell it.
        counts: By name of the subject and name of the row.
    """

    date: str
    seed: int
    resources: int
    poll_seconds: float
    watched_seconds: float
    patience_seconds: float
    kubernetes: str
    subjects: tuple[Profile, ...]
    rows: tuple[Row, ...]
    counts: Mapping[str, Mapping[str, Counts]]

    def of(self, subject: Profile) -> list[Counts]:
        """The counts of a subject, row by row."""
        return [self.counts[subject.name][row.name] for row in self.rows]


def load(path: Path = RESULTS) -> Comparison:
    """Read results that were kept."""
    return Comparison.model_validate_json(path.read_text())


def save(found: Comparison, path: Path = RESULTS) -> None:
    """Keep results, in a form in which two runs are easily compared."""
    path.write_text(found.model_dump_json(indent=1) + "\n")


def render(found: Comparison) -> str:
    """The results as Markdown: how they were found, the counts of each row, their sums, costs, and who is no worse."""
    return "\n\n".join([_method(found), _faults(found), _sums(found), _costs(found), _as_good(found)]) + "\n"


def _method(found: Comparison) -> str:
    subjects = "\n".join(f"- **{each.title}**: {each.version}; {each.settings}." for each in found.subjects)
    return (
        f"Run on {found.date[:10]} with seed {found.seed} against kube-apiserver {found.kubernetes}:"
        f" {found.resources} resources in each row, one change each, every subject alone with a control plane and an"
        f" emulated provider. All look every {found.poll_seconds:g} s and are watched for {found.watched_seconds:g} s"
        f" after the last thing went wrong, and up to {found.patience_seconds:g} s longer where not all is in sync."
        " Counts are facts; times depend on the machine and on these intervals."
        f"\n\n{subjects}"
    )


def _faults(found: Comparison) -> str:
    rows = ([_title(row), *(_cell(found.counts[each.name][row.name]) for each in found.subjects)] for row in found.rows)
    legend = (
        "*extra*: versions beyond those that the changes needed, by the provider's ledger; who makes versions at rest"
        " makes them in every row, and would go on. *lost*: endpoints that at the end do not hold what their resource"
        " asks for. *stuck*: resources whose own status does not say at the end that they are in sync, or that were to"
        " be deleted and are still there. *false*: resources whose status said for longer than two polls that the"
        " provider holds what it did not hold. 0: none of the four."
    )
    note = "\n\n† More than this operator promises to endure." if any(row.beyond for row in found.rows) else ""
    return f"{_table(('what happens', *_titles(found)), rows)}\n\n{legend}{note}"


def _title(row: Row) -> str:
    return row.title + " †" * row.beyond


def _cell(counts: Counts) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.faults.items()) or "0"


def _sums(found: Comparison) -> str:
    names = {
        "extra versions": "extra",
        "lost changes": "lost",
        "stuck resources": "stuck",
        "false claims": "false",
        "updates sent": "sent",
        "requests before Retry-After was over": "early",
    }
    rows = [
        [title, *(str(sum(getattr(each, name) or 0 for each in found.of(subject))) for subject in found.subjects)]
        for title, name in names.items()
    ]
    clean = ["rows without any of the four", *(_clean(found, subject) for subject in found.subjects)]
    return _table(("in all rows", *_titles(found)), [clean, *rows])


def _clean(found: Comparison, subject: Profile) -> str:
    return f"{sum(not counts.faults for counts in found.of(subject))} of {len(found.rows)}"


def _costs(found: Comparison) -> str:
    rows = [[_title(row), *(_cost(found.counts[each.name][row.name]) for each in found.subjects)] for row in found.rows]
    legend = (
        "Median seconds from the change to a status that says so, rightly and for good (-: not all came to that, or"
        " there was no change), and Kubernetes writes for all resources while they were watched, Events included."
    )
    return f"{_table(('seconds / Kubernetes writes', *_titles(found)), rows)}\n\n{legend}"


def _cost(counts: Counts) -> str:
    return f"{'-' if counts.seconds is None else f'{counts.seconds:.1f}'} / {counts.writes}"


def _as_good(found: Comparison) -> str:
    """Where others are no worse than the first subject, and where they are sooner done."""
    first, *others = found.subjects
    lines = []
    for other in others:
        clean = [row for row in found.rows if not found.counts[other.name][row.name].faults]
        sooner = [row.title for row in clean if _is_sooner(found, row, other, first)]
        lines.append(
            f"- **{other.title}**: none of the four in {len(clean)} of {len(found.rows)} rows;"
            f" by more than a second sooner done than {first.title} in: {'; '.join(sooner) or 'none of them'}."
        )
    return "Where the others are as good or better:\n\n" + "\n".join(lines)


def _is_sooner(found: Comparison, row: Row, one: Profile, other: Profile) -> bool:
    mine, theirs = (found.counts[each.name][row.name].seconds for each in (one, other))
    return mine is not None and theirs is not None and mine < theirs - 1


def _titles(found: Comparison) -> list[str]:
    return [subject.title for subject in found.subjects]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
