"""Between the spec and Novita's documents: what is asked for, what is there, and the body that makes them one.

An update replaces the whole configuration, so its body is the live document with the declared fields laid
over it. What the spec leaves out keeps its live value; a list that the spec gives is its own, item by item.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from inference_operator.api.spec import InferenceEndpointSpec, Scaling
from inference_operator.core.model import (
    Desired,
    EndpointRef,
    Failure,
    Field,
    FieldPath,
    Json,
    Observed,
    Replicas,
    SecretValues,
    Snapshot,
    State,
    canonical_json,
)
from inference_operator.errors import InvalidSpec, SecretMissing
from inference_operator.providers.novita import wire
from inference_operator.providers.novita.options import LOCAL_VOLUME_SIZE, Env, NovitaOptions, VolumeMount
from inference_operator.providers.novita.places import (
    EMPTY_IS_ABSENT,
    ENVS,
    IMAGE,
    LIMITS,
    PLACES,
    POLICY_LIMITS,
    POLICY_VALUE,
    REQUEST_TIMEOUT,
    REQUIRED,
    VOLUME_MOUNTS,
    put,
    walk,
)
from inference_operator.providers.novita.words import HIDDEN, quotes, words

NAME = "novita"

SERVING = frozenset({"serving", "running"})
"""States in which the workers tell more; only the first is documented, the second has been seen."""

FAILED = frozenset({"failed", "error"})

STATES: Mapping[str, State] = MappingProxyType(
    {
        "creating": State.CREATING,
        "pending": State.CREATING,
        "updating": State.UPDATING,
        "stopped": State.STOPPED,
        "deleting": State.STOPPING,
    }
)
"""States that other clients of the API know; no reference page names them."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a look leaves for rendering an update: the endpoint, and the limits where they were read."""

    endpoint: wire.Endpoint
    limits: Mapping[str, int] | None = None


def desired(spec: InferenceEndpointSpec, options: NovitaOptions, secrets: SecretValues) -> Desired:
    """What the spec declares, by path.

    Raises:
        InvalidSpec: It names no endpoint, a GPU type, or two kinds of scaling; or the value in a Secret is not text.
        SecretMissing: A Secret or key behind `valueFrom` does not exist.
    """
    endpoint_id = _checked(spec)
    declared = {"scaling": _dump(spec.scaling), "gpu": _dump(spec.gpu), "novita": _dump(options)}
    values = {path: walk(declared, tuple(path.split("."))) for path in PLACES}
    return Desired(
        ref=EndpointRef(NAME, endpoint_id),
        fields={path: Field(value) for path, value in values.items() if value not in (None, {})}
        | _items(ENVS, {env.name: _env(env, secrets) for env in options.envs or ()})
        | _items(VOLUME_MOUNTS, {mount.mount_path: Field(_storage(mount)) for mount in options.volume_mounts or ()}),
        owned=frozenset(
            path for path, given in ((ENVS, options.envs), (VOLUME_MOUNTS, options.volume_mounts)) if given is not None
        ),
        secrets={name: secrets.secrets[name].resource_version for name in sorted(secret_names(options))},
    )


def secret_names(options: NovitaOptions) -> frozenset[str]:
    """Names of the Secrets behind `valueFrom`."""
    return frozenset(env.value_from.secret_key_ref.name for env in options.envs or () if env.value_from is not None)


def snapshot(endpoint: wire.Endpoint) -> Snapshot:
    """What the endpoint shows, by path; a fixed replica count shows as equal bounds."""
    body = endpoint.sendable()
    values: dict[FieldPath, Json] = dict.fromkeys(EMPTY_IS_ABSENT, "")
    for path, place in PLACES.items():
        first, *others = (walk(body, keys) for keys in place.keys)
        if first is not None and all(other == first for other in others):
            values[path] = place.from_wire(first)
    values |= _items(ENVS, {env.key: env.value for env in endpoint.envs or ()})
    values |= _items(VOLUME_MOUNTS, {mount.mount_path: _storage(mount) for mount in endpoint.volume_mounts or ()})
    return Snapshot(values)


def agrees(path: FieldPath, wanted: Json, seen: Json) -> bool:
    """Whether two values of one field mean the same to Novita; None stands for an absent one.

    Of two image names only the implied `docker.io/` and `docker.io/library/` are equal. A server too old to
    show the request timeout contradicts none.
    """
    if path == REQUEST_TIMEOUT and seen is None:
        return True
    if path in EMPTY_IS_ABSENT:
        return (wanted or "") == (seen or "")
    if path == IMAGE and isinstance(wanted, str) and isinstance(seen, str):
        return _full_image_name(wanted) == _full_image_name(seen)
    return bool(wanted == seen)


