"""A collector of traces: a real HTTP server that takes OTLP in protobuf, as any collector does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


@dataclass(frozen=True)
class Span:
    """One span as it was received."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    kind: int
    began: int
    ended: int
    is_error: bool
    events: int
    attributes: dict[str, Any]

    def __getitem__(self, attribute: str) -> Any:
        return self.attributes.get(f"inference_operator.{attribute}")


@dataclass
class Collector:
    """What was received, and how the next requests are answered."""

    url: str
    spans: list[Span] = field(default_factory=list)
    origins: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    hold_seconds: float = 0.0

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Receive one request."""
        self.requests.append((path, headers, body))
        time.sleep(self.hold_seconds)
        if self.status == 200:
            message = ExportTraceServiceRequest.FromString(body)
            for resource in message.resource_spans:
                self.origins.append(_values(resource.resource.attributes))
                self.spans += [_span(span) for scope in resource.scope_spans for span in scope.spans]
        return self.status

    def named(self, name: str) -> Sequence[Span]:
        """The spans of a name."""
        return [span for span in list(self.spans) if span.name == name]


def _span(span: Any) -> Span:
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_span_id,
        name=span.name,
        kind=span.kind,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        is_error=span.status.code == span.status.STATUS_CODE_ERROR,
        events=len(span.events),
        attributes=_values(span.attributes),
    )


def _values(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = collector.take(self.path, dict(self.headers.items()), body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
