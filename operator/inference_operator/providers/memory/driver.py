"""The reference for the contract: a whole provider without a network, as small as one can be.

Its endpoints have one field that reads show, one that they do not, and replicas; every update makes a
version, as the most demanding provider does.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from inference_operator.api.base import ApiModel
from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.model import (
    REPLICAS,
    Credentials,
    Desired,
    EndpointRef,
    Field,
    FieldPath,
    History,
    Json,
    Look,
    Observed,
    Replicas,
    SecretValues,
    Snapshot,
    State,
    Version,
)
from inference_operator.core.port import Capabilities, Page, Rule
from inference_operator.errors import InvalidSpec
from inference_operator.providers.memory.account import MemoryAccount, Reading
from inference_operator.providers.memory.options import RULES, MemoryOptions

NAME = "memory"
MODEL: FieldPath = "memory.model"
MIN_REPLICAS: FieldPath = "scaling.minReplicas"
MAX_REPLICAS: FieldPath = "scaling.maxReplicas"


@dataclass(frozen=True, slots=True)
class MemoryConnection:
    """Speaks to one account; the key plays no part."""

    account: MemoryAccount

    async def reserve(self) -> None:
        """Nothing limits calls within a process."""

    async def observe(self, ref: EndpointRef, look: Look) -> Observed:
        """Read the endpoint.

        Raises:
            NotFound: There is no such endpoint.
            EndpointError: The fault that is set for this call.
        """
        reading = self.account.observe(ref.endpoint_id)
        if look.listed is not None:
            _, word, failure, rolling = look.listed
            reading = replace(reading, word=word, failure=failure, rolling=rolling)
        seen = _observed(reading, look)
        return replace(seen, listed=look.listed or _listed(reading)) if self.account.lists else seen

    async def page(self, cursor: str | None, wanted: Container[str]) -> Page:
        """Read a page of the list.

        Raises:
            EndpointError: The fault that is set for this call.
        """
        readings, following = self.account.page(int(cursor or 0))
        entries = {each: _listed(reading) for each, reading in readings.items() if each in wanted}
        return Page(entries, None if following is None else str(following))

    async def update(self, ref: EndpointRef, body: Json) -> None:
        """Make a version.

        Raises:
            NotFound: There is no such endpoint.
            EndpointError: The fault that is set for this call.
        """
        self.account.update(ref.endpoint_id, body["values"], body["comment"])


@dataclass(frozen=True, slots=True)
class MemoryDriver:
    """A provider whose whole state is `account`."""

    account: MemoryAccount = field(default_factory=MemoryAccount)

    name: str = NAME
    options: type[ApiModel] = MemoryOptions
    rules: Sequence[Rule] = RULES
    capabilities: Capabilities = field(default=Capabilities(history=True))
    origin: str = "https://memory.invalid"

    def desired(self, spec: InferenceEndpointSpec, options: ApiModel, secrets: SecretValues) -> Desired:  # noqa: ARG002 - no field of this provider comes from a Secret
        """What the spec declares, by path.

        Raises:
            InvalidSpec: It names no endpoint, or a GPU.
        """
        if spec.endpoint_id is None:
            raise InvalidSpec("spec.endpointId is missing; write the id of an endpoint")
        if spec.gpu is not None:
            raise InvalidSpec("gpu cannot be set on memory; remove it")
        blocks = {"scaling": spec.scaling, NAME: options}
        fields = {
            f"{block}.{name}": Field(value, readable=f"{block}.{name}" != MODEL)
            for block, model in blocks.items()
            if model is not None
            for name, value in model.model_dump(by_alias=True, exclude_none=True).items()
        }
        return Desired(ref=EndpointRef(NAME, spec.endpoint_id), fields=fields)

    def secret_names(self, options: ApiModel) -> frozenset[str]:  # noqa: ARG002 - see desired
        """No field comes from a Secret."""
        return frozenset()

    def agrees(self, path: FieldPath, wanted: Json, seen: Json) -> bool:  # noqa: ARG002 - all fields compare alike
        """Values are equal or they are not."""
        return bool(wanted == seen)

    def confidential(self, path: FieldPath) -> bool:  # noqa: ARG002 - all fields are alike
        """Nothing here is a secret."""
        return False

    def render(self, desired: Desired, observed: Observed, comment: str) -> Json:  # noqa: ARG002 - an update is partial
        """What the spec declares; a fixed replica count is sent as equal bounds."""
        values = {path: declared.value for path, declared in desired.fields.items()}
        if REPLICAS in values:
            values[MIN_REPLICAS] = values[MAX_REPLICAS] = values.pop(REPLICAS)
        return {"values": values, "comment": comment}

    def connect(
        self,
        transport: Any,  # noqa: ARG002 - there is no network
        *,
        origin: str,  # noqa: ARG002 - as above
        credentials: Credentials,  # noqa: ARG002 - any key opens the account
        team: str | None,  # noqa: ARG002 - there are no teams
    ) -> MemoryConnection:
        """A connection to the account."""
        return MemoryConnection(self.account)


def _snapshot(values: Mapping[FieldPath, Json]) -> Snapshot:
    shown = {path: value for path, value in values.items() if path != MODEL}
    least, most = values.get(MIN_REPLICAS), values.get(MAX_REPLICAS)
    return Snapshot(shown | ({REPLICAS: least} if least == most and least is not None else {}))


def _history(reading: Reading, base: int | None) -> History:
    newest = len(reading.versions) - 1
    first = newest if base is None else min(base, newest)
    entries = (Version(number, _snapshot(reading.versions[number])) for number in range(max(0, first), newest + 1))
    return History(newest, tuple(entries))


def _observed(reading: Reading, look: Look) -> Observed:
    live = reading.versions[-1]
    least, most = live.get(MIN_REPLICAS, 1), live.get(MAX_REPLICAS, 1)
    state = State.UPDATING if reading.rolling else _state(reading.word)
    count = 0 if state in {State.SLEEPING, State.STOPPED} else least
    return Observed(
        live=_snapshot(live),
        state=State.FAILED if reading.failure else state,
        provider_state=reading.word,
        minimum=least,
        failure=reading.failure,
        replicas=Replicas(count, least if least == most else None, 0 if reading.rolling else count),
        history=_history(reading, look.base) if look.history else None,
    )


def _listed(reading: Reading) -> tuple[object, ...]:
    """What the list shows of an endpoint: which version it holds, but none of its values."""
    return len(reading.versions), reading.word, reading.failure, reading.rolling


def _state(word: str) -> State:
    return next((state for state in State if state == word), State.UNKNOWN)


DRIVER = MemoryDriver()
