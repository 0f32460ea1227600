"""The composition root: the only module that knows every concrete class. It decides nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from inference_operator import __version__
from inference_operator.api.status import InferenceEndpointStatus
from inference_operator.core.model import Credentials, Observed, Resource
from inference_operator.core.port import Connection, Driver
from inference_operator.core.rollouts import Rollouts
from inference_operator.core.schedule import Pace
from inference_operator.kube.access import Access, AccessError
from inference_operator.kube.api import Api
from inference_operator.kube.client import KubernetesCluster
from inference_operator.kube.events import EventPoster
from inference_operator.kube.intake import Intake
from inference_operator.kube.lease import Lease, LeaseError, LeaseLost
from inference_operator.kube.operator import Operator, Parts
from inference_operator.kube.queue import Trigger, WorkQueue
from inference_operator.kube.scopes import lease_name
from inference_operator.kube.secrets import Secrets
from inference_operator.kube.store import Store
from inference_operator.kube.watching import WatchEnded, Watcher
from inference_operator.metrics import Metrics
from inference_operator.probes import serving
from inference_operator.providers.registry import DRIVERS
from inference_operator.providers.transport import CallObserver, Transport, TransportSettings
from inference_operator.reconcile import Clock, Options, Reconciler, Sweeps
from inference_operator.settings import Settings, UnusableSettings
from inference_operator.standings import gpus_per_replica, standing
from inference_operator.telemetry import configure
from inference_operator.tracing import Tracing, tracing

log = structlog.get_logger(__name__)

OK, RESTART = 0, 1
"""Exit codes; 2, for unusable settings, is the command line's."""

WATCHED_SECRETS_KEEP_SECONDS = 600.0
"""How long a watched Secret is believed without an event; bounds what a missed event can do."""

UNWATCHED_SECRETS_SHARE = 0.1
"""How much of a poll an unwatched Secret is believed: every poll reads it anew, and many resources share a read."""

MAX_WATCH_AGE_SECONDS = 900.0
"""Each watch is opened anew well within this time; an older one means that nobody is watching any more."""

OBJECTS_PER_COLLECTION = 10_000
"""Objects that are made before the youngest are looked through; with the usual 700 that takes a tenth of all time."""

STATUS_SECONDS = 15.0
"""What a pass may need beyond its provider call when the process ends: two status writes."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Implements `core.port.Connector` with the shared transport."""

    transport: Transport
    drivers: Mapping[str, Driver]
    origins: Mapping[str, str]

    def connect(self, provider: str, credentials: Credentials, team: str | None) -> Connection:
        """A connection for one key."""
        driver = self.drivers[provider]
        origin = self.origins.get(provider, driver.origin)
        return driver.connect(self.transport, origin=origin, credentials=credentials, team=team)


@dataclass(frozen=True, slots=True)
class Succession:
    """Implements `core.port.Authority` with the Lease."""

    lease: Lease

    def may_write(self) -> bool:
        """Whether this process may write to providers."""
        return self.lease.may_write()

    @property
    def succeeded_at(self) -> float | None:
        """When this process became active, if a Lease was there before."""
        return self.lease.acquired_at if self.lease.existed else None


@dataclass(frozen=True, slots=True)
class Census:
    """Implements `core.port.PassObserver` with the metrics and the traces."""

    metrics: Metrics
    traces: Tracing
    rollouts: Rollouts

    def passed(self, *, result: str, seconds: float) -> None:
        """Count a pass."""
        self.metrics.passed(result=result, seconds=seconds)
        self.traces.passed(result=result)

    def wrote(self, *, provider: str, outcome: str) -> None:
        """Count an update."""
        self.metrics.wrote(provider=provider, outcome=outcome)

    def reported(self, resource: Resource, status: InferenceEndpointStatus, observed: Observed | None) -> None:
        """Note how a resource stands; without a look its GPUs are those of the last one."""
        uid, before = resource.uid, self.metrics.standing(resource.uid)
        gpus = gpus_per_replica(observed) if observed else before.gpus_per_replica if before else None
        self.metrics.noted(
            uid,
            standing(
                resource,
                status,
                gpus_per_replica=gpus,
                rolling=self.rollouts.is_ours(uid),
                overdue=self.rollouts.is_overdue(uid, time.monotonic()),
            ),
        )

    def settled(self, *, provider: str, result: str) -> None:
        """Count an update that took effect."""
        self.metrics.settled(provider=provider, result=result)

    def gone(self, uid: str) -> None:
        """Forget a resource."""
        self.metrics.gone(uid)


