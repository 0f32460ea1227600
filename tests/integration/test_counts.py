"""What a change, a rest, a restart and an edit without meaning cost: exact counts by the provider and the audit log."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from rig import UNHURRIED, Rig, rigged, spec_of
from tally import Cost, Meter, show

PROVIDERS = ("friendli", "novita")
POLL_SECONDS = 0.5
FLAGS: dict[str, Any] = {
    **UNHURRIED,
    "poll-seconds": POLL_SECONDS,
    "drift-seconds": 1,
    "scale-interval-seconds": 0.001,
}
COLUMNS = ("changes", "mutations", "per change", "writes", "per change", "Events", "Lease")
ENGINE = {"tokenizerSkipSpecialTokens": True, "tokenizerAddSpecialTokens": True, "maxInputLength": 4096}
ENVS = [{"name": "HF_HOME", "value": "/data"}, {"name": "MODE", "value": "fast"}]
VOLUMES = [{"type": "local", "size": 30, "mountPath": path} for path in ("/data", "/cache")]

Change = tuple[str, dict[str, Any]]
"""What kind of change it is, and the members of the spec that it replaces."""


@dataclass
class Fleet:
    """One resource per provider, named after it, in sync and at rest."""

    rig: Rig
    specs: dict[str, dict[str, Any]]

    @property
    def endpoints(self) -> list[str]:
        return [spec["endpointId"] for spec in self.specs.values()]

    def change(self, provider: str, members: Mapping[str, Any]) -> None:
        """Edit, and wait until the provider holds it and the endpoint serves."""
        self.specs[provider] = {**self.specs[provider], **members}
        self.rig.apply(provider, self.specs[provider])
        self.rig.wait(provider, "Synced")
        self.rig.wait(provider, "Ready")


@pytest.fixture(scope="module")
def fleet(
    control_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    with rigged(control_plane, emulators, tmp_path_factory.mktemp("counts")) as rig:
        specs = {provider: spec_of(provider, rig.endpoint(provider), 1) for provider in PROVIDERS}
        specs["novita"]["novita"] = {"envs": ENVS, "volumeMounts": VOLUMES}
        rig.start(**FLAGS)
        made = Fleet(rig, specs)
        for provider in PROVIDERS:
            made.change(provider, {})
        yield made


def friendli_changes(number: int) -> Iterator[Change]:
    model = {"hfModelRepo": "meta-llama/Llama-3.1-8B-Instruct", "hfModelRepoRevision": f"revision-{number}"}
    yield "bounds", {"scaling": {"minReplicas": 1, "maxReplicas": 3 + number}}
    yield "write-only field", {"friendli": model}
    yield "mode: fixed", {"scaling": {"replicas": 1 + number}}
    yield "replicas alone", {"scaling": {"replicas": 2 + number}}
    yield "mode: bounds", {"scaling": {"minReplicas": 0, "maxReplicas": 2 + number}}
    yield "GPU shape", {"gpu": {"type": "H100", "count": 2 ** (number % 4)}}
    advanced = ENGINE | {"maxBatchSize": 16 * number, "maxTokenCount": 4096 * number, "enableContentLogging": False}
    yield "both kinds, comment", {"friendli": model | {"advanced": advanced}, "versionComment": f"round {number}"}


def novita_changes(number: int) -> Iterator[Change]:
    base: dict[str, Any] = {"envs": ENVS, "volumeMounts": VOLUMES, "image": {"image": f"registry.test/a:{number}"}}
    yield "bounds", {"scaling": {"minReplicas": 0, "maxReplicas": 3 + number}}
    yield "mode: fixed", {"scaling": {"replicas": 1 + number}}
    yield "replicas alone", {"scaling": {"replicas": 2 + number}}
    yield "mode: bounds", {"scaling": {"minReplicas": 1, "maxReplicas": 5 + number, "cooldownSeconds": 60 + number}}
    yield "image", {"novita": base}
    yield "environment: value", {"novita": base | {"envs": [ENVS[0], {"name": "MODE", "value": f"slow-{number}"}]}}
    yield "environment: one more", {"novita": base | {"envs": [*ENVS, {"name": "MORE", "value": "yes"}]}}
    more = {"type": "local", "size": 30, "mountPath": f"/cache-{number}"}
    policy = {"port": 9000 + number, "policy": {"type": "queue", "value": 60 + number}}
    yield "port, policy, volumes", {"novita": base | policy | {"volumeMounts": [*VOLUMES, more]}}


CHANGES = {"friendli": friendli_changes, "novita": novita_changes}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_change_is_one_update_and_at_most_two_kubernetes_writes(fleet: Fleet, provider: str) -> None:
    meter = Meter(fleet.rig, [fleet.specs[provider]["endpointId"]])
    costs: dict[str, list[Cost]] = defaultdict(list)
    for kind, members in (change for number in (1, 2, 3) for change in CHANGES[provider](number)):
        fleet.change(provider, members)
        costs[kind].append(meter.spent())
    costs["(the rest after it)"].append(_after_rest(meter))
    changes = sum(len(each) for kind, each in costs.items() if not kind.startswith("("))
    total = sum((cost for each in costs.values() for cost in each), Cost())
    show(
        f"{provider}: cost of {changes} awaited changes",
        ("change", *COLUMNS),
        [*(_row(kind, len(each), sum(each, Cost())) for kind, each in costs.items()), _row("all", changes, total)],
    )
    assert changes >= 20
    assert total.mutations == changes
    assert {cost.mutations for kind, each in costs.items() for cost in each if not kind.startswith("(")} == {1}
    assert total.writes <= 2 * changes
    assert total.others == 0


def test_rest_costs_nothing(fleet: Fleet) -> None:
    meter = Meter(fleet.rig, fleet.endpoints)
    reads = len(fleet.rig.emulators.reads())
    cost = _after_rest(meter)
    looks = len(fleet.rig.emulators.reads()) - reads
    show(f"three polls at rest, {looks} reads at the providers", ("", *COLUMNS), [_row("rest", 0, cost)])
    assert looks > 0
    assert (cost.mutations, cost.writes, cost.events, cost.others) == (0, 0, 0, 0)


def test_a_restart_costs_nothing(fleet: Fleet) -> None:
    meter = Meter(fleet.rig, fleet.endpoints)
    assert fleet.rig.processes[-1].terminate() == 0
    stopped = meter.spent()
    reads = len(fleet.rig.emulators.reads())
    fleet.rig.start(**FLAGS)
    cost = _after_rest(meter)
    looks = len(fleet.rig.emulators.reads()) - reads
    rows = [_row("stop", 0, stopped), _row("start", 0, cost)]
    show(f"a restart with everything in sync, {looks} reads at the providers", ("", *COLUMNS), rows)
    assert looks > 0
    for each in (stopped, cost):
        assert (each.mutations, each.writes, each.events, each.others) == (0, 0, 0, 0)


def test_labels_and_annotations_cost_nothing(fleet: Fleet) -> None:
    meter = Meter(fleet.rig, fleet.endpoints)
    for number in range(3):
        for provider in PROVIDERS:
            fleet.rig.merge(provider, {"metadata": {"labels": {"team": f"team-{number}"}}})
            fleet.rig.merge(provider, {"metadata": {"annotations": {"example.test/note": f"note {number}"}}})
    cost = _after_rest(meter)
    show("edits that are not ours to act on", ("", *COLUMNS), [_row("labels, annotations", 12, cost)])
    assert (cost.mutations, cost.writes, cost.events, cost.others) == (0, 0, 0, 0)


def test_comments_and_the_order_of_lists_cost_no_update(fleet: Fleet) -> None:
    meter = Meter(fleet.rig, fleet.endpoints)
    rows = []
    for kind, provider, spec in (
        ("versionComment", "friendli", {"versionComment": "only words"}),
        ("versionComment", "novita", {"versionComment": "only words"}),
        ("order of envs", "novita", {"novita": {"envs": [*_live(fleet, "envs")][::-1]}}),
        ("order of volumeMounts", "novita", {"novita": {"volumeMounts": [*_live(fleet, "volumeMounts")][::-1]}}),
    ):
        before = fleet.rig.get(provider)["metadata"]["generation"]
        fleet.rig.merge(provider, {"spec": spec})
        resource = fleet.rig.wait(provider, "Synced")
        assert resource["metadata"]["generation"] == before + 1
        rows.append((f"{provider}: {kind}", 1, meter.spent()))
    rows.append(("(the rest after it)", 0, _after_rest(meter)))
    show("edits that mean nothing to the provider", ("", *COLUMNS), [_row(*row) for row in rows])
    for kind, changes, cost in rows:
        assert (cost.mutations, cost.events, cost.others) == (0, 0, 0), kind
        assert cost.writes == changes, kind  # the new generation is confirmed


def _live(fleet: Fleet, name: str) -> list[Any]:
    return list(fleet.rig.get("novita")["spec"]["novita"][name])


def _after_rest(meter: Meter) -> Cost:
    time.sleep(3.3 * POLL_SECONDS)
    return meter.spent()


def _row(kind: str, changes: int, cost: Cost) -> tuple[Any, ...]:
    def per_change(count: int) -> str:
        return f"{count / changes:.3f}" if changes else "-"

    mutations, writes = cost.mutations, cost.writes
    return kind, changes, mutations, per_change(mutations), writes, per_change(writes), cost.events, cost.leases
