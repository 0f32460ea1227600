"""Requests to the API server: each is sent once, ends within a deadline, and its failure says whether it was answered.

Every conditional write is a JSON patch, for the sake of the verb: the HTTP library repeats GET, PUT and DELETE by
itself when a connection drops before the answer (aiohttp 3.14 does, with no switch to turn it off; seen), but never
PATCH or POST. A repeated conditional PUT ends in a conflict with itself, which would read as "nothing was written".
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.config import ConfigException
from pydantic_core import from_json

if TYPE_CHECKING:
    from inference_operator.kube.access import Access

JsonObject = dict[str, Any]

REQUEST_SECONDS: Final = 10.0
"""The longest that one request may take as a whole, unless told otherwise."""

CHUNK: Final = 200
"""Objects per answer of a list: small enough to decode without holding up everything else."""

AT_ONCE: Final = 32
"""Requests to one group of resources at the same time. Each needs a connection, which costs a handshake and about
300 KiB. Where one group's answers hang, another's requests still go through: the Lease is in a group of its own."""

LONGEST_SILENCE: Final = 60.0
"""Seconds; the API server never asks for more."""

_MESSAGE_LENGTH: Final = 500

_HEADERS: Final[Mapping[str, Mapping[str, str]]] = {
    "PATCH": {"Content-Type": "application/json-patch+json"},
    "POST": {"Content-Type": "application/json"},
}


class Unanswered(Exception):  # noqa: N818 - an outcome, not a fault
    """No readable answer came: the request may have been carried out."""


class Refused(Exception):  # noqa: N818 - an outcome, not a fault
    """The API server answered and did not do it.

    Attributes:
        status: HTTP status.
        message: The API server's own words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server answered {status}: {message}")
        self.status = status
        self.message = message


class Api:
    """The API server as it answers: plain JSON objects in and out.

    While it asks for silence (Retry-After), requests to the same group of its resources wait.
    """

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._clock = clock
        self._silent_until: dict[str, float] = {}
        self._places: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def get(
        self, path: str, *, query: Mapping[str, str] | None = None, timeout_seconds: float = REQUEST_SECONDS
    ) -> JsonObject:
        """Read one object or one list.

        Raises:
            Refused: Not answered with success.
            Unanswered: No answer.
        """
        return await self._send("GET", path, query=query, timeout_seconds=timeout_seconds)

    async def items(self, path: str, *, query: Mapping[str, str] | None = None) -> AsyncIterator[JsonObject]:
        """Read every object of a list as of one moment, in chunks.

        Raises:
            Refused: Not answered with success; 410 if the list took longer than the API server remembers.
            Unanswered: No answer.
        """
        position: dict[str, str] = {}
        while True:
            chunk = await self.get(path, query={**(query or {}), "limit": str(CHUNK), **position})
            for item in chunk["items"] or ():
                yield item
            token = chunk["metadata"].get("continue")
            if not token:
                return
            position = {"continue": token}

    async def create(self, path: str, body: JsonObject, *, timeout_seconds: float = REQUEST_SECONDS) -> JsonObject:
        """Create an object in a collection.

        Raises:
            Refused: Not created; 409 if one of that name exists.
            Unanswered: It may have been created.
        """
        return await self._send("POST", path, body=body, timeout_seconds=timeout_seconds)

    async def compare_and_swap(
        self, path: str, known: Mapping[str, Any], *, field: str, value: Any, timeout_seconds: float = REQUEST_SECONDS
    ) -> JsonObject:
        """Replace one top-level field whole, if the object is still the one and the version that is known.

        Args:
            path: The object, or its status subresource.
            known: `metadata` of the object; its `uid` and `resourceVersion` are compared.
            field: Name of the field.
            value: What it shall be; whatever it held before and `value` lacks is gone.
            timeout_seconds: The longest that the request may take.

        Returns:
            The object as stored.

        Raises:
            Refused: Nothing was written; 409 if the object is another or has changed.
            Unanswered: It may have been written.
        """
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": known["uid"]},
            # Not a test: only this makes a changed object a conflict instead of a malformed request.
            {"op": "replace", "path": "/metadata/resourceVersion", "value": known["resourceVersion"]},
            {"op": "add", "path": f"/{field}", "value": value},
        ]
        return await self._send("PATCH", path, body=patch, timeout_seconds=timeout_seconds)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        timeout_seconds: float = REQUEST_SECONDS,
    ) -> JsonObject:
        try:
            async with asyncio.timeout(timeout_seconds):  # a plugin that fetches the credential takes its time too
                await self._keep_silence(path, timeout_seconds)
                status, content = await self._exchange(method, path, query, body, timeout_seconds)
        except TimeoutError:
            raise Unanswered(f"the API server did not answer within {timeout_seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ConfigException) as error:
            raise Unanswered(f"the API server could not be reached: {error}") from None
        answer = _parsed(content)
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise _refusal(status, answer)
        if answer is None:
            raise Unanswered("the API server's answer could not be read")
        return answer

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Any, timeout_seconds: float
    ) -> tuple[int, bytes]:
        target = f"{path}?{urlencode(query, quote_via=quote)}" if query else path
        content = None if body is None else json.dumps(body).encode()
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        headers = _HEADERS.get(method, {})
        async with (
            self._places[_group(path)],
            self._access.request(method, target, headers=headers, data=content, timeout=timeout) as response,
        ):
            if silence := _seconds(response.headers.get("Retry-After")):
                self._silent_until[_group(path)] = self._clock() + silence
            return response.status, await response.read()

    async def _keep_silence(self, path: str, timeout_seconds: float) -> None:
        """Wait while the API server wants no request of this group.

        Raises:
            Refused: It does for longer than the request may take.
        """
        remaining = self._silent_until.get(_group(path), 0.0) - self._clock()
        if remaining > timeout_seconds:
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, f"it asked for {remaining:.0f} s of silence")
        await asyncio.sleep(max(0.0, remaining))


def _group(path: str) -> str:
    """Group and version: what the API server limits together, as far as a client can know."""
    _, root, *rest = path.split("/", 4)
    return "/".join([root, *rest[: 2 if root == "apis" else 1]])


def _seconds(retry_after: str | None) -> float:
    """The API server's Retry-After, always whole seconds; 0 where there is none."""
    return min(float(retry_after), LONGEST_SILENCE) if retry_after and retry_after.isdecimal() else 0.0


def path_of(*segments: str) -> str:
    """The path of these segments; none of them can lead out of its place."""
    if any(segment in {"", ".", ".."} for segment in segments):
        raise ValueError(f"not a path of the API: {segments}")
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def selector_of(fields: Sequence[tuple[str, str]]) -> str:
    """A field selector of equalities; the values may hold any characters."""
    return ",".join(f"{name}={_escaped(value)}" for name, value in fields)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _parsed(content: bytes) -> JsonObject | None:
    """The object of an answer; None where it is none, broken, or nested deeper than any kind of Kubernetes'."""
    try:
        answer = from_json(content, cache_strings="keys")  # it remembers those; among the values are Secrets'
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _refusal(status: int, answer: JsonObject | None) -> Refused:
    answer = answer or {}
    message = str(answer.get("message") or "no reason was given")[:_MESSAGE_LENGTH]
    if status == HTTPStatus.UNPROCESSABLE_ENTITY and not answer.get("details") and not message.startswith("admission "):
        # The answer to a failed test of a JSON patch; a schema or a policy names the object and its causes.
        return Refused(HTTPStatus.CONFLICT, "the object is not the one that was read")
    return Refused(status, message)
