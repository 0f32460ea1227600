"""A read that fails, however it fails, causes no write, forgets nothing, and is told as what it is."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import pytest

from fleet import Finding, wait_for_all
from inference_operator.playground.emulators.accounts import fingerprint
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.ledger import Entry
from rig import Rig, condition, spec_of, wait_for
from tally import show

HOLD = 2.0
"""Seconds for which the reads go on failing after everything has been reported: several tries of each resource."""

LISTED = 2.5
"""Seconds after which nothing is known any more of what lists have shown: two polls."""

MIB = 1 << 20
DEPTH = 5000
RETRY_AFTER = 5.0
IN_FLIGHT = 2.5
"""Seconds for which requests that had left before the 429 was read may still arrive on a busy machine."""

CONDITIONS = ("Synced", "Ready", "Reconciling", "Stalled")


@dataclass(frozen=True)
class Kind:
    """A way for reads to fail, and the reason that is told for it; what concerns a whole key has a key of its own."""

    name: str
    fault: Fault
    reason: str = "ProviderUnavailable"
    secret: str = "key"

    def told(self, *, pending: bool) -> dict[str, Finding]:
        """The conditions of a resource that was in sync; `pending`: its spec has changed since."""
        needs_human = self.reason in {"CredentialsRejected", "EndpointNotFound"}
        unknown = ("Unknown", self.reason if needs_human else "ProviderUnavailable")
        return {
            "Synced": ("False", self.reason) if pending or self.reason == "EndpointNotFound" else ("True", "Applied"),
            "Ready": ("False", self.reason) if self.reason == "EndpointNotFound" else unknown,
            "Reconciling": None if needs_human else ("True", "Retrying"),
            "Stalled": ("True", self.reason) if needs_human else None,
        }


def kinds_of_all(elsewhere: str) -> list[Kind]:
    """Every way; redirects lead `elsewhere`."""
    location = {"Location": elsewhere}
    return [
        Kind("401", Fault(status=401), "CredentialsRejected"),
        Kind("403", Fault(status=403), "CredentialsRejected"),
        Kind("404", Fault(status=404), "EndpointNotFound"),
        Kind("429", Fault(status=429), "Throttled", secret="hasty"),
        Kind(
            "429 Retry-After",
            Fault(status=429, headers={"Retry-After": f"{RETRY_AFTER:g}"}),
            "Throttled",
            secret="silenced",
        ),
        Kind("408", Fault(status=408)),
        Kind("421", Fault(status=421)),
        Kind("451 HTML", Fault(status=451, body="<html>", headers={"Content-Type": "text/html"})),
        Kind("500", Fault(status=500)),
        Kind("502 HTML", Fault(status=502, body="<html>", headers={"Content-Type": "text/html"})),
        Kind("503 Retry-After", Fault(status=503, headers={"Retry-After": "1"})),
        Kind("206", Fault(status=206)),
        Kind("302", Fault(status=302, headers=location)),
        Kind("307", Fault(status=307, headers=location)),
        Kind("reset", Fault(delivery="reset")),
        Kind("closed", Fault(delivery="close")),
        Kind("time-out", Fault(delivery="stall")),
        Kind("drop by drop", Fault(delivery="stall", size=60, interval=0.5)),
        Kind("no HTTP", Fault(delivery="raw", body="220 smtp.example ESMTP\r\n\r\n")),
        Kind("truncated", Fault(delivery="truncate", size=10)),
        Kind("endless", Fault(delivery="endless", interval=0.01)),
        Kind("2 MiB", Fault(delivery="huge", size=2 * MIB)),
        Kind("gzip bomb", Fault(delivery="gzip_bomb", size=64 * MIB)),
        Kind("empty", Fault(body="")),
        Kind("HTML", Fault(body="<html>", headers={"Content-Type": "text/html"})),
        Kind("wrong shape", Fault(json={"status": 5, "endpoint": {"id": []}})),
        Kind("list", Fault(json=[{}])),
        Kind("null", Fault(body="null")),
        Kind("deep", Fault(body='{"endpoint":' * DEPTH + "1" + "}" * DEPTH)),
        Kind("NaN", Fault(body='{"endpoint": NaN, "status": NaN}')),
    ]


KINDS_OF = {
    "friendli": [
        *(
            Kind(f"502 {operation}", Fault(status=502, operation=operation))
            for operation in ("get_spec", "get_version_history")
        ),
        Kind("502 get_status", Fault(status=502, operation="get_status"), secret="unlisted"),
    ],
    "novita": [
        Kind("not found", Fault(status=400, json={"reason": "SERVERLESS_ENDPOINT_NOT_FOUND"}), "EndpointNotFound"),
    ],
}


@dataclass
class Trial:
    """A resource whose reads fail in one way, with a change of its spec pending or at rest."""

    name: str
    provider: str
    kind: Kind
    pending: bool
    endpoint_id: str
    remembered: dict[str, Any] = field(default_factory=dict)

    def spec(self, number: int) -> dict[str, Any]:
        return spec_of(self.provider, self.endpoint_id, number, credentialsSecretRef={"name": self.kind.secret})

    @property
    def told(self) -> dict[str, Finding]:
        return self.kind.told(pending=self.pending)


def settled_trials(rig: Rig, provider: str, kinds: list[Kind]) -> list[Trial]:
    """Resources in sync, two for each kind."""
    for secret in {kind.secret for kind in kinds}:
        rig.emulators.add_account(account(rig, secret), [token(rig, secret)])
        rig.secret(secret, token=token(rig, secret))
    trials = [
        Trial(f"r{2 * number + pending}", provider, kind, pending, f"ep-{rig.namespace}-{number}-{pending:d}")
        for number, kind in enumerate(kinds)
        for pending in (True, False)
    ]
    for trial in trials:
        rig.emulators.create_endpoint(provider, trial.endpoint_id, account(rig, trial.kind.secret))
        rig.apply(trial.name, trial.spec(2))
    wait_for_all(rig, [trial.name for trial in trials])
    resources = by_name(rig)
    for trial in trials:
        trial.remembered = remembered(resources[trial.name])
        assert len(rig.mutations(trial.endpoint_id)) == 1
    return trials


def account(rig: Rig, secret: str) -> str:
    return f"{rig.namespace}-{secret}"


def token(rig: Rig, secret: str) -> str:
    return f"{rig.token}-{secret}"


def remembered(resource: dict[str, Any]) -> dict[str, Any]:
    """The status without the conditions."""
    return {key: value for key, value in resource["status"].items() if key not in {"conditions", "observedGeneration"}}


@contextmanager
def listener() -> Iterator[str]:
    """An address that nobody must visit."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()


