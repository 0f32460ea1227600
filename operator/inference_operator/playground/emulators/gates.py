"""Holds requests at named points, so that a test can act exactly between a commit and its answer."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class Gates:
    """Named gates. A request that is sent to one waits there until it is released."""

    def __init__(self) -> None:
        self._held: dict[str, dict[int, asyncio.Future[None]]] = defaultdict(dict)
        self._arrival = asyncio.Condition()

    async def hold(self, name: str, seq: int) -> None:
        """Waits at a gate.

        Args:
            name: The gate.
            seq: Number of the request in the ledger, told to those who wait for it.
        """
        released = asyncio.get_running_loop().create_future()
        self._held[name][seq] = released
        async with self._arrival:
            self._arrival.notify_all()
        try:
            await released
        finally:
            self._held[name].pop(seq, None)

    async def wait(self, name: str, seconds: float, requests: int = 1) -> list[int]:
        """Waits until requests are held at a gate and returns their numbers in the ledger.

        Raises:
            TimeoutError: If there are not as many after ``seconds``.
        """
        async with asyncio.timeout(seconds), self._arrival:
            await self._arrival.wait_for(lambda: len(self._held[name]) >= requests)
            return sorted(self._held[name])

    def release(self, name: str) -> int:
        """Lets the requests that are held at a gate go on; returns how many there were."""
        held = list(self._held[name].values())
        self._held[name].clear()
        for released in held:
            if not released.done():
                released.set_result(None)
        return len(held)

    def release_all(self) -> None:
        """Lets every held request go on."""
        for name in list(self._held):
            self.release(name)
