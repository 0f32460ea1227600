"""Where the demonstration is shown: a live screen on a terminal, plain lines in a log or a pipe."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from inference_operator.playground.view import Picture, calls_table, resources_table, sentence

LEAST_CALLS: Final = 2
"""Calls that are shown on the smallest terminal."""

LATEST_LINES: Final = 3
"""Lines of the story that stay beside a picture."""

_HEADINGS: Final = 6
"""Lines that are neither story nor resource nor call: three blank ones, two headers and a title."""


class Screen(Protocol):
    """Where the demonstration is shown."""

    def say(self, line: str) -> None:
        """Tell what happened just now."""

    def show(self, picture: Picture) -> None:
        """Show how everything is."""

    def invite(self, lines: Sequence[str]) -> None:
        """Tell what the user can do from now on."""


@contextmanager
def screen(console: Console) -> Iterator[Screen]:
    """A screen for this console. A terminal looks afterwards as it did before."""
    if not console.is_terminal:
        yield LineScreen(console)
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield LiveScreen(live)


@dataclass(slots=True)
class LiveScreen:
    """Draws everything anew each time, to the size that the terminal has by then."""

    live: Live
    _began: float = field(default_factory=time.monotonic)
    _picture: Picture = field(default_factory=Picture)
    _story: list[str] = field(default_factory=list)
    _invitation: Sequence[str] = ()

    def say(self, line: str) -> None:
        """See `Screen`."""
        self._story.append(f"{time.monotonic() - self._began:5.1f} s  {line}")
        self._draw()

    def show(self, picture: Picture) -> None:
        """See `Screen`."""
        self._picture = picture
        self._draw()

    def invite(self, lines: Sequence[str]) -> None:
        """See `Screen`."""
        self._invitation = lines
        self._draw()

    def _draw(self) -> None:
        self.live.update(Group(*self._blocks()), refresh=True)

    def _blocks(self) -> Iterator[RenderableType]:
        picture, blank = self._picture, Text()
        story = self._story[-LATEST_LINES:] if picture.rows else self._story
        yield from (Text(line, style="bold" if line is story[-1] else "dim") for line in story)
        if not picture.rows:
            return
        yield blank
        yield resources_table(picture.rows)
        yield blank
        width, height = self.live.console.size
        room = height - len(story) - len(picture.rows) - len(self._invitation) - _HEADINGS
        yield calls_table(picture, limit=max(room, LEAST_CALLS), width=width, since=self._began)
        yield blank
        yield from (Text(line, style="cyan") for line in self._invitation)


@dataclass(slots=True)
class LineScreen:
    """Prints a line for whatever happens, and one for each write once it is answered."""

    console: Console
    _began: float = field(default_factory=time.monotonic)
    _told: set[int] = field(default_factory=set)

    def say(self, line: str) -> None:
        """See `Screen`."""
        print_line(self.console, f"{time.monotonic() - self._began:5.1f} s  {line}")

    def show(self, picture: Picture) -> None:
        """See `Screen`."""
        for entry in picture.writes:
            if entry.status is not None and entry.seq not in self._told:
                self._told.add(entry.seq)
                print_line(self.console, f"{entry.at - self._began:5.1f} s    {sentence(entry)}")

    def invite(self, lines: Sequence[str]) -> None:
        """See `Screen`."""
        for line in lines:
            print_line(self.console, line)


def print_line(console: Console, line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
