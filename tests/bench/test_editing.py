from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self, cast

import pytest

from bench import editing
from bench.editing import PARALLEL, Edit, changed, first
from faults.peers.wish import Wish

SECONDS = 0.05
"""Of an answer."""


class Subject:
    """Of whose resources only the path and the spec matter."""

    path = "/resources"

    def spec(self, wish: Wish) -> dict[str, Any]:
        return {"model": wish.model}


class Answer:
    """Of an API server that takes its time; as `aiohttp` gives it."""

    status, ok = 200, True

    async def __aenter__(self) -> Self:
        await asyncio.sleep(SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read(self) -> bytes:
        return b""

    async def text(self) -> str:
        return ""

    async def json(self) -> dict[str, Any]:
        return {"metadata": {"generation": 2}}


class Session:
    """Takes as many requests as come."""

    def get(self, *_: Any) -> Answer:
        return Answer()

    def patch(self, *_: Any, **__: Any) -> Answer:
        return Answer()


def test_an_edit_that_waits_for_a_connection_has_not_been_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def editor(_: object) -> AsyncIterator[Session]:
        yield Session()

    monkeypatch.setattr(editing, "_editor", editor)
    edits = [Edit(0.0, f"r{number}", changed(first(f"ep-{number}"))) for number in range(PARALLEL + 2)]
    made = editing.carry_out(cast("Any", Subject()), edits)
    assert [each.edit for each in made] == edits
    answered = min(each.answered for each in made)
    assert sum(each.sent < answered for each in made) == PARALLEL
    assert {each.planned for each in made} == {made[0].planned}
