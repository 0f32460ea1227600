"""What we report back, and what the next pass must remember; every value here survives a restart."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from inference_operator.api.base import ApiModel, keyed_by

FieldValues = dict[str, str]
"""Field path to the canonical JSON text of its value: `null` for an absent value, and an empty text for one
that is never stored because it may be secret (environment variables)."""


class Effect(ApiModel):
    """The fields in which a write differs from the state before it."""

    base: FieldValues = Field(default_factory=dict)
    """Their values before the write."""

    sent: FieldValues = Field(default_factory=dict)
    """Their values as sent."""


class Settling(Effect):
    """A write that the provider has acknowledged and that its reads do not show yet."""

    id: Annotated[str, Field(max_length=64)]
    """The operation's id."""


class Corrections(ApiModel):
    """Corrections of drift in a row."""

    count: int = 0
    """How many; the third in a row is Contested."""

    time: Annotated[str, Field(max_length=64)] = ""
    """When the last one was sent, RFC 3339."""


class Applied(ApiModel):
    """Memory of the last settled write."""

    uid: Annotated[str, Field(max_length=64)]
    """The uid of the resource that wrote it; of another uid it is a hint only."""

    hash: Annotated[str, Field(max_length=128)]
    """Hash over the declared fields, with the version of its scheme."""

    generation: int
    """The generation that was applied."""

    time: Annotated[str, Field(max_length=64)]
    """When, RFC 3339; for information only."""

    base_version: int | None = None
    """The provider's newest version before the write."""

    observed: FieldValues = Field(default_factory=dict)
    """Readable fields that the provider settled with another value than wished."""

    secrets: dict[str, str] = Field(default_factory=dict)
    """Secrets behind `valueFrom`, name to resourceVersion."""

    reapply: Annotated[str, Field(max_length=256)] | None = None
    """The last reapply annotation that was honoured."""

    corrections: Corrections | None = None
    """Corrections of drift in a row, absent when there were none."""

    settling: Settling | None = None
    """Present while the provider's reads do not show the acknowledged write."""


class Operation(Effect):
    """A write whose outcome is not known; present only while it is open."""

    uid: Annotated[str, Field(max_length=64)]
    """The uid of the resource that wrote it."""

    id: Annotated[str, Field(max_length=64)]
    """Identifies the attempt."""

    hash: Annotated[str, Field(max_length=128)]
    """Hash over the declared fields, with the version of its scheme."""

    generation: int
    """The generation that is being applied."""

    base_version: int | None = None
    """The provider's newest version before the write."""

    started_at: Annotated[str, Field(max_length=64)]
    """When the intent was stored, RFC 3339; for information only."""

    comment: Annotated[str, Field(max_length=1024)] = ""
    """The version comment that is sent."""

    secrets: dict[str, str] = Field(default_factory=dict)
    """Secrets behind `valueFrom`, name to resourceVersion."""

    reapply: Annotated[str, Field(max_length=256)] | None = None
    """The reapply annotation that this write honours."""

    corrections: Corrections | None = None
    """Corrections of drift in a row, this one included."""


class HistoryEntry(ApiModel):
    """A settled write."""

    version: int | None = None
    """The provider's version number, where it has one."""

    comment: Annotated[str, Field(max_length=1024)] = ""
    """The comment sent with it."""

    generation: int
    """The generation that was applied."""

    time: Annotated[str, Field(max_length=64)]
    """When it settled, RFC 3339."""

    result: Annotated[str, Field(max_length=64)]
    """`Applied`, `AppliedUnverified`, `Matched` or `NotConverging`."""


class Drift(ApiModel):
    """A declared field whose live value is not the declared one."""

    field: Annotated[str, Field(max_length=512)]
    """Path in the spec."""

    desired: Any = None
    """Declared value; absent where the value is confidential or the spec declares none."""

    observed: Any = None
    """Live value; absent where the value is confidential or the provider shows none."""


class Condition(ApiModel):
    """A condition in the shape of the Kubernetes API conventions."""

    type: Annotated[str, Field(max_length=316)]
    """`Synced`, `Ready`, `Reconciling`, `Stalled` or `Suspended`."""

    status: Annotated[str, Field(pattern="^(True|False|Unknown)$", max_length=7)]
    """`True`, `False` or `Unknown`."""

    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """One word of a closed set."""

    message: Annotated[str, Field(max_length=32768)] = ""
    """What is the case, who must act, and what to do."""

    last_transition_time: Annotated[str, Field(max_length=64)]
    """When `status` last changed, RFC 3339."""

    observed_generation: int | None = None
    """The generation that this condition was set for."""


class InferenceEndpointStatus(ApiModel):
    """The observed state of an InferenceEndpoint."""

    observed_generation: int = -1
    """The last generation that was truly handled; -1 before the first."""

    endpoint_id: Annotated[str, Field(max_length=128)] | None = None
    """The provider's id of the endpoint, set once a read with this resource's key has succeeded."""

    state: Annotated[str, Field(max_length=32)] | None = None
    """Pending, Creating, Updating, Running, Waking, Sleeping, Stopping, Stopped, Failed or Unknown."""

    provider_state: Annotated[str, Field(max_length=256)] | None = None
    """The provider's own words, with phase and error code where it has them."""

    curr_replica_cnt: int | None = None
    """Replicas that exist now."""

    desired_replica_cnt: int | None = None
    """Replicas that the provider wants to exist."""

    updated_replica_cnt: int | None = None
    """Replicas that run the newest configuration."""

    version: int | None = None
    """The provider's version number, where it has one."""

    version_comment: Annotated[str, Field(max_length=1024)] | None = None
    """The comment sent with that version; absent for a version made by others."""

    gpu: Annotated[str, Field(max_length=128)] | None = None
    """GPU name and count as the provider tells them."""

    applied: Applied | None = None
    """Memory of the last settled write."""

    operation: Operation | None = None
    """The write whose outcome is not known; present only while it is open."""

    updates: int | None = None
    """Updates that were begun for this resource so far. Whoever sees it fall knows that an older status was put back,
    which does not tell of updates that may still be under way."""

    history: Annotated[list[HistoryEntry], Field(max_length=10)] = Field(default_factory=list)
    """Settled writes, newest first, at most 10."""

    drift: Annotated[list[Drift], Field(max_length=256)] = Field(default_factory=list)
    """Declared fields whose live value is not the declared one."""

    unverifiable: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=256)] = Field(
        default_factory=list
    )
    """Fields that are declared and sent, but that the provider never shows."""

    selector: Annotated[str, Field(max_length=256)] | None = None
    """The label selector of the scale subresource; unique to this resource."""

    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra=keyed_by("type"))] = Field(
        default_factory=list
    )
    """Synced, Ready, and Reconciling, Stalled and Suspended while they hold."""
