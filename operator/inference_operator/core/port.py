"""What the outside must offer: the seams between the decisions and every provider and cluster."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from inference_operator.api.base import ApiModel
    from inference_operator.api.spec import InferenceEndpointSpec
    from inference_operator.api.status import InferenceEndpointStatus
    from inference_operator.core.connection import ConnectionMap
    from inference_operator.core.model import (
        Credentials,
        Desired,
        EndpointRef,
        FieldPath,
        Json,
        Look,
        Observed,
        Resource,
        SecretData,
        SecretValues,
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule that a driver adds to the custom resource.

    Attributes:
        rule: The expression; `self` is the object at `path`.
        message: What to write instead.
        path: Where the rule hangs: "" for the spec, else the dotted path of what it speaks about below it.
    """

    rule: str
    message: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list of all endpoints that one key sees.

    Attributes:
        entries: As `Observed.listed`, by endpoint id; only of those that were asked for.
        cursor: Asks for the part that follows; None after the last one.
    """

    entries: Mapping[str, Any]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do; declared, never probed.

    Attributes:
        history: It keeps numbered versions, and every update makes one.
        gpu_type: `spec.gpu.type` means something to it.
    """

    history: bool = False
    gpu_type: bool = False


class Connection(Protocol):
    """One provider, spoken to with one key. Every method raises only the errors of `errors.py`."""

    async def observe(self, ref: EndpointRef, look: Look) -> Observed:
        """Read the endpoint; changes nothing, ever.

        Raises:
            NotFound: The provider does not know the endpoint, or this key cannot see it.
            CredentialsRejected: The key was refused.
            Throttled: Too fast.
            InvalidSpec: The provider does not accept what the spec names the endpoint by (HTTP 400, 422).
            Unavailable: Anything else that kept the read from being clean and schema-valid.
        """

    async def reserve(self) -> None:
        """Take the budget token of the next update, so that nothing has to be waited for once its intent is stored.

        Called before the intent; `update` uses it up. One that is never used costs one token, nothing else.

        Raises:
            Throttled: The provider asked this key for silence that lasts longer than a moment.
        """

    async def page(self, cursor: str | None, wanted: Container[str]) -> Page:
        """Read a part of the list of endpoints. Only asked of a provider whose looks show what lists do.

        Args:
            cursor: Of the page before; None for the first one.
            wanted: The ids of the endpoints that matter.

        Raises:
            EndpointError: As `observe`.
        """

    async def update(self, ref: EndpointRef, body: Json) -> Any:
        """Send one update, once, and never again by itself.

        Returns:
            The driver's own reading of what the provider acknowledged, for `Look.document`; None where it
            shows nothing.

        Raises:
            Ambiguous: The write may have arrived.
            EndpointError: Any other error of the tree proves that nothing was changed.
        """


class Connector(Protocol):
    """Hands out connections; the composition root implements it with the shared transport."""

    def connect(self, provider: str, credentials: Credentials, team: str | None) -> Connection:
        """A connection for one key; cheap, shares sockets and budget with all others of the same key."""


class Driver(Protocol):
    """Everything vendor-specific, pure but for `connect`. One per provider, listed in the registry."""

    @property
    def name(self) -> str:
        """The value of `spec.provider`, the name of the spec's block and the metric label."""

    @property
    def options(self) -> type[ApiModel]:
        """The model of the provider's block in the spec; its docstring describes the block."""

    @property
    def rules(self) -> Sequence[Rule]:
        """CEL rules that this provider adds to the schema."""

    @property
    def capabilities(self) -> Capabilities:
        """What this provider can do."""

    @property
    def origin(self) -> str:
        """Scheme and host of the provider's public API."""

    def desired(self, spec: InferenceEndpointSpec, options: ApiModel, secrets: SecretValues) -> Desired:
        """What the spec asks for in the form this provider can hold; pure and idempotent.

        Raises:
            InvalidSpec: The spec asks for what this provider cannot do.
            SecretMissing: A Secret or key behind `valueFrom` does not exist.
        """

    def secret_names(self, options: ApiModel) -> frozenset[str]:
        """Names of the Secrets behind `valueFrom`."""

    def agrees(self, path: FieldPath, wanted: Json, seen: Json) -> bool:
        """Whether two spellings of one field mean the same to this provider."""

    def confidential(self, path: FieldPath) -> bool:
        """Whether a field's live value may be a secret, so that it is never stored or shown."""

    def render(self, desired: Desired, observed: Observed, comment: str) -> Json:
        """The body of an update: what the spec declares, completed from the live object where the API wants it.

        Raises:
            InvalidSpec: A required field that neither spec nor live object gives, a value outside the
                provider's limits (naming the limit and its bounds), or a live field that cannot be sent back.
        """

    def connect(self, transport: Any, *, origin: str, credentials: Credentials, team: str | None) -> Connection:
        """A connection for one key, over a channel that the driver asks the transport for.

        Args:
            transport: The shared `providers.transport.Transport`; untyped, because the core knows no provider code.
            origin: The configured origin, or `self.origin`.
            credentials: The key.
            team: `EndpointRef.team`.
        """


