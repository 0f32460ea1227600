"""Writes the status when it has changed, and tells in Events what has changed in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from inference_operator.api.status import InferenceEndpointStatus, Operation
from inference_operator.core.findings import Findings
from inference_operator.core.memory import Memory
from inference_operator.core.model import FieldPath, Resource
from inference_operator.core.port import Cluster, Driver, PassObserver, ResourceGone, StatusConflict
from inference_operator.core.report import Subject, View, dump, newly_settled, notices, report
from inference_operator.reconcile.work import Clock, Work

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Publisher:
    """The only caller of `Cluster.write_status`."""

    cluster: Cluster
    drivers: Mapping[str, Driver]
    clock: Clock
    observer: PassObserver

    async def publish(self, work: Work, memory: Memory, findings: Findings | None, view: View) -> Resource:
        """Store the outcome of a pass; returns the object as it is now.

        Raises:
            StatusConflict: The object changed since it was read; decide again.
            ResourceGone: It no longer exists.
            Unavailable: The API server did not answer.
        """
        status = self._report(work, memory, findings, view)
        self.observer.reported(work.resource, status, view.observed)
        document = dump(status)
        if document == work.resource.status:
            return work.resource
        stored = await self.cluster.write_status(work.resource, document)
        if (result := newly_settled(work.reported, status)) is not None:
            log.info("an update has taken effect", result=result, version=status.version)
            self.observer.settled(provider=str(work.resource.spec.get("provider")), result=result)
        for notice in notices(work.reported, status):
            self.cluster.event(stored, warning=notice.warning, reason=notice.reason, message=notice.message)
        return stored

    async def publish_intent(self, work: Work, intent: Memory, findings: Findings, view: View) -> Work:
        """Store the intent of a write, and return the object as the API server has it now.

        Raises:
            StatusConflict: The object changed since it was read; nothing may be sent.
            ResourceGone: It no longer exists.
            Unavailable: It is not known whether the intent was stored; nothing may be sent.
        """
        status = self._report(work, intent, findings, view)
        return work.stored(await self.cluster.write_status(work.resource, dump(status)))

    async def publish_outcome(
        self, work: Work, operation: Operation, memory: Memory, findings: Findings, view: View
    ) -> None:
        """Store what became of a write, also when people have edited the object meanwhile.

        Where the object no longer holds this operation, another process has settled it and its word stands.

        Raises:
            ResourceGone: The object no longer exists.
            Unavailable: The API server did not answer; the operation stays open and a look will decide it.
        """
        while True:
            try:
                await self.publish(work, memory, findings, view)
            except StatusConflict:
                current = await self.cluster.read(work.resource)
                if current is None:
                    raise ResourceGone from None
                work = work.stored(current)
                if work.status.operation is None or work.status.operation.id != operation.id:
                    log.info("another process has settled the update; its word stands")
                    return
            else:
                return

    def _report(self, work: Work, memory: Memory, findings: Findings | None, view: View) -> InferenceEndpointStatus:
        spec = work.resource.spec
        subject = Subject(work.uid, work.resource.generation, spec.get("endpointId"), self.clock.today())
        driver = self.drivers.get(str(spec.get("provider")))
        return report(work.status, subject, memory, findings, view, driver.confidential if driver else _all)


def _all(_: FieldPath) -> bool:
    return True
