"""The JSON of the API server as the words of the core, and where our resources stand in the API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from inference_operator.api import names
from inference_operator.core.model import Resource
from inference_operator.kube.api import path_of


def parse(document: Mapping[str, Any]) -> Resource:
    """An InferenceEndpoint as the API server shows it."""
    metadata = document["metadata"]
    return Resource(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        resource_version=metadata["resourceVersion"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        annotations=metadata.get("annotations", {}),
        labels=metadata.get("labels", {}),
        spec=document.get("spec", {}),
        status=document.get("status", {}),
    )


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
    return path_of("apis", names.GROUP, names.VERSION, *scope, names.PLURAL)


def object_path(resource: Resource) -> str:
    """One InferenceEndpoint."""
    return collection_path(resource.namespace) + path_of(resource.name)


def secrets_path(namespace: str | None) -> str:
    """The Secrets of one namespace, or of all."""
    scope = () if namespace is None else ("namespaces", namespace)
    return path_of("api", "v1", *scope, "secrets")
