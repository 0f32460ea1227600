"""Passes that are driven by hand, one exchange with the outside at a time."""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any


@types.coroutine
def pause() -> Generator[None]:
    """Here a request or its answer is on its way, and anything may happen before the pass goes on."""
    yield


@dataclass(slots=True)
class Pass:
    """A pass under way.

    Attributes:
        coroutine: What runs.
        waiting_since: When it last began to wait for the outside.
        delay: What it returned.
    """

    coroutine: Coroutine[Any, Any, float | None]
    waiting_since: float
    delay: float | None = None

    def advance(self, now: float) -> bool:
        """Go on to the next pause; returns whether the pass is over."""
        try:
            self.coroutine.send(None)
        except StopIteration as end:
            self.delay = end.value
            return True
        self.waiting_since = now
        return False

    def kill(self) -> None:
        """The process dies where the pass stands."""
        self.coroutine.close()
