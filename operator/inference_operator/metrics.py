"""The numbers at /metrics, whose names alerts and dashboards rely on."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

from inference_operator import __version__
from inference_operator.telemetry import lost_lines

M = TypeVar("M", bound=MetricWrapperBase)

DURATION_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WAIT_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300)


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as the reference page shows it; the name is without the suffixes of a histogram's series."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How one resource stands, for counting.

    Attributes:
        provider: The provider it names.
        state: The endpoint's neutral state, as in `status.state`.
        undecided: A write is open, and nobody knows yet whether it arrived.
        drifted: The provider holds something else than the spec declares.
        overdue: A rollout takes longer than its progress deadline.
    """

    provider: str
    state: str
    undecided: bool = False
    drifted: bool = False
    overdue: bool = False


class Metrics:
    """All metrics of a process, in a registry of their own; one method for each thing that happens.

    Label values come from closed sets, so that the number of series does not grow with that of resources.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # untyped there; a second series for each counter
        self._registry = CollectorRegistry()
        self._labels: dict[MetricWrapperBase, tuple[str, ...]] = {}
        self._watch_silence: Callable[[], float] = float
        self._define_work()
        self._define_providers()
        self._define_resources()
        self._define_process()

    def _define_work(self) -> None:
        self._passes = self._add(Counter, "passes_total", "Passes over resources by result.", "result")
        self._pass_seconds = self._add(
            Histogram, "pass_duration_seconds", "Time that a pass took.", buckets=DURATION_BUCKETS
        )
        self._queue_depth = self._add(Gauge, "queue_depth", "Resources that are due and wait for a worker.")
        self._queue_seconds = self._add(
            Histogram, "queue_wait_seconds", "Time that a due resource waited for a worker.", buckets=WAIT_BUCKETS
        )
        self._events_dropped = self._add(Counter, "events_dropped_total", "Kubernetes Events that were not posted.")

    def _define_providers(self) -> None:
        self._calls = self._add(
            Counter,
            "provider_calls_total",
            "Calls to providers by operation and outcome.",
            *("provider", "operation", "outcome"),
        )
        self._call_seconds = self._add(
            Histogram,
            "provider_call_duration_seconds",
            "Time that a call to a provider took.",
            *("provider", "operation"),
            buckets=DURATION_BUCKETS,
        )
        self._writes = self._add(
            Counter,
            "writes_total",
            "Updates that were sent to providers, each at most one version: confirmed, refused or ambiguous.",
            *("provider", "outcome"),
        )

    def _define_resources(self) -> None:
        self._resources = self._add(Gauge, "resources", "Resources by state of their endpoint.", "provider", "state")
        self._undecided = self._add(
            Gauge, "undecided_writes", "Writes of which nobody knows yet whether they arrived.", "provider"
        )
        self._drifted = self._add(
            Gauge, "drifted_resources", "Resources whose status.drift names a difference.", "provider"
        )
        self._overdue = self._add(
            Gauge, "overdue_rollouts", "Rollouts that take longer than their progress deadline.", "provider"
        )

    def _define_process(self) -> None:
        self._leader = self._add(
            Gauge, "leader", "1 while this process is the active one and may write; 0 while it stands by or ends."
        )
        self._lease_failures = self._add(
            Counter, "lease_failures_total", "Attempts to get, renew or look at the Lease that failed."
        )
        self._silence = self._add(
            Gauge, "watch_silence_seconds", "Time since the API server was last heard of on a watch."
        )
        lost = self._add(
            Gauge, "log_lines_lost", "Log lines that were dropped because nobody read them, since the start."
        )
        lost.set_function(lost_lines)
        self._add(Gauge, "build_info", "Always 1; the label tells the version.", "version").labels(__version__).set(1)
        ProcessCollector(registry=self._registry)

    def _add(self, kind: type[M], name: str, meaning: str, *labels: str, **more: Any) -> M:
        metric = kind(name, meaning, labels, namespace="inference_operator", registry=self._registry, **more)
        self._labels[metric] = labels
        return metric

    def observe_process(
        self, *, depth: Callable[[], int], silence: Callable[[], float], leading: Callable[[], bool]
    ) -> None:
        """Ask for these at each scrape.

        Args:
            depth: Resources that are due and wait for a worker.
            silence: Seconds since the API server was last heard of on a watch.
            leading: Whether this process is the active one and may write.
        """
        self._queue_depth.set_function(depth)
        self._silence.set_function(silence)
        self._leader.set_function(leading)
        self._watch_silence = silence

    def watch_silence(self) -> float:
        """Seconds since the API server was last heard of on a watch."""
        return self._watch_silence()

    def call(self, *, provider: str, operation: str, outcome: str, seconds: float) -> None:
        """Count a call to a provider."""
        self._calls.labels(provider, operation, outcome).inc()
        self._call_seconds.labels(provider, operation).observe(seconds)

    def waited(self, seconds: float) -> None:
        """Tell how long a resource waited for the worker that it has now."""
        self._queue_seconds.observe(seconds)

    def passed(self, *, result: str, seconds: float) -> None:
        """Count a pass that ended."""
        self._passes.labels(result).inc()
        self._pass_seconds.observe(seconds)

    def wrote(self, *, provider: str, outcome: str) -> None:
        """Count an update that was sent."""
        self._writes.labels(provider, outcome).inc()

    def lease_failed(self) -> None:
        """Count an attempt to get, renew or look at the Lease that failed."""
        self._lease_failures.inc()

    def event_dropped(self) -> None:
        """Count an Event that was not posted."""
        self._events_dropped.inc()

    def census(self, standings: Iterable[Standing]) -> None:
        """Count all resources anew; series of what there is no longer disappear."""
        for gauge in (self._resources, self._undecided, self._drifted, self._overdue):
            gauge.clear()
        for one, count in Tally(standings).items():
            self._resources.labels(one.provider, one.state).inc(count)
            self._undecided.labels(one.provider).inc(count * one.undecided)
            self._drifted.labels(one.provider).inc(count * one.drifted)
            self._overdue.labels(one.provider).inc(count * one.overdue)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)

    def described(self) -> Iterator[Described]:
        """Every metric that is our own, for the reference page."""
        for metric, labels in self._labels.items():
            for family in metric.describe():
                name = f"{family.name}_total" if family.type == "counter" else family.name
                yield Described(name, family.type, labels, family.documentation)
