"""Novita's documents as they read: tolerant of what the provider varies, strict where a guess could cost money.

Sources are the provider's reference pages for get, list and parameter limits. Three habits of that API are
met here and nowhere else:

* A number comes as an integer in one place and as text in another, and changes between the two.
* Absent, null and, for texts, empty mean the same; null is dropped on reading and so is never sent back.
* Reads show more than an update takes. Fields marked `exclude` are known to be shown only; a field that no
  model names is kept, because an update that leaves it out may reset it.

`Endpoint.sendable()` is therefore the body of an update that changes nothing.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic.alias_generators import to_camel

MAX_DEPTH = 32
"""Nesting that is read; the documented documents have four levels."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


def _number(shown: Any) -> int:
    if isinstance(shown, str) and _INTEGER.fullmatch(shown.strip()):
        return int(shown)
    if isinstance(shown, int) and not isinstance(shown, bool):
        return shown
    raise ValueError("neither an integer nor the text of one")


def _flag(shown: Any) -> bool:
    return shown is True or shown == "true"


Number = Annotated[int, BeforeValidator(_number)]
"""An integer, or the text of one."""

Flag = Annotated[bool, BeforeValidator(_flag)]
"""True or the text of it; anything else is false."""

PortNumber = Annotated[Number, PlainSerializer(str, return_type=str)]
"""A port: reads show an integer or a text, updates take a text."""

Shown = Annotated[Any, Field(default=None, exclude=True)]
"""A field that reads show, updates do not take, and nothing here needs."""


class WireModel(BaseModel):
    """A frozen document that keeps the fields it does not know, and shows none of its values in a repr."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        frozen=True,
        extra="allow",
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
    )

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Nothing: environment variables may be secrets."""
        return []


class Status(WireModel):
    """The state of an endpoint or a worker; `error` and `message` are set when something is wrong."""

    state: str = ""
    error: str = ""
    message: str = ""


class Worker(WireModel):
    """One worker. Removed ones stay listed for a while; `drain` is in no reference page, but has been seen."""

    state: Status = Status()
    healthy: Flag = False
    drain: Flag = False


class WorkerConfig(WireModel):
    """Settings of the workers; older servers do not show `requestTimeout` (seconds)."""

    min_num: Number
    max_num: Number
    free_timeout: Number
    max_concurrent: Number
    gpu_num: Number
    request_timeout: Number | None = None
    cuda_version: Shown


class Port(WireModel):
    """An HTTP port of the container."""

    port: PortNumber


class Policy(WireModel):
    """When workers are added; the type is the unit of the value."""

    type: str
    value: Number


class Image(WireModel):
    """The container image."""

    image: str
    auth_id: str | None = None
    command: str | None = None


class VolumeMount(WireModel):
    """A volume; `size` (GB) means something for a local one only, `id` for a network one only."""

    type: str
    size: Number | None = None
    id: str | None = None
    mount_path: str


class EnvVar(WireModel):
    """An environment variable, its value in clear."""

    key: str
    value: str = ""


class Healthy(WireModel):
    """The health check; its timing is shown and cannot be set."""

    path: str = ""
    initial_delay: Shown
    period: Shown
    timeout: Shown
    success_threshold: Shown
    failure_threshold: Shown


class Product(WireModel):
    """The GPU product that the endpoint was created with."""

    id: str


class Endpoint(WireModel):
    """One endpoint, as get and list show it.

    What an update requires and every revision of the reference pages shows is required here too: a document
    without it is not a clean read.
    """

    id: str
    name: str | None = None
    cluster_id: Annotated[str | None, Field(alias="clusterID")] = None
    worker_config: WorkerConfig
    ports: tuple[Port, ...]
    policy: Policy
    image: Image
    volume_mounts: tuple[VolumeMount, ...] | None = None
    envs: tuple[EnvVar, ...] | None = None
    healthy: Healthy | None = None

    state: Annotated[Status, Field(exclude=True)]
    workers: Annotated[tuple[Worker, ...], Field(exclude=True)] = ()
    products: Annotated[tuple[Product, ...], Field(exclude=True)] = ()
    app_name: Shown
    url: Shown
    rootfs_size: Shown
    log: Shown

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, document: Any) -> Any:
        return without_nulls(document)

    def sendable(self) -> dict[str, Any]:
        """What an update may carry of this document, in the types that updates take; holds no null.

        A health check without a path is none: an update that carries one must name its path.
        """
        body = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        if self.healthy is not None and not self.healthy.path:
            del body["healthy"]
        return body


class EndpointAnswer(WireModel):
    """The answer of get."""

    endpoint: Endpoint


class EndpointPage(WireModel):
    """A page of the answer of list; each endpoint is read only where it is wanted."""

    endpoints: tuple[dict[str, Any], ...] = ()
    total: Number = 0

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, document: Any) -> Any:
        """An empty list may come as null."""
        return {key: value for key, value in document.items() if value is not None}


def without_nulls(document: Any, depth: int = 0) -> Any:
    """The document without its nulls, at every level.

    Raises:
        ValueError: It is nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(document, dict):
        return {key: without_nulls(value, depth + 1) for key, value in document.items() if value is not None}
    if isinstance(document, list):
        return [without_nulls(item, depth + 1) for item in document if item is not None]
    return document


def read_limits(document: dict[str, Any]) -> dict[str, int]:
    """The numbers of the parameter limits by name (`minWorkerNum`, `maxWorkerNum`, …); the rest is left out."""
    limits = {}
    for name, shown in document.items():
        try:
            limits[name] = _number(shown)
        except ValueError:
            continue
    return limits
