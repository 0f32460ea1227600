"""What an application needs to find its endpoint, as a ConfigMap: never a key, only where to ask and for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.model import Observed


@dataclass(frozen=True, slots=True)
class ConnectionMap:
    """A ConfigMap of the resource's own namespace.

    Attributes:
        name: Of the ConfigMap.
        data: All of its data.
    """

    name: str
    data: Mapping[str, str]


def connection_map(spec: InferenceEndpointSpec, observed: Observed) -> ConnectionMap | None:
    """What `spec.writeConnectionTo` asks for, about an endpoint that was seen; None where it asks for nothing.

    A URL is in it only where the provider shows one: Friendli's endpoints share the API's own address.
    """
    target = spec.write_connection_to
    if target is None or spec.endpoint_id is None:
        return None
    keys = target.effective_keys
    data = {keys.provider: spec.provider, keys.endpoint_id: spec.endpoint_id}
    if observed.url is not None:
        data[keys.url] = observed.url
    return ConnectionMap(target.config_map_name, data)
