"""Running emulators with one account and one endpoint at each provider, and clients that hold its key."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from inference_operator.playground.emulators.server import Emulators

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from inference_operator.playground.emulators.world import World

# Making the default context takes longer than most tests here.
UNUSED_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

TOKEN = "flp_0123456789"
FRIENDLI_ROOT = "/dedicated/beta"
NOVITA_ROOT = "/gpu-instance/openapi/v1"


def client_of(url: str, token: str = TOKEN, **headers: str) -> httpx.AsyncClient:
    fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    return httpx.AsyncClient(base_url=url, headers=fields, trust_env=False, timeout=5, verify=UNUSED_TLS)


@pytest.fixture
async def emulators() -> AsyncIterator[Emulators]:
    async with Emulators() as running:
        running.world.add_account("us", [TOKEN], teams=["team-1", "team-2"])
        running.world.create_endpoint("friendli", "ep-1", "us")
        running.world.create_endpoint("novita", "sls-1", "us")
        yield running


@pytest.fixture
def world(emulators: Emulators) -> World:
    return emulators.world


@pytest.fixture
async def friendli(emulators: Emulators) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(emulators.friendli_url + FRIENDLI_ROOT) as client:
        yield client


@pytest.fixture
async def novita(emulators: Emulators) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(emulators.novita_url + NOVITA_ROOT) as client:
        yield client
