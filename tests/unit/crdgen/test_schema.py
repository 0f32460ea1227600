"""The translator takes what a structural schema can hold, word for word, and refuses the rest by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import ConfigDict, Field

from inference_operator.api.base import ApiModel, keyed_by
from inference_operator.crdgen.schema import UnsupportedSchemaError, structural


class Item(ApiModel):
    """An item."""

    item_name: Annotated[str, Field(max_length=8)]
    """What it is called."""


class Everything(ApiModel):
    """All that is allowed."""

    required_text: Annotated[str, Field(min_length=1, max_length=9, pattern="^a")]
    """A text
    over two lines."""

    number: Annotated[int, Field(ge=0, le=9)] | None = None
    choice: Literal["a", "b"] | None = None
    constant: Literal["x"] | None = None
    with_default: int = 7
    keyed: Annotated[list[Item], Field(max_length=2, json_schema_extra=keyed_by("itemName"))] | None = None
    atomic: Annotated[list[str], Field(max_length=3)] = Field(default_factory=list)
    item: Item | None = None
    """A described item."""

    texts: dict[str, str] | None = None
    values: dict[str, Any] | None = None
    anything: Any = None


ITEM = {
    "type": "object",
    "required": ["itemName"],
    "properties": {"itemName": {"description": "What it is called.", "type": "string", "maxLength": 8}},
}
ANY = {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}


def test_everything_that_is_allowed_comes_out_as_the_api_server_wants_it() -> None:
    assert structural(Everything) == {
        "description": "All that is allowed.",
        "type": "object",
        "required": ["requiredText"],
        "properties": {
            "requiredText": {
                "description": "A text over two lines.",
                "type": "string",
                "pattern": "^a",
                "minLength": 1,
                "maxLength": 9,
            },
            "number": {"type": "integer", "minimum": 0, "maximum": 9},
            "choice": {"type": "string", "enum": ["a", "b"]},
            "constant": {"type": "string", "enum": ["x"]},
            "withDefault": {"type": "integer"},
            "keyed": {
                "type": "array",
                "maxItems": 2,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["itemName"],
                "items": {"description": "An item.", **ITEM},
            },
            "atomic": {
                "type": "array",
                "maxItems": 3,
                "x-kubernetes-list-type": "atomic",
                "items": {"type": "string"},
            },
            "item": {"description": "A described item.", **ITEM},
            "texts": {"type": "object", "additionalProperties": {"type": "string"}},
            "values": {"type": "object", "additionalProperties": ANY},
            "anything": ANY,
        },
    }


def test_what_is_inlined_twice_is_not_shared() -> None:
    class Twice(ApiModel):
        first: Item
        second: Item

    properties = structural(Twice)["properties"]
    properties["first"]["properties"]["itemName"]["maxLength"] = 1
    assert properties["second"]["properties"]["itemName"]["maxLength"] == 8


class Exclusive(ApiModel):
    bad: Annotated[int, Field(gt=0)]


class Multiple(ApiModel):
    bad: Annotated[int, Field(multiple_of=2)]


class Pair(ApiModel):
    bad: tuple[int, str]


class Unique(ApiModel):
    bad: set[str]


class Union(ApiModel):
    bad: int | str


class UnionOrNone(ApiModel):
    bad: int | str | None = None


class One(ApiModel):
    kind: Literal["one"]


class Two(ApiModel):
    kind: Literal["two"]


class Discriminated(ApiModel):
    bad: Annotated[One | Two, Field(discriminator="kind")]


class Allowing(ApiModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Open(ApiModel):
    bad: Allowing


class Forbidding(ApiModel):
    model_config = ConfigDict(extra="forbid")
    name: str


class Closed(ApiModel):
    bad: Forbidding


class Recursive(ApiModel):
    bad: Recursive | None = None


class Formatted(ApiModel):
    bad: Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Mixed(ApiModel):
    bad: Literal["a", 1]


class Nothing(ApiModel):
    bad: None


class Inner(ApiModel):
    values: dict[str, Annotated[list[Pair], Field(max_length=1)]]


class Deep(ApiModel):
    inner: Inner


@pytest.mark.parametrize(
    ("model", "path", "problem"),
    [
        (
            Exclusive,
            "Exclusive.bad",
            "exclusiveMinimum is not allowed in a structural schema; give the inclusive bound",
        ),
        (Multiple, "Multiple.bad", "multipleOf is not allowed"),
        (Pair, "Pair.bad", "use a list instead of a tuple"),
        (Unique, "Unique.bad", "use a list with keyed_by instead of a set"),
        (Union, "Union.bad", "a union of types is not allowed"),
        (UnionOrNone, "UnionOrNone.bad", "a union of types is not allowed"),
        (Discriminated, "Discriminated.bad", "is not allowed"),
        (Open, "Open.bad", "additionalProperties beside properties"),
        (Closed, "Closed.bad", "additionalProperties beside properties"),
        (Recursive, "Recursive.bad", "Recursive contains itself"),
        (Formatted, "Formatted.bad", "format is not allowed"),
        (Mixed, "Mixed.bad", "an enum of several types"),
        (Nothing, "Nothing.bad", "type null is not allowed"),
        (Deep, "Deep.inner.values{}[].bad", "tuple"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_cannot_be_held_is_refused_by_name(model: type[ApiModel], path: str, problem: str) -> None:
    with pytest.raises(UnsupportedSchemaError) as caught:
        structural(model)
    assert caught.value.path == path
    assert problem in str(caught.value)