def confidential(path: FieldPath) -> bool:
    """Whether the live value may be a secret: that of any environment variable may."""
    return path.startswith(f"{ENVS}[")


def observed(endpoint: wire.Endpoint, limits: Mapping[str, int] | None = None) -> Observed:
    """One look in neutral words.

    A worker that was removed or is being drained is not counted: Novita lists it for minutes after it has
    stopped taking requests. How many workers run the newest configuration is nowhere shown.
    """
    workers = [worker for worker in endpoint.workers if worker.state.state != "removed" and not worker.drain]
    least, most = endpoint.worker_config.min_num, endpoint.worker_config.max_num
    product = "".join(f"product {product.id} " for product in endpoint.products[:1])
    status = _presentable(endpoint)
    failure = _failure(status)
    seen = Observed(
        live=snapshot(endpoint),
        state=State.FAILED if failure else _state(status.state, least, workers),
        provider_state=words("/".join(filter(None, (status.state, status.error)))),
        minimum=least,
        failure=failure,
        replicas=Replicas(current=len(workers), desired=least if least == most else None),
        gpu=words(f"{product}x{endpoint.worker_config.gpu_num}", limit=128),
        url=endpoint.url if _is_address(endpoint.url) else None,
        document=Document(endpoint, limits),
    )
    return replace(seen, listed=_mark(seen))


def listed(item: Mapping[str, Any]) -> int | None:
    """What `Observed.listed` of a look at this entry of a list would be; None for one that cannot be read."""
    try:
        return _mark(observed(wire.Endpoint.model_validate(item)))
    except ValidationError:
        return None


def _mark(seen: Observed) -> int:
    """Tells whether anything of the endpoint has moved; nothing can be read out of it, not even by this process."""
    shown = (seen.state, seen.provider_state, seen.minimum, seen.failure, seen.replicas, seen.gpu, seen.url)
    return hash((canonical_json(seen.live.values), repr(shown)))


def _is_address(shown: Any) -> bool:
    """Whether what stands at `url` is an address without a user or password in it."""
    return isinstance(shown, str) and re.fullmatch(r"https?://[^\s@]{1,2000}", shown) is not None


def render(wanted: Desired, seen: Observed) -> dict[str, Any]:
    """The body of an update.

    Raises:
        InvalidSpec: A required field that neither spec nor live document gives, a declared value outside
            Novita's limits, or a live field that an update cannot carry.
    """
    document: Document = seen.document
    endpoint = document.endpoint
    if len(endpoint.ports) > 1:
        listed = ", ".join(str(port.port) for port in endpoint.ports)
        raise InvalidSpec(f"the endpoint has the ports {listed} and an update carries one; leave one of them at Novita")
    body = endpoint.sendable() | {"id": wanted.ref.endpoint_id}
    body["ports"] = body["ports"] or [{}]
    for path in wanted.fields.keys() & PLACES.keys():
        for keys in PLACES[path].keys:
            put(body, keys, PLACES[path].to_wire(wanted.fields[path].value))
    if ENVS in wanted.owned:
        body["envs"] = _env_bodies(wanted, body.get("envs", []))
    if VOLUME_MOUNTS in wanted.owned or endpoint.volume_mounts is not None:
        body["volumeMounts"] = _volume_bodies(wanted, endpoint.volume_mounts or ())
    _require_all(body)
    _require_limits(wanted, body["policy"]["type"], document.limits or {})
    return body


def _checked(spec: InferenceEndpointSpec) -> str:
    """The id of the endpoint, once the spec holds nothing that the API server's rules would have refused."""
    if spec.endpoint_id is None:
        raise InvalidSpec("spec.endpointId is missing; write the id of the endpoint at Novita")
    if spec.gpu and spec.gpu.type is not None:
        raise InvalidSpec("gpu.type cannot be set on novita; remove it, the endpoint keeps the GPU it has")
    scaling = spec.scaling or Scaling()
    if scaling.replicas is not None and (scaling.min_replicas, scaling.max_replicas) != (None, None):
        raise InvalidSpec("scaling has replicas and bounds; write either replicas, or minReplicas and maxReplicas")
    return spec.endpoint_id


def _dump(model: BaseModel | None) -> dict[str, Any]:
    return model.model_dump(by_alias=True, exclude_none=True) if model else {}


def _items(path: FieldPath, items: Mapping[str, Any]) -> dict[FieldPath, Any]:
    """Items of a list by path, in an order that does not depend on the list's."""
    return {f"{path}[{name}]": items[name] for name in sorted(items)}


def _declared_items(wanted: Desired, path: FieldPath) -> dict[str, Json]:
    prefix = f"{path}["
    return {
        each.removeprefix(prefix).removesuffix("]"): declared.value
        for each, declared in wanted.fields.items()
        if each.startswith(prefix)
    }


