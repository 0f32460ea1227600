"""An event loop in which an hour of waiting takes no time, for tests of when things happen."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time passes only when everybody waits, and then at once. Nothing outside of the process is ever waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = 0.0
        select = self._selector.select  # type: ignore[attr-defined] # of the base class, untyped

        def skip(timeout: float | None) -> Any:
            self._virtual += timeout or 0.0
            return select(0)

        self._selector.select = skip  # type: ignore[attr-defined] # same

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._virtual


def in_virtual_time(scenario: Coroutine[Any, Any, T]) -> T:
    """Play a scenario from its beginning at time 0."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario)


def now() -> float:
    """The virtual time."""
    return asyncio.get_running_loop().time()