class SecretReader(Protocol):
    """Reads Secrets of the resource's own namespace."""

    async def read(self, namespace: str, name: str, *, fresh: bool = False) -> SecretData | None:
        """The Secret, or None where there is none.

        Args:
            namespace: The resource's own.
            name: The Secret's.
            fresh: Do not answer from what a watch or an earlier read has left.

        Raises:
            Unavailable: The API server did not answer, or forbids it (the message says which).
        """


class StatusConflict(Exception):  # noqa: N818 - an outcome, not a fault
    """The object changed since it was read; nothing was written."""


class ResourceGone(Exception):  # noqa: N818 - an outcome, not a fault
    """The object no longer exists; nothing was written."""


class Cluster(Protocol):
    """What a pass needs of Kubernetes."""

    def current(self, uid: str) -> Resource | None:
        """The newest version of the object that was seen; None when it is gone or out of scope."""

    async def read(self, resource: Resource) -> Resource | None:
        """The object as the API server has it now; None when it is gone or was replaced by another uid.

        Raises:
            Unavailable: The API server did not answer.
        """

    async def write_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource:
        """Replace the status, guarded by the resourceVersion; returns the object as the API server stored it.

        Raises:
            StatusConflict: The object changed meanwhile.
            ResourceGone: It no longer exists.
            Unavailable: The answer is unknown; the write may have been stored.
        """

    def rivals(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        """All other resources in scope that name the endpoint, as last seen; asks nobody."""

    def claim_removed_at(self, provider: str, endpoint_id: str) -> float | None:
        """When, by the monotonic clock, this process last saw a resource that named the endpoint go away."""

    async def claims(self, resource: Resource, provider: str, endpoint_id: str) -> Sequence[Resource]:
        """All other resources of any namespace that name the endpoint, asked of the API server.

        Raises:
            Unavailable: The API server did not answer.
        """

    async def write_connection(self, resource: Resource, connection: ConnectionMap) -> None:
        """See to it that the ConfigMap exists and holds this; writes nothing where it does.

        Raises:
            InvalidSpec: It belongs to somebody else, or must not be written.
            Unavailable: The API server did not answer, or the ConfigMap is about to vanish.
        """

    def event(self, resource: Resource, *, warning: bool, reason: str, message: str) -> None:
        """Post an Event in the background; losing one is allowed."""


class Authority(Protocol):
    """Whether this process may write to providers, asked right before each write."""

    def may_write(self) -> bool:
        """True while this process holds what it takes (its Lease, by a monotonic clock)."""

    @property
    def succeeded_at(self) -> float | None:
        """When (monotonic) this process became active after another; None if there was none before it.

        A write that its predecessor has lost may land until Q after that.
        """


class PassObserver(Protocol):
    """Is told what passes do; for metrics."""

    def passed(self, *, result: str, seconds: float) -> None:
        """A pass ended."""

    def wrote(self, *, provider: str, outcome: str) -> None:
        """An update was sent: `confirmed`, `ambiguous` or `refused`."""

    def reported(self, resource: Resource, status: InferenceEndpointStatus, observed: Observed | None) -> None:
        """This is what the resource's status says from now on, after a look if there was one."""

    def settled(self, *, provider: str, result: str) -> None:
        """An update has taken effect and the status says so, with a result as in `status.history`."""

    def gone(self, uid: str) -> None:
        """The resource no longer exists."""
