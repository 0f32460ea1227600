"""Everything the emulators know and everything that can be done to it: the control API without its transport."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from inference_operator.playground.emulators.accounts import Account, Accounts
from inference_operator.playground.emulators.exchange import Call
from inference_operator.playground.emulators.faults import Fault, FaultScript
from inference_operator.playground.emulators.friendli import Friendli
from inference_operator.playground.emulators.front import Stage, record
from inference_operator.playground.emulators.gates import Gates
from inference_operator.playground.emulators.ledger import Entry, Kind, Ledger
from inference_operator.playground.emulators.novita import Novita
from inference_operator.playground.emulators.timeline import peaks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inference_operator.playground.emulators.provider import Provider

FOREIGN = "foreign"


class World:
    """Accounts, endpoints, faults and ledger of both providers, empty at first.

    The operations of the control API are methods of this class and take the same arguments as JSON. They raise
    ``LookupError`` for what does not exist and ``ValueError`` for what makes no sense.
    """

    def __init__(self) -> None:
        self.friendli = Friendli()
        self.novita = Novita()
        self.stage = Stage(Accounts(), Ledger(), FaultScript(), Gates(), set())

    def add_account(
        self,
        name: str,
        tokens: Sequence[str],
        *,
        teams: Sequence[str] = ("team-1",),
        rate: float = 0.0,
        burst: int = 1,
    ) -> None:
        """Adds an account of both providers, or replaces it.

        Args:
            name: Name of the account.
            tokens: Bearer tokens that are accepted; only their hashes are kept.
            teams: Friendli teams its tokens may act as; the first is the default.
            rate: Requests per second and token; 0 for no limit.
            burst: Requests per token that may come at once.
        """
        self.stage.accounts.add(Account(name, tuple(teams)), list(tokens))
        self.stage.accounts.set_rate(name, rate, burst)

    def set_tokens(self, name: str, tokens: Sequence[str]) -> None:
        """Replaces the tokens of an account; the others are refused at once."""
        self.stage.accounts.set_tokens(name, list(tokens))

    def set_rate(self, name: str, rate: float, burst: int = 1) -> None:
        """Limits every token of an account; see ``add_account``."""
        self.stage.accounts.set_rate(name, rate, burst)

    def create_endpoint(
        self,
        provider: str,
        endpoint_id: str,
        account: str,
        *,
        team: str | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        """Puts an endpoint there as though it had always existed: running, version 0, every field valid.

        Args:
            provider: ``friendli`` or ``novita``.
            endpoint_id: Its id.
            account: The account it belongs to.
            team: The Friendli team it belongs to; the account's default team if absent.
            spec: Fields of the provider's create request (on Novita of its ``endpoint`` object), laid over a
                complete example; objects are merged one level deep.
        """
        owner = self.stage.accounts[account]
        target = self.provider(provider)
        if (existing := target.endpoints.get(endpoint_id)) and not existing.timeline.latest.deleted:
            raise ValueError(f"{provider} has an endpoint {endpoint_id!r} already")
        target.place(endpoint_id=endpoint_id, account=account, team=team or owner.teams[0], spec=spec or {})

    def get_endpoint(self, provider: str, endpoint_id: str) -> dict[str, Any]:
        """Returns everything that is kept about an endpoint, write-only fields and all versions included."""
        return self.provider(provider).internals(endpoint_id, time.monotonic())

    def set_endpoint(self, provider: str, endpoint_id: str, **change: Any) -> None:
        """Changes what the world sees of an endpoint at once; a rollout under way is cut short.

        Args:
            provider: ``friendli`` or ``novita``.
            endpoint_id: Its id.
            change: ``state`` (Friendli: a status; Novita: a state word), ``replicas`` (running replicas or workers),
                ``error`` (Friendli: an error code, shown while FAILED; Novita: the state's error; none if absent).
        """
        if unknown := set(change) - {"state", "replicas", "error"}:
            raise ValueError(f"cannot change {', '.join(sorted(unknown))}")
        self.provider(provider).turn(endpoint_id, time.monotonic(), change)

    def set_knobs(self, provider: str, endpoint_id: str | None = None, **values: Any) -> None:
        """Turns knobs of a provider or of one endpoint; see ``Knobs``, ``FriendliKnobs`` and ``NovitaKnobs``."""
        self.provider(provider).set_knobs(endpoint_id, values)

    def set_limits(self, **values: Any) -> None:
        """Changes Novita's parameter limits, by the names of its own answer."""
        self.novita.set_limits(values)

    def add_fault(self, fault: Fault) -> str:
        """Adds a fault to the script and returns its id, which the ledger shows where it was applied."""
        return self.stage.script.add(fault)

    def clear_faults(self) -> None:
        """Takes all faults out of the script; what is held at a gate stays held."""
        self.stage.script.clear()

    def fault_counts(self) -> list[dict[str, Any]]:
        """Returns for every fault in the script its id, the requests it matched and those it was applied to."""
        return self.stage.script.counts()

    def ledger(
        self,
        *,
        provider: str | None = None,
        endpoint_id: str | None = None,
        kind: Kind | None = None,
        after: int = 0,
    ) -> list[Entry]:
        """Returns requests in order of arrival; each argument narrows the choice."""
        return self.stage.ledger.entries(provider=provider, endpoint_id=endpoint_id, kind=kind, after=after)

    def mutations(self, endpoint_id: str | None = None) -> list[Entry]:
        """Returns requests for a change, committed or not; foreign writes are not among them."""
        return self.ledger(endpoint_id=endpoint_id, kind="mutations")

    def reads(self, endpoint_id: str | None = None) -> list[Entry]:
        """Returns requests that change nothing."""
        return self.ledger(endpoint_id=endpoint_id, kind="reads")

    def ledger_counts(self) -> dict[str, int]:
        """Returns how many requests there are: ``mutations``, those ``committed``, ``reads`` and ``foreign``."""
        return self.stage.ledger.counts()

    def reset_ledger(self) -> None:
        """Empties the ledger and starts counting transitions anew."""
        self.stage.ledger.clear()

    def peak_transitions(self) -> dict[str, int]:
        """Returns for each token (by fingerprint) how many endpoints it had in transition at once, at most.

        Transitions that a foreign write began are under ``foreign``.
        """
        since = self.stage.ledger.since
        return peaks([*self.friendli.intervals(since), *self.novita.intervals(since)])

    async def wait_for_gate(self, name: str, *, seconds: float = 30.0, requests: int = 1) -> list[int]:
        """Waits until as many requests are held at a gate; returns their numbers in the ledger.

        Raises:
            TimeoutError: If they do not come in time.
        """
        return await self.stage.gates.wait(name, seconds, requests)

    def release_gate(self, name: str) -> int:
        """Lets the requests that are held at a gate go on; returns how many."""
        return self.stage.gates.release(name)

    def foreign_write(
        self, provider: str, endpoint_id: str, body: Mapping[str, Any] | None = None, *, operation: str = "update"
    ) -> Entry:
        """Carries out an operation in the name of someone else, past authentication and faults.

        Args:
            provider: ``friendli`` or ``novita``.
            endpoint_id: The endpoint.
            body: The body of the provider's request; on Novita the id is filled in.
            operation: Name of the operation as in the ledger, for example ``delete``.

        Returns:
            The entry in the ledger; ``committed`` tells whether it changed anything.
        """
        target = self.provider(provider)
        endpoint = target.endpoint(endpoint_id)
        route = next((route for route in target.routes if route.operation == operation), None)
        if route is None:
            raise LookupError(f"{provider} has no operation {operation!r}")
        sent = {"id": endpoint_id, **(body or {})} if provider == Novita.name else body
        entry = self.stage.ledger.open(
            provider=provider, method=route.method, path="", operation=operation, mutates=route.mutates, foreign=True
        )
        entry.endpoint_id, entry.body = endpoint_id, sent
        call = Call(
            operation=operation,
            endpoint_id=endpoint_id,
            account=self.stage.accounts[endpoint.account],
            team=endpoint.team,
            by=FOREIGN,
            at=entry.at,
            query={},
            body=sent,
        )
        reply = target.execute(call)
        record(entry, reply, entry.at)
        entry.status, entry.answered_at = reply.status, time.monotonic()
        return entry

    def provider(self, name: str) -> Provider[Any, Any]:
        """Returns an emulated provider by name."""
        for provider in (self.friendli, self.novita):
            if provider.name == name:
                return provider
        raise LookupError(f"there is no provider {name!r}")
