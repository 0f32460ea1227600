from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from typing import Any

import aiohttp
import pytest

from inference_operator.core.port import SecretReader
from inference_operator.errors import Unavailable
from inference_operator.kube.secrets import Secrets
from memory_api import Late, MemoryApi
from virtual_time import in_virtual_time, now

KEY = ("team-a", "key")
PATH = "/api/v1/namespaces/team-a/secrets/key"


class World:
    """A cluster with one Secret and somebody who refers to it."""

    def __init__(self, *, keep_seconds: float = 60.0) -> None:
        self.api = MemoryApi()
        self.referenced = {KEY}
        self.secrets = Secrets(self.api, keep_seconds=keep_seconds, referenced=self.referenced.__contains__, clock=now)

    def rotate(self, token: str) -> str:
        """Store a token; returns the version."""
        document = self.api.put(PATH, {"data": {"token": base64.b64encode(token.encode()).decode()}})
        return str(document["metadata"]["resourceVersion"])

    async def token(self, *, fresh: bool = False) -> bytes | None:
        data = await self.secrets.read(*KEY, fresh=fresh)
        return data.data["token"] if data else None

    @property
    def reads(self) -> int:
        return len(self.api.requests)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    in_virtual_time(scenario)


def test_it_is_read_once_until_it_is_old_and_always_when_it_has_to_be_fresh() -> None:
    async def scenario() -> None:
        world = World(keep_seconds=60)
        reader: SecretReader = world.secrets
        version = world.rotate("one")
        data = await reader.read("team-a", "key")
        assert data is not None
        assert data.resource_version == version
        assert await world.token() == b"one"
        assert world.reads == 1
        world.rotate("two")
        await asyncio.sleep(59)
        assert await world.token() == b"one"
        assert await world.token(fresh=True) == b"two"
        assert await world.token() == b"two"
        assert world.reads == 2
        await asyncio.sleep(60)
        assert await world.token() == b"two"
        assert world.reads == 3

    run(scenario())


def test_an_event_makes_the_next_read_a_new_one_and_an_echo_does_not() -> None:
    async def scenario() -> None:
        world = World()
        first = world.rotate("one")
        await world.token()
        assert not world.secrets.changed(KEY, first, listed=False)
        second = world.rotate("two")
        assert world.secrets.changed(KEY, second, listed=False)
        assert await world.token() == b"two"
        assert not world.secrets.changed(KEY, second, listed=False)
        assert not world.secrets.changed(KEY, first, listed=False)
        assert await world.token() == b"two"
        assert world.reads == 2

    run(scenario())


def test_a_missing_secret_is_remembered_and_wakes_when_it_appears() -> None:
    async def scenario() -> None:
        world = World()
        assert await world.token() is None
        assert await world.token() is None
        assert world.reads == 1
        version = world.rotate("one")
        assert world.secrets.changed(KEY, version, listed=True)  # told by a listing that was repeated
        assert await world.token() == b"one"

    run(scenario())


def test_a_deleted_secret_is_gone_at_once() -> None:
    async def scenario() -> None:
        world = World()
        world.rotate("one")
        await world.token()
        del world.api.objects[PATH]
        assert world.secrets.changed(KEY, "999", listed=False)
        assert await world.token() is None

    run(scenario())


def test_what_a_first_listing_shows_is_no_news() -> None:
    async def scenario() -> None:
        world = World()
        version = world.rotate("one")
        assert not world.secrets.changed(KEY, version, listed=True)
        assert world.secrets.changed(KEY, world.rotate("two"), listed=True)
        assert world.reads == 0

    run(scenario())


def test_secrets_that_nothing_refers_to_are_not_kept() -> None:
    async def scenario() -> None:
        world = World()
        version = world.rotate("one")
        await world.token()
        world.referenced.clear()
        assert not world.secrets.changed(KEY, str(int(version) + 1), listed=False)
        assert not world.secrets._known
        await world.token()
        assert not world.secrets._known
        world.referenced.add(KEY)
        await world.token()
        world.secrets.forget(KEY)
        assert not world.secrets._known

    run(scenario())


