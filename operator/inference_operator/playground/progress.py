"""What a user sees while programs are built, because six silent minutes look like a hang."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column


class Phase(StrEnum):
    """What a build is doing, in the order in which it does it."""

    WAITING = "Waiting for another process to build"
    DOWNLOADING = "Downloading the sources of"
    COMPILING = "Compiling"
    LINKING = "Linking"


@dataclass(frozen=True)
class Progress:
    """One step of a build.

    Attributes:
        phase: What is being done.
        program: The program, or the list of programs, it is done for.
        item: The Go module or package at hand; empty when there is none.
        done: Modules downloaded, or packages compiled, so far.
        total: Packages to compile in all; None while it is not known.
    """

    phase: Phase
    program: str
    item: str = ""
    done: int = 0
    total: int | None = None


Report = Callable[[Progress], None]
"""Receives every step of a build, in the thread that builds."""


@contextmanager
def on_terminal() -> Iterator[Report]:
    """Report to standard error: a live bar on a terminal, one line per phase elsewhere (a build log, a pipe)."""
    console = Console(stderr=True)
    columns = (
        TextColumn(
            "{task.description} [dim]{task.fields[item]}", table_column=Column(no_wrap=True, overflow="ellipsis")
        ),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("Preparing", total=None, item="")
        last = ""

        def report(step: Progress) -> None:
            nonlocal last
            headline = f"{step.phase} {step.program}"
            if headline != last and not console.is_terminal:
                console.print(headline, highlight=False, soft_wrap=True)
            last = headline
            bars.update(task, description=headline, item=step.item, completed=step.done, total=step.total)

        yield report
