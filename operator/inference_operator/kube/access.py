"""How this process reaches the API server: where it is, whom it trusts, and a credential that may change at any time.

The framework that watches and our own client must agree on all three, so both get them from here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from yarl import URL

from inference_operator import __version__

REREAD_SECONDS: Final = 60.0
"""How old a credential may be that a file or a plugin can replace; the official client's own period in a pod."""

DEFAULT_KUBECONFIG: Final = "~/.kube/config"

log = logging.getLogger(__name__)


class AccessError(Exception):
    """There is no usable way to the API server; the message says where it was looked for."""


class Access:
    """A way to the API server.

    Attributes:
        client: The official client, with our user agent, no proxy but the kubeconfig's, and no retries.
    """

    def __init__(self, configuration: Configuration) -> None:
        # Proxy variables of the environment are meant for provider calls at best, which ignore them too.
        configuration.client_session_kwargs = {"trust_env": False}
        self._configuration = configuration
        self.client = ApiClient(configuration)
        self.client.user_agent = f"inference-operator/{__version__}"

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
            await _configured("the pod's service account", lambda: _load_account(configuration))
        else:
            path = kubeconfig or DEFAULT_KUBECONFIG
            await _configured(path, lambda: _load_kubeconfig(configuration, path, context))
        return cls(configuration)

    @property
    def server(self) -> str:
        """The origin of the API server."""
        return str(self._configuration.host)

    async def authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Middleware for sessions of others: puts the credential of this moment into every request to the API server.

        A request that was redirected to another origin comes through here as well, and gets none.
        """
        authorization = await self._configuration.get_api_key_with_prefix("BearerToken")
        if authorization and request.url.origin() == URL(self.server).origin():
            request.headers["Authorization"] = authorization
        if self._configuration.tls_server_name:
            request.server_hostname = self._configuration.tls_server_name
        return await handler(request)

    def session(
        self,
        *middlewares: aiohttp.ClientMiddlewareType,
        response_class: type[aiohttp.ClientResponse] = aiohttp.ClientResponse,
    ) -> aiohttp.ClientSession:
        """A session of its own that leads the same way; the caller closes it."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self.client.rest_client.ssl_context),
            middlewares=(*middlewares, self.authorize),
            response_class=response_class,
            proxy=self._configuration.proxy,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the official client's connections."""
        await self.client.close()  # type: ignore[no-untyped-call] # the client is typed in part


async def _configured(source: str, load: Callable[[], Awaitable[None]]) -> None:
    try:
        await load()
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError) as error:
        # The last three are what the loader makes of a file that is YAML but no kubeconfig.
        raise AccessError(f"cannot reach a cluster by {source}: {error}") from error


async def _load_account(configuration: Configuration) -> None:
    config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # typed in part


async def _load_kubeconfig(configuration: Configuration, path: str, context: str | None) -> None:
    if not any(Path(part).expanduser().is_file() for part in path.split(os.pathsep)):  # noqa: ASYNC240 - at start
        raise FileNotFoundError("no such file; give --kubeconfig or set KUBECONFIG")
    loader = await config.load_kube_config(  # type: ignore[no-untyped-call] # the client is typed in part
        config_file=path, context=context, client_configuration=configuration, persist_config=False
    )
    configuration.refresh_api_key_hook = _rereading(loader)  # type: ignore[assignment] # declared as None only


def _rereading(loader: Any) -> Callable[[Configuration], Awaitable[None]]:
    """Ask the kubeconfig's token file or plugin again from time to time, which the official client does not do."""
    due = time.monotonic() + REREAD_SECONDS

    async def reread(configuration: Configuration) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + REREAD_SECONDS
        try:
            await loader.load_and_set(configuration)
        except (config.ConfigException, OSError) as error:
            log.warning("the credential of the kubeconfig could not be read again: %s", error)

    return reread
