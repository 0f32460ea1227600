"""What the cluster holds, as far as it was seen: the newest version of each resource, and who names what.

Filled by watch events, by our own writes, and by lists; asked without waiting. The framework that watches never says
that something vanished while it was not looking; `unlisted` tells by a list of our own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from inference_operator.core.model import Resource
from inference_operator.kube.resources import compact, is_newer

K = TypeVar("K", bound=Hashable)

SecretKey = tuple[str, str]
"""Namespace and name."""

Claimed = tuple[str, str]
"""Provider and id of an endpoint."""

REMEMBER_SECONDS: Final = 3600.0
"""How long deletions are remembered by default; must not be shorter than Q, see `Store.last_claim_removed`."""


def referenced_secrets(spec: Mapping[str, Any]) -> set[str]:
    """Names of all Secrets that a raw spec refers to: the key's, and every `secretKeyRef` of the provider's block."""
    block = spec.get(spec.get("provider", ""), {})
    references = [spec.get("credentialsSecretRef"), *_secret_key_refs(block)]
    return {str(reference["name"]) for reference in references if isinstance(reference, dict) and "name" in reference}


def _secret_key_refs(value: Any) -> Iterable[Any]:
    match value:
        case dict():
            for name, inner in value.items():
                if name == "secretKeyRef":
                    yield inner
                else:
                    yield from _secret_key_refs(inner)
        case list():
            for inner in value:
                yield from _secret_key_refs(inner)
        case _:
            pass


@dataclass(frozen=True, slots=True)
class _Seen:
    version: str
    at: float
    resource: Resource | None  # None: removed
    told: str  # the newest version that came by itself; `version` may be that of an answer to us


class Store:
    """The resources of our scope. Not thread-safe; belongs to the event loop's thread."""

    def __init__(
        self,
        *,
        secret_names: Callable[[Mapping[str, Any]], Collection[str]] = referenced_secrets,
        remember_seconds: float = REMEMBER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty store.

        Args:
            secret_names: Names of the Secrets that a raw spec refers to; must take any spec without raising.
            remember_seconds: How long a deletion is remembered.
            clock: Tells the time of every observation; steady, in seconds.
        """
        self._secret_names = secret_names
        self._remember_seconds = remember_seconds
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._removed: dict[str, _Seen] = {}
        self._claims: _Index[Claimed] = _Index()
        self._claims_removed: dict[Claimed, float] = {}
        self._secrets: _Index[SecretKey] = _Index()

    def __len__(self) -> int:
        return len(self._seen)

    def get(self, uid: str) -> Resource | None:
        """The newest version that was seen; None if it is gone or was never in scope."""
        seen = self._seen.get(uid)
        return seen.resource if seen else None

    def resources(self) -> list[Resource]:
        """The newest version of every resource."""
        return [seen.resource for seen in self._seen.values() if seen.resource is not None]

    def put(self, resource: Resource, *, asked_at: float | None = None) -> bool:
        """Keep a version of a resource, unless a newer one or its deletion was seen.

        Args:
            resource: The version.
            asked_at: For what the API server answered to a read that began at this time. Such an answer counts more
                than an older observation even if its number is lower, as after a restore of the cluster's storage.

        Returns:
            Whether it was kept. The same version once more is not.
        """
        known = self._seen.get(resource.uid) or self._removed.get(resource.uid)
        if known is not None and not _supersedes(resource.resource_version, known, asked_at):
            return False
        self._removed.pop(resource.uid, None)
        self._keep(resource, told=resource.resource_version)
        return True

    def answered(self, resource: Resource, *, asked_at: float | None = None) -> None:
        """Keep what the API server has answered to a request of ours for one resource; see `put`.

        It brings nothing back: such a request is answered in the same way for what has left our scope.
        """
        known = self._seen.get(resource.uid)
        if known is not None and _supersedes(resource.resource_version, known, asked_at):
            self._keep(resource, told=known.told)

    def _keep(self, resource: Resource, *, told: str) -> None:
        kept = compact(resource, self.get(resource.uid))
        self._seen[resource.uid] = _Seen(resource.resource_version, self._clock(), kept, told)
        secrets = {(resource.namespace, name) for name in self._secret_names(resource.spec)}
        self._secrets.replace(resource.uid, secrets)
        self._replace_claims(resource.uid, _claimed(resource))

    def remove(self, uid: str, version: str | None = None) -> Resource | None:
        """Forget a resource that was deleted or has left our scope.

        Args:
            uid: Of the resource.
            version: The resourceVersion of the deletion, where it is known; one that is older than a version that came
                by itself is ignored. Answers to us may be newer than the moment at which it left our scope.

        Returns:
            What was forgotten, if anything.
        """
        known = self._seen.get(uid) or self._removed.get(uid)
        if known and version and is_newer(known.told, version):
            return None
        self._seen.pop(uid, None)
        self._removed.pop(uid, None)  # so that the newest stands last
        self._forget_old_deletions()
        last = version or (known.version if known else None)
        if last:
            self._removed[uid] = _Seen(last, self._clock(), None, told=last)
        self._secrets.replace(uid, set())
        self._replace_claims(uid, set())
        return known.resource if known else None

    def unlisted(self, listed: Collection[str], *, asked_at: float) -> list[str]:
        """The uids of what a complete list should show and does not, and so must have vanished.

        Args:
            listed: The uids of the list.
            asked_at: When the list began; what was seen after that need not be in it.
        """
        return [uid for uid, seen in self._seen.items() if uid not in listed and seen.at < asked_at]

    def claimants(self, provider: str, endpoint_id: str) -> frozenset[str]:
        """The uids of all resources in scope that name the endpoint."""
        return self._claims.uids((provider, endpoint_id))

    def rivals(self, resource: Resource) -> frozenset[str]:
        """The uids of all other resources in scope that name the endpoint of this one."""
        claims = _claimed(resource)
        return frozenset(uid for claim in claims for uid in self._claims.uids(claim)) - {resource.uid}

    def last_claim_removed(self, provider: str, endpoint_id: str) -> float | None:
        """When a resource that named the endpoint was last seen to go (monotonic); None if none was."""
        return self._claims_removed.get((provider, endpoint_id))

    def secrets(self, uid: str) -> frozenset[SecretKey]:
        """The Secrets that a resource refers to."""
        return self._secrets.keys(uid)

    def dependents(self, secret: SecretKey) -> frozenset[str]:
        """The uids of all resources that refer to a Secret."""
        return self._secrets.uids(secret)

    def _replace_claims(self, uid: str, claims: set[Claimed]) -> None:
        for claim in self._claims.replace(uid, claims):
            self._claims_removed.pop(claim, None)  # so that the newest stands last
            self._claims_removed[claim] = self._clock()

    def _forget_old_deletions(self) -> None:
        horizon = self._clock() - self._remember_seconds
        while self._removed and (uid := next(iter(self._removed))) and self._removed[uid].at < horizon:
            del self._removed[uid]
        while self._claims_removed and self._claims_removed[claim := next(iter(self._claims_removed))] < horizon:
            del self._claims_removed[claim]


def _supersedes(version: str, known: _Seen, asked_at: float | None) -> bool:
    if version == known.version:
        return False
    return is_newer(version, known.version) or (asked_at is not None and asked_at > known.at)


def _claimed(resource: Resource) -> set[Claimed]:
    endpoint_id = resource.spec.get("endpointId") or resource.status.get("endpointId")
    return {(str(resource.spec.get("provider")), str(endpoint_id))} if endpoint_id else set()


class _Index(Generic[K]):
    """Which resources name which things, both ways."""

    def __init__(self) -> None:
        self._uids: dict[K, set[str]] = {}
        self._keys: dict[str, frozenset[K]] = {}

    def replace(self, uid: str, keys: set[K]) -> frozenset[K]:
        """Set what a resource names; returns what it names no longer."""
        lost = self._keys.pop(uid, frozenset()) - keys
        for key in lost:
            self._uids[key].discard(uid)
            if not self._uids[key]:
                del self._uids[key]
        for key in keys:
            self._uids.setdefault(key, set()).add(uid)
        if keys:
            self._keys[uid] = frozenset(keys)
        return lost

    def uids(self, key: K) -> frozenset[str]:
        return frozenset(self._uids.get(key, ()))

    def keys(self, uid: str) -> frozenset[K]:
        return self._keys.get(uid, frozenset())
