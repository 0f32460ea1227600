"""The ConfigMaps of `spec.writeConnectionTo`: made once, corrected when they differ, never taken from anybody.

A ConfigMap is ours if it is controlled by the resource, which is also how it goes with it. Nothing watches them: they
are read when the pass asks, so that the right to list all ConfigMaps is not needed.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from inference_operator.api import names
from inference_operator.errors import EndpointError, InvalidSpec, Unavailable
from inference_operator.kube.api import Refused, Unanswered, path_of

if TYPE_CHECKING:
    from inference_operator.core.connection import ConnectionMap
    from inference_operator.core.model import Resource
    from inference_operator.kube.api import Api, JsonObject

LABELS: Final = {"app.kubernetes.io/managed-by": "inference-operator"}

_PASSING: Final = {HTTPStatus.CONFLICT, HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}


async def keep(api: Api, resource: Resource, connection: ConnectionMap) -> None:
    """See to it that the ConfigMap exists and holds this; see `core.port.Cluster.write_connection`.

    Raises:
        InvalidSpec: It belongs to somebody else, or the API server does not let it be written.
        Unavailable: The API server did not answer, or the ConfigMap changes at this moment.
    """
    collection = path_of("api", "v1", "namespaces", resource.namespace, "configmaps")
    path, data = collection + path_of(connection.name), dict(connection.data)
    try:
        found = await _read(api, path)
        if found is None:
            await api.create(collection, _manifest(resource, connection.name, data))
            return
        _require_ours(found, resource)
        if found.get("data", {}) != data:
            await api.compare_and_swap(path, found["metadata"], field="data", value=data)
    except Unanswered as error:
        raise Unavailable(f'ConfigMap "{connection.name}" may or may not have been written: {error}') from None
    except Refused as error:
        raise _reason(connection.name, error) from None


async def _read(api: Api, path: str) -> JsonObject | None:
    try:
        return await api.get(path)
    except Refused as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _require_ours(found: JsonObject, resource: Resource) -> None:
    metadata = found["metadata"]
    owners = (each for each in metadata.get("ownerReferences", ()) if each.get("controller"))
    owner: JsonObject = next(owners, {})
    if owner.get("uid") == resource.uid and "deletionTimestamp" not in metadata:
        return
    name = f'ConfigMap "{metadata["name"]}"'
    if "deletionTimestamp" in metadata or (owner.get("kind"), owner.get("name")) == (names.KIND, resource.name):
        raise Unavailable(f"{name} is about to be removed with its former owner.")
    if owner:
        whose = f'{owner.get("kind")} "{owner.get("name")}"'
        raise InvalidSpec(f"{name} belongs to {whose}. Write another name in configMapName.")
    raise InvalidSpec(
        f"{name} exists already, and nothing says that it is this resource's. Write another name in configMapName, "
        "or delete it if nobody needs it."
    )


def _manifest(resource: Resource, name: str, data: dict[str, str]) -> dict[str, Any]:
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": resource.name,
        "uid": resource.uid,
        "controller": True,
    }
    return {"metadata": {"name": name, "labels": LABELS, "ownerReferences": [owner]}, "data": data}


def _reason(name: str, error: Refused) -> EndpointError:
    if error.status in _PASSING or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(f'ConfigMap "{name}" was not written: {error}')
    message = f'The API server does not let the operator write ConfigMap "{name}": {error.message.rstrip(".")}.'
    if error.status == HTTPStatus.FORBIDDEN and 'resource "configmaps"' in error.message:
        message += (
            " Grant get, create and patch on configmaps (in the chart rbac.connections), or remove writeConnectionTo."
        )
    return InvalidSpec(message)
