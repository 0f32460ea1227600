"""Friendli's documents as they read: tolerant of spelling and of what is new, strict about what decisions rest on.

Sources: the embedded OpenAPI of the page "Dedicated Update Endpoint" for `Spec` (`DedicatedEndpointSpec`), and
Friendli's published `openapi.yaml` for `Status` and the page of versions. Numbers and flags may come as text,
unknown fields are ignored, and a missing required field makes the whole document unusable.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from inference_operator.api.spec import INT32_MAX

MAX_CURSOR = 4096
"""Characters of a cursor; it travels in a URL."""

MAX_TIME = 64
"""Characters of a time."""

WORD = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)

UNKNOWN = "UNKNOWN"

Number = Annotated[int, Field(ge=-INT32_MAX, le=INT32_MAX)]
"""An integer, or the text of one."""


def _word(shown: Any) -> Any:
    """The word of an enumeration, however new; what is not even a word is unknown."""
    if shown is None or (isinstance(shown, str) and WORD.fullmatch(shown)):
        return shown
    return UNKNOWN


Word = Annotated[str, BeforeValidator(_word)]


class WireModel(BaseModel):
    """A frozen document with camelCase names whose validation errors hold no values."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore", hide_input_in_errors=True)


class Spec(WireModel):
    """`DedicatedEndpointSpec`: the configuration of an endpoint, or of one of its versions."""

    name: str
    gpu_type: str
    num_gpu: Number
    instance_id: str | None = None
    project_id: str
    creator_id: str
    team_id: str
    autoscaling_min: Number
    autoscaling_max: Number
    autoscaling_cooldown: Number
    max_batch_size: Number
    max_input_length: Number | None = None
    tokenizer_skip_special_tokens: bool
    tokenizer_add_special_tokens: bool
    curr_replica_cnt: Number | None = None
    desired_replica_cnt: Number | None = None
    updated_replica_cnt: Number | None = None


def _text(shown: Any) -> str | None:
    return None if shown is None else str(shown)[:MAX_TIME]


class Status(WireModel):
    """What an endpoint does.

    Nothing rests on a provider's clock: `updated_at` only tells that something was changed, by being another one.
    """

    status: Word
    phase: Word | None = None
    error_code: Word | None = None
    updated_at: Annotated[str | None, BeforeValidator(_text)] = None


class StatusPage(WireModel):
    """A page of the statuses of all endpoints, by id; each is read only where it is wanted."""

    data: dict[str, Any]
    next_cursor: Annotated[str, Field(max_length=MAX_CURSOR)] | None = None


class VersionPage(WireModel):
    """A page of the version history; the bodies are read only where one is wanted."""

    data: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Any]
    next_cursor: Annotated[str, Field(max_length=MAX_CURSOR)] | None = None
