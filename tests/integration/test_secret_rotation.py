"""Keys and values out of Secrets: a rotation is used at once or by the next poll, and nothing old is ever sent."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

import audit
from inference_operator.api.names import REFRESH_ANNOTATION
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.accounts import fingerprint
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.ledger import Entry
from rig import Rig, condition, rigged, spec_of, wait_for
from tally import show

GRACE_SECONDS = 2.0
POLL_SECONDS = 1.0
"""Of the operator that only gets Secrets. The one that watches them polls so rarely that no poll can help it."""

WAKES_WITHIN = {"watch": 1.0, "get": 1.2 * POLL_SECONDS}
"""Seconds in which a changed Secret is used; polls are spread by a tenth, and reads are shared for another tenth."""

SLACK_SECONDS = 1.0
"""What a busy machine may add; below the five polls after which a refused key is tried without any reason."""


@dataclass
class Tenant:
    """An account with one endpoint, and the resource and the Secret of the same name that belong to it."""

    rig: Rig
    name: str
    provider: str
    tokens: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        account = f"{self.rig.namespace}-{self.name}"
        self.tokens.append(self._token())
        self.rig.emulators.add_account(account, self.tokens)
        self.endpoint_id = f"ep-{account}"
        self.rig.emulators.create_endpoint(self.provider, self.endpoint_id, account)
        self.spec = spec_of(self.provider, self.endpoint_id, 2, credentialsSecretRef={"name": self.name})

    def _token(self) -> str:
        return f"{self.rig.token}-{self.name}-{len(self.tokens)}"  # what the rig looks for in logs and statuses

    def accept(self, *tokens: str) -> None:
        """The keys that the provider takes from now on."""
        self.rig.emulators.set_tokens(f"{self.rig.namespace}-{self.name}", tokens)

    def issue(self) -> str:
        """A new key, which the provider takes beside the old one."""
        self.tokens.append(self._token())
        self.accept(*self.tokens[-2:])
        return self.tokens[-1]

    def store(self) -> float:
        """Put the newest key into the Secret; returns when."""
        began = time.monotonic()
        self.rig.secret(self.name, token=self.tokens[-1])
        return began

    def apply(self, **members: Any) -> None:
        self.spec = {**self.spec, **members}
        self.rig.apply(self.name, self.spec)

    def begin(self) -> None:
        """In sync, by one update."""
        self.store()
        self.apply()
        self.rig.wait(self.name)
        self.rig.wait(self.name, "Ready")
        assert self.mutations() == 1

    def look(self) -> None:
        """Have the endpoint looked at, and wait until that has begun."""
        known = len(self.requests(self.tokens[-1]))
        annotations = {REFRESH_ANNOTATION: str(time.monotonic_ns())}
        self.rig.merge(self.name, {"metadata": {"annotations": annotations}})
        wait_for(lambda: len(self.requests(self.tokens[-1])) > known, what=f"a look at {self.name}")

    def requests(self, token: str) -> list[Entry]:
        seen = self.rig.emulators.ledger(endpoint_id=self.endpoint_id)
        return [entry for entry in seen if entry.token == fingerprint(token)]

    def first_use(self) -> float:
        """When the newest key was first used."""
        found: list[Entry] = wait_for(lambda: self.requests(self.tokens[-1]), what=f"the new key of {self.name}")
        return found[0].at

    def mutations(self) -> int:
        return len(self.rig.mutations(self.endpoint_id))

    def is_stalled(self) -> bool:
        return condition(self.rig.get(self.name), "Stalled") is not None


Hire = Callable[..., Tenant]


@pytest.fixture(scope="module")
def rigs(
    control_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Rig]]:
    """A rig for each way to read Secrets."""
    polls = {"watch": 60.0, "get": POLL_SECONDS}
    with ExitStack() as stack:
        made = {
            mode: stack.enter_context(rigged(control_plane, emulators, tmp_path_factory.mktemp(mode))) for mode in polls
        }
        for mode, rig in made.items():
            flags: dict[str, Any] = {"poll_seconds": polls[mode], "secret_grace_seconds": GRACE_SECONDS}
            rig.start("--secrets", mode, wait=False, drift_seconds=60, **flags)
        wait_for(lambda: all(rig.is_working(rig.processes[-1]) for rig in made.values()), what="both to work")
        yield made


@pytest.fixture(params=["watch", "get"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def hire(rigs: dict[str, Rig]) -> Iterator[Hire]:
    """Makes tenants, whose resources end with the test."""
    names = (f"tenant-{number}" for number in itertools.count(time.monotonic_ns()))
    hired: list[Tenant] = []

    def make(mode: str, provider: str = "friendli") -> Tenant:
        hired.append(Tenant(rigs[mode], next(names), provider))
        return hired[-1]

    yield make
    for tenant in hired:
        tenant.rig.delete(tenant.name)


def check_wake(mode: str, what: str, seconds: list[float]) -> None:
    figures = ", ".join(f"{each:.3f} s" for each in seconds)
    show(f"SECRETS={mode}: {what}", ("bound", "measured"), [(f"{WAKES_WITHIN[mode]:g} s", figures)])
    assert max(seconds) <= WAKES_WITHIN[mode] + SLACK_SECONDS


@pytest.mark.parametrize("provider", ["friendli", "novita"])
def test_a_rotated_key_is_used_within_a_second(hire: Hire, provider: str) -> None:
    tenant = hire("watch", provider)
    tenant.begin()
    latencies = []
    for _ in range(3):
        old = tenant.tokens[-1]
        tenant.issue()
        stored = tenant.store()
        latencies.append(tenant.first_use() - stored)
        used = len(tenant.requests(old))
        tenant.look()
        assert len(tenant.requests(old)) == used
    check_wake("watch", f"{provider}: from the Secret's patch to the first request with the new key", latencies)
    assert tenant.mutations() == 1


@pytest.mark.covers("C4", "F3")
def test_a_resource_parked_on_a_refused_key_wakes_and_sends_what_it_owes_once(hire: Hire, mode: str) -> None:
    tenant = hire(mode)
    tenant.begin()
    tenant.issue()
    tenant.accept(tenant.tokens[-1])
    tenant.apply(scaling={"minReplicas": 0, "maxReplicas": 5})
    tenant.rig.wait(tenant.name, "Stalled", reason="CredentialsRejected")
    refused = len(tenant.requests(tenant.tokens[0]))
    time.sleep(2 * POLL_SECONDS)
    asked = len(tenant.requests(tenant.tokens[0])) - refused
    stored = tenant.store()
    tenant.rig.wait(tenant.name)
    check_wake(mode, "from the Secret's patch to the first request after a 401", [tenant.first_use() - stored])
    assert asked <= 3, "a refused key is tried slowly"
    assert not tenant.is_stalled()
    assert tenant.rig.committed(tenant.endpoint_id) == 2


def test_no_write_carries_an_old_key(hire: Hire) -> None:
    tenant = hire("get")
    tenant.begin()
    for number in range(3, 8):
        new = tenant.issue()
        tenant.store()
        tenant.apply(scaling={"minReplicas": 0, "maxReplicas": number})
        tenant.rig.wait(tenant.name)
        assert tenant.rig.mutations(tenant.endpoint_id)[-1].token == fingerprint(new)
    assert tenant.mutations() == 1 + 5


def test_secrets_are_neither_listed_nor_watched_where_that_is_not_allowed(hire: Hire, rigs: dict[str, Rig]) -> None:
    for mode in rigs:
        hire(mode).begin()
    verbs = {mode: sorted(_secret_verbs(rig)) for mode, rig in rigs.items()}
    show("verbs on Secrets in the audit log", ("SECRETS", "verbs"), verbs.items())
    assert verbs == {"watch": ["get", "list", "watch"], "get": ["get"]}


def _secret_verbs(rig: Rig) -> set[str]:
    audit.settle(rig.plane)
    return {
        event["verb"]
        for event in audit.audit_events(rig.plane.audit_log)
        if event["user"]["username"] == "operator"
        and event.get("objectRef", {}).get("resource") == "secrets"
        and event["objectRef"].get("namespace") == rig.namespace
    }


def test_a_rotated_environment_value_is_one_more_update(hire: Hire, mode: str) -> None:
    tenant = hire(mode, "novita")
    values = f"{tenant.name}-values"
    shown = [f"{tenant.rig.token}-value-{number}" for number in range(3)]
    tenant.rig.secret(values, token=shown[0])
    reference = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": values, "key": "token"}}}
    tenant.spec["novita"] = {"envs": [{"name": "HF_HOME", "value": "/data"}, reference]}
    tenant.begin()
    latencies = []
    for number, value in enumerate(shown[1:], start=2):
        began = time.monotonic()
        tenant.rig.secret(values, token=value)
        wait_for(lambda: tenant.mutations() == number, what="an update with the new value")  # noqa: B023 - awaited here
        sent = tenant.rig.mutations(tenant.endpoint_id)[-1]
        latencies.append(sent.at - began)
        assert {env["key"]: env["value"] for env in sent.body["envs"]} == {"HF_HOME": "/data", "HF_TOKEN": value}
        tenant.rig.wait(tenant.name)
    tenant.rig.secret(values, token=shown[-1], unrelated="changed")  # a new version of the Secret, the same value
    time.sleep(2 * POLL_SECONDS)
    check_wake(mode, "from the Secret's patch to the update that carries the new value", latencies)
    assert tenant.mutations() == 3
    assert tenant.rig.condition(tenant.name, "Synced") == ("True", "Applied")


@pytest.mark.covers("F1")
def test_a_resource_may_come_before_its_secret(hire: Hire, mode: str) -> None:
    tenant = hire(mode)
    tenant.apply()
    tenant.rig.wait(tenant.name, "Synced", "False", "Waiting")
    deadline = time.monotonic() + GRACE_SECONDS / 2
    while time.monotonic() < deadline:
        assert not tenant.is_stalled()
        time.sleep(0.1)
    stored = tenant.store()
    tenant.rig.wait(tenant.name)
    check_wake(mode, "from the Secret's creation to the first request", [tenant.first_use() - stored])
    assert not tenant.is_stalled()
    assert tenant.mutations() == 1


@pytest.mark.covers("F1")
def test_a_secret_that_does_not_come_needs_a_human_and_heals_when_it_does(hire: Hire, mode: str) -> None:
    tenant = hire(mode)
    tenant.apply()
    resource = tenant.rig.wait(tenant.name, "Stalled", reason="CredentialsRejected")
    message = next(each["message"] for each in resource["status"]["conditions"] if each["type"] == "Stalled")
    assert f'"{tenant.name}"' in message
    stored = tenant.store()
    tenant.rig.wait(tenant.name)
    check_wake(mode, "from the Secret's creation, after the grace time", [tenant.first_use() - stored])
    assert tenant.mutations() == 1


def test_a_deleted_secret_stops_all_calls_and_keeps_what_is_known(hire: Hire, mode: str) -> None:
    tenant = hire(mode)
    tenant.begin()
    tenant.rig.delete_secret(tenant.name)
    resource = tenant.rig.wait(tenant.name, "Stalled", reason="CredentialsRejected")
    assert condition(resource, "Synced") == ("True", "Applied")
    assert resource["status"]["applied"]["generation"] == 1
    calls = len(tenant.requests(tenant.tokens[0]))
    time.sleep(2 * POLL_SECONDS)
    assert len(tenant.requests(tenant.tokens[0])) == calls
    tenant.issue()
    stored = tenant.store()
    wait_for(lambda: not tenant.is_stalled(), what="the resource to heal")
    check_wake(mode, "from the Secret's return to the first request", [tenant.first_use() - stored])
    assert tenant.mutations() == 1