@dataclass(frozen=True, slots=True)
class CallLog:
    """Implements `providers.transport.CallObserver` with the metrics and the traces."""

    metrics: Metrics
    traces: Tracing

    def call(
        self, *, provider: str, operation: str, outcome: str, seconds: float, waited: float, status: int | None
    ) -> None:
        """Count a call, and make its span."""
        self.metrics.call(provider=provider, operation=operation, outcome=outcome, seconds=seconds, waited=waited)
        self.traces.call(
            provider=provider, operation=operation, outcome=outcome, seconds=seconds, waited=waited, status=status
        )


def run(settings: Settings, drivers: Sequence[Driver] = DRIVERS) -> int:
    """Run the operator until it is told to stop.

    Returns:
        0 after SIGTERM or SIGINT, 1 when the API server or the Lease was lost and a restart is the cure.

    Raises:
        UnusableSettings: The process cannot start like this.
    """
    configure(log_format=settings.log_format, log_level=settings.log_level)
    gc.freeze()  # what was imported lives as long as the process, and need not be looked through again
    gc.set_threshold(OBJECTS_PER_COLLECTION)
    return asyncio.run(_run(settings, {driver.name: driver for driver in drivers}))


async def _run(settings: Settings, drivers: Mapping[str, Driver]) -> int:
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        operator, metrics = await _compose(settings, drivers, stack)
        await stack.enter_async_context(
            serving(
                settings.http_address,
                alive=lambda: _alive(metrics),
                ready=lambda: _ready(operator),
                metrics=metrics.render,
            )
        )
        log.info("starting", version=__version__, providers=sorted(drivers), read_only=settings.read_only)
        try:
            await operator.run(stop)
        except (LeaseError, LeaseLost, WatchEnded) as error:
            log.error("stopping: start me again", reason=str(error))  # noqa: TRY400 - the reason says it all
            return RESTART
        except Exception as error:  # noqa: BLE001 - whatever ends the watch, a restart is the cure
            log.error("stopping: the watch has failed", kind=type(error).__name__, reason=str(error))  # noqa: TRY400
            return RESTART
        log.info("stopped")
        return OK


