"""The order of the steps of one pass, and what happens when a step cannot be taken.

Every trigger (spec, Secret, poll, timer, start) comes through `Reconciler.reconcile`, one at a time per
object. A pass writes the status at most twice: the intent of a write, and the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import structlog

from inference_operator.api.names import REFRESH_ANNOTATION
from inference_operator.core import findings as found
from inference_operator.core.findings import Finding, Findings, Progress, Standing
from inference_operator.core.memory import Memory, rfc3339
from inference_operator.core.model import Resource, State, Urgency
from inference_operator.core.plan import Hold, LookDeeper, Nothing, OnlyReport, Pause, Plan, Refuse, Send, Wait
from inference_operator.core.port import (
    Authority,
    Cluster,
    Connector,
    Driver,
    PassObserver,
    ResourceGone,
    SecretReader,
    StatusConflict,
)
from inference_operator.core.report import View
from inference_operator.core.rollouts import Rollouts
from inference_operator.core.schedule import Pace
from inference_operator.core.situation import LASTING, PARKING, Inputs, Recollection, Refusal
from inference_operator.core.write import Committed
from inference_operator.errors import CapacityUnavailable, EndpointError, InvalidSpec, SecretMissing, Unavailable
from inference_operator.reconcile.bind import Binder
from inference_operator.reconcile.look import Depth, Lookout
from inference_operator.reconcile.publish import Publisher
from inference_operator.reconcile.resolve import Declared, Resolved, declared, is_suspended, render, resolve
from inference_operator.reconcile.send import STALE_CRD, Answered, Pruned, Refused, Sender, Unstored, Withdrawn
from inference_operator.reconcile.sweeps import Sweeps
from inference_operator.reconcile.work import Clock, Options, Rest, Result, Sight, Work

log = structlog.get_logger(__name__)

AT_ONCE = 0.0
AFTER_A_WRITE = Depth(whole=True, urgency=Urgency.WRITE, fresh=True)
WHETHER_BUSY = Depth(whole=False, urgency=Urgency.ROLLOUT, fresh=True)


class Reconciler:
    """Runs passes. Holds what this process recollects of each object, and nothing else of its own."""

    def __init__(  # noqa: PLR0913 - the composition root names each part once
        self,
        *,
        cluster: Cluster,
        secrets: SecretReader,
        drivers: Mapping[str, Driver],
        connector: Connector,
        authority: Authority,
        rollouts: Rollouts,
        sweeps: Sweeps,
        pace: Pace,
        options: Options,
        clock: Clock,
        observer: PassObserver,
    ) -> None:
        """Take the parts; see the protocols in `core/port.py`."""
        self._cluster = cluster
        self._secrets = secrets
        self._drivers = drivers
        self._connector = connector
        self._rollouts = rollouts
        self._sweeps = sweeps
        self._options = options
        self._pace = pace
        self._clock = clock
        self._observer = observer
        self._lookout = Lookout(cluster, secrets, authority, rollouts, sweeps, pace, options, clock)
        self._binder = Binder(cluster)
        self._publisher = Publisher(cluster, drivers, clock, observer)
        self._sender = Sender(cluster, self._lookout, self._publisher, authority, rollouts, pace, clock, observer)
        self._recollections: dict[str, Recollection] = {}
        self._started = clock.now()

    async def reconcile(self, uid: str) -> float | None:
        """One pass; returns the seconds until the next look, or None when only a trigger brings one."""
        self._rollouts.inherit()
        resource = self._cluster.current(uid)
        if resource is None or resource.deleting:
            # Retain: the endpoint is left as it is, and there is no finalizer to take off.
            self._forget(uid)
            return None
        begun = self._clock.now()
        spec = resource.spec
        with structlog.contextvars.bound_contextvars(
            namespace=resource.namespace,
            name=resource.name,
            provider=spec.get("provider"),
            endpoint=spec.get("endpointId"),
        ):
            result = await self._guarded(resource)
            self._rollouts.meet(uid)
            if self._cluster.current(uid) is not None:
                self._recollections[uid] = result.recollection
            self._observer.passed(result=result.name, seconds=self._clock.now() - begun)
            return self._delay_after(uid, result)

    def _delay_after(self, uid: str, result: Result) -> float | None:
        if result.rest is None and not result.unchanged:
            self._sweeps.leave(uid)
            return result.delay
        delay = result.delay if result.rest is None else self._sweeps.rest(uid, result.rest)
        if delay is not None and self._options.reread_secrets:
            return min(delay, self._pace.within_a_poll)  # Secrets that nobody watches are read at every poll
        return delay

    def _forget(self, uid: str) -> None:
        self._recollections.pop(uid, None)
        self._sweeps.leave(uid)
        self._rollouts.forget(uid)
        self._observer.gone(uid)

    async def _guarded(self, resource: Resource) -> Result:
        recollection = self._recollection(resource)
        try:
            if (known_for := await self._lookout.unchanged(resource, recollection)) is not None:
                return Result("unchanged", known_for, recollection, unchanged=True)
            return await self._pass(Work.on(resource, recollection, self._clock.now()))
        except StatusConflict:
            fresh = await self._cluster_answers(resource)
            delay = AT_ONCE if fresh else self._pace.transition_poll
            return Result("conflict", delay, self._recollection(resource))
        except ResourceGone:
            return Result("gone", None, self._recollection(resource))
        except Unavailable as error:
            log.warning("the API server cannot be used", error=error.message)
            recollection = self._recollection(resource).failed((resource.generation,))
            return self._retried("kubernetes_unavailable", recollection, error)
        except Exception:
            log.exception("a pass failed by a fault of our own")
            return await self._confess(resource, self._recollection(resource).failed((resource.generation,)))

    def _recollection(self, resource: Resource) -> Recollection:
        return self._recollections.get(resource.uid, Recollection())

    async def _cluster_answers(self, resource: Resource) -> bool:
        """Bring the view of the object up to date, so that the next pass decides on the newest."""
        try:
            await self._cluster.read(resource)
        except Unavailable:
            return False
        return True

    # ── the steps ─────────────────────────────────────────────────────────────────────────────────────

    async def _pass(self, work: Work) -> Result:
        try:
            wanted = declared(work.resource, self._drivers)
        except InvalidSpec as error:
            return await self._failed(work, error, (work.resource.generation,))
        if is_suspended(work.resource):
            return await self._suspended(work, wanted)
        if wanted.unsupported is not None:
            return await self._published("not_supported", work, found.of_unsupported(wanted.unsupported), self._poll())
        return await self._managed(work, wanted)

    async def _managed(self, work: Work, wanted: Declared, *, fresh: bool = False) -> Result:
        inputs: Inputs = (work.resource.generation,)
        try:
            resolved = await resolve(work.resource, wanted, self._secrets, self._connector, fresh=fresh)
            inputs = resolved.inputs
            if (parked := self._parked(work, inputs)) is not None:
                return await self._unseen(work, parked)
            work, sight, decided = await self._lookout.look_and_decide(work, resolved)
            if isinstance(decided.action, Send):
                if self._options.reread_secrets and not fresh and await self._secrets_moved(work, wanted, resolved):
                    return await self._managed(work, wanted, fresh=True)
                if not decided.memory.has_written or decided.action.corrections is not None:
                    work = await self._lookout.meet(work, resolved, everywhere=True)
                    decided = self._lookout.decide(work, resolved, sight)
        except EndpointError as error:
            return await self._failed(work, error, inputs)
        work = self._learned(work, decided, sight)
        if isinstance(decided.action, Send):
            return await self._send(work, resolved, sight, decided, decided.action)
        return await self._conclude(work, resolved, sight, decided)

    async def _secrets_moved(self, work: Work, wanted: Declared, resolved: Resolved) -> bool:
        """Whether the Secrets, read once more before a write, are no longer those of the look."""
        again = await resolve(work.resource, wanted, self._secrets, self._connector, fresh=True)
        return again.inputs != resolved.inputs

    def _learned(self, work: Work, decided: Plan, sight: Sight) -> Work:
        """What this process remembers of a look and the decision on it."""
        recollection, seen = work.recollection, sight.observed
        recollection = recollection.looked(
            seen, begun=sight.begun, whole=sight.whole, fresh=sight.fresh, drift=decided.drift
        )
        asked = work.resource.annotations.get(REFRESH_ANNOTATION)
        if sight.whole and asked != recollection.refresh:
            recollection = replace(recollection, refresh=asked)
        if isinstance(decided.action, Hold):
            recollection = replace(recollection, holds=recollection.holds + 1)
        elif decided.verdict is not None:
            committed = isinstance(decided.verdict, Committed)
            recollection = recollection.judged(work.memory.write_id, committed=committed, now=self._clock.now())
        return replace(work, recollection=recollection)

    async def _conclude(self, work: Work, resolved: Resolved, sight: Sight, decided: Plan) -> Result:
        work, findings = await self._bound(work, resolved, sight, decided)
        view = View(sight.observed, decided.drift, resolved.desired.unverifiable)
        stored = await self._publisher.publish(work, decided.memory, findings, view)
        name = type(decided.action).__name__.lower()
        rest = self._rest(work, stored, resolved, decided, sight) if findings.is_quiet else None
        recollection, delay = work.recollection.calm(), self._next_look(work, decided, sight)
        if rest is not None:  # perhaps no pass comes for long that would meet what this one has stored
            recollection = recollection.meets(decided.memory, self._clock.now())
        return Result(name, delay, recollection, rest)

    def _rest(self, work: Work, stored: Resource, resolved: Resolved, decided: Plan, sight: Sight) -> Rest | None:
        """What lists need to know of an endpoint at which nothing is under way; None for any other."""
        seen, quiet = sight.observed, isinstance(decided.action, Nothing | OnlyReport)
        if not quiet or decided.young or self._is_moving(stored.uid, sight):
            return None
        return Rest(
            account=resolved.account,
            connection=resolved.connection,
            ref=resolved.desired.ref,
            listed=seen.listed,
            restless=seen.restless,
            fingerprint=seen.fingerprint,
            history=None if seen.history is None else seen.history.fingerprint,
            base=work.memory.base_version,
            begun=sight.begun,
            whole=sight.whole,
            resource_version=stored.resource_version,
            secrets=resolved.secrets,
        )

    async def _bound(self, work: Work, resolved: Resolved, sight: Sight, decided: Plan) -> tuple[Work, Findings]:
        """What the pass has found, once applications know where to find the endpoint."""
        return await self._binder.bind(work, resolved.declared, sight, self._findings(work, decided, sight))

    # ── a write ───────────────────────────────────────────────────────────────────────────────────────

    async def _send(self, work: Work, resolved: Resolved, sight: Sight, decided: Plan, send: Send) -> Result:
        sent = await self._sender.send(work, resolved, sight, decided, send)
        if not isinstance(sent, Unstored):
            self._recollections[work.uid] = sent.work.recollection  # also when the status cannot be stored
        match sent:
            case Answered():
                return await self._look_again(sent, resolved)
            case Refused():
                return await self._refused(sent, resolved, sight, decided)
            case Withdrawn():
                findings = found.of_decision(send, decided.memory, (), sight.observed, Progress())
                await self._publisher.publish(sent.work, _unsent(sent.work, decided), findings, View())
                return Result("withdrawn", self._pace.transition_poll, sent.work.recollection)
            case Unstored():
                log.warning("the intent may not have been stored; nothing was sent", error=sent.error.message)
                recollection = work.recollection.never_sent(sent.operation.id).failed(resolved.inputs)
                return self._retried("kubernetes_unavailable", recollection, sent.error)
            case Pruned():
                log.error("the installed CRD is older than the operator")
                standing = Standing(_unsent(sent.work, decided), pending=True, fresh=False, ever_read=True)
                await self._publisher.publish(sent.work, standing.memory, found.of_bug(standing, STALE_CRD), View())
                return Result("stale_crd", self._pace.slow, sent.work.recollection)

    async def _look_again(self, sent: Answered, resolved: Resolved) -> Result:
        """The look that usually settles a write in the same status write as its answer."""
        work, view = sent.work, View()
        try:
            sight = await self._lookout.look(work, resolved, AFTER_A_WRITE, sent.acknowledged)
        except EndpointError as error:
            log.info("the look after the update failed", error=error.message)
            findings = found.of_settling(acknowledged=work.memory.operation is None)
            await self._publisher.publish_outcome(work, sent.operation, work.memory, findings, view)
            return Result("sent", self._pace.eager(0), work.recollection)
        decided = self._lookout.decide(work, resolved, sight)
        work = self._learned(work, decided, sight)
        work, findings = await self._bound(work, resolved, sight, decided)
        view = View(sight.observed, decided.drift, resolved.desired.unverifiable)
        await self._publisher.publish_outcome(work, sent.operation, decided.memory, findings, view)
        return Result("sent", self._next_look(work, decided, sight), work.recollection.calm())

    async def _refused(self, refused: Refused, resolved: Resolved, sight: Sight, decided: Plan) -> Result:
        """The write was certainly not carried out: say why, and when it is tried again."""
        work, error = refused.work, refused.error
        log.warning("the update was refused", error=error.message, kind=type(error).__name__)
        recollection = work.recollection.failed(resolved.inputs)
        delay, findings = self._delay(recollection, error), found.of_refusal(error)
        if await self._is_busy(work, resolved, error):
            recollection, delay = replace(recollection, busy=True, listed=None), self._pace.transition_poll
            findings = found.of_busy(error)
        elif isinstance(error, LASTING):
            now = self._clock.now()
            recollection, delay = recollection.refused(error, resolved.inputs, now=now, pace=self._pace), self._poll()
        view = View(sight.observed, (), resolved.desired.unverifiable)
        if refused.operation is None:
            await self._publisher.publish(work, decided.memory, findings, view)
        else:
            await self._publisher.publish_outcome(work, refused.operation, _unsent(work, decided), findings, view)
        return Result("refused", delay, recollection)

    async def _is_busy(self, work: Work, resolved: Resolved, error: EndpointError) -> bool:
        """Whether a refusal may only mean that the provider is at work on the endpoint."""
        maybe = isinstance(error, InvalidSpec) and error.maybe_busy
        if not maybe and not isinstance(error, CapacityUnavailable):
            return False
        wrote_at = work.recollection.wrote_at
        if maybe and wrote_at is not None and self._clock.now() - wrote_at < self._pace.quiet:
            return True
        try:
            sight = await self._lookout.look(work, resolved, WHETHER_BUSY)
        except EndpointError:
            return True
        return sight.observed.state.in_transition

    # ── no look, or no pass at all ────────────────────────────────────────────────────────────────────

    async def _failed(self, work: Work, error: EndpointError, inputs: Inputs) -> Result:
        """The pass could not look: nothing is sent, what was seen last stays, and the reason is told."""
        novelty = work.novelty(error.message)
        log.log(novelty, "the pass could not look", error=error.message, kind=type(error).__name__)
        recollection = work.recollection.failed(inputs)
        refusal = Refusal(error, _waking(work, inputs), self._clock.now() + self._delay(recollection, error))
        recollection = replace(recollection, parked=refusal if isinstance(error, PARKING) else None)
        return await self._unseen(replace(work, recollection=recollection), refusal)

    def _parked(self, work: Work, inputs: Inputs) -> Refusal | None:
        """Why the provider is not asked again yet; None where it may be."""
        parked = work.recollection.parked
        if parked is None or parked.inputs != _waking(work, inputs) or self._clock.now() >= parked.until:
            return None
        return parked

    async def _unseen(self, work: Work, refusal: Refusal) -> Result:
        """Tell why nothing is seen; at every poll, because Secrets may change unwatched and what was seen ages."""
        now, recollection, error = self._clock.now(), work.recollection, refusal.error
        delay, grace_left = min(refusal.until - now, self._pace.within_a_poll), 0.0
        if isinstance(error, SecretMissing):
            since = now if recollection.missing_since is None else recollection.missing_since
            recollection = replace(recollection, missing_since=since)
            grace_left = since + self._pace.secret_grace - now
            delay = min(delay, grace_left) if grace_left > 0 else delay
        if (shown_at := self._sweeps.shown_at(work.uid)) is not None and recollection.looked_at is not None:
            recollection = replace(recollection, looked_at=max(recollection.looked_at, shown_at))
        last_look = self._started if recollection.looked_at is None else recollection.looked_at
        standing = Standing(
            memory=work.memory,
            pending=work.memory.applied is None or work.status.observed_generation != work.resource.generation,
            fresh=now - last_look < self._pace.known_for,
            ever_read=work.status.endpoint_id is not None,
            in_grace=grace_left > 0,
        )
        await self._publisher.publish(work, work.memory, found.of_failure(error, standing), View())
        return Result(type(error).__name__, delay, recollection)

    async def _suspended(self, work: Work, wanted: Declared) -> Result:
        memory, before = work.memory, {condition.type: condition for condition in work.status.conditions}
        ready, since = before.get("Ready"), before.get("Suspended")
        findings = found.of_suspension(
            memory,
            in_sync=await self._is_applied(work, wanted),
            ready=Finding(ready.status, ready.reason, ready.message) if ready else None,
            as_of=since.last_transition_time if since else rfc3339(self._clock.today()),
        )
        return await self._published("suspended", work, findings, None)

    async def _is_applied(self, work: Work, wanted: Declared) -> bool:
        applied = work.memory.applied
        if applied is None:
            return False
        try:
            desired = await render(work.resource, wanted, self._secrets)
        except EndpointError:
            return False
        return applied.hash == desired.hash and applied.secrets == dict(desired.secrets)

    async def _confess(self, resource: Resource, recollection: Recollection) -> Result:
        """Our own code failed: one honest condition, and all other resources go on."""
        message = "The operator failed on this resource by a fault of its own; see its log. Nothing is sent."
        try:
            work = Work.on(resource, recollection, self._clock.now())
            standing = Standing(work.memory, pending=True, fresh=False, ever_read=True)
            await self._publisher.publish(work, work.memory, found.of_bug(standing, message), View())
        except Exception as error:  # noqa: BLE001 - the failure itself has been logged; this is its echo
            log.warning("the failure could not be reported", kind=type(error).__name__)
        return Result("bug", self._pace.refused(recollection.failures - 1), recollection)

    # ── small parts ───────────────────────────────────────────────────────────────────────────────────

    async def _published(self, name: str, work: Work, findings: Findings, delay: float | None) -> Result:
        await self._publisher.publish(work, work.memory, findings, View())
        return Result(name, delay, work.recollection)

    def _retried(self, name: str, recollection: Recollection, error: EndpointError) -> Result:
        return Result(name, self._delay(recollection, error), recollection)

    def _delay(self, recollection: Recollection, error: EndpointError) -> float:
        return self._pace.after(error, recollection.failures - 1, self._clock.jitter())

    def _findings(self, work: Work, decided: Plan, sight: Sight) -> Findings:
        if decided.memory.write_id is None and not _is_rolling(sight):
            self._rollouts.end(work.uid)
        now = self._clock.now()
        progress = Progress(self._rollouts.is_ours(work.uid), self._rollouts.is_overdue(work.uid, now))
        return found.of_decision(decided.action, decided.memory, decided.drift, sight.observed, progress)

    def _next_look(self, work: Work, decided: Plan, sight: Sight) -> float:
        pace, jitter = self._pace, self._clock.jitter()
        match decided.action:
            case Hold(acknowledged=True):
                return pace.eager(work.recollection.holds)
            case Hold():
                write_id, recollection = work.memory.write_id or "", work.recollection
                settled_at = recollection.settled_at(write_id, pace)
                remaining = 0.0 if settled_at is None else settled_at - self._clock.now()
                return pace.holding(recollection.holds, remaining, took=recollection.took(write_id))
            case Wait(seconds=seconds) | Pause(seconds=seconds):
                return min(seconds, self._poll())
            case Send() | LookDeeper():
                return AT_ONCE
            case Nothing() | OnlyReport() | Refuse():
                return pace.spread(pace.transition_poll if self._is_moving(work.uid, sight) else pace.poll, jitter)

    def _is_moving(self, uid: str, sight: Sight) -> bool:
        return sight.observed.state.in_transition or self._rollouts.is_ours(uid)

    def _poll(self) -> float:
        return self._pace.spread(self._pace.poll, self._clock.jitter())


def _unsent(work: Work, decided: Plan) -> Memory:
    """The memory as it was decided on, after an update that was begun and certainly not carried out."""
    return decided.memory.counted(work.memory.updates).cleared()


def _waking(work: Work, inputs: Inputs) -> Inputs:
    """What makes a refused look worth repeating: its inputs, and a person who asks for it."""
    return (*inputs, work.resource.annotations.get(REFRESH_ANNOTATION))


def _is_rolling(sight: Sight) -> bool:
    """Whether the provider is still at work, by its state or by the replicas that run the newest configuration."""
    observed, replicas = sight.observed, sight.observed.replicas
    if observed.state.in_transition:
        return True
    if observed.state is not State.RUNNING or replicas.updated is None or replicas.desired is None:
        return False
    return replicas.updated < replicas.desired
