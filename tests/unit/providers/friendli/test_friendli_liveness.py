"""Every field of the spec reaches its documented place in the request, and nothing but that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, SecretStr

from friendli_cases import DOCUMENT, SCHEMAS, SPEC, desired, observed
from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.model import Credentials
from inference_operator.providers.friendli import DRIVER
from inference_operator.providers.friendli.options import FriendliOptions

PATH = "path"
TEAM = "header X-Friendli-Team"

LIVE: dict[str, tuple[Any, set[str]]] = {
    "endpointId": ("ep-2", {PATH}),
    "gpu.type": ("H200", {"instanceOptionId"}),
    "gpu.count": (4, {"instanceOptionId"}),
    "scaling.replicas": (3, {"simplescale.replicas"}),
    "scaling.minReplicas": (0, {"autoscalingPolicy.minReplica"}),
    "scaling.maxReplicas": (5, {"autoscalingPolicy.maxReplica"}),
    "scaling.cooldownSeconds": (60, {"autoscalingPolicy.cooldownPeriod"}),
    "versionComment": ("other", {"newVersionComment"}),
    "friendli.name": ("other", {"name"}),
    "friendli.teamId": ("team-2", {TEAM}),
    "friendli.hfModelRepo": ("meta-llama/Llama-3.1-70B-Instruct", {"hfModelRepo"}),
    "friendli.hfModelRepoRevision": ("1234567", {"hfModelRepoRevision"}),
    "friendli.instanceOptionId": ("brandNewGpu2", {"instanceOptionId"}),
    "friendli.advanced.tokenizerSkipSpecialTokens": (False, {"advanced.tokenizer_skip_special_tokens"}),
    "friendli.advanced.tokenizerAddSpecialTokens": (False, {"advanced.tokenizer_add_special_tokens"}),
    "friendli.advanced.maxBatchSize": (64, {"advanced.max_batch_size"}),
    "friendli.advanced.maxTokenCount": (4096, {"advanced.max_token_count"}),
    "friendli.advanced.maxInputLength": (2048, {"advanced.max_input_length"}),
    "friendli.advanced.enableContentLogging": (True, {"advanced.enable_content_logging"}),
}
"""Leaf of the spec to another value for it and the places of the request that it stands in."""

SILENT: dict[str, Any] = {
    "credentialsSecretRef.name": "other",
    "credentialsSecretRef.key": "other",
    "managementPolicy": "Observe",
    "suspend": True,
    "driftPolicy": "Correct",
    "progressDeadlineSeconds": 60,
    "adoptionPolicy": "Match",
    "deletionPolicy": "Delete",
    "writeConnectionTo.configMapName": "other",
    "writeConnectionTo.keys.provider": "other",
    "writeConnectionTo.keys.endpointId": "other",
    "writeConnectionTo.keys.url": "other",
    "friendli.projectId": "prj-2",
}
"""Leaves that steer the operator, or the creation, and are no part of an update."""


@dataclass
class Wire:
    """Stands where transport and channel stand, and keeps what would be sent."""

    sent: dict[str, Any] = field(default_factory=dict)

    def channel(self, *, headers: Mapping[str, str], **_: Any) -> Wire:
        self.sent |= {f"header {name}": value for name, value in headers.items()}
        return self

    async def write(self, operation: str, method: str, path: str, *, body: Any) -> dict[str, Any]:
        assert (operation, method) == ("update", "PUT")
        self.sent |= {PATH: path, **flat(body)}
        return DOCUMENT


def request(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Everything of the request that a spec leads to, by place."""
    wire, wanted = Wire(), desired(raw)
    connection = DRIVER.connect(
        wire, origin=DRIVER.origin, credentials=Credentials(SecretStr("key")), team=wanted.ref.team
    )
    comment = InferenceEndpointSpec.model_validate(raw).version_comment or "default"
    asyncio.run(connection.update(wanted.ref, DRIVER.render(wanted, observed(), comment)))
    return wire.sent


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path.removeprefix("."): value}
    return {place: leaf for key, each in value.items() for place, leaf in flat(each, f"{path}.{key}").items()}


def base_for(leaf: str) -> dict[str, Any]:
    """The whole spec, in the variant that has the leaf."""
    raw = deepcopy(SPEC)
    if leaf == "scaling.replicas":
        raw["scaling"] = {"replicas": 2}
    if leaf == "friendli.instanceOptionId":
        del raw["gpu"]
        raw["friendli"]["instanceOptionId"] = "brandNewGpu1"
    return raw


def changed(raw: dict[str, Any], leaf: str, value: Any) -> dict[str, Any]:
    raw = deepcopy(raw)
    *path, last = leaf.split(".")
    node = raw
    for step in path:
        node = node[step]
    node[last] = value
    return raw


def moved(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Places whose value differs or that only one side has."""
    return {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}


def leaves_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        path = f"{prefix}{info.alias or name}"
        for kind in members(info.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from leaves_of(kind, f"{path}.")
            elif kind is not NoneType:
                yield path


def members(annotation: Any) -> list[Any]:
    """The members of a union, `Annotated` taken off."""
    if hasattr(annotation, "__metadata__"):
        return members(annotation.__origin__)
    if get_origin(annotation) is Literal or not get_args(annotation):
        return [annotation]
    return [member for part in get_args(annotation) for member in members(part)]


def schema_places(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    if "$ref" in schema:
        schema = SCHEMAS["$defs"][schema["$ref"].rpartition("/")[2]]
    nested = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"] or [schema]
    for each in nested:
        if "$ref" in each:
            yield from schema_places(each, path)
        elif "properties" in each:
            for name, inner in each["properties"].items():
                yield from schema_places(inner, f"{path}.{name}")
        else:
            yield path.removeprefix(".")


@pytest.mark.parametrize("leaf", LIVE)
def test_a_change_of_one_field_changes_its_places_and_nothing_else(leaf: str) -> None:
    value, places = LIVE[leaf]
    raw = base_for(leaf)
    assert moved(request(raw), request(changed(raw, leaf, value))) == places


@pytest.mark.parametrize("leaf", SILENT)
def test_a_field_that_is_no_part_of_an_update_is_not_sent(leaf: str) -> None:
    assert request(changed(SPEC, leaf, SILENT[leaf])) == request(SPEC)


def test_every_field_of_the_spec_is_in_the_tables() -> None:
    leaves = {*leaves_of(InferenceEndpointSpec), *leaves_of(FriendliOptions, "friendli.")} - {"provider"}
    assert leaves == LIVE.keys() | SILENT.keys()


def test_every_place_of_the_documented_request_is_reached() -> None:
    width = max(map(len, LIVE))
    for leaf, (_, places) in LIVE.items():
        print(f"{leaf:<{width}}  ->  {', '.join(sorted(places))}")
    reached = {place for _, places in LIVE.values() for place in places}
    body = set(schema_places(SCHEMAS["$defs"]["UpdateBody"]))
    assert len(body) == 15
    assert reached == body | {PATH, TEAM}
