from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from inference_operator import __version__
from inference_operator.metrics import Metrics
from inference_operator.standings import Standing

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
    metrics.call(provider="friendli", operation="update", outcome="ok", seconds=0.2, waited=0)
    metrics.call(provider="friendli", operation="update", outcome="ambiguous", seconds=30, waited=1.5)
    assert value(metrics, "provider_calls_total", provider="friendli", operation="update", outcome="ok") == 1
    assert value(metrics, "provider_calls_total", provider="friendli", operation="update", outcome="ambiguous") == 1
    assert value(metrics, "provider_call_duration_seconds_sum", provider="friendli", operation="update") == 30.2
    assert value(metrics, "provider_budget_wait_seconds_sum", provider="friendli") == 1.5
    assert value(metrics, "provider_budget_wait_seconds_count", provider="friendli") == 2


def test_waits_are_timed() -> None:
    metrics = Metrics()
    metrics.waited(0.5)
    metrics.waited(20)
    assert value(metrics, "queue_wait_seconds_count") == 2
    assert value(metrics, "queue_wait_seconds_sum") == 20.5


def test_writes_dropped_events_and_failures_at_the_lease_are_counted() -> None:
    metrics = Metrics()
    metrics.wrote(provider="novita", outcome="confirmed")
    metrics.settled(provider="novita", result="Applied")
    metrics.event_dropped()
    metrics.lease_failed()
    assert value(metrics, "writes_total", provider="novita", outcome="confirmed") == 1
    assert value(metrics, "settled_writes_total", provider="novita", result="Applied") == 1
    assert value(metrics, "events_dropped_total") == 1
    assert value(metrics, "lease_failures_total") == 1


def test_updates_of_every_kind_are_counted_from_zero() -> None:
    """`increase` of Prometheus does not see the step to the first number of a series."""
    metrics = Metrics(["friendli", "novita"])
    found = {
        (name, *sorted(labels)): number
        for (name, labels), number in samples(metrics).items()
        if name in {"writes_total", "settled_writes_total"}
    }
    kinds = [("writes_total", "outcome", kind) for kind in ("confirmed", "refused", "ambiguous")]
    kinds += [("settled_writes_total", "result", kind) for kind in ("Applied", "AppliedUnverified", "NotConverging")]
    assert found == {
        (name, *sorted((("provider", provider), (label, kind)))): 0
        for name, label, kind in kinds
        for provider in ("friendli", "novita")
    }
    metrics.wrote(provider="novita", outcome="ambiguous")
    assert value(metrics, "writes_total", provider="novita", outcome="ambiguous") == 1


def test_the_process_is_asked_at_each_scrape() -> None:
    now = {"depth": 3, "busy": 7, "age": 1.5, "leading": 0}
    paused = {"friendli": 2, "novita": 0}
    metrics = Metrics()
    metrics.observe_process(
        depth=lambda: int(now["depth"]),
        busy=lambda: int(now["busy"]),
        watch_age=lambda: now["age"],
        lease="team/inference-operator",
        leading=lambda: bool(now["leading"]),
    )
    metrics.observe_keys(paused=lambda: paused, rates=lambda: {"friendli": 2.5}, waiting=lambda: {"friendli": 4})
    told = ("queue_depth", "busy_workers", "oldest_watch_age_seconds")
    assert [value(metrics, name) for name in told] == [3, 7, 1.5]
    assert value(metrics, "leader", lease="team/inference-operator") == 0
    assert value(metrics, "provider_paused_keys", provider="friendli") == 2
    assert value(metrics, "provider_paused_keys", provider="novita") == 0
    assert value(metrics, "provider_key_calls_per_second", provider="friendli") == 2.5
    assert value(metrics, "provider_waiting_calls", provider="friendli") == 4
    now |= {"depth": 2, "busy": 6, "age": 0.5, "leading": 1}
    paused["friendli"] = 0
    assert [value(metrics, name) for name in told] == [2, 6, 0.5]
    assert value(metrics, "leader", lease="team/inference-operator") == 1
    assert value(metrics, "provider_paused_keys", provider="friendli") == 0
    assert metrics.watch_age() == 0.5


def test_lost_lines_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, lost = Metrics(), iter([0, 5, 5, 7])
    monkeypatch.setattr("inference_operator.metrics.lost_lines", lambda: next(lost))
    assert [value(metrics, "log_lines_lost_total") for _ in range(4)] == [0, 5, 5, 7]


def test_the_limits_are_told() -> None:
    metrics = Metrics()
    metrics.limit(workers=64, calls_per_second=2.5)
    assert value(metrics, "workers") == 64
    assert value(metrics, "provider_key_calls_per_second_limit") == 2.5


def test_resources_are_counted_anew_at_each_scrape() -> None:
    metrics = Metrics()
    metrics.noted("1", Standing("team", "a", "friendli", "Running"))
    metrics.noted("2", Standing("team", "b", "friendli", "Running", drifted=True))
    metrics.noted("3", Standing("team", "c", "friendli", "Updating", undecided=True, rolling=True, overdue=True))
    metrics.noted("4", Standing("team", "d", "novita", "Running"))
    assert value(metrics, "resources", provider="friendli", state="Running") == 2
    assert value(metrics, "resources", provider="friendli", state="Updating") == 1
    assert value(metrics, "resources", provider="novita", state="Running") == 1
    for name in ("drifted_resources", "undecided_writes", "rollouts", "overdue_rollouts"):
        assert value(metrics, name, provider="friendli") == 1
        assert value(metrics, name, provider="novita") == 0
    for uid in ("2", "3", "4"):
        metrics.gone(uid)
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


def test_a_scrape_of_five_thousand_resources_does_not_hold_up_the_work() -> None:
    """The client library is the measure: it takes ten times as long and more for as many series."""
    metrics, by_the_library = (
        Metrics(),
        Gauge("replicas", "As many", ["number"], registry=(registry := CollectorRegistry())),
    )
    for number in range(5000):
        conditions = (("Synced", "True", "Applied"), ("Ready", "True", "Serving"))
        one = Standing("team-a", f"endpoint-{number}", "friendli", "Running", conditions, 2, 2, 4)
        metrics.noted(str(number), one)
    series = sum(line.startswith(b"inference_operator_resource_") for line in metrics.render().splitlines())
    assert series == 5000 * 6
    for number in range(series):
        by_the_library.labels(str(number)).set(1)
    ours = min(_seconds(metrics.render) for _ in range(5))
    theirs = min(_seconds(lambda: generate_latest(registry)) for _ in range(2))
    print(f"a scrape of 5,000 resources: {ours * 1000:.0f} ms; by the client library: {theirs * 1000:.0f} ms")
    assert ours < theirs / 5


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@pytest.mark.parametrize("metric", list(Metrics().described()), ids=lambda metric: metric.name)
def test_names_follow_the_conventions_of_prometheus(metric: object) -> None:
    name, kind = getattr(metric, "name", ""), getattr(metric, "kind", "")
    assert re.fullmatch(r"inference_operator_[a-z]+(_[a-z]+)*", name)
    assert name.endswith("_total") == (kind == "counter")
    assert name.endswith("_seconds") or kind != "histogram"
    assert not re.search(r"_(milliseconds|minutes|kilobytes|count|sum|bucket)$", name)
