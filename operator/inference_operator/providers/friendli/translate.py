"""Between the neutral words and Friendli's: what a spec asks for, what a document shows, what an update carries.

Pure. Three properties of the API shape it: an update replaces a nested object whole; half of the fields are
never shown again; and a fixed replica count is shown only as equal bounds, if at all. `projectId` is no part
of an update, and the team is a header.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from inference_operator.core.model import (
    REPLICAS,
    Desired,
    EndpointRef,
    Failure,
    Field,
    FieldPath,
    History,
    Json,
    Observed,
    Replicas,
    Snapshot,
    State,
)
from inference_operator.errors import InvalidSpec
from inference_operator.providers.friendli.options import INSTANCE_OPTIONS
from inference_operator.providers.friendli.wire import Spec, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference_operator.api.base import ApiModel
    from inference_operator.api.spec import Gpu, InferenceEndpointSpec, Scaling
    from inference_operator.providers.friendli.options import FriendliOptions

NAME = "friendli"

GPU: FieldPath = "gpu"
INSTANCE_OPTION: FieldPath = "friendli.instanceOptionId"
MIN_REPLICAS: FieldPath = "scaling.minReplicas"
MAX_REPLICAS: FieldPath = "scaling.maxReplicas"
COOLDOWN: FieldPath = "scaling.cooldownSeconds"

POLICY = "autoscalingPolicy"
COMMENT = "newVersionComment"

PLACES: Mapping[FieldPath, tuple[str, ...]] = MappingProxyType(
    {
        "friendli.name": ("name",),
        "friendli.hfModelRepo": ("hfModelRepo",),
        "friendli.hfModelRepoRevision": ("hfModelRepoRevision",),
        GPU: ("instanceOptionId",),
        INSTANCE_OPTION: ("instanceOptionId",),
        REPLICAS: ("simplescale", "replicas"),
        MIN_REPLICAS: (POLICY, "minReplica"),
        MAX_REPLICAS: (POLICY, "maxReplica"),
        COOLDOWN: (POLICY, "cooldownPeriod"),
        "friendli.advanced.tokenizerSkipSpecialTokens": ("advanced", "tokenizer_skip_special_tokens"),
        "friendli.advanced.tokenizerAddSpecialTokens": ("advanced", "tokenizer_add_special_tokens"),
        "friendli.advanced.maxBatchSize": ("advanced", "max_batch_size"),
        "friendli.advanced.maxTokenCount": ("advanced", "max_token_count"),
        "friendli.advanced.maxInputLength": ("advanced", "max_input_length"),
        "friendli.advanced.enableContentLogging": ("advanced", "enable_content_logging"),
    }
)
"""Where a field stands in `DedicatedEndpointUpdateBody`."""

SHOWN: Mapping[FieldPath, str] = MappingProxyType(
    {
        "friendli.name": "name",
        MIN_REPLICAS: "autoscaling_min",
        MAX_REPLICAS: "autoscaling_max",
        COOLDOWN: "autoscaling_cooldown",
        "friendli.advanced.tokenizerSkipSpecialTokens": "tokenizer_skip_special_tokens",
        "friendli.advanced.tokenizerAddSpecialTokens": "tokenizer_add_special_tokens",
        "friendli.advanced.maxBatchSize": "max_batch_size",
        "friendli.advanced.maxInputLength": "max_input_length",
    }
)
"""Where a field stands in `wire.Spec`, for those that stand there as they are."""

READABLE = frozenset({*SHOWN, GPU, REPLICAS})

SHAPES: Mapping[str, tuple[str, int]] = MappingProxyType({option: shape for shape, option in INSTANCE_OPTIONS.items()})
"""Instance option id to GPU type and count."""

MAX_GPU_NAMES = 64
"""Spellings of GPU names of which it is remembered what they mean; every look asks for the same few."""

STATES: Mapping[str, State] = MappingProxyType(
    {
        "INITIALIZING": State.CREATING,
        "UPDATING": State.UPDATING,
        "AWAKING": State.WAKING,
        "RUNNING": State.RUNNING,
        "READY": State.RUNNING,
        "SLEEPING": State.SLEEPING,
        "STOPPING": State.STOPPING,
        "TERMINATING": State.STOPPING,
        "TERMINATED": State.STOPPED,
        "FAILED": State.FAILED,
    }
)
"""`status` of an endpoint; any other word, `UNKNOWN` among them, is unknown."""

WITHOUT_REPLICAS = frozenset({State.SLEEPING, State.STOPPED, State.FAILED})
"""States in which no replica comes or goes before the state changes."""

CURES: Mapping[str, str] = MappingProxyType(
    {
        "WORKLOAD_INIT_UNKNOWN_ERROR": "Friendli does not say why; restart the endpoint there, or ask its support.",
        "WORKLOAD_INIT_SETTINGS_ERROR": "The settings do not fit the model; correct friendli.advanced or the model.",
        "WORKLOAD_INIT_GRPC_ERROR": "A service of Friendli did not answer another; restart the endpoint there.",
        "WORKLOAD_INIT_MANIFEST_NOT_FOUND_ERROR": (
            "The model has no manifest; correct friendli.hfModelRepo or friendli.hfModelRepoRevision."
        ),
        "WORKLOAD_INIT_MANIFEST_TYPE_ERROR": (
            "The model is of a kind that Friendli does not serve; choose another friendli.hfModelRepo."
        ),
        "WORKLOAD_INIT_DOWNLOAD_ERROR": "The model could not be downloaded; restart the endpoint at Friendli later.",
        "WORKLOAD_INIT_INVALID_TOKEN_ERROR": (
            "The access token for the model was refused; renew it in Friendli's settings and restart the endpoint."
        ),
        "WORKLOAD_INIT_CANNOT_ACCESS_REPO_ERROR": (
            "The model cannot be read; correct friendli.hfModelRepo, or give Friendli's access token the right to it."
        ),
        "WORKLOAD_INIT_HF_WANDB_API_ERROR": (
            "Hugging Face or Weights & Biases did not answer; restart the endpoint at Friendli later."
        ),
        "WORKLOAD_INIT_INSUFFICIENT_DISK_ERROR": "The model does not fit on the disk; choose a larger gpu shape.",
        "INFERENCE_ENGINE_UNKNOWN_ERROR": "The engine does not say why; restart the endpoint, or ask its support.",
        "INFERENCE_ENGINE_INVALID_ARGUMENT_ERROR": "The engine refuses an option; correct friendli.advanced.",
        "INFERENCE_ENGINE_MEMORY_ERROR": (
            "The model does not fit into GPU memory; choose a larger gpu shape or lower friendli.advanced.maxBatchSize."
        ),
        "INFERENCE_ENGINE_METERING_CLIENT_CONFIG_ERROR": "Friendli's metering is at fault; ask its support.",
    }
)
"""`errorCode` of an endpoint to what cures it."""

NO_CURE = "Friendli's documentation does not name this; see the endpoint's page at Friendli, or ask its support."

FORGETS_COUNT = (
    "friendli.advanced without maxTokenCount makes Friendli reset it to 2560, which cannot be read back; "
    "declare maxTokenCount."
)
FORGETS_LOGGING = (
    "friendli.advanced without enableContentLogging may make Friendli reset it, which cannot be read back; "
    "declare enableContentLogging."
)


def desired(spec: InferenceEndpointSpec, options: FriendliOptions) -> Desired:
    """What the spec declares, by path. An instance option id of a known GPU shape is that shape.

    Raises:
        InvalidSpec: It names no endpoint, an unknown GPU shape, two shapes, or a scaling that is none.
    """
    if spec.endpoint_id is None:
        raise InvalidSpec("spec.endpointId is missing: write the id of the endpoint at Friendli")
    _require_scaling(spec.scaling)
    tree = {"scaling": _dump(spec.scaling), NAME: _dump(options)}
    values = {path: _leaf(tree, path) for path in PLACES}
    values[GPU] = _shape(spec.gpu, values[INSTANCE_OPTION])
    if values[GPU] is not None:
        values[INSTANCE_OPTION] = None
    return Desired(
        ref=EndpointRef(NAME, spec.endpoint_id, options.team_id),
        fields={path: Field(value, readable=path in READABLE) for path, value in values.items() if value is not None},
        warnings=_warnings(options),
    )


def _require_scaling(scaling: Scaling | None) -> None:
    """What the API server's rules refuse already, for specs that did not pass them: exactly one kind of scaling."""
    if scaling is None:
        return
    bounds = {scaling.min_replicas is not None, scaling.max_replicas is not None}
    if len(bounds) > 1:
        raise InvalidSpec("spec.scaling.minReplicas and maxReplicas go together: write both or neither")
    if scaling.replicas is not None and True in bounds:
        raise InvalidSpec("spec.scaling has replicas and bounds: write either replicas, or minReplicas and maxReplicas")
    if scaling.cooldown_seconds is not None and True not in bounds:
        raise InvalidSpec("spec.scaling.cooldownSeconds belongs to bounds: write minReplicas and maxReplicas with it")


