"""Spans of OpenTelemetry: the only module that imports it.

A span holds names, outcomes and durations: no body, no header, no message, no text of an exception. Spans are exported
by a thread of their own; what it cannot get rid of in time is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector
from opentelemetry.sdk.resources import Resource as Origin
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, get_current_span
from requests import Session

from inference_operator import __version__
from inference_operator.core.model import Resource

FLUSH_SECONDS: Final = 2.0
"""How long spans that wait may hold up the end of the process."""

log = structlog.get_logger(__name__)


class Spans:
    """Implements `tracing.Tracing`, with a provider of its own; the global one is left alone."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("inference_operator", __version__)

    def pass_over(self, resource: Resource | None) -> AbstractContextManager[None]:
        """The span of a pass; none for a resource that is gone."""
        return nullcontext() if resource is None else self._pass_over(resource)

    @contextmanager
    def _pass_over(self, resource: Resource) -> Iterator[None]:
        attributes: dict[str, str | int] = {
            "k8s.namespace.name": resource.namespace,
            "inference_operator.resource.name": resource.name,
            "inference_operator.resource.uid": resource.uid,
            "inference_operator.resource.generation": resource.generation,
            "inference_operator.provider": str(resource.spec.get("provider")),
            "inference_operator.endpoint": str(resource.spec.get("endpointId", "")),
        }
        with self._tracer.start_as_current_span(
            "pass", attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            context = span.get_span_context()
            trace = {"trace_id": format_trace_id(context.trace_id)} if context.trace_flags.sampled else {}
            with structlog.contextvars.bound_contextvars(**trace):
                yield

    def passed(self, *, result: str) -> None:
        """The pass has ended like this."""
        get_current_span().set_attribute("inference_operator.result", result)

    def call(
        self, *, provider: str, operation: str, outcome: str, seconds: float, waited: float, status: int | None
    ) -> None:
        """Make the span of a call that has ended."""
        ended = time.time_ns()
        attributes: dict[str, str | float] = {
            "inference_operator.provider": provider,
            "inference_operator.operation": operation,
            "inference_operator.outcome": outcome,
            "inference_operator.budget_wait_seconds": waited,
        }
        if status is not None:
            attributes["http.response.status_code"] = status
        span = self._tracer.start_span(
            f"{provider} {operation}",
            kind=SpanKind.CLIENT,
            start_time=ended - round(seconds * 1e9),
            attributes=attributes,
        )
        if outcome != "ok":
            span.set_status(StatusCode.ERROR)
        span.end(ended)

    async def close(self) -> None:
        """Export what waits, but not for long; a thread that is still at it then ends with the process."""
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        deadline = time.monotonic() + FLUSH_SECONDS
        while ending.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread sets no event of the loop
            await asyncio.sleep(0.02)


class Told(SpanExporter):
    """Tells when spans begin to be lost and when that is over, instead of a line for each attempt."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans, from the thread of the processor."""
        result = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.info("the collector takes spans again", lost=self._lost)
            self._lost = 0
            return result
        if not self._lost:
            log.warning("spans are lost, as the collector does not take them; all else goes on")
        self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        """Give up what is under way."""
        self._inner.shutdown()


def provider_of_spans(instance: str) -> TracerProvider:
    """A provider that exports over HTTP as the variables of OpenTelemetry say.

    Args:
        instance: Tells this process from others of the same service.
    """
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # `Told` says it once
    session = Session()
    session.trust_env = False  # no proxy and no .netrc, as for all that the operator calls
    ours = {"service.name": "inference-operator", "service.version": __version__, "service.instance.id": instance}
    provider = TracerProvider(
        resource=Origin.create(ours).merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(Told(OTLPSpanExporter(session=session))))
    return provider