def test_many_share_one_read_and_its_failure() -> None:
    async def scenario() -> None:
        world = World()
        world.rotate("one")
        world.api.faults.append(3.0)
        assert await asyncio.gather(*(world.token() for _ in range(100))) == [b"one"] * 100
        assert world.reads == 1
        await asyncio.sleep(60)
        world.api.faults.append(30.0)
        outcomes = await asyncio.gather(*(world.token() for _ in range(100)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
        assert now() == 3 + 60 + 10
        assert world.reads == 2

    run(scenario())


def test_who_gives_up_waiting_does_not_end_the_read_of_others() -> None:
    async def scenario() -> None:
        world = World()
        world.rotate("one")
        world.api.faults.append(3.0)
        impatient, patient = (asyncio.create_task(world.token()) for _ in range(2))
        await asyncio.sleep(1)
        impatient.cancel()
        assert await patient == b"one"

    run(scenario())


def test_a_failure_that_nobody_waits_for_is_not_complained_about() -> None:
    async def scenario() -> None:
        world = World()
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        world.api.faults.append(30.0)
        only = asyncio.create_task(world.token())
        await asyncio.sleep(1)
        only.cancel()
        await asyncio.sleep(60)
        assert not complaints

    run(scenario())


@pytest.mark.parametrize("deleted", [True, False])
def test_a_read_that_an_event_overtakes_is_neither_joined_nor_kept(*, deleted: bool) -> None:
    """The answer was made before the change and comes after its event."""

    async def scenario() -> None:
        world = World()
        world.rotate("one")
        world.api.faults.append(Late(3.0))
        slow = asyncio.create_task(world.token())
        await asyncio.sleep(1)
        if deleted:
            version = world.rotate("two")
            del world.api.objects[PATH]
        else:
            version = world.rotate("two")
        assert world.secrets.changed(KEY, version, listed=False)
        expected = None if deleted else b"two"
        assert await world.token() == expected
        assert await slow == b"one"
        assert await world.token() == expected

    run(scenario())


def test_a_slow_answer_does_not_replace_a_newer_one() -> None:
    async def scenario() -> None:
        world = World()
        world.rotate("one")
        world.api.faults.append(Late(3.0))
        slow = asyncio.create_task(world.token())
        await asyncio.sleep(1)
        world.rotate("two")
        assert await world.token(fresh=True) == b"two"
        await slow
        assert await world.token() == b"two"

    run(scenario())


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "../../team-b/secrets/key", "Key", "a b", "a%2fb", "a\n", "-a"])
def test_what_cannot_be_a_name_is_never_asked_for(name: str) -> None:
    async def scenario() -> None:
        world = World()
        assert await world.secrets.read("team-a", name) is None
        assert await world.secrets.read("team-a", name, fresh=True) is None
        assert world.reads == 0

    run(scenario())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (403, "Secret 'key' could not be read: the API server answered 403: told to; the operator lacks the right"),
        (500, "Secret 'key' could not be read: the API server answered 500: told to"),
        (30.0, "Secret 'key' could not be read: the API server did not answer within 10 s"),
        (aiohttp.ServerDisconnectedError(), "Secret 'key' could not be read: the API server could not be reached"),
    ],
)
def test_failures_say_which_secret_and_why(fault: Any, message: str) -> None:
    async def scenario() -> None:
        world = World()
        world.api.faults.append(fault)
        with pytest.raises(Unavailable) as caught:
            await world.token()
        assert caught.value.message.startswith(message)
        assert caught.value.__cause__ is None

    run(scenario())


def test_nothing_shows_what_is_in_a_secret() -> None:
    async def scenario() -> None:
        world = World()
        world.rotate("hunter2")
        data = await world.secrets.read(*KEY)
        shown = f"{data!r} {world.secrets._known!r}"
        assert "hunter2" not in shown
        assert base64.b64encode(b"hunter2").decode() not in shown
        world.api.put(PATH, {"data": {"token": "hunter2 is not base64"}})
        with pytest.raises(Unavailable) as caught:
            await world.token(fresh=True)
        assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"

    run(scenario())
