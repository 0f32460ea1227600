from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import certifi
import pytest
from aiohttp import web

from inference_operator.kube.access import Access, AccessError
from inference_operator.kube.api import Api, Refused


@asynccontextmanager
async def recording_server(
    *, refuse: str | None = None, **redirects: str
) -> AsyncIterator[tuple[str, list[tuple[str, str]]]]:
    """An origin, and path and Authorization of every request to it; some paths lead elsewhere."""
    seen: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization", "")))
        if refuse is not None and seen[-1][1] == refuse:
            raise web.HTTPUnauthorized
        target = redirects.get(request.path.removeprefix("/"))
        if target:
            raise web.HTTPTemporaryRedirect(target)
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


def kubeconfig(folder: Path, server: str, user: dict[str, Any], **more: Any) -> str:
    def entry(name: str, what: str, value: Any) -> list[dict[str, Any]]:
        return [{"name": name, what: value}]

    config = {
        "clusters": entry("c", "cluster", {"server": server}),
        "users": entry("u", "user", user),
        "contexts": [
            *entry("x", "context", {"cluster": "c", "user": "u"}),
            *entry("anonymous", "context", {"cluster": "c"}),
        ],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config | more))
    return str(path)


async def ask(access: Access, server: str) -> None:
    """One request by our client and one by a session of the framework's kind."""
    await Api(access).get("/client")
    async with access.session() as session, session.get(f"{server}/session") as response:
        assert response.ok


async def test_a_rotated_token_is_used_by_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    async with recording_server() as (server, seen):
        token.write_text("one")
        patient = await Access.find(kubeconfig(tmp_path, server, {"tokenFile": "token"}))
        monkeypatch.setattr("inference_operator.kube.access.REREAD_SECONDS", 0.0)
        eager = await Access.find(kubeconfig(tmp_path, server, {"tokenFile": "token"}))
        token.write_text("two")
        await ask(patient, server)
        await ask(eager, server)
        token.unlink()  # in the middle of being replaced
        await ask(eager, server)
        await patient.close()
        await eager.close()
    assert [authorization for _, authorization in seen] == ["Bearer one"] * 2 + ["Bearer two"] * 4


@pytest.mark.covers("D11")
@pytest.mark.parametrize("who", ["client", "session"])
async def test_a_refused_token_is_read_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    monkeypatch.setattr("inference_operator.kube.access.REFUSED_SECONDS", 0.0)
    token = tmp_path / "token"
    token.write_text("one")
    async with recording_server(refuse="Bearer one") as (server, seen):
        access = await Access.find(kubeconfig(tmp_path, server, {"tokenFile": "token"}))
        token.write_text("two")
        for _ in range(2):
            if who == "client":
                with suppress(Refused):
                    await Api(access).get("/x")
            else:
                async with access.session() as session, session.get(f"{server}/x"):
                    pass
        await access.close()
    assert [authorization for _, authorization in seen] == ["Bearer one", "Bearer two"]


async def test_a_context_can_be_chosen(tmp_path: Path) -> None:
    async with recording_server() as (server, seen):
        path = kubeconfig(tmp_path, server, {"token": "secret"})
        access = await Access.find(path, "anonymous")
        await ask(access, server)
        await access.close()
    assert seen == [("/client", ""), ("/session", "")]


async def test_no_other_origin_sees_the_token(tmp_path: Path) -> None:
    async with recording_server() as (elsewhere, stolen):
        targets = {"client": f"{elsewhere}/stolen", "session": f"{elsewhere}/stolen"}
        async with recording_server(**targets) as (server, seen):
            access = await Access.find(kubeconfig(tmp_path, server, {"token": "secret"}))
            await ask(access, server)
            await access.close()
    assert {authorization for _, authorization in seen} == {"Bearer secret"}
    assert stolen == [("/stolen", "")] * 2


@pytest.mark.covers("B13")
async def test_proxies_of_the_environment_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with recording_server() as (server, seen):
        access = await Access.find(kubeconfig(tmp_path, server, {"token": "secret"}))
        await ask(access, server)
        await access.close()
    assert len(seen) == 2


async def test_the_proxy_of_the_kubeconfig_is_used_by_everybody(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:1"
    async with recording_server() as (proxy, seen):
        clusters = [{"name": "c", "cluster": {"server": nowhere, "proxy-url": proxy}}]
        access = await Access.find(kubeconfig(tmp_path, nowhere, {"token": "secret"}, clusters=clusters))
        await ask(access, nowhere)
        await access.close()
    assert seen == [("/client", "Bearer secret"), ("/session", "Bearer secret")]


async def test_the_kubeconfig_is_never_written(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:1", {"token": "secret"})
    before = Path(path).stat()  # noqa: ASYNC240 - a test
    await (await Access.find(path)).close()
    assert Path(path).stat() == before  # noqa: ASYNC240 - same


async def test_a_pod_finds_its_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("of the pod")
    shutil.copy(certifi.where(), authority)
    module_path = "kubernetes.aio.config.incluster_config"
    monkeypatch.setattr(f"{module_path}.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(f"{module_path}.SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    access = await Access.find()
    assert access.server == "https://10.0.0.1:443"
    await access.close()
    explicit = await Access.find(kubeconfig(tmp_path, "http://127.0.0.1:1", {}))
    assert explicit.server == "http://127.0.0.1:1"
    await explicit.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; give --kubeconfig or set KUBECONFIG"),
        ("{", "kubeconfig: "),
        ("just words", "kubeconfig: "),
        ("[]", "kubeconfig: "),
        ("{}", "current-context"),
        ('{"current-context": "x"}', "contexts"),
    ],
)
async def test_an_unusable_kubeconfig_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AccessError, match=message) as caught:
        await Access.find(str(path))
    assert str(path) in str(caught.value)


async def test_an_unknown_context_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="nowhere"):
        await Access.find(kubeconfig(tmp_path, "http://127.0.0.1:1", {}), "nowhere")


async def test_a_broken_pod_account_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "")
    with pytest.raises(AccessError, match="service account"):
        await Access.find()


async def test_a_session_asks_for_nothing_but_what_it_is_told(tmp_path: Path) -> None:
    async with recording_server() as (server, _):
        access = await Access.find(kubeconfig(tmp_path, server, {"token": "secret"}))
        paths = []

        async def watch(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            paths.append(request.url.path)
            return await handler(request)

        async with access.session(watch) as session, session.get(f"{server}/a"):
            pass
        await access.close()
    assert paths == ["/a"]