def _dump(model: ApiModel | None) -> dict[str, Any]:
    return {} if model is None else model.model_dump(by_alias=True, exclude_none=True)


def _leaf(tree: Json, path: FieldPath) -> Json:
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _shape(gpu: Gpu | None, option: str | None) -> Json:
    if gpu is None:
        shape = SHAPES.get(option or "")
        return _gpu(*shape) if shape else None
    if option is not None:
        raise InvalidSpec("spec.gpu and spec.friendli.instanceOptionId both name a GPU shape: write only one of them")
    if gpu.type is None or gpu.count is None or (gpu.type, gpu.count) not in INSTANCE_OPTIONS:
        known = ", ".join(f"{name} x{count}" for name, count in INSTANCE_OPTIONS)
        raise InvalidSpec(f"spec.gpu is no shape that Friendli has a name for: write type and count of one of {known}")
    return _gpu(gpu.type, gpu.count)


def _gpu(name: str, count: int) -> Json:
    return {"type": name, "count": count}


def _warnings(options: FriendliOptions) -> tuple[str, ...]:
    if options.advanced is None:
        return ()
    left_out = {
        FORGETS_COUNT: options.advanced.max_token_count is None,
        FORGETS_LOGGING: options.advanced.enable_content_logging is None,
    }
    return tuple(hazard for hazard, applies in left_out.items() if applies)


