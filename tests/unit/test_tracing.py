from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.contextvars import clear_contextvars, get_contextvars
from structlog.testing import capture_logs

from inference_operator.core.model import Resource
from inference_operator.spans import Spans, Told, provider_of_spans
from inference_operator.tracing import NoTraces, tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
RESOURCE = Resource(
    namespace="team-a",
    name="chat",
    uid="u-1",
    generation=7,
    resource_version="1",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    deleting=False,
    annotations={},
    spec={"provider": "friendli", "endpointId": "ep-1"},
    status={},
)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_SERVICE_NAME": "x"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nobody_who_asks_for_no_traces_gets_any(environment: dict[str, str]) -> None:
    with capture_logs() as lines:
        assert isinstance(tracing(environment, instance="i"), NoTraces)
    assert lines == []


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
async def test_a_variable_switches_them_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    traces = tracing({name: "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "otlp"}, instance="i")
    assert isinstance(traces, Spans)
    await traces.close()


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_a_protocol_that_is_not_spoken_is_told_and_stops_nothing(name: str) -> None:
    with capture_logs() as lines:
        assert isinstance(tracing({**ENDPOINT, name: "grpc"}, instance="i"), NoTraces)
    assert [(line["log_level"], line["cure"]) for line in lines] == [
        ("warning", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
    ]


def test_a_missing_extra_is_told_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with capture_logs() as lines:
        assert isinstance(tracing(ENDPOINT, instance="i"), NoTraces)
    assert [(line["log_level"], line["cure"]) for line in lines] == [("warning", "install inference-operator[otel]")]


@pytest.mark.parametrize(
    ("variable", "why"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE=256", "max_export_batch_size must be less than or equal to max_queue_size"),
        ("OTEL_BSP_MAX_QUEUE_SIZE=0", "max_queue_size must be a positive integer"),
        ("OTEL_BSP_SCHEDULE_DELAY=0", "schedule_delay_millis must be positive"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=-1", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer"),
    ],
)
def test_a_value_that_is_refused_is_told_and_stops_nothing(variable: str, why: str) -> None:
    """In a process of its own: some variables are read only once, when OpenTelemetry is imported."""
    code = (
        "import os\n"
        "from structlog.testing import capture_logs\n"
        "from inference_operator.tracing import tracing\n"
        "with capture_logs() as lines:\n"
        "    print(type(tracing(os.environ, instance='i')).__name__)\n"
        "print(*[line['log_level'] + ': ' + line['error'] for line in lines], sep='\\n')"
    )
    name, _, value = variable.partition("=")
    environment = {**os.environ, **ENDPOINT, name: value}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    traces, *told = done.stdout.splitlines()
    assert traces == "NoTraces"
    assert len(told) == 1
    assert told[0].startswith(f"warning: {why}")


def test_without_a_variable_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, inference_operator.app as app\n"
        "app.tracing({}, instance='i')\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture(autouse=True)
def _nothing_bound() -> None:
    """Passes that were cut off in other tests leave behind what they had bound."""
    clear_contextvars()


async def test_no_traces_are_none_whatever_is_told() -> None:
    traces = NoTraces()
    with traces.pass_over(RESOURCE):
        traces.call(provider="friendli", operation="update", outcome="ok", seconds=1, waited=0, status=200)
        traces.passed(result="sent")
        assert get_contextvars() == {}
    await traces.close()


@pytest.fixture
def kept() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(kept: InMemorySpanExporter) -> Spans:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    return Spans(provider)


def test_a_call_lies_within_its_pass(spans: Spans, kept: InMemorySpanExporter) -> None:
    with spans.pass_over(RESOURCE):
        spans.call(provider="friendli", operation="update", outcome="ok", seconds=0.0, waited=0.25, status=200)
        spans.passed(result="sent")
        bound = get_contextvars()
    call, passed = kept.get_finished_spans()
    assert (call.name, passed.name) == ("friendli update", "pass")
    assert call.parent is not None
    assert passed.context is not None
    assert call.parent.span_id == passed.context.span_id
    assert bound == {"trace_id": f"{passed.context.trace_id:032x}"}
    assert dict(passed.attributes or {}) == {
        "k8s.namespace.name": "team-a",
        "inference_operator.resource.name": "chat",
        "inference_operator.resource.uid": "u-1",
        "inference_operator.resource.generation": 7,
        "inference_operator.provider": "friendli",
        "inference_operator.endpoint": "ep-1",
        "inference_operator.result": "sent",
    }
    assert dict(call.attributes or {}) == {
        "inference_operator.provider": "friendli",
        "inference_operator.operation": "update",
        "inference_operator.outcome": "ok",
        "inference_operator.budget_wait_seconds": 0.25,
        "http.response.status_code": 200,
    }
    assert get_contextvars() == {}


def test_a_call_lasts_as_long_as_it_is_said_to_have_taken(spans: Spans, kept: InMemorySpanExporter) -> None:
    spans.call(provider="friendli", operation="update", outcome="ambiguous", seconds=2.5, waited=0, status=None)
    (call,) = kept.get_finished_spans()
    assert call.start_time is not None
    assert call.end_time is not None
    assert call.end_time - call.start_time == 2_500_000_000
    assert call.status.status_code is StatusCode.ERROR
    assert "http.response.status_code" not in (call.attributes or {})


def test_the_text_of_an_exception_is_in_no_span(spans: Spans, kept: InMemorySpanExporter) -> None:
    with pytest.raises(RuntimeError), spans.pass_over(RESOURCE):
        raise RuntimeError("hunter2")
    (passed,) = kept.get_finished_spans()
    assert passed.events == ()
    assert "hunter2" not in passed.to_json()


def test_a_resource_that_is_gone_has_no_span(spans: Spans, kept: InMemorySpanExporter) -> None:
    with spans.pass_over(None):
        spans.passed(result="gone")
    assert kept.get_finished_spans() == ()


class Flaky(SpanExporter):
    """Answers as it is told to."""

    def __init__(self, *answers: bool) -> None:
        self._answers = iter(answers)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS if next(self._answers) else SpanExportResult.FAILURE


def test_the_loss_of_spans_is_told_once_and_so_is_its_end() -> None:
    told = Told(Flaky(True, False, False, False, True, True))
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")
    assert isinstance(span, ReadableSpan)
    with capture_logs() as lines:
        for _ in range(6):
            told.export([span, span])
    assert [(line["log_level"], line.get("lost")) for line in lines] == [("warning", None), ("info", 6)]


async def test_spans_go_by_no_proxy_and_name_who_sent_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    provider = provider_of_spans("pod-1")
    assert provider.resource.attributes["service.name"] == "ours"
    assert provider.resource.attributes["service.instance.id"] == "pod-1"
    await Spans(provider).close()