@pytest.mark.covers("B6", "B7", "B8", "B10", "C1", "C4", "C5")
@pytest.mark.parametrize("provider", ["friendli", "novita"])
def test_no_failed_read_causes_a_write_and_all_is_well_afterwards(rig: Rig, provider: str) -> None:
    with listener() as elsewhere:
        rig.start()
        trials = settled_trials(rig, provider, [*kinds_of_all(elsewhere), *KINDS_OF[provider]])
        for trial in trials:
            rig.emulators.add_fault(replace(trial.kind.fault, method="GET", endpoint_id=trial.endpoint_id, count=None))
        key = fingerprint(token(rig, "unlisted"))  # a list that can be read would spare the status
        rig.emulators.add_fault(Fault(status=502, operation="list", token=key, count=None))
        time.sleep(LISTED)
        for trial in trials:
            if trial.pending:
                rig.apply(trial.name, trial.spec(4))
        assert_all_stays_so(rig, trials)
        rig.emulators.clear_faults()
        assert_all_recover(rig, trials)
    assert_silence_is_kept(rig.emulators.ledger(provider=provider), fingerprint(token(rig, "silenced")))
    rows = [
        (
            trial.kind.name,
            "changed" if trial.pending else "at rest",
            *("/".join(each or ()) for each in trial.told.values()),
        )
        for trial in trials
    ]
    show(f"Failed reads at {provider}: 0 updates", ("read", "spec", *CONDITIONS), rows)


def assert_all_stays_so(rig: Rig, trials: list[Trial]) -> None:
    """Nothing is written while the reads fail, what was known last is still there, and the reason is told."""
    wanted = {trial.name: trial.told for trial in trials}
    wait_for(
        lambda: not different(wanted, told(rig)),
        what="everything to be told",
        state=lambda: different(wanted, told(rig)),
        log=rig.processes[-1].log,
    )
    time.sleep(HOLD)
    assert different(wanted, told(rig)) == {}
    resources = by_name(rig)
    assert (
        different({trial.name: trial.remembered for trial in trials}, {n: remembered(r) for n, r in resources.items()})
        == {}
    )
    assert {trial.kind.name: len(rig.mutations(trial.endpoint_id)) for trial in trials} == {
        trial.kind.name: 1 for trial in trials
    }


def assert_all_recover(rig: Rig, trials: list[Trial]) -> None:
    """Once reads succeed, a pending change is sent once, and nothing else."""
    names = [trial.name for trial in trials]
    wait_for_all(rig, names)
    wait_for_all(rig, names, "Ready")
    for trial in trials:
        updates = rig.mutations(trial.endpoint_id)[1:]
        assert [update.committed for update in updates] == [True] * trial.pending, trial.kind.name


def by_name(rig: Rig) -> dict[str, dict[str, Any]]:
    return {resource["metadata"]["name"]: resource for resource in rig.list()}


def told(rig: Rig) -> dict[str, dict[str, Finding]]:
    return {name: {kind: condition(resource, kind) for kind in CONDITIONS} for name, resource in by_name(rig).items()}


def different(wanted: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What is found otherwise than wanted, by name."""
    return {name: found[name] for name in wanted if found[name] != wanted[name]}


def assert_silence_is_kept(ledger: Iterable[Entry], key: str) -> None:
    """After a 429 the key is not used until Retry-After is over, whichever resource was told so."""
    entries = [entry for entry in ledger if entry.token == key]
    told_at = [entry.answered_at for entry in entries if entry.status == HTTPStatus.TOO_MANY_REQUESTS]
    assert len(told_at) > 1
    for moment in told_at:
        assert moment is not None
        assert [each.seq for each in entries if moment + IN_FLIGHT < each.at < moment + RETRY_AFTER] == []
