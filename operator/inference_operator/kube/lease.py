"""The Lease of the active process: a trace that somebody was active here, and, with election, the right to be it.

Without election it is kept all the same. A process that finds a Lease knows that a write of a predecessor may still
be on its way; one that finds none knows that there is no predecessor. That is also why a Lease is never deleted.

Election works as in client-go: whoever replaces the version that it read holds the Lease, and it may be taken over
once nobody has seen it change for its duration. Only steady clocks of single processes are compared with themselves.
A Lease does not fence. What makes two active processes harmless are the guarded intents before each provider write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from inference_operator.kube.api import Refused, Unanswered, path_of

if TYPE_CHECKING:
    from inference_operator.kube.api import Api, JsonObject

DURATION_SECONDS: Final = 15
"""How long others leave a Lease alone that its holder no longer renews."""

DEADLINE_SECONDS: Final = 10.0
"""How long after its last renewal a holder may still write; the rest of the duration is for a write under way."""

RETRY_SECONDS: Final = 2.0
"""Period of attempts, to get the Lease or to renew it, with election."""

RENEW_SECONDS: Final = 5.0
"""Period of renewals without election."""

REQUEST_SECONDS: Final = 3.0
"""The longest that one attempt may take, so that two fit into the deadline."""

_PASSING: Final = {HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_SERVER_ERRORS: Final = HTTPStatus.INTERNAL_SERVER_ERROR

log = logging.getLogger(__name__)


class LeaseError(Exception):
    """The Lease cannot be kept, and waiting does not help; the message says what to do."""


class LeaseLost(Exception):  # noqa: N818 - an outcome, not a fault
    """Another process is active now, or this one could not prove for too long that it is."""


class Lease:
    """One Lease, kept by this process. Implements `core.port.Authority`."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        election: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe a Lease; nothing is read or written before `acquire`.

        Args:
            api: The API server.
            namespace: Of the Lease; must exist.
            name: Of the Lease; one per shard.
            identity: Of this process; unique to it, so that nobody takes a predecessor's Lease for its own.
            election: Whether holding the Lease is a condition for being active.
            clock: Steady, in seconds.
        """
        self._api = api
        self._collection = path_of("apis", "coordination.k8s.io", "v1", "namespaces", namespace, "leases")
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._election = election
        self._clock = clock
        self._held: JsonObject | None = None
        self._renewed_at = float("-inf")
        self._seen: tuple[str, float] = ("", 0.0)
        self._existed = False
        self._acquired_at: float | None = None

    @property
    def existed(self) -> bool:
        """Whether there was a Lease when this process became active: a predecessor's write may still land."""
        return self._existed

    @property
    def acquired_at(self) -> float | None:
        """When this process became active, by the clock; None before."""
        return self._acquired_at

    def may_write(self) -> bool:
        """Whether this process may write to providers; always, without election."""
        return not self._election or self._clock() < self._renewed_at + DEADLINE_SECONDS

    async def acquire(self) -> None:
        """Get the Lease; with election, wait for it.

        Raises:
            LeaseError: It is not permitted, or there is no such namespace.
        """
        log.info("getting the Lease %s/%s as %s", self._namespace, self._name, self._identity)
        while not await self._attempt():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(RETRY_SECONDS)

    async def keep(self) -> None:
        """Renew the Lease until cancelled.

        Raises:
            LeaseLost: With election only: it is no longer ours.
        """
        while True:
            await asyncio.sleep(RETRY_SECONDS if self._election else RENEW_SECONDS)
            try:
                ours = await self._renew()
            except LeaseError as error:
                log.warning("%s", error)
                ours = None
            if self._election and (ours is False or not self.may_write()):
                raise LeaseLost(f"the Lease {self._namespace}/{self._name} is no longer held by this process")

    async def release(self) -> None:
        """Let go of the Lease, so that a successor need not wait. Failing is harmless."""
        if self._held is None:
            return
        held, self._held, self._renewed_at = self._held, None, float("-inf")
        spec = {**held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._swap(held, spec)
        except (Refused, Unanswered) as error:
            log.info("the Lease was not released and has to expire: %s", error)

    async def _renew(self) -> bool | None:
        """Write the version that we hold anew; whether the Lease is ours, None if that is not known."""
        held = self._held
        if held is None:
            return await self._attempt()
        began = self._clock()
        try:
            self._hold(await self._swap(held, self._spec(held["spec"])), began, existed=True)
        except Unanswered as error:
            self._note(error)
            return None
        except Refused as error:
            if error.status in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
                self._held = None
                return await self._attempt()
            self._note(error)
            return None
        return True

    async def _attempt(self) -> bool | None:
        """Read the Lease, and write it if it is free, ours or absent; whether it is ours, None if that is not known."""
        began = self._clock()
        try:
            found = await self._read()
            if found is None:
                self._hold(await self._create(), began, existed=False)
            elif self._is_free(found):
                self._hold(await self._swap(found, self._spec(found.get("spec", {}))), began, existed=True)
            else:
                return False
        except (Refused, Unanswered) as error:
            self._note(error)
            return None
        return True

    def _note(self, error: Refused | Unanswered) -> None:
        """Take note of a failure that time may cure.

        Raises:
            LeaseError: Time does not cure it.
        """
        if isinstance(error, Unanswered) or error.status in _PASSING or error.status >= _SERVER_ERRORS:
            log.info("the Lease could not be written: %s", error)
            return
        raise self._explained(error) from None

    def _is_free(self, found: JsonObject) -> bool:
        version, spec = found["metadata"]["resourceVersion"], found.get("spec", {})
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        expired = self._clock() - self._seen[1] >= spec.get("leaseDurationSeconds", DURATION_SECONDS)
        return expired or not self._election or spec.get("holderIdentity") in {None, "", self._identity}

    def _hold(self, lease: JsonObject, since: float, *, existed: bool) -> None:
        self._held, self._renewed_at = lease, since
        if self._acquired_at is None:
            self._existed, self._acquired_at = existed, self._clock()

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # for people only
        ours = before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": before.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (not ours),
        }

    async def _read(self) -> JsonObject | None:
        try:
            return await self._api.get(self._collection + path_of(self._name), timeout_seconds=REQUEST_SECONDS)
        except Refused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def _create(self) -> JsonObject:
        body = {"metadata": {"name": self._name}, "spec": self._spec({"leaseTransitions": -1})}
        return await self._api.create(self._collection, body, timeout_seconds=REQUEST_SECONDS)

    async def _swap(self, lease: JsonObject, spec: dict[str, Any]) -> JsonObject:
        path = self._collection + path_of(self._name)
        known = lease["metadata"]
        return await self._api.compare_and_swap(path, known, field="spec", value=spec, timeout_seconds=REQUEST_SECONDS)

    def _explained(self, error: Refused) -> LeaseError:
        where = f"the Lease {self._name!r} cannot be kept in namespace {self._namespace!r}"
        match error.status:
            case HTTPStatus.FORBIDDEN:
                cure = "grant get, create and patch on leases.coordination.k8s.io there, or set --lease-namespace"
            case HTTPStatus.NOT_FOUND:
                cure = "create the namespace, or set --lease-namespace"
            case _:
                cure = "the API server says why"
        return LeaseError(f"{where}: {error.message}; {cure}")