def _env(env: Env, secrets: SecretValues) -> Field:
    if env.value_from is None:
        return Field(env.value or "")
    ref = env.value_from.secret_key_ref
    secret = secrets.secrets.get(ref.name)
    if secret is None:
        raise SecretMissing(f"Secret {ref.name}, which {ENVS}[{env.name}] names, does not exist", credentials=False)
    if ref.key not in secret.data:
        raise SecretMissing(f"Secret {ref.name} lacks the key {ref.key} of {ENVS}[{env.name}]", credentials=False)
    try:
        text = secret.data[ref.key].decode()
    except UnicodeDecodeError:
        # The exception quotes the bytes.
        raise InvalidSpec(f"key {ref.key} of Secret {ref.name}, for {ENVS}[{env.name}], is not UTF-8 text") from None
    return Field(text, identity={"secretKeyRef": {"name": ref.name, "key": ref.key}})


def _storage(mount: VolumeMount | wire.VolumeMount) -> dict[str, Json]:
    """What is mounted: the size counts for a local volume only, the id for a network one only."""
    match mount.type:
        case "local":
            return {"type": "local", "size": mount.size or LOCAL_VOLUME_SIZE}
        case "network":
            return {"type": "network"} | ({"id": mount.id} if mount.id else {})
        case _:
            return {
                key: value
                for key, value in (("type", mount.type), ("size", mount.size), ("id", mount.id))
                if value is not None
            }


def _env_bodies(wanted: Desired, live: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = {item["key"]: item for item in live}
    return [
        known.get(name, {}) | {"key": name, "value": value} for name, value in _declared_items(wanted, ENVS).items()
    ]


def _volume_bodies(wanted: Desired, live: tuple[wire.VolumeMount, ...]) -> list[dict[str, Any]]:
    shown = [(mount.mount_path, _storage(mount), mount.model_extra or {}) for mount in live]
    if VOLUME_MOUNTS not in wanted.owned:
        return [extra | storage | {"mountPath": path} for path, storage, extra in shown]
    declared = _declared_items(wanted, VOLUME_MOUNTS)
    # What is not known of a volume goes with that volume, not with whatever is mounted in its place.
    extras = {path: extra for path, storage, extra in shown if declared.get(path) == storage}
    return [extras.get(path, {}) | storage | {"mountPath": path} for path, storage in declared.items()]


def _require_all(body: Mapping[str, Any]) -> None:
    for path in REQUIRED:
        if any(walk(body, keys) in (None, "") for keys in PLACES[path].keys):
            raise InvalidSpec(f"an update must carry {path}, and the endpoint does not show it; write it in the spec")


def _require_limits(wanted: Desired, policy_type: str, limits: Mapping[str, int]) -> None:
    names = {**LIMITS, POLICY_VALUE: POLICY_LIMITS.get(policy_type, "")}
    for path in sorted(wanted.fields.keys() & names.keys()):
        value = PLACES[path].to_wire(wanted.fields[path].value)
        least, most = f"min{names[path]}", f"max{names[path]}"
        if not limits.get(least, value) <= value <= limits.get(most, value):
            bounds = " and ".join(f"{name} {limits[name]}" for name in (least, most) if name in limits)
            raise InvalidSpec(f"{path} is {value}, outside Novita's limits {bounds}; write a number within them")


def _presentable(endpoint: wire.Endpoint) -> wire.Status:
    """The endpoint's state, its texts without what quotes one of its environment variables."""
    values = [env.value for env in endpoint.envs or ()]
    error, message = (
        HIDDEN if quotes(text, values) else text for text in (endpoint.state.error, endpoint.state.message)
    )
    return wire.Status(state=endpoint.state.state, error=error, message=message)


def _failure(state: wire.Status) -> Failure | None:
    if not state.error and state.state.lower() not in FAILED:
        return None
    return Failure(words(state.error or state.state, limit=128), words(state.message or "Novita gives no reason"))


def _state(word: str, least: int, workers: list[wire.Worker]) -> State:
    if word.lower() not in SERVING:
        return STATES.get(word.lower(), State.UNKNOWN)
    healthy = sum(worker.healthy for worker in workers)
    if healthy:
        return State.RUNNING if healthy >= least else State.UPDATING
    if least:
        return State.CREATING
    return State.WAKING if workers else State.SLEEPING


def _full_image_name(name: str) -> str:
    """The name with the registry and the library folder that container tools imply."""
    first, slash, _ = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    registry, _, rest = name.partition("/")
    return f"{registry}/library/{rest}" if registry == "docker.io" and "/" not in rest else name
