"""The Lease of the active process: a trace that somebody was active here, and, with election, the right to be it.

Without election it is kept all the same. A process that finds a Lease knows that a write of a predecessor may still
be on its way; one that finds none knows that there is no predecessor. That is also why a Lease is never deleted.

Election works as in client-go: whoever replaces the version that it read holds the Lease, and it may be taken over
once nobody has seen it change for its duration. Only steady clocks of single processes are compared with themselves.
A Lease does not fence. What makes two active processes harmless are the guarded intents before each provider write.

The election that comes with the official client was not taken: it measures by the wall clock, lets a request that
hangs outlast the deadline, ends at the first lost connection, and releases nothing when the process ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
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
"""Period of renewals with election, those that failed included: four of them fit into the deadline."""

LOOK_SECONDS: Final = 0.5
"""How often a standby looks at the Lease, which is how much later than its duration it may take it over."""

RENEW_SECONDS: Final = 5.0
"""Period of renewals without election."""

REQUEST_SECONDS: Final = 1.9
"""The longest that one request may take; less than the period of renewals, so that one that hangs delays none."""

_VANISHED: Final = "vanished"
_PASSING: Final = {HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_SERVER_ERRORS: Final = HTTPStatus.INTERNAL_SERVER_ERROR

log = logging.getLogger(__name__)


class LeaseError(Exception):
    """The Lease cannot be kept, and waiting does not help; the message says what to do."""


class LeaseLost(Exception):  # noqa: N818 - an outcome, not a fault
    """Another process is active now, or this one could not prove for too long that it is."""


class Lease:
    """One Lease, kept by this process. Implements `core.port.Authority`."""

    def __init__(  # noqa: PLR0913 - the composition root names each part once
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        election: bool,
        clock: Callable[[], float] = time.monotonic,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """Describe a Lease; nothing is read or written before `acquire`.

        Args:
            api: The API server.
            namespace: Of the Lease; must exist.
            name: Of the Lease; one per scope (see `scopes`).
            identity: Of this process; unique to it, so that nobody takes a predecessor's Lease for its own.
            election: Whether holding the Lease is a condition for being active.
            clock: Steady, in seconds.
            on_failure: Told of every attempt to get or to renew the Lease that failed.
        """
        self._api = api
        self._collection = path_of("apis", "coordination.k8s.io", "v1", "namespaces", namespace, "leases")
        self._path = self._collection + path_of(name)
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._election = election
        self._clock = clock
        self._on_failure = on_failure
        self._held: JsonObject | None = None
        self._claimed = False
        self._tried_at = self._renewed_at = float("-inf")
        self._seen = ""
        self._expires_at = float("-inf")
        self._existed = False
        self._acquired_at: float | None = None
        self._over = False

    @property
    def existed(self) -> bool:
        """Whether there was a Lease when this process became active: a predecessor's write may still land."""
        return self._existed

    @property
    def acquired_at(self) -> float | None:
        """When this process became active, by the clock; None before."""
        return self._acquired_at

    def may_write(self) -> bool:
        """Whether this process is the active one and may write to providers; never again once it has ended."""
        if self._acquired_at is None or self._over:
            return False
        return not self._election or self._clock() < self._renewed_at + DEADLINE_SECONDS

    async def acquire(self) -> None:
        """Get the Lease; with election, wait for it.

        Raises:
            LeaseError: It is not permitted, or there is no such namespace.
        """
        log.info("getting the Lease %s/%s as %s", self._namespace, self._name, self._identity)
        while not await self._attempt():
            now = self._clock()
            due = self._tried_at + LOOK_SECONDS
            await asyncio.sleep((min(due, self._expires_at) if self._expires_at > now else due) - now)
        log.info("holding the Lease %s/%s", self._namespace, self._name)

    async def keep(self) -> None:
        """Renew the Lease until cancelled.

        Raises:
            LeaseLost: With election only: it is no longer ours, or its deadline has passed.
        """
        with suppress(TimeoutError):
            while await self._kept():
                pass
        self._over = True
        raise LeaseLost(f"the Lease {self._namespace}/{self._name} is no longer held by this process")

    async def release(self) -> None:
        """Be active no longer, and let go of the Lease, so that a successor need not wait. Failing is harmless."""
        self._over = True
        if not self._claimed:
            return
        try:
            # Read where an attempt that was cut off may have been carried out all the same.
            if not (self._held and await self._let_go(self._held)) and (found := await self._read()):
                await self._let_go(found)
        except (Refused, Unanswered) as error:
            log.info("the Lease was not released and has to expire: %s", error)

    async def _kept(self) -> bool:
        """One renewal, in time for the deadline; False if the Lease is certainly not ours.

        Raises:
            TimeoutError: The deadline has passed, with election.
        """
        period = RETRY_SECONDS if self._election else RENEW_SECONDS
        left = self._renewed_at + DEADLINE_SECONDS - self._clock() if self._election else None
        async with asyncio.timeout(left):
            await asyncio.sleep(self._tried_at + period - self._clock())
            try:
                return await self._attempt() is not False
            except LeaseError as error:
                log.warning("%s", error)
                return True

    async def _attempt(self) -> bool | None:
        """Renew what we hold, or else take the Lease if it is free; whether it is ours, None if that is not known."""
        began = self._tried_at = self._clock()
        try:
            return await self._renew(began) or await self._take(began)
        except (Refused, Unanswered) as error:
            self._on_failure()
            self._note(error)
            return None

    async def _renew(self, began: float) -> bool:
        held = self._held
        if held is None:
            return False
        try:
            self._hold(await self._swap(held, self._spec(held["spec"])), began)
        except Refused as error:
            if error.status not in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
                raise
            self._held = None
            return False
        return True

    async def _take(self, began: float) -> bool:
        found = await self._read()
        if not self._is_free(found):
            return False
        self._claimed = True
        if self._acquired_at is None:
            self._existed = found is not None or bool(self._seen)
        if found is None:
            self._hold(await self._create(), began)
        else:
            self._hold(await self._swap(found, self._spec(found.get("spec", {}))), began)
        return True

    def _is_free(self, found: JsonObject | None) -> bool:
        """Whether the Lease may be taken. One that another process holds must not have changed for its duration.

        Nor may one that has vanished before our eyes: whoever held it has not noticed yet.
        """
        version, spec = (found["metadata"]["resourceVersion"], found.get("spec", {})) if found else (_VANISHED, {})
        if not self._election or not (spec.get("holderIdentity") if found else self._seen):
            return True
        if spec.get("holderIdentity") == self._identity:
            return True
        if version != self._seen:
            self._seen = version
            self._expires_at = self._clock() + max(DURATION_SECONDS, spec.get("leaseDurationSeconds", 0))
        return self._clock() >= self._expires_at

    def _hold(self, lease: JsonObject, since: float) -> None:
        self._held, self._renewed_at, self._seen = lease, since, ""
        if self._acquired_at is None:
            self._acquired_at = self._clock()

    def _note(self, error: Refused | Unanswered) -> None:
        """Take note of a failure that time may cure.

        Raises:
            LeaseError: Time does not cure it.
        """
        if isinstance(error, Unanswered) or error.status in _PASSING or error.status >= _SERVER_ERRORS:
            log.info("the Lease could not be kept: %s", error)
            return
        raise self._explained(error) from None

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
            return await self._api.get(self._path, timeout_seconds=REQUEST_SECONDS)
        except Refused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def _create(self) -> JsonObject:
        body = {"metadata": {"name": self._name}, "spec": self._spec({"leaseTransitions": -1})}
        return await self._api.create(self._collection, body, timeout_seconds=REQUEST_SECONDS)

    async def _swap(self, lease: JsonObject, spec: dict[str, Any]) -> JsonObject:
        return await self._api.compare_and_swap(
            self._path, lease["metadata"], field="spec", value=spec, timeout_seconds=REQUEST_SECONDS
        )

    async def _let_go(self, lease: JsonObject) -> bool:
        """Release this version of the Lease; whether it was ours, and the newest."""
        if lease["spec"].get("holderIdentity") != self._identity:
            return False
        try:
            await self._swap(lease, {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1})
        except Refused as error:
            if error.status not in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
                raise
            return False
        return True

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
