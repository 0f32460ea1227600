"""The `novita` block of the spec, in Novita's own field names, and the rules that the API server enforces for it.

Facts are those of Novita's update operation (`POST /gpu-instance/openapi/v1/endpoint/update`). Two names differ
from Novita's: `envs[].name` (there `key`; here as in Kubernetes) and `port` (there a list of exactly one).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from inference_operator.api.base import ApiModel, keyed_by
from inference_operator.api.spec import Count, DataKey, ObjectName, PositiveCount
from inference_operator.core.port import Rule

LOCAL_VOLUME_SIZE = 30
"""Size in GB that a local volume has; Novita's documentation calls it "currently fixed"."""

PolicyType = Literal["queue", "concurrency"]
VolumeType = Literal["local", "network"]


class WorkerConfig(ApiModel):
    """Settings of one worker. The ranges are Novita's and may change; they are asked for before a write."""

    max_concurrent: PositiveCount | None = None
    """Requests that one worker serves at a time. Novita: workerConfig.maxConcurrent."""

    request_timeout: PositiveCount | None = None
    """Seconds after which a request fails. Novita: workerConfig.requestTimeout."""


class Policy(ApiModel):
    """When workers are added; type and value go together, because the type is the unit of the value."""

    type: PolicyType
    """queue: by the time that requests wait. concurrency: by the number of requests that wait. Novita: policy.type."""

    value: Count
    """For queue: seconds of waiting. For concurrency: requests in the queue. Novita: policy.value."""


class Image(ApiModel):
    """The container image."""

    image: Annotated[str, Field(min_length=1, max_length=511)] | None = None
    """Address of the image. Novita: image.image."""

    auth_id: Annotated[str, Field(max_length=255)] | None = None
    """Id of the registry credentials at Novita; empty: none. Novita: image.authId."""

    command: Annotated[str, Field(max_length=2047)] | None = None
    """Start command; empty: the image's own. Novita: image.command."""


class VolumeMount(ApiModel):
    """A volume in the container."""

    type: VolumeType
    """local: storage of the worker. network: cloud storage, which needs id and novita.clusterID.
    Novita: volumeMounts[].type."""

    size: Count | None = None
    """GB of a local volume: 30, the only size there is. Not allowed for network. Novita: volumeMounts[].size."""

    id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Id of the cloud storage. Required for network, not allowed for local. Novita: volumeMounts[].id."""

    mount_path: Annotated[str, Field(pattern="^/", max_length=255)]
    """Absolute path in the container. Novita: volumeMounts[].mountPath."""


class SecretKeyRef(ApiModel):
    """A key of a Secret in the namespace of the resource."""

    name: ObjectName
    """Name of the Secret."""

    key: DataKey
    """Key in the Secret."""


class ValueFrom(ApiModel):
    """Where a value comes from."""

    secret_key_ref: SecretKeyRef
    """A key of a Secret in the namespace of the resource."""


class Env(ApiModel):
    """An environment variable: a name with either value or valueFrom."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    """Name of the variable. Novita: envs[].key."""

    value: Annotated[str, Field(max_length=131_072)] | None = None
    """Value of the variable; anyone who may read the resource can read it. Novita: envs[].value."""

    value_from: ValueFrom | None = None
    """Where the value comes from, in place of value. Novita shows it to everyone who may read the endpoint there.
    Novita: envs[].value."""


class Healthy(ApiModel):
    """The health check; its timing is Novita's."""

    path: Annotated[str, Field(min_length=1, max_length=255)]
    """HTTP path that answers 200 when the worker can serve. Novita: healthy.path."""


class NovitaOptions(ApiModel):
    """Fields of a Novita Serverless GPU Endpoint, as in Novita's update operation."""

    notes: ClassVar[Mapping[str, str]] = {
        "gpu.type": "not allowed",
        "gpu.count": "workerConfig.gpuNum",
        "scaling.replicas": "workerConfig.minNum and workerConfig.maxNum",
        "scaling.minReplicas": "workerConfig.minNum",
        "scaling.maxReplicas": "workerConfig.maxNum",
        "scaling.cooldownSeconds": "workerConfig.freeTimeout",
        "versionComment": "not sent, shown in status.history only",
        "writeConnectionTo.keys.url": "the url of the endpoint",
    }

    name: Annotated[str, Field(min_length=1, max_length=220)] | None = None
    """Name of the endpoint. Novita: name."""

    cluster_id: Annotated[str, Field(max_length=255)] | None = Field(default=None, alias="clusterID")
    """Cluster of the endpoint; with a network volume required, and then that of the storage. Novita: clusterID."""

    worker_config: WorkerConfig | None = None
    """Settings of one worker. Absent: what the endpoint has stays. Novita: workerConfig."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """HTTP port of the container; not 2222, 2223 or 2224. Novita: ports[0].port."""

    policy: Policy | None = None
    """When workers are added. Absent: what the endpoint has stays. Novita: policy."""

    image: Image | None = None
    """The container image. Absent: what the endpoint has stays. Novita: image."""

    volume_mounts: (
        Annotated[list[VolumeMount], Field(max_length=32, json_schema_extra=keyed_by("mountPath"))] | None
    ) = None
    """Volumes, by mountPath. The list is owned whole: [] removes all. Absent: what the endpoint has stays.
    Novita: volumeMounts."""

    envs: Annotated[list[Env], Field(max_length=256, json_schema_extra=keyed_by("name"))] | None = None
    """Environment variables, by name. The list is owned whole: [] removes all. Absent: what the endpoint has stays.
    Novita: envs."""

    healthy: Healthy | None = None
    """The health check. Absent: what the endpoint has stays. Novita: healthy."""


RULES: tuple[Rule, ...] = (
    Rule(
        path="gpu",
        rule="!has(self.type)",
        message="gpu.type cannot be set on novita, where the endpoint keeps the GPU it was created with;"
        " remove it and write only gpu: {count: 1}",
    ),
    Rule(
        path="novita.port",
        rule="self < 2222 || self > 2224",
        message="ports 2222, 2223 and 2224 are novita's own; write another port of the container, such as 8080",
    ),
    Rule(
        path="novita.volumeMounts[]",
        rule=f"self.type != 'local' || ((!has(self.size) || self.size == {LOCAL_VOLUME_SIZE}) && !has(self.id))",
        message=f"a local volume has size {LOCAL_VOLUME_SIZE} and no id; write for example"
        f" {{type: local, size: {LOCAL_VOLUME_SIZE}, mountPath: /data}}",
    ),
    Rule(
        path="novita.volumeMounts[]",
        rule="self.type != 'network' || (has(self.id) && !has(self.size))",
        message="a network volume needs the id of the cloud storage and has no size; write for example"
        " {type: network, id: STORAGE-ID, mountPath: /data}",
    ),
    Rule(
        path="novita",
        rule="!has(self.volumeMounts) || !self.volumeMounts.exists(v, v.type == 'network')"
        " || (has(self.clusterID) && self.clusterID != '')",
        message="a network volume needs the cluster where its storage is; write that cluster's id in novita.clusterID",
    ),
    Rule(
        path="novita.envs[]",
        rule="has(self.value) != has(self.valueFrom)",
        message="an environment variable has either value or valueFrom; write exactly one of them"
        " (value: '' for an empty one)",
    ),
)
