"""The numbers at /metrics, whose names alerts and dashboards rely on."""

from __future__ import annotations

import functools
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from inference_operator.core.memory import APPLIED, APPLIED_UNVERIFIED, NOT_CONVERGING
from inference_operator.standings import FAMILIES, Standing, Standings
from inference_operator.telemetry import lost_lines

M = TypeVar("M", bound=MetricWrapperBase)

DURATION_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WAIT_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300)

WRITE_OUTCOMES = ("confirmed", "refused", "ambiguous")
"""How sending an update can end; as in `core.port.PassObserver`."""

WRITE_RESULTS = (APPLIED, APPLIED_UNVERIFIED, NOT_CONVERGING)
"""What `status.history` says of an update that took effect."""


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as the reference page shows it; the name is without the suffixes of a histogram's series."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class Metrics:
    """All metrics of a process, in a registry of their own; one method for each thing that happens.

    Label values come from closed sets, so that the number of series does not grow with that of resources. The series
    that each resource has are those of `standings`.
    """

    def __init__(self, providers: Iterable[str] = ()) -> None:
        """Begin with what is known before anything happens.

        Args:
            providers: Those whose updates may be counted. Their counters begin at 0: `increase` of Prometheus does not
                see the step to the first number of a series, and so the first update of each kind would be missed.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call] # untyped there; a second series for each counter
        self._registry = CollectorRegistry()
        self._labels: dict[MetricWrapperBase, tuple[str, ...]] = {}
        self._watch_age: Callable[[], float] = float
        self._keys: tuple[tuple[Gauge, Callable[[], Mapping[str, float]]], ...] = ()
        self._standings = Standings()
        self._define_work()
        self._define_providers()
        self._define_resources()
        self._define_process()
        for provider in providers:
            for outcome in WRITE_OUTCOMES:
                self._writes.labels(provider, outcome)
            for result in WRITE_RESULTS:
                self._settled.labels(provider, result)

    def _define_work(self) -> None:
        self._passes = self._add(Counter, "passes_total", "Passes over resources by result.", "result")
        self._pass_seconds = self._add(
            Histogram, "pass_duration_seconds", "Time that a pass took.", buckets=DURATION_BUCKETS
        )
        self._queue_depth = self._add(Gauge, "queue_depth", "Resources that are due and wait for a worker.")
        self._queue_seconds = self._add(
            Histogram, "queue_wait_seconds", "Time that a due resource waited for a worker.", buckets=WAIT_BUCKETS
        )
        self._workers = self._add(Gauge, "workers", "Passes that may run at the same time; the setting WORKERS.")
        self._busy_workers = self._add(Gauge, "busy_workers", "Passes that run.")
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
        self._budget_seconds = self._add(
            Histogram,
            "provider_budget_wait_seconds",
            "Time that a call waited for its key's turn under CALLS_PER_SECOND.",
            "provider",
            buckets=WAIT_BUCKETS,
        )
        self._rate = self._add(
            Gauge,
            "provider_key_calls_per_second_limit",
            "Calls per second that one key may make; the setting CALLS_PER_SECOND.",
        )
        self._paused_keys = self._add(
            Gauge,
            "provider_paused_keys",
            "Keys that make no call at the moment, because the provider said that they are too fast.",
            "provider",
        )
        self._key_rate = self._add(
            Gauge,
            "provider_key_calls_per_second",
            "Calls per second that the slowest key may make now; less than the limit for a while after a 429.",
            "provider",
        )
        self._waiting_calls = self._add(
            Gauge, "provider_waiting_calls", "Calls that wait for the budget of their key.", "provider"
        )
        self._call_series = functools.cache(self._find_call_series)
        self._writes = self._add(
            Counter,
            "writes_total",
            "Updates that were sent to providers, each at most one version: confirmed, refused or ambiguous.",
            *("provider", "outcome"),
        )
        self._settled = self._add(
            Counter,
            "settled_writes_total",
            "Updates that took effect, each one version where the provider numbers them, by the result in"
            " status.history.",
            *("provider", "result"),
        )

    def _define_resources(self) -> None:
        self._resources = self._add(Gauge, "resources", "Resources by state of their endpoint.", "provider", "state")
        self._undecided = self._add(
            Gauge, "undecided_writes", "Writes of which nobody knows yet whether they arrived.", "provider"
        )
        self._drifted = self._add(
            Gauge, "drifted_resources", "Resources whose status.drift names a difference.", "provider"
        )
        self._rolling = self._add(
            Gauge, "rollouts", "Rollouts under way that an update of the operator began.", "provider"
        )
        self._overdue = self._add(
            Gauge, "overdue_rollouts", "Rollouts that take longer than their progress deadline.", "provider"
        )

    def _define_process(self) -> None:
        self._leader = self._add(
            Gauge,
            "leader",
            "1 while this process is the active one and may write; 0 while it stands by or ends. Of the processes that"
            " compete for one Lease (namespace/name) one is active.",
            "lease",
        )
        self._lease_failures = self._add(
            Counter, "lease_failures_total", "Attempts to get, renew or look at the Lease that failed."
        )
        self._oldest_watch = self._add(
            Gauge,
            "oldest_watch_age_seconds",
            "Time since the oldest watch was opened or listed; up to 300 is normal, as each is opened anew after that.",
        )
        self._lines_lost = self._add(
            Counter, "log_lines_lost_total", "Log lines that were dropped because nobody read them."
        )
        self._lines_told = 0
        self._add(Gauge, "build_info", "Always 1; the label tells the version.", "version").labels(__version__).set(1)
        ProcessCollector(registry=self._registry)

    def _add(self, kind: type[M], name: str, meaning: str, *labels: str, **more: Any) -> M:
        metric = kind(name, meaning, labels, namespace="inference_operator", registry=self._registry, **more)
        self._labels[metric] = labels
        return metric

    def observe_process(
        self,
        *,
        depth: Callable[[], int],
        busy: Callable[[], int],
        watch_age: Callable[[], float],
        lease: str,
        leading: Callable[[], bool],
    ) -> None:
        """Ask for these at each scrape.

        Args:
            depth: Resources that are due and wait for a worker.
            busy: Passes that run.
            watch_age: Seconds since the oldest watch was opened or listed.
            lease: Namespace and name of the Lease that it competes for.
            leading: Whether this process is the active one and may write.
        """
        self._queue_depth.set_function(depth)
        self._busy_workers.set_function(busy)
        self._oldest_watch.set_function(watch_age)
        self._leader.labels(lease).set_function(leading)
        self._watch_age = watch_age

    def observe_keys(
        self,
        *,
        paused: Callable[[], Mapping[str, int]],
        rates: Callable[[], Mapping[str, float]],
        waiting: Callable[[], Mapping[str, int]],
    ) -> None:
        """Ask at each scrape, by provider: keys that are paused, the rate of the slowest key, and calls that wait."""
        self._keys = (self._paused_keys, paused), (self._key_rate, rates), (self._waiting_calls, waiting)

    def limit(self, *, workers: int, calls_per_second: float) -> None:
        """Tell the settings that other numbers are measured against."""
        self._workers.set(workers)
        self._rate.set(calls_per_second)

    def watch_age(self) -> float:
        """Seconds since the oldest watch was opened or listed."""
        return self._watch_age()

    def call(self, *, provider: str, operation: str, outcome: str, seconds: float, waited: float) -> None:
        """Count a call to a provider."""
        calls, call_seconds, budget_seconds = self._call_series(provider, operation, outcome)
        calls.inc()
        call_seconds.observe(seconds)
        budget_seconds.observe(waited)

    def _find_call_series(self, provider: str, operation: str, outcome: str) -> tuple[Counter, Histogram, Histogram]:
        calls = self._calls.labels(provider, operation, outcome)
        return calls, self._call_seconds.labels(provider, operation), self._budget_seconds.labels(provider)

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

    def settled(self, *, provider: str, result: str) -> None:
        """Count an update that took effect."""
        self._settled.labels(provider, result).inc()

    def lease_failed(self) -> None:
        """Count an attempt to get, renew or look at the Lease that failed."""
        self._lease_failures.inc()

    def event_dropped(self) -> None:
        """Count an Event that was not posted."""
        self._events_dropped.inc()

    def noted(self, uid: str, standing: Standing) -> None:
        """Remember how a resource stands from now on."""
        self._standings.note(uid, standing)

    def standing(self, uid: str) -> Standing | None:
        """How a resource was last said to stand."""
        return self._standings.get(uid)

    def gone(self, uid: str) -> None:
        """A resource is gone, and its series with it."""
        self._standings.forget(uid)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        self._count_resources()
        for gauge, ask in self._keys:
            for provider, value in ask().items():
                gauge.labels(provider).set(value)
        lost = lost_lines()
        self._lines_lost.inc(max(0, lost - self._lines_told))
        self._lines_told = lost
        return generate_latest(self._registry) + self._standings.render()

    def _count_resources(self) -> None:
        """Count all resources anew; series of what there is no longer disappear."""
        flags = (self._undecided, self._drifted, self._rolling, self._overdue)
        for gauge in (self._resources, *flags):
            gauge.clear()
        kinds = Tally(
            (one.provider, one.state, (one.undecided, one.drifted, one.rolling, one.overdue)) for one in self._standings
        )
        for (provider, state, flagged), count in kinds.items():
            self._resources.labels(provider, state).inc(count)
            for gauge, flag in zip(flags, flagged, strict=True):
                gauge.labels(provider).inc(count * flag)

    def described(self) -> Iterator[Described]:
        """Every metric that is our own, for the reference page."""
        for metric, labels in self._labels.items():
            for family in metric.describe():
                name = f"{family.name}_total" if family.type == "counter" else family.name
                yield Described(name, family.type, labels, family.documentation)
        for gauge in FAMILIES:
            yield Described(gauge.name, "gauge", gauge.labels, gauge.meaning)
