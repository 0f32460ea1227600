"""What a user asks for: the neutral part of the spec, which every provider shares.

The provider's own block is not in here: it is `spec.<provider>`, read with the driver's options model, which
also says what the fields in here are to that provider (`notes`).
Nothing has a default in the custom resource, because a defaulted spec shows as a difference in GitOps
tools; an absent field is None, and the properties named `effective_…` are the one place of its meaning.
Field docstrings are the descriptions that `kubectl explain` shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from inference_operator.api.base import ApiModel
from inference_operator.api.names import SUBDOMAIN

INT32_MAX = 2_147_483_647
"""Upper bound of every integer: the scale subresource and most clients read 32 bits."""

DEFAULT_CONNECTION_KEYS = ("provider", "endpointId", "url")
DEFAULT_SECRET_KEY = "token"  # noqa: S105 - the name of a key, not a secret
DEFAULT_PROGRESS_DEADLINE_SECONDS = 1800

Count = Annotated[int, Field(ge=0, le=INT32_MAX)]
PositiveCount = Annotated[int, Field(ge=1, le=INT32_MAX)]

EndpointId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", max_length=128)]
ObjectName = Annotated[str, Field(pattern=SUBDOMAIN, max_length=253)]
DataKey = Annotated[str, Field(pattern=r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$", max_length=253)]

ManagementPolicy = Literal["Manage", "Observe"]
DriftPolicy = Literal["Report", "Correct"]
AdoptionPolicy = Literal["Apply", "Match"]
DeletionPolicy = Literal["Retain", "Delete"]


class CredentialsRef(ApiModel):
    """The Secret that holds the provider's API key; always in the namespace of the resource."""

    name: ObjectName
    """Name of the Secret."""

    key: DataKey | None = None
    """Key in the Secret whose value is the API key. Default: token."""

    @property
    def effective_key(self) -> str:
        """The key in the Secret, `token` where the spec names none."""
        return self.key or DEFAULT_SECRET_KEY


class Gpu(ApiModel):
    """GPUs of one replica. Absent: the shape that the endpoint has stays."""

    type: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """GPU model."""

    count: PositiveCount | None = None
    """GPUs per replica."""


class Scaling(ApiModel):
    """How many replicas: either replicas, or minReplicas and maxReplicas. Absent: what the endpoint has stays."""

    replicas: Count | None = None
    """Fixed number of replicas. Not with minReplicas and maxReplicas."""

    min_replicas: Count | None = None
    """Least number of replicas; 0 lets the endpoint sleep when idle. Needs maxReplicas."""

    max_replicas: Count | None = None
    """Greatest number of replicas. Needs minReplicas."""

    cooldown_seconds: Count | None = None
    """Seconds without a request before a replica is taken away. Default: the value that the endpoint has."""


@dataclass(frozen=True, slots=True)
class ConnectionKeys:
    """The keys of the ConfigMap, the default where the spec names none."""

    provider: str
    endpoint_id: str
    url: str


class ConnectionKeyNames(ApiModel):
    """Keys in the ConfigMap, for applications that read them as environment variables."""

    provider: DataKey | None = None
    """Key of the provider's name. Default: provider."""

    endpoint_id: DataKey | None = None
    """Key of the provider's id of the endpoint. Default: endpointId."""

    url: DataKey | None = None
    """Key of the endpoint's URL, where the provider shows one. Default: url."""


class ConnectionTarget(ApiModel):
    """A ConfigMap that tells applications which endpoint to use; it never holds a secret.

    It is written once the endpoint was read, belongs to the resource, and goes with it.
    """

    config_map_name: ObjectName
    """Name of the ConfigMap, in the namespace of the resource. One that exists already and does not belong to this
    resource is left alone, and that is reported."""

    keys: ConnectionKeyNames | None = None
    """Keys in the ConfigMap. Default: provider, endpointId and url."""

    @property
    def effective_keys(self) -> ConnectionKeys:
        """The keys to write."""
        names = self.keys or ConnectionKeyNames()
        given = (names.provider, names.endpoint_id, names.url)
        return ConnectionKeys(*(name or default for name, default in zip(given, DEFAULT_CONNECTION_KEYS, strict=True)))


class InferenceEndpointSpec(ApiModel):
    """What one endpoint at a provider should be. What the spec leaves out is not managed: the live value stays."""

    provider: Annotated[str, Field(min_length=1, max_length=63)]
    """Where the endpoint runs. Immutable. Exactly the block of the same name must be present."""

    endpoint_id: EndpointId | None = None
    """The provider's id of the endpoint to manage. Immutable once set. Creating an endpoint, by leaving it out, is not
    supported yet."""

    credentials_secret_ref: CredentialsRef
    """The Secret that holds the provider's API key; always in the namespace of the resource."""

    gpu: Gpu | None = None
    """GPUs of one replica. Absent: the shape that the endpoint has stays."""

    scaling: Scaling | None = None
    """How many replicas: either replicas, or minReplicas and maxReplicas. Absent: what the endpoint has stays."""

    version_comment: Annotated[str, Field(max_length=1024)] | None = None
    """Comment of the next version; a change of it alone makes none. Default: namespace/name and the generation."""

    management_policy: ManagementPolicy | None = None
    """Manage: read, report and write. Observe: read and report, never write. Default: Manage."""

    suspend: bool | None = None
    """true: no call to the provider at all. The annotation inference-operator.io/suspend: "true" does the same.
    Default: false."""

    drift_policy: DriftPolicy | None = None
    """What to do when the endpoint changes although the spec did not. Report: say so in status.
    Correct: send the spec again. Default: Report."""

    progress_deadline_seconds: PositiveCount | None = None
    """Seconds after which a rollout is said to take too long (Reconciling, reason DeadlineExceeded);
    nothing is written because of it. Default: 1800."""

    adoption_policy: AdoptionPolicy | None = None
    """How an endpoint that already exists is taken over. Apply: send the spec once. Match: send nothing when every
    readable field agrees, and take the write-only ones as applied. Default: the operator's setting, Apply."""

    deletion_policy: DeletionPolicy | None = None
    """What happens to the endpoint when the resource is deleted. Retain: it stays untouched.
    Delete: it is deleted too, which is not supported yet. Default: Retain."""

    write_connection_to: ConnectionTarget | None = None
    """The ConfigMap to write the provider, the endpoint's id and its URL to, for applications that use the endpoint.
    Absent: none is written. One that is no longer named stays until the resource is deleted."""

    @property
    def effective_management_policy(self) -> ManagementPolicy:
        """Whether the endpoint may be written to; `Manage` where the spec does not say."""
        return self.management_policy or "Manage"

    @property
    def effective_suspend(self) -> bool:
        """Whether the spec asks for silence; the annotation of the same meaning is not looked at."""
        return self.suspend or False

    @property
    def effective_drift_policy(self) -> DriftPolicy:
        """What to do about foreign changes; `Report` where the spec does not say."""
        return self.drift_policy or "Report"

    @property
    def effective_progress_deadline_seconds(self) -> int:
        """Seconds that a rollout may take before it is said to be late."""
        return self.progress_deadline_seconds or DEFAULT_PROGRESS_DEADLINE_SECONDS

    def effective_adoption_policy(self, default: AdoptionPolicy) -> AdoptionPolicy:
        """How an existing endpoint is taken over; `default` is the operator's setting."""
        return self.adoption_policy or default

    @property
    def effective_deletion_policy(self) -> DeletionPolicy:
        """What a deletion of the resource does to the endpoint; `Retain` where the spec does not say."""
        return self.deletion_policy or "Retain"
