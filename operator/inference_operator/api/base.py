"""The base of every model that is part of the custom resource."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from pydantic.config import JsonDict

LIST_TYPE = "x-kubernetes-list-type"
LIST_MAP_KEYS = "x-kubernetes-list-map-keys"


def keyed_by(field: str) -> JsonDict:
    """Schema extras of a list whose items are told apart by one field, which no two of them may share.

    Server-side apply merges such a list item by item; any other list belongs to one manager as a whole.
    """
    return {LIST_TYPE: "map", LIST_MAP_KEYS: [field]}


class ApiModel(BaseModel):
    """A frozen model with camelCase names on the wire whose field docstrings become descriptions.

    Unknown fields are ignored: the API server has pruned or refused them already, and an older operator
    must be able to read what a newer one has written.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    notes: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Of a provider's block: what the fields outside it are to that provider, path in the spec to a few words."""
