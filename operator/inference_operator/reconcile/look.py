"""Reads what is, no deeper than the decision needs, and gathers what surrounds it."""

from __future__ import annotations

from dataclasses import dataclass

from inference_operator.api.names import REFRESH_ANNOTATION
from inference_operator.core.claims import owner_besides
from inference_operator.core.model import Look
from inference_operator.core.plan import LookDeeper, Plan, Wait, plan
from inference_operator.core.port import Authority, Cluster
from inference_operator.core.rollouts import Rollouts
from inference_operator.core.schedule import Pace
from inference_operator.core.situation import Circumstances, Policies, Situation
from inference_operator.reconcile.resolve import Resolved
from inference_operator.reconcile.work import Clock, Options, Sight, Work


@dataclass(frozen=True, slots=True)
class Lookout:
    """Looks at endpoints and decides on what it sees."""

    cluster: Cluster
    authority: Authority
    rollouts: Rollouts
    pace: Pace
    options: Options
    clock: Clock

    async def look_and_decide(self, work: Work, resolved: Resolved) -> tuple[Sight, Plan]:
        """One look, or a second and deeper one where the first could not carry the decision.

        Raises:
            EndpointError: The look was not clean.
        """
        sight = await self.look(work, resolved, whole=self._needs_whole_look(work, resolved))
        decided = self.decide(work, resolved, sight)
        if isinstance(decided.action, LookDeeper):
            sight = await self.look(work, resolved, whole=True)
            decided = self.decide(work, resolved, sight)
        return sight, decided

    async def look(self, work: Work, resolved: Resolved, *, whole: bool) -> Sight:
        """One look.

        Raises:
            EndpointError: The look was not clean.
        """
        begun = self.clock.now()
        look = Look(history=whole, base=work.memory.base_version, limits=whole)
        return Sight(await resolved.connection.observe(resolved.desired.ref, look), begun, whole)

    def decide(self, work: Work, resolved: Resolved, sight: Sight, *, rival: str | None = None) -> Plan:
        """What to do about what was seen; `rival` is one that this process cannot see by itself."""
        driver, spec = resolved.declared.driver, resolved.declared.spec
        around = self._around(work, resolved, sight, rival)
        decided = plan(
            Situation(
                desired=resolved.desired,
                observed=sight.observed,
                memory=work.memory,
                recollection=work.recollection,
                around=around,
                policies=Policies(
                    observe=self.options.read_only or spec.effective_management_policy == "Observe",
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

    async def rival_anywhere(self, work: Work, resolved: Resolved) -> str | None:
        """A rival that this process may not see, because another shard or no watch of its own holds it.

        Raises:
            Unavailable: The API server did not answer.
        """
        ref = resolved.desired.ref
        claims = await self.cluster.claims(work.resource, ref.provider, ref.endpoint_id)
        return owner_besides(work.resource, claims, ref.endpoint_id)

    def _needs_whole_look(self, work: Work, resolved: Resolved) -> bool:
        """Whether something may have to be decided that a light look cannot decide."""
        memory, recollection, desired = work.memory, work.recollection, resolved.desired
        applied = memory.applied
        if applied is None or memory.write_id is not None or recollection.drift:
            return True
        if applied.hash != desired.hash or applied.secrets != dict(desired.secrets):
            return True
        if work.reapply not in {"", applied.reapply}:
            return True
        if work.resource.annotations.get(REFRESH_ANNOTATION) != recollection.refresh:
            return True
        return recollection.whole_at is None or self.clock.now() - recollection.whole_at >= self.pace.drift

    def _around(self, work: Work, resolved: Resolved, sight: Sight, rival: str | None) -> Circumstances:
        resource, ref, now = work.resource, resolved.desired.ref, self.clock.now()
        rivals = self.cluster.rivals(resource, ref.provider, ref.endpoint_id)
        return Circumstances(
            now=now,
            wall=self.clock.today(),
            look_begun=sight.begun,
            whole=sight.whole,
            uid=resource.uid,
            generation=resource.generation,
            reapply=work.reapply,
            inputs=resolved.inputs,
            rival=rival or owner_besides(resource, rivals, ref.endpoint_id),
            first_write_at=self._first_write_at(work, resolved),
            brake=self.rollouts.brake(resource.uid, resolved.account, now),
        )

    def _first_write_at(self, work: Work, resolved: Resolved) -> float:
        """Until when a write that somebody else has lost could still land."""
        ref, quiet = resolved.desired.ref, self.pace.quiet
        since = [self.authority.succeeded_at, self.cluster.claim_removed_at(ref.provider, ref.endpoint_id)]
        if work.status.operation is not None and work.memory.operation is None:
            first_look_at = work.recollection.first_look_at
            since.append(self.clock.now() if first_look_at is None else first_look_at)
        return max((moment + quiet for moment in since if moment is not None), default=0.0)
