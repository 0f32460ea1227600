"""Secrets of the resources' own namespaces, read by name, and kept no longer than they are known to be unchanged.

The watch brings their metadata only (see `watching`), so that no Secret that nothing refers to is ever received.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from inference_operator.core.model import SecretData
from inference_operator.errors import Unavailable
from inference_operator.kube.api import Refused, Unanswered, path_of
from inference_operator.kube.resources import is_newer, secrets_path

if TYPE_CHECKING:
    from inference_operator.kube.api import Api
    from inference_operator.kube.store import SecretKey

NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""What the API server accepts as the name of a Secret; everything else names none, and never becomes a path."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of one Secret.

    Attributes:
        at: When that was learnt.
        version: The newest resourceVersion that an event or a read showed; None after a read that found no Secret.
        current: Whether `data` is what a read found and no event has called into question.
        data: What was read; None where there was no Secret.
    """

    at: float
    version: str | None
    current: bool = False
    data: SecretData | None = field(default=None, repr=False)


class Secrets:
    """Implements `core.port.SecretReader`; one instance for all resources."""

    def __init__(
        self,
        api: Api,
        *,
        keep_seconds: float,
        referenced: Callable[[SecretKey], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a reader.

        Args:
            api: The API server.
            keep_seconds: How old an answer may be that no event has called into question: clearly less than a poll
                without a watch; longer with one, where it only bounds what a missed event can do.
            referenced: Whether any resource refers to a Secret; others are not kept.
            clock: Steady, in seconds.
        """
        self._api = api
        self._keep_seconds = keep_seconds
        self._referenced = referenced
        self._clock = clock
        self._known: dict[SecretKey, _Known] = {}
        self._reads: dict[SecretKey, asyncio.Task[SecretData | None]] = {}

    async def read(self, namespace: str, name: str, *, fresh: bool = False) -> SecretData | None:
        """The Secret, or None where there is none; see `core.port.SecretReader`.

        Raises:
            Unavailable: The API server did not answer, or forbids it.
        """
        if not NAME.fullmatch(name):
            return None
        key = (namespace, name)
        if fresh:
            return await self._fetch(key)
        known = self._known.get(key)
        if known and known.current and self._clock() - known.at < self._keep_seconds:
            return known.data
        return await asyncio.shield(self._reads.get(key) or self._begin(key))

    def changed(self, key: SecretKey, version: str, *, listed: bool) -> bool:
        """Take in an event of the watch.

        Args:
            key: The Secret.
            version: Its resourceVersion; of a deletion, the deletion's.
            listed: The event only says that the Secret exists, not that anything happened to it.

        Returns:
            Whether those who refer to the Secret should look at it again.
        """
        if not self._referenced(key):
            self.forget(key)
            return False
        known = self._known.get(key)
        if known and known.version is not None and not is_newer(version, known.version):
            return False
        self._known[key] = _Known(self._clock(), version)
        self._reads.pop(key, None)  # it may have looked before the change: nobody else may join it
        return known is not None or not listed

    def forget(self, key: SecretKey) -> None:
        """Drop what is known of a Secret that nothing refers to any more."""
        self._known.pop(key, None)

    def _begin(self, key: SecretKey) -> asyncio.Task[SecretData | None]:
        """Begin a read that everybody who needs the Secret until it is over will share."""
        task = self._reads[key] = asyncio.create_task(self._fetch(key), name="read a Secret")
        task.add_done_callback(lambda _: self._end(key, task))
        return task

    def _end(self, key: SecretKey, task: asyncio.Task[SecretData | None]) -> None:
        if self._reads.get(key) is task:
            del self._reads[key]
        if not task.cancelled():
            task.exception()  # seen by whoever still waits, and nobody else has to hear of it

    async def _fetch(self, key: SecretKey) -> SecretData | None:
        began = self._clock()
        data = await self._get(key)
        known = self._known.get(key)
        if self._referenced(key) and (known is None or known.at < began or _is_up_to_date(data, known)):
            self._known[key] = _Known(began, data.resource_version if data else None, current=True, data=data)
        return data

    async def _get(self, key: SecretKey) -> SecretData | None:
        namespace, name = key
        try:
            document = await self._api.get(secrets_path(namespace) + path_of(name))
        except Unanswered as error:
            raise Unavailable(f"Secret {name!r} could not be read: {error}") from None
        except Refused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            hint = "; the operator lacks the right to get Secrets here" if error.status == HTTPStatus.FORBIDDEN else ""
            raise Unavailable(f"Secret {name!r} could not be read: {error}{hint}") from None
        return SecretData(document["metadata"]["resourceVersion"], _decoded(document))


def _decoded(document: Mapping[str, Any]) -> dict[str, bytes]:
    try:
        return {name: base64.b64decode(value) for name, value in (document.get("data") or {}).items()}
    except (binascii.Error, ValueError):
        raise Unavailable("a Secret could not be decoded") from None


def _is_up_to_date(data: SecretData | None, known: _Known) -> bool:
    """Whether an answer holds what was learnt while it was under way."""
    return data is not None and (known.version is None or not is_newer(known.version, data.resource_version))