async def _compose(
    settings: Settings, drivers: Mapping[str, Driver], stack: AsyncExitStack
) -> tuple[Operator, Metrics]:
    metrics = Metrics(drivers)
    try:
        access = await Access.find(settings.kubeconfig, settings.context)
    except AccessError as error:
        raise UnusableSettings([str(error)]) from None
    stack.push_async_callback(access.close)
    identity = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    traces = tracing(os.environ, instance=identity)
    stack.push_async_callback(traces.close)
    api, store = Api(access), Store(remember_seconds=max(3600.0, 2 * settings.quiet_seconds))
    queue: WorkQueue[str] = WorkQueue(
        workers=settings.workers,
        on_error=_unexpected,
        on_wait=lambda _, seconds: metrics.waited(seconds),
    )
    events = EventPoster(api, instance=identity, on_loss=metrics.event_dropped)
    cluster = KubernetesCluster(
        api, store, events, namespaces=settings.namespaces, label_selector=settings.label_selector
    )
    watched = settings.secrets == "watch"
    secrets = Secrets(
        api,
        keep_seconds=WATCHED_SECRETS_KEEP_SECONDS if watched else settings.poll_seconds * UNWATCHED_SECRETS_SHARE,
        referenced=lambda key: bool(store.dependents(key)),
    )
    intake = Intake(store, secrets, queue, poll_seconds=settings.poll_seconds)
    watcher = Watcher(
        access,
        on_resource=intake.take_resource,
        on_secret=intake.take_secret if watched else None,
        namespaces=settings.namespaces,
        label_selector=settings.label_selector,
    )
    name_of_lease = lease_name(settings.namespaces, settings.label_selector)
    lease = Lease(
        api,
        namespace=settings.lease_namespace,
        name=name_of_lease,
        identity=identity,
        election=settings.leader_election,
        on_failure=metrics.lease_failed,
    )
    transport = _transport(settings, CallLog(metrics, traces))
    stack.push_async_callback(transport.close)
    rollouts = Rollouts(settings.max_rollouts, lambda uid: queue.add(uid, Trigger.SPEC), store.resources)
    metrics.observe_process(
        depth=lambda: queue.depth,
        busy=lambda: queue.running,
        watch_age=lambda: watcher.oldest_watch_age,
        lease=f"{settings.lease_namespace}/{name_of_lease}",
        leading=lease.may_write,
    )
    metrics.observe_keys(paused=transport.paused, rates=transport.rates, waiting=transport.waiting)
    metrics.limit(workers=settings.workers, calls_per_second=settings.calls_per_second)
    pace, soon = _pace(settings), asyncio.get_running_loop().call_soon
    clock = Clock(time.monotonic, lambda: datetime.now(UTC), random.random, soon)
    sweeps = Sweeps(pace=pace, clock=clock, add=lambda key, after: queue.add(key, Trigger.POLL, after))
    reconciler = Reconciler(
        cluster=cluster,
        secrets=secrets,
        drivers=drivers,
        connector=Connections(transport, drivers, settings.base_urls),
        authority=Succession(lease),
        rollouts=rollouts,
        sweeps=sweeps,
        pace=pace,
        options=Options(
            settings.read_only,
            settings.adoption_policy,
            reread_secrets=not watched,
            sharded=bool(settings.label_selector),
        ),
        clock=clock,
        observer=Census(metrics, traces, rollouts),
    )
    parts = Parts(cluster=cluster, events=events, intake=intake, lease=lease, queue=queue, watcher=watcher)

    async def reconcile(key: str, _: Trigger) -> float | None:
        if sweeps.is_account(key):
            return await sweeps.turn(key)
        with traces.pass_over(cluster.current(key)):
            return await reconciler.reconcile(key)

    drain = settings.request_timeout_seconds + STATUS_SECONDS
    return Operator(parts, reconcile, drain_seconds=drain), metrics


def _transport(settings: Settings, observer: CallObserver) -> Transport:
    proxy = settings.proxy_url
    try:
        return Transport(
            TransportSettings(
                request_timeout=settings.request_timeout_seconds,
                calls_per_second=settings.calls_per_second,
                calls_burst=settings.calls_burst,
                ca_file=settings.ca_file,
                proxy_url=proxy.get_secret_value() if proxy else None,
            ),
            observer,
        )
    except ValueError as error:
        raise UnusableSettings([f"CA_FILE: {error}"]) from None


def _pace(settings: Settings) -> Pace:
    return Pace(
        poll=settings.poll_seconds,
        transition_poll=settings.transition_poll_seconds,
        settle=settings.settle_seconds,
        request_timeout=settings.request_timeout_seconds,
        claim=settings.claim_seconds,
        drift=settings.drift_seconds,
        drift_cooldown=settings.drift_cooldown_seconds,
        secret_grace=settings.secret_grace_seconds,
        scale_interval=settings.scale_interval_seconds,
        rate=settings.calls_per_second,
    )


def _unexpected(uid: str, error: BaseException) -> float:
    log.error("a pass ended unexpectedly", uid=uid, exc_info=error)
    return WATCHED_SECRETS_KEEP_SECONDS


def _alive(metrics: Metrics) -> tuple[bool, str]:
    age = metrics.watch_age()
    if age > MAX_WATCH_AGE_SECONDS:
        return False, f"a watch has not been opened anew for {age:.0f} s"
    return True, "alive"


def _ready(operator: Operator) -> tuple[bool, str]:
    if operator.ending.is_set():
        return False, "ending"
    if not operator.listed.is_set():
        return False, "the resources are not listed yet"
    return True, "working" if operator.active.is_set() else "standing by"
