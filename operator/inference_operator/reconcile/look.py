"""Reads what is, no deeper than the decision needs, and gathers what surrounds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from inference_operator.api.names import REFRESH_ANNOTATION
from inference_operator.core.claims import Rivalry, owner_besides, unsettled
from inference_operator.core.model import Look, Resource, State, Urgency
from inference_operator.core.plan import LookDeeper, Nothing, OnlyReport, Plan, Wait, plan
from inference_operator.core.port import Authority, Cluster, SecretReader
from inference_operator.core.rollouts import Rollouts, may_be_rolling, write_age
from inference_operator.core.schedule import Pace
from inference_operator.core.situation import Circumstances, Policies, Recollection, Situation
from inference_operator.errors import EndpointError
from inference_operator.reconcile.resolve import Resolved
from inference_operator.reconcile.sweeps import Sweeps
from inference_operator.reconcile.work import Clock, Options, Sight, Work

RECENT_POLLS = 1.25
"""For so many polls what was read by itself counts as known before a write: until a poll that came late has read it."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How deep to look.

    Attributes:
        whole: All that a write needs.
        urgency: Which calls the look's go before.
        fresh: Nothing is taken over that a list has confirmed.
    """

    whole: bool
    urgency: Urgency
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Lookout:
    """Looks at endpoints and decides on what it sees."""

    cluster: Cluster
    secrets: SecretReader
    authority: Authority
    rollouts: Rollouts
    sweeps: Sweeps
    pace: Pace
    options: Options
    clock: Clock

    async def look_and_decide(self, work: Work, resolved: Resolved) -> tuple[Work, Sight, Plan]:
        """One look, or a second and deeper one where the first could not carry the decision.

        Raises:
            EndpointError: The look was not clean.
        """
        if may_be_rolling(work.resource):
            self._resume(work, resolved)
        depth = self._depth(work, resolved)
        sight = await self.look(work, resolved, depth)
        if sight.observed.state is State.UPDATING:
            self._resume(work, resolved)
        work = await self.meet(work, resolved)
        decided = self.decide(work, resolved, sight)
        if isinstance(decided.action, LookDeeper) or (decided.drift and not sight.fresh):
            sight = await self.look(work, resolved, Depth(whole=True, urgency=depth.urgency, fresh=True))
            decided = self.decide(work, resolved, sight)
        elif self._comes_to_rest(work, resolved, sight, decided):
            sight = await self._complete(work, resolved, sight)
            decided = self.decide(work, resolved, sight)
        return work, sight, decided

    def _comes_to_rest(self, work: Work, resolved: Resolved, sight: Sight, decided: Plan) -> bool:
        """Whether lists may take over, once what they never show has been read as well."""
        if sight.whole or not resolved.declared.driver.capabilities.history or sight.observed.listed is None:
            return False
        quiet = isinstance(decided.action, Nothing | OnlyReport) and not sight.observed.state.in_transition
        return quiet and not decided.young and not self.sweeps.is_followed(work.uid)

    async def _complete(self, work: Work, resolved: Resolved, sight: Sight) -> Sight:
        """Read what a light look has left out."""
        look = Look(history=True, base=work.memory.base_version, listed=sight.observed.listed)
        look = replace(look, document=sight.observed.document)
        return replace(sight, observed=await resolved.connection.observe(resolved.desired.ref, look), whole=True)

    async def look(self, work: Work, resolved: Resolved, depth: Depth, document: Any = None) -> Sight:
        """One look.

        Args:
            work: The pass.
            resolved: Its endpoint.
            depth: How deep.
            document: What an update has just returned.

        Raises:
            EndpointError: The look was not clean.
        """
        begun = self.clock.now()
        known = None if depth.fresh else self._known(work, resolved, depth)
        look = Look(
            history=depth.whole,
            base=work.memory.base_version,
            limits=depth.whole,
            urgency=depth.urgency,
            listed=known,
            document=document,
        )
        seen = await resolved.connection.observe(resolved.desired.ref, look)
        return Sight(seen, begun, depth.whole, fresh=known is None)

    def _known(self, work: Work, resolved: Resolved, depth: Depth) -> Any:
        """What lists would show of the endpoint, if it was seen so within a poll."""
        confirmed = self.sweeps.confirmed(work.uid, resolved.account)
        if confirmed is not None or depth.urgency is not Urgency.WRITE:
            return confirmed
        is_recent = self.clock.now() - work.recollection.listed_at <= RECENT_POLLS * self.pace.poll
        return work.recollection.listed if is_recent and not self.sweeps.has_moved(work.uid) else None

    async def unchanged(self, resource: Resource, recollection: Recollection) -> float | None:
        """How many seconds what the last pass has left will do, if everything is still so; None where a pass is needed.

        What lists show is known. What they do not is read here, as deep as is due, and only compared: most of what a
        pass does is spared where endpoints at rest have to be read again and again.
        """
        rest = self.sweeps.resting(resource.uid)
        if rest is None or rest.resource_version != resource.resource_version or recollection.drift:
            return None
        whole = self.sweeps.is_due(resource.uid)
        if whole and (recollection.bound is not None or self._is_overdue(recollection.rivalry, self.clock.now())):
            return None  # only a pass looks after the ConfigMap, and asks what other shards know
        try:
            for name, version in rest.secrets.items():
                secret = await self.secrets.read(resource.namespace, name)
                if secret is None or secret.resource_version != version:
                    return None
            if whole or rest.restless:
                look = Look(history=whole, base=rest.base, urgency=Urgency.ROUTINE, listed=rest.listed)
                if not rest.is_still_so(await rest.connection.observe(rest.ref, look)):
                    return None
        except EndpointError:
            return None
        return self.sweeps.rest_on(resource.uid, whole=whole)

    def decide(self, work: Work, resolved: Resolved, sight: Sight) -> Plan:
        """What to do about what was seen, and about the others that were met last."""
        driver, spec = resolved.declared.driver, resolved.declared.spec
        around = self._around(work, resolved, sight)
        decided = plan(
            Situation(
                desired=resolved.desired,
                observed=sight.observed,
                memory=work.memory,
                recollection=work.recollection,
                around=around,
                policies=Policies(
                    observe=self._observes(resolved),
                    correct_drift=spec.effective_drift_policy == "Correct",
                    match=spec.effective_adoption_policy(self.options.adoption_policy) == "Match",
                ),
                pace=self.pace,
                agrees=driver.agrees,
                confidential=driver.confidential,
            )
        )
        if isinstance(decided.action, Wait) and decided.action.message == around.brake:
            self.rollouts.wait(work.uid, resolved.account)
        return decided

    async def meet(self, work: Work, resolved: Resolved, *, everywhere: bool = False) -> Work:
        """See who else names the endpoint.

        Args:
            work: The pass.
            resolved: Its endpoint.
            everywhere: Ask the API server, which also knows those that another shard works on. It is asked in any
                case before a conflict, or what is waited for, is taken to be over, and by shards from time to time.

        Raises:
            Unavailable: The API server did not answer.
        """
        ref, rivalry, now = resolved.desired.ref, work.recollection.rivalry, self.clock.now()
        lost = work.is_in_conflict or rivalry.owner is not None
        if rivalry.asked_at is None:
            rivalry = replace(rivalry, asked_at=now)
        owner, matters = self._told(work, self.cluster.rivals(work.resource, ref.provider, ref.endpoint_id))
        is_over = lost and owner is None
        if everywhere or is_over or rivalry.misses(matters, now - self.pace.quiet) or self._is_overdue(rivalry, now):
            claims = await self.cluster.claims(work.resource, ref.provider, ref.endpoint_id)
            (owner, matters), now = self._told(work, claims), self.clock.now()
            rivalry = replace(rivalry, asked_at=now)
        else:
            matters |= rivalry.waiting.keys()  # what another shard works on is still there
        rivalry = rivalry.meets(owner, matters, lost=lost, now=now)
        if rivalry == work.recollection.rivalry:
            return work
        return replace(work, recollection=replace(work.recollection, rivalry=rivalry))

    def _told(self, work: Work, others: Sequence[Resource]) -> tuple[str | None, frozenset[str]]:
        """What the others mean: who of them owns the endpoint, and what of them a write has to let pass."""
        resource, endpoint_id = work.resource, str(work.resource.spec.get("endpointId"))
        matters = unsettled(resource, others, endpoint_id, wall=self.clock.today(), settle=self.pace.settle)
        return owner_besides(resource, others, endpoint_id), matters

    def _resume(self, work: Work, resolved: Resolved) -> None:
        """Before the first look: count a rollout as ours that an earlier process began."""
        age = write_age(work.memory, self.clock.today())
        deadline = float(resolved.declared.spec.effective_progress_deadline_seconds)
        if work.recollection.first_look_at is None and age is not None and age < deadline:
            begun = self.clock.now() - age
            self.rollouts.resume(work.uid, resolved.account, begun=begun, deadline=deadline)

    def _is_overdue(self, rivalry: Rivalry, now: float) -> bool:
        """Whether a shard has not asked for too long who else names the endpoint."""
        asked_at = now if rivalry.asked_at is None else rivalry.asked_at
        return self.options.sharded and now - asked_at >= self.pace.drift

    def _depth(self, work: Work, resolved: Resolved) -> Depth:
        """How deep to look: whole, if something may have to be decided that a light look cannot decide."""
        memory, recollection, desired = work.memory, work.recollection, resolved.desired
        observes, applied = self._observes(resolved), memory.applied
        if memory.write_id is not None or (applied is None and not observes):
            return Depth(whole=True, urgency=Urgency.WRITE, fresh=True)
        if work.status.observed_generation != work.resource.generation:
            return Depth(whole=True, urgency=Urgency.WRITE)
        if applied is not None and not observes:
            changed = applied.hash != desired.hash or applied.secrets != dict(desired.secrets)
            if changed or work.reapply not in {"", applied.reapply}:
                return Depth(whole=True, urgency=Urgency.WRITE)
        if self.sweeps.has_moved(work.uid):
            return Depth(whole=True, urgency=Urgency.ROLLOUT, fresh=True)
        if recollection.drift or work.resource.annotations.get(REFRESH_ANNOTATION) != recollection.refresh:
            return Depth(whole=True, urgency=Urgency.ROLLOUT, fresh=True)
        if not self.sweeps.is_followed(work.uid):
            return Depth(whole=self._is_old(recollection.whole_at), urgency=Urgency.ROLLOUT)
        return Depth(whole=self.sweeps.is_due(work.uid), urgency=Urgency.ROUTINE)

    def _observes(self, resolved: Resolved) -> bool:
        """Whether nothing is ever written, so that no look has to carry a write."""
        return self.options.read_only or resolved.declared.spec.effective_management_policy == "Observe"

    def _is_old(self, whole_at: float | None) -> bool:
        return whole_at is None or self.clock.now() - whole_at >= self.pace.drift

    def _around(self, work: Work, resolved: Resolved, sight: Sight) -> Circumstances:
        resource, rivalry, lapsed_at = work.resource, work.recollection.rivalry, work.recollection.lapsed_at
        now = self.clock.now()
        return Circumstances(
            now=now,
            wall=self.clock.today(),
            look_begun=sight.begun,
            whole=sight.whole,
            uid=resource.uid,
            generation=resource.generation,
            reapply=work.reapply,
            inputs=resolved.inputs,
            rival=rivalry.owner,
            first_write_at=self._first_write_at(work, resolved),
            turn_at=rivalry.turn_at(self.pace.quiet),
            lapse_over_at=0.0 if lapsed_at is None else lapsed_at + self.pace.quiet,
            brake=self.rollouts.brake(resource.uid, resolved.account, now),
        )

    def _first_write_at(self, work: Work, resolved: Resolved) -> float:
        """Until when a write that somebody else has lost could still land."""
        ref, quiet = resolved.desired.ref, self.pace.quiet
        removed_at = self.cluster.claim_removed_at(ref.provider, ref.endpoint_id)
        since = (self.authority.succeeded_at, removed_at, work.recollection.succeeds_at)
        return max((moment + quiet for moment in since if moment is not None), default=0.0)
