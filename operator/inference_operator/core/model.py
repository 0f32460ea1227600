"""The neutral words in which decisions are made; no vendor, framework, clock or network in here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

from pydantic import SecretStr

Json = Any
"""A JSON value in canonical form: lists whose order means nothing are sorted, absent is not null."""

FieldPath = str
"""Where a value stands in the spec, as users write it: `scaling.maxReplicas`, `novita.envs[HF_HOME]`."""

HASH_SCHEME = "v1"
REPLICAS: FieldPath = "scaling.replicas"

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class State(StrEnum):
    """What an endpoint does, in neutral words; `status.state`."""

    PENDING = "Pending"
    CREATING = "Creating"
    UPDATING = "Updating"
    RUNNING = "Running"
    WAKING = "Waking"
    SLEEPING = "Sleeping"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"
    UNKNOWN = "Unknown"

    @property
    def in_transition(self) -> bool:
        """Whether the provider is at work on the endpoint right now."""
        return self in {State.CREATING, State.UPDATING, State.WAKING, State.STOPPING}


@dataclass(frozen=True, slots=True)
class EndpointRef:
    """Which endpoint, and as whom.

    Attributes:
        provider: Name of the driver.
        endpoint_id: The provider's id of the endpoint; one path segment.
        team: The provider's team to act as, where it has such a notion.
    """

    provider: str
    endpoint_id: str
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """A provider key; no repr shows it."""

    token: SecretStr


@dataclass(frozen=True, slots=True)
class Field:
    """One declared leaf of the spec in the form that the provider can hold.

    Attributes:
        value: Canonical value as it would read back; confidential where it comes from a Secret.
        readable: Whether the provider's reads show it. Write-only fields are remembered by hash alone.
        identity: What stands for the value in the hash: the reference for a value out of a Secret,
            so that nothing derived from a Secret's content is ever stored.
    """

    value: Json = field(repr=False)
    readable: bool = True
    identity: Json = None

    @property
    def hashed(self) -> Json:
        """The value's stand-in for the hash."""
        return self.value if self.identity is None else self.identity


