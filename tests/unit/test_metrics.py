from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference_operator import __version__
from inference_operator.metrics import Metrics, Standing

Labels = frozenset[tuple[str, str]]


def samples(metrics: Metrics) -> dict[tuple[str, Labels], float]:
    """What Prometheus would read, without the common prefix."""
    return {
        (sample.name.removeprefix("inference_operator_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def test_passes_are_counted_and_timed() -> None:
    metrics = Metrics()
    metrics.passed(result="synced", seconds=0.2)
    metrics.passed(result="synced", seconds=0.3)
    metrics.passed(result="failed", seconds=1.0)
    assert value(metrics, "passes_total", result="synced") == 2
    assert value(metrics, "passes_total", result="failed") == 1
    assert value(metrics, "pass_duration_seconds_count") == 3
    assert value(metrics, "pass_duration_seconds_sum") == 1.5


def test_calls_are_counted_and_timed() -> None:
    metrics = Metrics()
    metrics.call(provider="friendli", operation="update", outcome="ok", seconds=0.2)
    metrics.call(provider="friendli", operation="update", outcome="ambiguous", seconds=30)
    assert value(metrics, "provider_calls_total", provider="friendli", operation="update", outcome="ok") == 1
    assert value(metrics, "provider_calls_total", provider="friendli", operation="update", outcome="ambiguous") == 1
    assert value(metrics, "provider_call_duration_seconds_sum", provider="friendli", operation="update") == 30.2


def test_waits_are_timed() -> None:
    metrics = Metrics()
    metrics.waited(0.5)
    metrics.waited(20)
    assert value(metrics, "queue_wait_seconds_count") == 2
    assert value(metrics, "queue_wait_seconds_sum") == 20.5


def test_writes_dropped_events_and_failures_at_the_lease_are_counted() -> None:
    metrics = Metrics()
    metrics.wrote(provider="novita", outcome="confirmed")
    metrics.event_dropped()
    metrics.lease_failed()
    assert value(metrics, "writes_total", provider="novita", outcome="confirmed") == 1
    assert value(metrics, "events_dropped_total") == 1
    assert value(metrics, "lease_failures_total") == 1


def test_the_process_is_asked_at_each_scrape() -> None:
    now = {"depth": 3, "silence": 1.5, "leading": 0}
    metrics = Metrics()
    metrics.observe_process(
        depth=lambda: int(now["depth"]), silence=lambda: now["silence"], leading=lambda: bool(now["leading"])
    )
    told = ("queue_depth", "watch_silence_seconds", "leader")
    assert [value(metrics, name) for name in told] == [3, 1.5, 0]
    now |= {"depth": 2, "silence": 0.5, "leading": 1}
    assert [value(metrics, name) for name in told] == [2, 0.5, 1]
    assert metrics.watch_silence() == 0.5


def test_the_census_counts_anew() -> None:
    metrics = Metrics()
    metrics.census(
        [
            Standing("friendli", "Running"),
            Standing("friendli", "Running", drifted=True),
            Standing("friendli", "Updating", undecided=True, overdue=True),
            Standing("novita", "Running"),
        ]
    )
    assert value(metrics, "resources", provider="friendli", state="Running") == 2
    assert value(metrics, "resources", provider="friendli", state="Updating") == 1
    assert value(metrics, "resources", provider="novita", state="Running") == 1
    for name in ("drifted_resources", "undecided_writes", "overdue_rollouts"):
        assert value(metrics, name, provider="friendli") == 1
        assert value(metrics, name, provider="novita") == 0
    metrics.census([Standing("friendli", "Running")])
    assert value(metrics, "resources", provider="friendli", state="Running") == 1
    assert value(metrics, "resources", provider="friendli", state="Updating") is None
    assert value(metrics, "undecided_writes", provider="friendli") == 0
    assert value(metrics, "undecided_writes", provider="novita") is None


def test_two_processes_in_one_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.event_dropped()
    assert value(other, "events_dropped_total") == 0


def test_the_version_and_the_process_are_told() -> None:
    metrics = Metrics()
    assert value(metrics, "build_info", version=__version__) == 1
    assert (value(metrics, "process_resident_memory_bytes") or 0) > 0


def test_no_series_tells_when_it_was_created() -> None:
    assert b"_created" not in Metrics().render()


def test_what_is_described_is_what_is_served() -> None:
    metrics = Metrics()
    served = dict(re.findall(r"^# TYPE (inference_operator_\S+) (\S+)$", metrics.render().decode(), re.MULTILINE))
    assert {metric.name: metric.kind for metric in metrics.described()} == served


@pytest.mark.parametrize("metric", list(Metrics().described()), ids=lambda metric: metric.name)
def test_names_follow_the_conventions_of_prometheus(metric: object) -> None:
    name, kind = getattr(metric, "name", ""), getattr(metric, "kind", "")
    assert re.fullmatch(r"inference_operator_[a-z]+(_[a-z]+)*", name)
    assert name.endswith("_total") == (kind == "counter")
    assert name.endswith("_seconds") or kind != "histogram"
    assert not re.search(r"_(milliseconds|minutes|kilobytes|count|sum|bucket)$", name)
