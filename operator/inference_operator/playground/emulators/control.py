"""A synchronous client of the control API, for tests and demonstrations that run beside the emulators."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Self

import httpx

from inference_operator.playground.emulators.ledger import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inference_operator.playground.emulators.faults import Fault

_TIMEOUT_SECONDS = 30.0


class ControlError(Exception):
    """The control API refused an operation; the text says why."""


class EmulatorControl:
    """Controls emulators over HTTP. The methods are those of ``World``; see there for their meaning."""

    def __init__(self, control_url: str) -> None:
        """Connects to the control API of running emulators."""
        # The control API is plain HTTP; loading the default certificates would be the slowest part of a test.
        unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client = httpx.Client(base_url=control_url, timeout=_TIMEOUT_SECONDS, trust_env=False, verify=unused)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def urls(self) -> dict[str, str]:
        """Returns the origins ``friendli``, ``novita`` and ``control``."""
        urls: dict[str, str] = self._client.get("/urls").json()
        return urls

    def add_account(
        self,
        name: str,
        tokens: Sequence[str],
        *,
        teams: Sequence[str] = ("team-1",),
        rate: float = 0.0,
        burst: int = 1,
    ) -> None:
        """Adds or replaces an account."""
        self._call("add-account", name=name, tokens=list(tokens), teams=list(teams), rate=rate, burst=burst)

    def set_tokens(self, name: str, tokens: Sequence[str]) -> None:
        """Replaces the tokens of an account."""
        self._call("set-tokens", name=name, tokens=list(tokens))

    def set_rate(self, name: str, rate: float, burst: int = 1) -> None:
        """Limits every token of an account to requests per second and a burst."""
        self._call("set-rate", name=name, rate=rate, burst=burst)

    def create_endpoint(
        self,
        provider: str,
        endpoint_id: str,
        account: str,
        *,
        team: str | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        """Puts a running endpoint there."""
        self._call("create-endpoint", provider=provider, endpoint_id=endpoint_id, account=account, team=team, spec=spec)

    def get_endpoint(self, provider: str, endpoint_id: str) -> dict[str, Any]:
        """Returns everything that is kept about an endpoint."""
        kept: dict[str, Any] = self._call("get-endpoint", provider=provider, endpoint_id=endpoint_id)
        return kept

    def set_endpoint(self, provider: str, endpoint_id: str, **change: Any) -> None:
        """Changes ``state``, ``replicas`` and ``error`` of an endpoint at once."""
        self._call("set-endpoint", provider=provider, endpoint_id=endpoint_id, **change)

    def set_knobs(self, provider: str, endpoint_id: str | None = None, **values: Any) -> None:
        """Turns knobs of a provider or of one endpoint."""
        self._call("set-knobs", provider=provider, endpoint_id=endpoint_id, **values)

    def set_limits(self, **values: Any) -> None:
        """Changes Novita's parameter limits."""
        self._call("set-limits", **values)

    def add_fault(self, fault: Fault) -> str:
        """Adds a fault to the script and returns its id."""
        return str(self._call("add-fault", **fault.as_json()))

    def clear_faults(self) -> None:
        """Takes all faults out of the script."""
        self._call("clear-faults")

    def fault_counts(self) -> list[dict[str, Any]]:
        """Returns id, matching requests and hits of every fault."""
        return list(self._call("fault-counts"))

    def ledger(
        self,
        *,
        provider: str | None = None,
        endpoint_id: str | None = None,
        kind: Kind | None = None,
        after: int = 0,
    ) -> list[Entry]:
        """Returns requests in order of arrival."""
        rows = self._call("ledger", provider=provider, endpoint_id=endpoint_id, kind=kind, after=after)
        return [Entry(**row) for row in rows]

    def mutations(self, endpoint_id: str | None = None) -> list[Entry]:
        """Returns requests for a change, committed or not; foreign writes are not among them."""
        return self.ledger(endpoint_id=endpoint_id, kind="mutations")

    def reads(self, endpoint_id: str | None = None) -> list[Entry]:
        """Returns requests that change nothing."""
        return self.ledger(endpoint_id=endpoint_id, kind="reads")

    def ledger_counts(self) -> dict[str, int]:
        """Returns how many requests there are: ``mutations``, those ``committed``, ``reads`` and ``foreign``."""
        return dict(self._call("ledger-counts"))

    def reset_ledger(self) -> None:
        """Empties the ledger and starts counting transitions anew."""
        self._call("reset-ledger")

    def peak_transitions(self) -> dict[str, int]:
        """Returns for each token's fingerprint how many endpoints it had in transition at once, at most."""
        return dict(self._call("peak-transitions"))

    def wait_for_gate(self, name: str, *, seconds: float = 30.0, requests: int = 1) -> list[int]:
        """Waits until requests are held at a gate; returns their numbers in the ledger.

        Raises:
            TimeoutError: If they do not come in time.
        """
        return list(self._call("wait-for-gate", name=name, seconds=seconds, requests=requests))

    def release_gate(self, name: str) -> int:
        """Lets the requests that are held at a gate go on; returns how many."""
        return int(self._call("release-gate", name=name))

    def foreign_write(
        self, provider: str, endpoint_id: str, body: Mapping[str, Any] | None = None, *, operation: str = "update"
    ) -> Entry:
        """Carries out an operation in the name of someone else."""
        row = self._call("foreign-write", provider=provider, endpoint_id=endpoint_id, body=body, operation=operation)
        return Entry(**row)

    def _call(self, operation: str, /, **arguments: Any) -> Any:
        patience = _TIMEOUT_SECONDS + float(arguments.get("seconds", 0))
        answer = self._client.post(f"/{operation}", json=arguments, timeout=patience)
        if answer.status_code == httpx.codes.REQUEST_TIMEOUT:
            raise TimeoutError(f"{operation} {arguments}")
        if answer.is_error:
            raise ControlError(answer.json()["error"])
        return answer.json()
