"""Carries one write out: intent, update, outcome; the transitions of `core/write.py` that do I/O."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from inference_operator.api.status import Operation
from inference_operator.core import findings as found
from inference_operator.core.memory import Memory, rfc3339
from inference_operator.core.model import Json
from inference_operator.core.plan import Plan, Send
from inference_operator.core.port import Authority, Cluster, PassObserver
from inference_operator.core.report import View
from inference_operator.core.rollouts import Rollouts
from inference_operator.core.schedule import Pace
from inference_operator.errors import Ambiguous, EndpointError, Unavailable
from inference_operator.reconcile.look import Lookout
from inference_operator.reconcile.publish import Publisher
from inference_operator.reconcile.resolve import Resolved, is_suspended
from inference_operator.reconcile.work import Clock, Sight, Work

log = structlog.get_logger(__name__)

STALE_CRD = (
    "The API server did not keep what was written to the status: the installed CRD is older than the operator. "
    "Apply the files in crds/; nothing is sent until then."
)


@dataclass(frozen=True, slots=True)
class Answered:
    """The provider confirmed the write, or its answer was lost (then `work.memory` holds the operation open).

    Attributes:
        work: The pass, whose memory tells which of the two.
        operation: The write.
        acknowledged: What the provider's answer shows, as the look right after the write takes it over.
    """

    work: Work
    operation: Operation
    acknowledged: Any = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The write was certainly not carried out; `work` holds the stored intent where there is one."""

    work: Work
    operation: Operation | None
    error: EndpointError


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Nothing was sent, because this process may not, or the world has moved on between intent and sending."""

    work: Work


@dataclass(frozen=True, slots=True)
class Unstored:
    """Nothing was sent, and the intent may be stored all the same."""

    operation: Operation
    error: EndpointError


@dataclass(frozen=True, slots=True)
class Pruned:
    """The API server did not keep the intent; nothing was sent."""

    work: Work


Sent = Answered | Refused | Withdrawn | Unstored | Pruned


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends updates, each at most once."""

    cluster: Cluster
    lookout: Lookout
    publisher: Publisher
    authority: Authority
    rollouts: Rollouts
    pace: Pace
    clock: Clock
    observer: PassObserver

    async def send(self, work: Work, resolved: Resolved, sight: Sight, decided: Plan, send: Send) -> Sent:
        """Send what was decided.

        Raises:
            StatusConflict: The object changed before the intent was stored.
            ResourceGone: It no longer exists.
        """
        was_ours = self.rollouts.is_ours(work.uid)
        deadline = float(resolved.declared.spec.effective_progress_deadline_seconds)
        self.rollouts.begin(work.uid, resolved.account, now=self.clock.now(), deadline=deadline)
        sent: Sent | None = None
        try:
            sent = await self._send(work, resolved, sight, decided, send)
        finally:
            if not isinstance(sent, Answered) and not was_ours:
                self.rollouts.end(work.uid)
        return sent

    async def _send(self, work: Work, resolved: Resolved, sight: Sight, decided: Plan, send: Send) -> Sent:
        if not self._may_still_send(work):
            return Withdrawn(work)
        comment = _comment(work, resolved)
        try:
            body = resolved.declared.driver.render(resolved.desired, sight.observed, comment)
            await resolved.connection.reserve()
        except EndpointError as error:
            return Refused(work, None, error)
        operation = self._operation(work, resolved, send, comment)
        started = self.clock.now()
        try:
            work = await self._store(work, decided.memory.opened(operation), resolved, sight)
        except Unavailable as error:
            return Unstored(operation, error)
        if work.status.operation != operation or work.status.updates != work.memory.updates:
            return Pruned(work)
        try:
            contested = await self._is_contested(work, resolved)
        except Unavailable as error:
            return Unstored(operation, error)
        if contested:
            log.info("another resource names the endpoint; nothing was sent")
            return Withdrawn(work)
        if self.clock.now() - started >= self.pace.claim or not self._may_still_send(work):
            return Withdrawn(work)
        for hazard in resolved.desired.warnings:
            if hazard not in work.recollection.warned:
                self.cluster.event(work.resource, warning=True, reason="WriteHazard", message=hazard)
        said = {"reason": send.reason, "fields": sorted(send.effect.sent), "base": send.base_version}
        # To make a line takes as long as all else between the intent and the update; while the answer is on its way,
        # nobody waits for it.
        self.clock.soon(partial(log.info, "sending an update", **said))
        return await self._update(work, resolved, operation, body)

    async def _update(self, work: Work, resolved: Resolved, operation: Operation, body: Json) -> Sent:
        provider, begun = resolved.declared.driver.name, self.clock.now()
        acknowledged = None
        try:
            acknowledged = await resolved.connection.update(resolved.desired.ref, body)
        except Ambiguous as error:
            log.warning("the outcome of the update is not known", error=error.message)
            memory, outcome = work.memory, "ambiguous"
        except EndpointError as error:
            self.observer.wrote(provider=provider, outcome="refused")
            return Refused(work, operation, error)
        else:
            memory, outcome = work.memory.confirmed(time=self.clock.today()), "confirmed"
        self.observer.wrote(provider=provider, outcome=outcome)
        recollection = work.recollection.sent(operation, begun=begun, now=self.clock.now())
        recollection = replace(recollection, warned=resolved.desired.warnings)
        return Answered(replace(work, memory=memory, recollection=recollection), operation, acknowledged)

    async def _store(self, work: Work, intent: Memory, resolved: Resolved, sight: Sight) -> Work:
        view = View(sight.observed, (), resolved.desired.unverifiable)
        stored = await self.publisher.publish_intent(work, intent, found.of_open_write(), view)
        return replace(stored, memory=intent, recollection=stored.recollection.counted(stored.status.updates or 0))

    def _operation(self, work: Work, resolved: Resolved, send: Send, comment: str) -> Operation:
        applied = work.memory.applied
        return Operation(
            uid=work.uid,
            id=uuid.uuid4().hex,
            hash=resolved.desired.hash,
            generation=work.resource.generation,
            base_version=send.base_version,
            started_at=rfc3339(self.clock.today()),
            comment=comment,
            secrets=dict(resolved.desired.secrets),
            reapply=work.reapply or (applied.reapply if applied else None),
            corrections=send.corrections,
            base=send.effect.base,
            sent=send.effect.sent,
        )

    async def _is_contested(self, work: Work, resolved: Resolved) -> bool:
        """Whether another resource of the endpoint came first, or may be about to send, now that the intent is stored.

        Of two that begin at the same moment, the one that stores its intent later sees that of the other. A first
        write asks the API server; after that the own view is enough, which holds our own writes at once.

        Raises:
            Unavailable: The API server did not answer.
        """
        met = await self.lookout.meet(work, resolved, everywhere=not work.memory.has_written)
        rivalry = met.recollection.rivalry
        return rivalry.owner is not None or rivalry.turn_at(self.pace.quiet) > self.clock.now()

    def _may_still_send(self, work: Work) -> bool:
        current = self.cluster.current(work.uid)
        if current is None or current.deleting or is_suspended(current):
            return False
        if current.spec.get("managementPolicy") == "Observe":
            return False
        return self.authority.may_write()


def _comment(work: Work, resolved: Resolved) -> str:
    resource = work.resource
    given = resolved.declared.spec.version_comment
    return given or f"{resource.namespace}/{resource.name} generation {resource.generation}"