def snapshot(spec: Spec) -> Snapshot:
    """What a configuration shows, by path. Equal bounds are a fixed count too; the wished count is a hint of one."""
    values: dict[FieldPath, Json] = {path: getattr(spec, name) for path, name in SHOWN.items()}
    values[GPU] = _gpu(gpu_name(spec.gpu_type), spec.num_gpu)
    if spec.autoscaling_min == spec.autoscaling_max:
        values[REPLICAS] = spec.autoscaling_min
    hints = {REPLICAS: spec.desired_replica_cnt}
    return Snapshot(
        values={path: value for path, value in values.items() if value is not None},
        hints={path: value for path, value in hints.items() if value is not None},
    )


@lru_cache(MAX_GPU_NAMES)
def gpu_name(shown: str) -> str:
    """The name that `spec.gpu.type` has for what Friendli calls a GPU; an unknown one in the same style.

    Friendli documents only the spelling "NVIDIA H100", so that case, vendor and further words mean nothing. The
    amount of memory does where the name has one: an "A100" may be the A100-80GB, an "A100 40GB" is not.
    """
    text = re.sub(r"(\d)\s+gb\b", r"\1gb", shown.lower().strip().removeprefix("nvidia"))
    words = re.findall(r"[a-z0-9]+", text)
    memory = {word for word in words if re.fullmatch(r"\d+gb", word)}
    for known, _ in INSTANCE_OPTIONS:
        model, _, size = known.lower().partition("-")
        if words[:1] == [model] and (not size or memory <= {size}):
            return known
    return "-".join(words).upper()


def agrees(path: FieldPath, wanted: Json, seen: Json) -> bool:
    """Whether two values of one field mean the same to Friendli; `seen` is None for an absent one."""
    if path == GPU and seen is not None:
        return bool(gpu_name(wanted["type"]) == gpu_name(seen["type"]) and wanted["count"] == seen["count"])
    return bool(wanted == seen)


def observed(spec: Spec, status: Status, history: History | None) -> Observed:
    """One look in neutral words."""
    words = [status.status, status.phase, status.error_code]
    state = STATES.get(status.status, State.UNKNOWN)
    return Observed(
        live=snapshot(spec),
        state=state,
        provider_state="/".join(word for word in words if word),
        minimum=spec.autoscaling_min,
        failure=_failure(status),
        replicas=Replicas(spec.curr_replica_cnt, spec.desired_replica_cnt, spec.updated_replica_cnt),
        gpu=_line(f"{spec.gpu_type} x{spec.num_gpu}"),
        listed=status,
        restless=state not in WITHOUT_REPLICAS and spec.autoscaling_min != spec.autoscaling_max,
        history=history,
        document=spec,
    )


def _failure(status: Status) -> Failure | None:
    if STATES.get(status.status) is not State.FAILED:
        return None
    code = status.error_code or status.status
    return Failure(code, CURES.get(code, NO_CURE))


def _line(text: str, limit: int = 128) -> str:
    printable = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(printable.split())[:limit]


def render(wanted: Desired, seen: Observed, comment: str) -> dict[str, Any]:
    """The body of an update: all that the spec declares, never only what changed, and no null.

    A nested object is replaced whole, so that its members which the spec leaves out carry the live value.
    """
    body: dict[str, Any] = {}
    for path, declared in wanted.fields.items():
        *parents, key = PLACES[path]
        target = body
        for parent in parents:
            target = target.setdefault(parent, {})
        target[key] = _option(declared.value) if path == GPU else declared.value
    live: Spec = seen.document
    for path, name in SHOWN.items():
        parent, key = PLACES[path][0], PLACES[path][-1]
        if isinstance(body.get(parent), dict) and (value := getattr(live, name)) is not None:
            body[parent].setdefault(key, value)
    if comment:
        body[COMMENT] = comment
    return body


def _option(shape: Json) -> str:
    return INSTANCE_OPTIONS[shape["type"], shape["count"]]
