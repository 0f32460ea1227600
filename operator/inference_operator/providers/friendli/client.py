"""Friendli's operations on one endpoint, one function each: documents in, documents out.

Paths and pages are those of Friendli's published `openapi.yaml`; the whole group is marked beta there.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import ValidationError

from inference_operator.core.model import History, Urgency, Version
from inference_operator.core.port import Page
from inference_operator.errors import Ambiguous, CapacityUnavailable, EndpointError, Unavailable
from inference_operator.providers.friendli.translate import NAME, snapshot
from inference_operator.providers.friendli.wire import Spec, Status, StatusPage, VersionPage, WireModel
from inference_operator.providers.transport import segment

if TYPE_CHECKING:
    from collections.abc import Container

    from inference_operator.core.model import Json
    from inference_operator.providers.transport import Channel

ENDPOINTS: Final = "/dedicated/beta/endpoint"

PAGE_SIZE: Final = 100
"""Versions, or statuses, of one page; the API allows 1 to 100."""

MAX_PAGES: Final = 200
"""Pages after which a history is taken for endless."""

Document = TypeVar("Document", bound=WireModel)


def refine(status: int, document: Any) -> EndpointError | None:  # noqa: ARG001 - Friendli's error bodies name no reasons
    """What a refusal means at Friendli beside the general table: only 402, which HTTP reserves for the balance."""
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return CapacityUnavailable(f"{NAME}: HTTP 402. The account's balance or plan does not allow this.")
    return None


@dataclass(frozen=True, slots=True)
class FriendliClient:
    """Reads and changes endpoints with one key. Raises only the errors of `errors.py`."""

    channel: Channel

    async def get_spec(self, endpoint_id: str, urgency: Urgency = Urgency.ROLLOUT) -> Spec:
        """The configuration, with replica counts."""
        document = await self.channel.read("get_spec", _path(endpoint_id), urgency=urgency)
        return _clean("get_spec", Spec, document)

    async def get_status(self, endpoint_id: str, urgency: Urgency = Urgency.ROLLOUT) -> Status:
        """What the endpoint does."""
        document = await self.channel.read("get_status", _path(endpoint_id, "status"), urgency=urgency)
        return _clean("get_status", Status, document)

    async def get_statuses(self, cursor: str | None, wanted: Container[str]) -> Page:
        """What the endpoints of the whole team do, a page of them at a time.

        An entry that cannot be read equals no status.
        """
        params = {"limit": str(PAGE_SIZE)} | ({"cursor": cursor} if cursor else {})
        document = await self.channel.read("get_statuses", ENDPOINTS, params=params, urgency=Urgency.ROUTINE)
        page = _clean("get_statuses", StatusPage, document)
        entries = {each: _read(Status, status) for each, status in page.data.items() if each in wanted}
        return Page(entries, page.next_cursor or None)

    async def get_history(self, endpoint_id: str, base: int | None, urgency: Urgency = Urgency.ROLLOUT) -> History:
        """The version history: the numeric maximum of all pages, bodies only from the base on.

        Args:
            endpoint_id: The endpoint.
            base: The lowest version whose body is wanted; None: only that of the newest.
            urgency: Which other calls these go before.

        Raises:
            Unavailable: A page failed, came again or was none; a part of a history proves nothing.
        """
        bodies: dict[int, Any] = {}
        newest, cursor, cursors = -1, None, set[str]()
        while True:
            page = await self._get_page(endpoint_id, cursor, urgency)
            found = {int(number): body for number, body in page.data.items()}
            newest = max(newest, *found, -1)
            bodies |= {number: body for number, body in found.items() if number >= (newest if base is None else base)}
            cursor = page.next_cursor
            if not cursor:
                break
            if cursor in cursors or len(cursors) >= MAX_PAGES:
                raise Unavailable(f"{NAME} get_history: the pages do not end.")
            cursors.add(cursor)
        wanted = sorted(number for number in bodies if base is not None or number == newest)
        return History(newest, tuple(_version(number, bodies[number]) for number in wanted))

    async def _get_page(self, endpoint_id: str, cursor: str | None, urgency: Urgency) -> VersionPage:
        params = {"limit": str(PAGE_SIZE)} | ({"cursor": cursor} if cursor else {})
        path = _path(endpoint_id, "version")
        document = await self.channel.read("get_history", path, params=params, urgency=urgency)
        return _clean("get_history", VersionPage, document)

    async def update(self, endpoint_id: str, body: Json) -> Spec:
        """Change the configuration, which makes a version; returns it as acknowledged.

        Raises:
            Ambiguous: The change may have arrived; an answer that is no configuration is no acknowledgement.
        """
        document = await self.channel.write("update", "PUT", _path(endpoint_id), body=body)
        acknowledged = _read(Spec, document)
        if isinstance(acknowledged, str):
            raise Ambiguous(f"{NAME} update: {acknowledged}. The change may have arrived.")
        return acknowledged


def _path(endpoint_id: str, *parts: str) -> str:
    return "/".join((ENDPOINTS, segment(endpoint_id), *parts))


def _version(number: int, body: Any) -> Version:
    return Version(number, snapshot(_clean("get_history", Spec, body)))


def _clean(operation: str, model: type[Document], document: Any) -> Document:
    read = _read(model, document)
    if isinstance(read, str):
        raise Unavailable(f"{NAME} {operation}: {read}.")
    return read


def _read(model: type[Document], document: Any) -> Document | str:
    """The document, or a clause that says what is wrong with it, without any of its values."""
    try:
        return model.model_validate(document)
    except ValidationError as invalid:
        fields = sorted({str(error["loc"][0]) for error in invalid.errors(include_input=False) if error["loc"]})
    listed = ", ".join(field for field in fields if field.isidentifier()) or "its form"
    return f"the answer is not a {model.__name__} as documented (wrong: {listed})"
