"""Traces, where somebody asks for them: a span for each pass, and one below it for each provider call.

They are asked for by the variables that OpenTelemetry defines, and need the extra `otel`. Without either nothing of
OpenTelemetry is imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

import structlog

from inference_operator.core.model import Resource

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL: Final = "http/protobuf"
"""The only one that is spoken, and the default of the specification."""

log = structlog.get_logger(__name__)


class Tracing(Protocol):
    """Is told of passes and of the calls within them."""

    def pass_over(self, resource: Resource | None) -> AbstractContextManager[None]:
        """The span of a pass; calls and the result that are told within belong to it."""

    def passed(self, *, result: str) -> None:
        """The pass has ended like this."""

    def call(
        self, *, provider: str, operation: str, outcome: str, seconds: float, waited: float, status: int | None
    ) -> None:
        """A call to a provider has ended."""

    async def close(self) -> None:
        """Export what waits, but not for long."""


class NoTraces:
    """Makes none."""

    def pass_over(self, resource: Resource | None) -> AbstractContextManager[None]:
        """No span."""
        del resource
        return nullcontext()

    def passed(self, *, result: str) -> None:
        """Nothing to tell it to."""

    def call(
        self, *, provider: str, operation: str, outcome: str, seconds: float, waited: float, status: int | None
    ) -> None:
        """No span."""

    async def close(self) -> None:
        """Nothing waits."""


def tracing(environment: Mapping[str, str], *, instance: str) -> Tracing:
    """What the variables ask for. Traces that cannot be made are no reason to do no work; that is logged.

    Args:
        environment: The process's variables. What else they say, OpenTelemetry reads by itself.
        instance: Tells this process from others of the same service.
    """
    if not _is_wanted(environment):
        return NoTraces()
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), PROTOCOL)
    if protocol != PROTOCOL:
        log.warning("no traces: only OTLP over HTTP is spoken", found=protocol, cure=f"{PROTOCOLS[1]}={PROTOCOL}")
        return NoTraces()
    if importlib.util.find_spec("opentelemetry") is None:
        log.warning("no traces: OpenTelemetry is not installed", cure="install inference-operator[otel]")
        return NoTraces()
    try:
        from inference_operator.spans import Spans, provider_of_spans  # noqa: PLC0415 - imports all of OpenTelemetry

        return Spans(provider_of_spans(instance))
    except ValueError as error:  # some variables are read as early as the import
        log.warning("no traces: OpenTelemetry refuses a variable", error=str(error))
        return NoTraces()


def _is_wanted(environment: Mapping[str, str]) -> bool:
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    elsewhere = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    return any(environment.get(name) for name in ENDPOINTS) and elsewhere == "otlp" and not disabled
