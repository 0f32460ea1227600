"""Where each field of the spec stands in Novita's documents: the one table that reading and writing share.

What is asked for, what is read back, what is sent and which limits hold all follow from it, so that a field
cannot be sent to one place and read from another. The two lists, `envs` and `volumeMounts`, are not in it:
their items have names instead of places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from inference_operator.core.model import REPLICAS, FieldPath, Json

Keys = tuple[str | int, ...]
"""The way to a value in a document."""

ENVS: FieldPath = "novita.envs"
VOLUME_MOUNTS: FieldPath = "novita.volumeMounts"
GPU: FieldPath = "gpu"
IMAGE: FieldPath = "novita.image.image"
REQUEST_TIMEOUT: FieldPath = "novita.workerConfig.requestTimeout"
POLICY_VALUE: FieldPath = "novita.policy.value"


def _unchanged(value: Json) -> Json:
    return value


@dataclass(frozen=True, slots=True)
class Place:
    """Where one field of the spec stands in a document.

    Attributes:
        keys: One way, or several that carry the same value.
        to_wire: From the canonical value to what an update takes.
        from_wire: The way back.
    """

    keys: tuple[Keys, ...]
    to_wire: Callable[[Json], Json] = _unchanged
    from_wire: Callable[[Json], Json] = _unchanged


def _at(*keys: str | int) -> Place:
    return Place((keys,))


PLACES: Mapping[FieldPath, Place] = MappingProxyType(
    {
        "novita.name": _at("name"),
        "novita.clusterID": _at("clusterID"),
        REPLICAS: Place((("workerConfig", "minNum"), ("workerConfig", "maxNum"))),
        "scaling.minReplicas": _at("workerConfig", "minNum"),
        "scaling.maxReplicas": _at("workerConfig", "maxNum"),
        "scaling.cooldownSeconds": _at("workerConfig", "freeTimeout"),
        "novita.workerConfig.maxConcurrent": _at("workerConfig", "maxConcurrent"),
        GPU: Place(
            (("workerConfig", "gpuNum"),),
            to_wire=lambda gpu: gpu["count"],
            from_wire=lambda count: {"count": count},
        ),
        REQUEST_TIMEOUT: _at("workerConfig", "requestTimeout"),
        "novita.port": Place((("ports", 0, "port"),), to_wire=str, from_wire=int),
        "novita.policy.type": _at("policy", "type"),
        POLICY_VALUE: _at("policy", "value"),
        IMAGE: _at("image", "image"),
        "novita.image.authId": _at("image", "authId"),
        "novita.image.command": _at("image", "command"),
        "novita.healthy.path": _at("healthy", "path"),
    }
)
"""Field path to place; the names are those of the page "Update Endpoint"."""

EMPTY_IS_ABSENT = frozenset({"novita.clusterID", "novita.image.authId", "novita.image.command"})
"""Texts whose emptiness may read back as absence, and the other way round."""

REQUIRED: tuple[FieldPath, ...] = (
    "scaling.minReplicas",
    "scaling.maxReplicas",
    "scaling.cooldownSeconds",
    "novita.workerConfig.maxConcurrent",
    GPU,
    REQUEST_TIMEOUT,
    "novita.port",
    "novita.policy.type",
    POLICY_VALUE,
    IMAGE,
)
"""Fields whose places every update must fill, beside the id."""

LIMITS: Mapping[FieldPath, str] = MappingProxyType(
    {
        REPLICAS: "WorkerNum",
        "scaling.minReplicas": "WorkerNum",
        "scaling.maxReplicas": "WorkerNum",
        "scaling.cooldownSeconds": "FreeTimeout",
        "novita.workerConfig.maxConcurrent": "ConcurrencyNum",
        GPU: "GPUNum",
        REQUEST_TIMEOUT: "RequestTimeout",
    }
)
"""Which parameter limit bounds a field: its name without the `min` or `max` before it."""

POLICY_LIMITS: Mapping[str, str] = MappingProxyType({"queue": "QueueWaitTime", "concurrency": "RequestNum"})
"""The same for `policy.value`, by the policy's type, which is its unit (seconds, requests)."""


def walk(document: Json, keys: Keys) -> Json:
    """The value at the end of a way; None where the way ends before."""
    for key in keys:
        if isinstance(document, Mapping):
            document = document.get(key)
        elif isinstance(document, list) and isinstance(key, int) and key < len(document):
            document = document[key]
        else:
            return None
    return document


def put(body: dict[str, Any], keys: Keys, value: Json) -> None:
    """Set the value at the end of a way, and make the objects on it that are missing."""
    node: Any = body
    for key in keys[:-1]:
        node = node[key] if isinstance(key, int) else node.setdefault(key, {})
    node[keys[-1]] = value
