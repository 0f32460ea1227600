"""Every field of the spec reaches its documented place in the update, and nothing but that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.errors import InvalidSpec
from inference_operator.providers.novita.options import NovitaOptions
from novita_cases import DOCUMENT, SCHEMAS, SPEC, render

NETWORK = [{"type": "network", "id": "disk-1", "mountPath": "/data"}]

LIVE: dict[str, tuple[Any, set[str]]] = {
    "endpointId": ("ep-2", {"id"}),
    "gpu.count": (2, {"workerConfig.gpuNum"}),
    "scaling.replicas": (3, {"workerConfig.minNum", "workerConfig.maxNum"}),
    "scaling.minReplicas": (0, {"workerConfig.minNum"}),
    "scaling.maxReplicas": (4, {"workerConfig.maxNum"}),
    "scaling.cooldownSeconds": (60, {"workerConfig.freeTimeout"}),
    "novita.name": ("other", {"name"}),
    "novita.clusterID": ("cluster-2", {"clusterID"}),
    "novita.workerConfig.maxConcurrent": (8, {"workerConfig.maxConcurrent"}),
    "novita.workerConfig.requestTimeout": (60, {"workerConfig.requestTimeout"}),
    "novita.port": (9000, {"ports[].port"}),
    "novita.policy.type": ("concurrency", {"policy.type"}),
    "novita.policy.value": (10, {"policy.value"}),
    "novita.image.image": ("registry.example.test/sdxl:2", {"image.image"}),
    "novita.image.authId": ("8", {"image.authId"}),
    "novita.image.command": ("", {"image.command"}),
    "novita.volumeMounts[].type": ("network", {"volumeMounts[].type", "volumeMounts[].size"}),
    "novita.volumeMounts[].size": (40, {"volumeMounts[].size"}),
    "novita.volumeMounts[].id": ("disk-2", {"volumeMounts[].id"}),
    "novita.volumeMounts[].mountPath": ("/models", {"volumeMounts[].mountPath"}),
    "novita.envs[].name": ("NODE", {"envs[].key"}),
    "novita.envs[].value": ("slow", {"envs[].value"}),
    "novita.envs[].valueFrom.secretKeyRef.name": ("wb", {"envs[].value"}),
    "novita.envs[].valueFrom.secretKeyRef.key": ("other", {"envs[].value"}),
    "novita.healthy.path": ("/ready", {"healthy.path"}),
}
"""Leaf of the spec to another value for it and the places of the request that it stands in."""

SILENT: dict[str, Any] = {
    "credentialsSecretRef.name": "other",
    "credentialsSecretRef.key": "other",
    "versionComment": "other",
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
}
"""Leaves that steer the operator and are nothing to Novita."""

REFUSED: dict[str, Any] = {"gpu.type": "H100"}


def base_for(leaf: str) -> dict[str, Any]:
    """The whole spec, in the variant that has the leaf."""
    spec = deepcopy(SPEC)
    if leaf == "scaling.replicas":
        spec["scaling"] = {"replicas": 2}
    if leaf == "novita.volumeMounts[].id":
        spec["novita"]["volumeMounts"] = deepcopy(NETWORK)
    return spec


def changed(spec: dict[str, Any], leaf: str, value: Any) -> dict[str, Any]:
    """The spec with one leaf changed; of a list, in the first item that has it."""
    spec = deepcopy(spec)
    *path, last = leaf.split(".")
    node: Any = spec
    for step, following in pairwise([*path, last]):
        if step.endswith("[]"):
            node = next(item for item in node[step.removesuffix("[]")] if following in item)
        else:
            node = node.setdefault(step, {})
    node[last] = value
    return spec


def leaves_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        kinds = [kind for kind in members(field.annotation) if kind is not NoneType]
        for kind in kinds:
            if get_origin(kind) is list:
                (item,) = get_args(kind)
                yield from leaves_of(item, f"{path}[].")
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from leaves_of(kind, f"{path}.")
            else:
                yield path


def members(annotation: Any) -> list[Any]:
    """The members of a union, `Annotated` taken off; one name for all values of a Literal."""
    if get_origin(annotation) is Literal:
        return [annotation]
    if hasattr(annotation, "__metadata__"):
        return members(annotation.__origin__)
    if get_origin(annotation) is list:
        return [annotation]
    parts = get_args(annotation)
    return [member for part in parts for member in members(part)] if parts else [annotation]


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {place: leaf for key, each in value.items() for place, leaf in flat(each, f"{path}.{key}").items()}
    if isinstance(value, list):
        return {place: leaf for at, each in enumerate(value) for place, leaf in flat(each, f"{path}[{at}]").items()}
    return {path.removeprefix("."): value}


def moved(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Places whose value differs or that only one side has, list positions left out."""
    one, other = flat(before), flat(after)
    places = {place for place in one.keys() | other.keys() if one.get(place) != other.get(place)}
    return {re.sub(r"\[\d+\]", "[]", place) for place in places}


def schema_places(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    if "properties" in schema:
        for name, each in schema["properties"].items():
            yield from schema_places(each, f"{path}.{name}")
    elif "items" in schema:
        yield from schema_places(schema["items"], f"{path}[]")
    else:
        yield path.removeprefix(".")


@pytest.mark.parametrize("leaf", LIVE)
def test_a_change_of_one_field_changes_its_places_and_nothing_else(leaf: str) -> None:
    value, places = LIVE[leaf]
    spec = base_for(leaf)
    assert moved(render(spec), render(changed(spec, leaf, value))) == places


@pytest.mark.parametrize("leaf", SILENT)
def test_a_field_for_the_operator_is_not_sent(leaf: str) -> None:
    assert render(changed(SPEC, leaf, SILENT[leaf])) == render(SPEC)


@pytest.mark.parametrize("leaf", REFUSED)
def test_a_field_without_a_place_is_refused(leaf: str) -> None:
    with pytest.raises(InvalidSpec, match=leaf):
        render(changed(SPEC, leaf, REFUSED[leaf]))


def test_every_field_of_the_spec_is_in_the_tables() -> None:
    leaves = {*leaves_of(InferenceEndpointSpec), *leaves_of(NovitaOptions, "novita.")} - {"provider"}
    assert leaves == LIVE.keys() | SILENT.keys() | REFUSED.keys()


def test_every_place_of_the_documented_request_is_reached() -> None:
    width = max(map(len, LIVE))
    for leaf, (_, places) in LIVE.items():
        print(f"{leaf:<{width}}  ->  {', '.join(sorted(places))}")
    reached = {place for _, places in LIVE.values() for place in places}
    assert reached == set(schema_places(SCHEMAS["UpdateBody"]))


def test_the_whole_spec_over_the_endpoint_that_it_describes_changes_nothing() -> None:
    assert moved(render(SPEC), render({**SPEC, "scaling": {}, "gpu": {}, "novita": {}}, DOCUMENT)) == set()
