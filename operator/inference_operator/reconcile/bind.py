"""Tells applications where their endpoint is, once it was seen (`spec.writeConnectionTo`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from inference_operator.core import findings as found
from inference_operator.core.connection import connection_map
from inference_operator.core.findings import Findings
from inference_operator.core.port import Cluster
from inference_operator.errors import EndpointError, Unavailable
from inference_operator.reconcile.resolve import Declared
from inference_operator.reconcile.work import Sight, Work

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Binder:
    """The only caller of `Cluster.write_connection`."""

    cluster: Cluster

    async def bind(self, work: Work, wanted: Declared, sight: Sight, findings: Findings) -> tuple[Work, Findings]:
        """Write what the spec asks for before the status says that all is well.

        What this process has written is believed between whole looks; at those it is read again. A status that says
        Ready was written after the ConfigMap, so that a read which fails for now takes nothing back.
        """
        connection, known = connection_map(wanted.spec, sight.observed), work.recollection.bound
        if connection is None or _is_of_another(findings) or (connection == known and not sight.whole):
            return work, findings
        try:
            await self.cluster.write_connection(work.resource, connection)
        except EndpointError as error:
            log.log(work.novelty(error.message), "the connection was not written", error=error.message)
            if isinstance(error, Unavailable) and (connection == known or work.was_ready):
                return work, findings
            return replace(work, recollection=replace(work.recollection, bound=None)), found.of_unbound(findings, error)
        return replace(work, recollection=replace(work.recollection, bound=connection)), findings


def _is_of_another(findings: Findings) -> bool:
    """Whether another resource owns the endpoint, and with it the ConfigMap that both may name."""
    return findings.stalled is not None and findings.stalled.reason == "Conflict"
