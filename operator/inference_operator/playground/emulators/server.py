"""Serves both emulated providers and their control API on loopback, in one event loop."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from inference_operator.playground.emulators.delivery import Answer, respond
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.front import Front
from inference_operator.playground.emulators.ledger import Entry
from inference_operator.playground.emulators.world import World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

CONTROL_OPERATIONS = frozenset(
    {
        "add_account",
        "set_tokens",
        "set_rate",
        "create_endpoint",
        "get_endpoint",
        "set_endpoint",
        "set_knobs",
        "set_limits",
        "add_fault",
        "clear_faults",
        "fault_counts",
        "ledger",
        "ledger_counts",
        "reset_ledger",
        "peak_transitions",
        "wait_for_gate",
        "release_gate",
        "foreign_write",
    }
)

_BACKLOG = 1024
_SHUTDOWN_SECONDS = 0.2


class Emulators:
    """Both providers and the control API as HTTP servers, each on a port of its own.

    Attributes:
        world: What they serve; everything the control API does can be done on it directly.
        friendli_url: Origin of the Friendli emulator, once started.
        novita_url: Origin of the Novita emulator, once started.
        control_url: Origin of the control API, once started.
    """

    def __init__(self, *, host: str = "127.0.0.1", ports: tuple[int, int, int] = (0, 0, 0)) -> None:
        """Prepares the servers.

        Args:
            host: Address to listen on.
            ports: Ports of Friendli, Novita and the control API; 0 takes a free one.
        """
        self.world = World()
        self.friendli_url = self.novita_url = self.control_url = ""
        self._host = host
        self._ports = ports
        self._runners: list[web.ServerRunner] = []

    @property
    def urls(self) -> dict[str, str]:
        """The three origins by name."""
        return {"friendli": self.friendli_url, "novita": self.novita_url, "control": self.control_url}

    async def start(self) -> None:
        """Starts to serve and fills in the three origins."""
        world = self.world
        handlers = (
            Front(world.friendli, world.stage).handle,
            Front(world.novita, world.stage).handle,
            self._control,
        )
        self.friendli_url, self.novita_url, self.control_url = [
            await self._serve(handler, port) for handler, port in zip(handlers, self._ports, strict=True)
        ]

    async def stop(self) -> None:
        """Stops serving: late commits are dropped, held requests are released, connections are closed."""
        for handle in self.world.stage.late:
            handle.cancel()
        self.world.stage.gates.release_all()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, handler: Handler, port: int) -> str:
        runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, self._host, port, backlog=_BACKLOG)
        await site.start()
        return f"http://{self._host}:{site.port}"

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers ``POST /<operation>`` with hyphens for underscores; the body holds the arguments by name."""
        operation = request.path.strip("/").replace("-", "_")
        if request.method == "GET" and operation == "urls":
            return _json(200, self.urls)
        if request.method != "POST" or operation not in CONTROL_OPERATIONS:
            return _json(404, {"error": f"there is no {request.method} {request.path}"})
        try:
            arguments = json.loads(await request.content.read() or b"{}")
            result = await self._carry_out(operation, arguments)
        except TimeoutError:
            return _json(408, {"error": "it did not happen in time"})
        except (LookupError, ValueError, TypeError) as error:
            return _json(400, {"error": str(error)})
        return _json(200, result)

    async def _carry_out(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        given = {"fault": Fault(**arguments)} if operation == "add_fault" else arguments
        result = getattr(self.world, operation)(**given)
        if inspect.isawaitable(result):
            result = await result
        return [entry.as_json() for entry in result] if operation == "ledger" else result


def _json(status: int, value: Any) -> web.StreamResponse:
    body = value.as_json() if isinstance(value, Entry) else value
    return respond(Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode()))