@dataclass(frozen=True, slots=True)
class Desired:
    """What one generation of a resource asks of its endpoint: only what the spec declares.

    Attributes:
        ref: The endpoint.
        fields: Declared leaves by path.
        owned: Paths of lists that the spec gives and so owns whole: whatever the provider shows below
            one of them and `fields` lacks is a difference (`novita.envs`).
        secrets: Secrets behind `valueFrom`, name to resourceVersion at the time of rendering.
        warnings: Hazards of the declared fields that the user should know of; one sentence each.
        hash: `<scheme>:<digest of all fields but replicas>:<replicas or ->`. The split tells a change of nothing but
            replicas from any other; the scheme tells an upgrade of this function from a change by the user. No live
            value and no comment is in it.
        payload: The driver's own rendering material; the core never looks inside.
    """

    ref: EndpointRef
    fields: Mapping[FieldPath, Field]
    owned: frozenset[FieldPath] = frozenset()
    secrets: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    payload: Any = field(default=None, repr=False, compare=False)
    hash: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Derive the hash, which a pass asks for many times."""
        object.__setattr__(self, "hash", self._hash())

    @property
    def readable(self) -> Mapping[FieldPath, Field]:
        """The declared fields that can be compared with what the provider shows."""
        return {path: declared for path, declared in self.fields.items() if declared.readable}

    @property
    def unverifiable(self) -> tuple[FieldPath, ...]:
        """Declared fields that the provider never shows."""
        return tuple(sorted(path for path, declared in self.fields.items() if not declared.readable))

    def _hash(self) -> str:
        rest = {path: declared.hashed for path, declared in self.fields.items() if path != REPLICAS}
        # An empty list that is owned is a wish, too: it differs from a list that is not managed.
        rest |= dict.fromkeys(self.owned, "owned")
        digest = hashlib.sha256(canonical_json(rest).encode()).hexdigest()[:32]
        replicas = self.fields[REPLICAS].value if REPLICAS in self.fields else "-"
        return f"{HASH_SCHEME}:{digest}:{replicas}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Readable fields of an endpoint, or of one of its versions, by path.

    Attributes:
        values: What the provider shows. May hold confidential values (environment variables).
        hints: Further evidence for a field; agreement with either counts (a fixed replica count shows
            as equal bounds or as the desired count).
    """

    values: Mapping[FieldPath, Json] = field(repr=False)
    hints: Mapping[FieldPath, Json] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Version:
    """One entry of a provider's version history."""

    number: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class History:
    """A provider's version history, read whole.

    Attributes:
        newest: The numeric maximum of all keys of all pages; -1 for an empty history.
        entries: The entries from the asked-for base on, ascending by number.
    """

    newest: int
    entries: tuple[Version, ...]

    @property
    def fingerprint(self) -> int:
        """Equal as long as a history read from the same base on is the same; of no worth outside this process."""
        shown = [[each.number, each.snapshot.values, each.snapshot.hints] for each in self.entries]
        return hash((self.newest, canonical_json(shown)))


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure that the provider reports of an endpoint: its code and what cures it."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Replicas:
    """Replica counts as the provider reports them; None where it does not."""

    current: int | None = None
    desired: int | None = None
    updated: int | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """One clean, schema-valid look at an endpoint.

    Attributes:
        live: The configuration as it reads now.
        state: Neutral state.
        provider_state: The provider's own words, with phase and error code where it has them.
        minimum: The least number of replicas that the live configuration allows; 0 allows sleep.
        failure: Set where the provider reports one.
        replicas: Replica counts.
        gpu: GPU name and count as the provider tells them, for people.
        url: Where applications reach the endpoint, where the provider shows that.
        listed: What the provider's lists show of the endpoint, as of this look; equal to an entry of a list as long
            as nothing that lists show has moved. None where the provider has no lists.
        restless: The replica counts may move by themselves, and no list would show it.
        history: The version history from the asked-for base on; None when the provider keeps none or
            the look did not ask for it.
        document: The driver's own reading, for rendering an update; the core never looks inside.
    """

    live: Snapshot
    state: State
    provider_state: str
    minimum: int = 0
    failure: Failure | None = None
    replicas: Replicas = Replicas()
    gpu: str | None = None
    url: str | None = None
    listed: Any = field(default=None, repr=False, compare=False)
    restless: bool = False
    history: History | None = None
    document: Any = field(default=None, repr=False, compare=False)

    @property
    def fingerprint(self) -> int:
        """Equal as long as a look without history shows the same; of no worth outside this process."""
        shown = (self.state, self.provider_state, self.minimum, self.failure, self.replicas, self.gpu, self.url)
        return hash((shown, canonical_json([self.live.values, self.live.hints])))


class Urgency(IntEnum):
    """Which of the calls that wait for one key's budget goes first: the greater."""

    ROUTINE = 0
    """Drift, and lists."""

    ROLLOUT = 1
    """Endpoints on which something is under way."""

    WRITE = 2
    """Updates, and the reads that one waits for."""


@dataclass(frozen=True, slots=True)
class Look:
    """How deep to look.

    Attributes:
        history: Read the version history (providers without one ignore this).
        base: With history: bodies are wanted from this version on; None: only of the newest.
        limits: Read what a write needs beside the endpoint (Novita's parameter limits).
        urgency: Which calls this look's go before, where calls have to wait.
        listed: `Observed.listed` of an earlier look that a list has confirmed since; need not be read again.
        document: `Observed.document` of this moment, or what an update has just returned; need not be read again.
    """

    history: bool = False
    base: int | None = None
    limits: bool = False
    urgency: Urgency = Urgency.ROLLOUT
    listed: Any = field(default=None, repr=False)
    document: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Resource:
    """An InferenceEndpoint as the API server last showed it; `spec` and `status` are the raw mappings."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created_at: datetime
    deleting: bool
    annotations: Mapping[str, str] = field(repr=False)
    spec: Mapping[str, Any] = field(repr=False)
    status: Mapping[str, Any] = field(repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class SecretData:
    """A Secret as read; the values never show in a repr."""

    resource_version: str
    data: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SecretValues:
    """The Secrets of one pass: what is behind `valueFrom`, by Secret name.

    Attributes:
        secrets: Secrets that exist. A reference to any other name or key raises SecretMissing.
    """

    secrets: Mapping[str, SecretData] = field(default_factory=dict)


def canonical_json(value: Json) -> str:
    """The one text of a JSON value: keys sorted, no spaces, no non-finite numbers."""
    return _CANONICAL.encode(value)
