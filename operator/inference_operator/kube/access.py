"""How this process reaches the API server: where it is, whom it trusts, and a credential that may change at any time.

The framework that watches and our own client must agree on all three, so both get them from here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import incluster_config
from yarl import URL

from inference_operator import __version__
from inference_operator.descriptors import connections_per_pool

REREAD_SECONDS: Final = 60.0
"""How old a credential may be that a file or a plugin can replace."""

REFUSED_SECONDS: Final = 1.0
"""The same of one that the API server has refused."""

MAX_CONNECTIONS: Final = 100
"""At the same time, where the limit of open files allows as many; watches apart."""

DEFAULT_KUBECONFIG: Final = "~/.kube/config"

log = logging.getLogger(__name__)


class AccessError(Exception):
    """There is no usable way to the API server; the message says where it was looked for."""


class Access:
    """A way to the API server.

    The official client says where the API server is, whom to trust and what the credential is. Requests go through
    sessions of the HTTP library below it: what it does to a body that is JSON already costs more than to send it.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._tls = RESTClientObject(configuration).ssl_context
        self._credential: _Credential | None = None
        self._own: aiohttp.ClientSession | None = None

    @classmethod
    async def find(cls, kubeconfig: str | None = None, context: str | None = None) -> Self:
        """Find the way as every client does: the given kubeconfig, the pod's account, then `~/.kube/config`.

        Args:
            kubeconfig: Path of the file, or several in the manner of `KUBECONFIG`.
            context: A context of the kubeconfig; the current one if None.

        Raises:
            AccessError: What was found cannot be used, or nothing was found.
        """
        configuration = Configuration()
        if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            load = await _configured("the pod's service account", lambda: _load_account(configuration))
        else:
            path = kubeconfig or DEFAULT_KUBECONFIG
            load = await _configured(path, lambda: _load_kubeconfig(configuration, path, context))
        access = cls(configuration)
        access._credential = _Credential(load)
        configuration.refresh_api_key_hook = access._credential.refresh  # type: ignore[assignment] # declared as None only
        return access

    @property
    def server(self) -> str:
        """The origin of the API server."""
        return str(self._configuration.host)

    def refused(self) -> None:
        """Take note that the API server has refused the credential (401): perhaps there is a new one."""
        if self._credential is not None:
            self._credential.doubt()

    async def authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Middleware of every session: puts the credential of this moment into every request to the API server.

        A request that was redirected to another origin comes through here as well, and gets none.
        """
        authorization = await self._configuration.get_api_key_with_prefix("BearerToken")
        if authorization and request.url.origin() == URL(self.server).origin():
            request.headers["Authorization"] = authorization
        if self._configuration.tls_server_name:
            request.server_hostname = self._configuration.tls_server_name
        response = await handler(request)
        if response.status == HTTPStatus.UNAUTHORIZED:
            self.refused()
        return response

    def session(
        self,
        *middlewares: aiohttp.ClientMiddlewareType,
        response_class: type[aiohttp.ClientResponse] = aiohttp.ClientResponse,
        connections: int = 0,
        **more: Any,
    ) -> aiohttp.ClientSession:
        """A session of its own that leads the same way; the caller closes it.

        Args:
            middlewares: What else sees every request, before it is authorized.
            response_class: Of the answers.
            connections: At the same time; 0 for no limit.
            more: What else is to be said of the session.
        """
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=self._tls),
            middlewares=(*middlewares, self.authorize),
            response_class=response_class,
            proxy=self._configuration.proxy,
            trust_env=False,  # the proxies there are meant for provider calls at best, which ignore them too
            **more,
        )

    def request(self, method: str, target: str, **options: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send one request of our own.

        Args:
            method: Of the request.
            target: Path and query, quoted.
            options: As of the HTTP library.
        """
        if self._own is None:
            self._own = self.session(
                connections=min(MAX_CONNECTIONS, connections_per_pool()),
                headers={"Accept": "application/json", "User-Agent": f"inference-operator/{__version__}"},
            )
        return self._own.request(method, self.server + target, **options)

    async def close(self) -> None:
        """Close the connections of our own requests."""
        if self._own is not None:
            await self._own.close()


Load = Callable[[Configuration], Awaitable[None]]
"""Reads the credential again, from its file or plugin."""


class _Credential:
    """A credential that is read again from time to time, which the official client does not do for kubeconfigs."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._read_at = time.monotonic()
        self._keep_seconds = REREAD_SECONDS

    def doubt(self) -> None:
        self._keep_seconds = min(self._keep_seconds, REFUSED_SECONDS)

    async def refresh(self, configuration: Configuration) -> None:
        if time.monotonic() < self._read_at + self._keep_seconds:
            return
        self._read_at, self._keep_seconds = time.monotonic(), REREAD_SECONDS
        try:
            await self._load(configuration)
        except (config.ConfigException, OSError) as error:
            log.warning("the credential could not be read again: %s", error)


async def _configured(source: str, load: Callable[[], Awaitable[Load]]) -> Load:
    try:
        return await load()
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError) as error:
        # The last three are what the loader makes of a file that is YAML but no kubeconfig.
        raise AccessError(f"cannot reach a cluster by {source}: {error}") from error


async def _load_account(configuration: Configuration) -> Load:
    loader: Any = incluster_config.InClusterConfigLoader(  # type: ignore[no-untyped-call] # the client is typed in part
        token_filename=incluster_config.SERVICE_TOKEN_FILENAME,
        cert_filename=incluster_config.SERVICE_CERT_FILENAME,
        try_refresh_token=False,
    )

    async def load(configuration: Configuration) -> None:
        loader.load_and_set(configuration)

    await load(configuration)
    return load


async def _load_kubeconfig(configuration: Configuration, path: str, context: str | None) -> Load:
    if not any(Path(part).expanduser().is_file() for part in path.split(os.pathsep)):  # noqa: ASYNC240 - at start
        raise FileNotFoundError("no such file; give --kubeconfig or set KUBECONFIG")
    loader = await config.load_kube_config(  # type: ignore[no-untyped-call] # the client is typed in part
        config_file=path, context=context, client_configuration=configuration, persist_config=False
    )
    load: Load = loader.load_and_set
    return load
