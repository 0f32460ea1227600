"""Traces of a real operator, received by a real collector: what they say, what they cost, and that they show no key."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from e2e.monitoring_collector import Collector, Span, collecting
from inference_operator.playground.emulators.faults import Fault
from rig import Rig, spec_of, wait_for
from secrecy import shows

CLIENT = 3
PROVIDERS = ("friendli", "novita")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
        yield collector


def passes_over(collector: Collector, name: str) -> list[Span]:
    return [span for span in collector.named("pass") if span["resource.name"] == name]


def calls_of(collector: Collector, passed: Span) -> list[Span]:
    return [span for span in list(collector.spans) if span.parent_id == passed.span_id]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_change_is_one_pass_with_its_calls_below_it(rig: Rig, collector: Collector, provider: str) -> None:
    endpoint = rig.endpoint(provider)
    before = max((entry.seq for entry in rig.emulators.ledger()), default=0)
    process = rig.start()
    rig.apply("chat", spec_of(provider, endpoint, 2))
    rig.wait("chat")
    assert process.terminate() == 0  # what waited was exported

    passes = passes_over(collector, "chat")
    sent = [each for each in passes if each["result"] == "sent"]
    assert len(sent) == 1
    assert all(each["result"] and not each.parent_id and not each.events for each in passes)
    assert sent[0].attributes["k8s.namespace.name"] == rig.namespace
    assert (sent[0]["provider"], sent[0]["endpoint"], sent[0]["resource.generation"]) == (provider, endpoint, 1)

    calls = calls_of(collector, sent[0])
    updates = [each for each in calls if each.name == f"{provider} update"]
    assert [(each["operation"], each["outcome"]) for each in updates] == [("update", "ok")]
    assert len(calls) > 1
    assert all(each.trace_id == sent[0].trace_id and each.kind == CLIENT for each in calls)
    assert all(sent[0].began <= each.began <= each.ended <= sent[0].ended for each in calls)
    assert {each.attributes["http.response.status_code"] for each in calls} == {200}

    spans = collector.spans
    known = {each.span_id for each in passes}
    assert [each.name for each in spans if each.name != "pass" and each.parent_id not in known] == []
    received = rig.emulators.ledger(provider=provider, after=before)
    assert len([each for each in spans if each.kind == CLIENT]) == len(received) > 2


def test_a_span_tells_who_sent_it_and_log_lines_tell_the_trace(rig: Rig, collector: Collector) -> None:
    process = rig.start()
    rig.apply("chat", spec_of("friendli", rig.endpoint("friendli"), 3))
    rig.wait("chat")
    process.terminate()
    origin = collector.origins[0]
    assert origin["service.name"] == "inference-operator"
    assert origin["deployment.environment.name"] == "test"
    assert origin["service.instance.id"]
    assert {path for path, _, _ in collector.requests} == {"/v1/traces"}
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    told = {line["trace_id"] for line in lines if line["event"] == "sending an update"}
    sent = [each for each in passes_over(collector, "chat") if each["result"] == "sent"]
    assert told == {each.trace_id.hex() for each in sent}


def test_a_call_that_fails_is_an_error_and_shows_neither_key_nor_text(rig: Rig, collector: Collector) -> None:
    endpoint = rig.endpoint("friendli")
    said = {"detail": f"the provider repeats {rig.token}"}
    rig.emulators.add_fault(Fault(operation="update", endpoint_id=endpoint, status=503, json=said))
    process = rig.start()
    rig.apply("chat", spec_of("friendli", endpoint, 3))
    rig.wait("chat")
    process.terminate()
    failed = [each for each in collector.named("friendli update") if each["outcome"] != "ok"]
    assert [(each["outcome"], each.attributes.get("http.response.status_code")) for each in failed] == [
        ("ambiguous", 503)
    ]
    assert all(each.is_error and not each.events for each in failed)
    assert not any(each.is_error for each in collector.named("friendli update") if each["outcome"] == "ok")
    everything = b"".join(path.encode() + repr(headers).encode() + body for path, headers, body in collector.requests)
    assert b"chat" in everything
    assert b"repeats" not in everything
    assert not shows(everything)


def test_a_variable_that_opentelemetry_refuses_stops_nothing(
    rig: Rig, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "256")
    process = rig.start()
    endpoint = rig.endpoint("friendli")
    rig.apply("chat", spec_of("friendli", endpoint, 2))
    rig.wait("chat")
    assert process.terminate() == 0
    assert process.log.read_text().count("no traces: OpenTelemetry refuses a variable") == 1
    assert collector.spans == []
    assert rig.committed(endpoint) == 1


@pytest.mark.parametrize("trouble", ["refuses", "hangs"])
def test_a_collector_that_fails_holds_up_nothing_and_is_told_once(
    rig: Rig, collector: Collector, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    if trouble == "refuses":
        collector.status = 400
    else:
        collector.hold_seconds = 3
    process = rig.start()
    endpoint = rig.endpoint("friendli")
    for number in range(2, 5):
        rig.apply("chat", spec_of("friendli", endpoint, number))
        rig.wait("chat")
    wait_for(lambda: "spans are lost" in process.log.read_text(), what="the loss to be told", log=process.log)
    began = time.monotonic()
    assert process.terminate() == 0
    print(f"the end took {time.monotonic() - began:.1f} s")
    assert process.log.read_text().count("spans are lost") == 1
    assert "Traceback" not in process.log.read_text()
    assert rig.committed(endpoint) == 3
