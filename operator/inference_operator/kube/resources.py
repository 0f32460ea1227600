"""The JSON of the API server as the words of the core, and where our resources stand in the API."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from inference_operator.api import names
from inference_operator.core.model import Resource
from inference_operator.kube.api import path_of

VERSION_PATH: Final = path_of("apis", names.GROUP, names.VERSION)
"""Our kinds, in the version that is spoken."""

REQUESTS: Final = (names.REFRESH_ANNOTATION, names.REAPPLY_ANNOTATION, names.SUSPEND_ANNOTATION)
"""Annotations that ask for something."""


def parse(document: Mapping[str, Any]) -> Resource:
    """An InferenceEndpoint as the API server shows it, without the annotations that ask nothing of us.

    Those can be larger than all the rest: `kubectl apply` keeps the whole resource in one.
    """
    metadata = document["metadata"]
    annotations = metadata.get("annotations", {})
    return Resource(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        resource_version=metadata["resourceVersion"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        annotations={name: annotations[name] for name in REQUESTS if name in annotations},
        spec=document.get("spec", {}),
        status=document.get("status", {}),
    )


def compact(resource: Resource, before: Resource | None = None) -> Resource:
    """The same resource for keeping, with every text in it stored once, whichever resources hold it too.

    Most of what a fleet's resources say they say all alike: the names of fields, conditions, messages, times. That is
    more than half of what they take.

    Args:
        resource: A version of a resource.
        before: An older version, compacted. What both say is taken from there; since each name has one type, what is
            equal is the same.
    """
    spec, status = (before.spec, before.status) if before else ({}, {})
    return replace(resource, spec=_shared(resource.spec, spec), status=_shared(resource.status, status))


def _shared(now: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        sys.intern(name): known if (known := before.get(name)) == value else _interned(value)
        for name, value in now.items()
    }


def _interned(value: Any) -> Any:
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {sys.intern(name): _interned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_interned(inner) for inner in value]
    return value


def is_newer(version: str, known: str) -> bool:
    """Whether one resourceVersion of an object is newer than another of the same object.

    They count upwards in every API server that stores in etcd. Should one ever not, whatever is different is newer,
    and the guard of each write remains.
    """
    if version.isdecimal() and known.isdecimal():
        return int(version) > int(known)
    return version != known


def collection_path(namespace: str | None) -> str:
    """The InferenceEndpoints of one namespace, or of all."""
    scope = () if namespace is None else ("namespaces", namespace)
    return VERSION_PATH + path_of(*scope, names.PLURAL)


def object_path(resource: Resource) -> str:
    """One InferenceEndpoint."""
    return collection_path(resource.namespace) + path_of(resource.name)


def secrets_path(namespace: str | None) -> str:
    """The Secrets of one namespace, or of all."""
    scope = () if namespace is None else ("namespaces", namespace)
    return path_of("api", "v1", *scope, "secrets")
