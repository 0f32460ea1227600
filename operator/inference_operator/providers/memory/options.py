"""The `memory` block of the spec: the smallest one that has a readable and a write-only field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from inference_operator.api.base import ApiModel
from inference_operator.api.spec import Count

if TYPE_CHECKING:
    from inference_operator.core.port import Rule


class MemoryOptions(ApiModel):
    """Fields of an endpoint that lives in the memory of the process; for tests."""

    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Name of the endpoint."""

    model: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Id of the model. Cannot be read back."""

    size: Count | None = None
    """Any number; what an update changes."""


RULES: tuple[Rule, ...] = ()
