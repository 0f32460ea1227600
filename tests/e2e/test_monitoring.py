"""Alerts and dashboard: checked by the tools of Prometheus, and asked of one that scrapes a real operator."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import dashboard
from e2e.monitoring import (
    ALERT_CASES,
    ALERTS,
    DASHBOARD,
    Prometheus,
    alerts,
    interpolated,
    panels,
    program,
    prometheus,
    targets,
)
from inference_operator.metrics import WRITE_OUTCOMES, WRITE_RESULTS, Metrics
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from rig import ROOT, TOKEN, Rig, rigged, spec_of, wait_for
from secrecy import shows

RUNBOOKS = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PENDING = {
    "InferenceEndpointStalled": "missing",
    "InferenceEndpointRolloutOverdue": "rolling",
    "InferenceEndpointDrifted": "drifted",
    "InferenceEndpointHeldBack": "throttled",
}
"""Alerts that have a cause in the scene, and the resource that they are about."""


# ── by themselves ─────────────────────────────────────────────────────────────────────────────────────


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def series_in(expr: str) -> set[str]:
    """The metrics in a query, without the suffixes of a histogram's series."""
    names = set(re.findall(r"\b(?:inference_operator|process)_\w+", expr))
    histograms = {metric.name for metric in Metrics().described() if metric.kind == "histogram"}
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    return {base if base in histograms else name for name in names for base in bases if name.startswith(base)}


def anchors(page: str) -> set[str]:
    """What links can lead to in a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_alerts_are_rules_that_prometheus_accepts() -> None:
    assert f"{len(alerts())} rules found" in run(program("promtool"), "check", "rules", "--lint-fatal", ALERTS)


def test_the_alerts_fire_when_they_should_and_at_no_other_time() -> None:
    assert "SUCCESS" in run(program("promtool"), "test", "rules", ALERT_CASES)


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: dict[str, set[bool]] = defaultdict(set)
    for test in yaml.safe_load(ALERT_CASES.read_text(encoding="utf-8"))["tests"]:
        for case in test["alert_rule_test"]:
            fires[case["alertname"]].add(bool(case["exp_alerts"]))
    assert fires == {rule["alert"]: {True, False} for rule in alerts()}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_the_case_and_leads_to_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (page, anchor) == ("docs/alerts.md", rule["alert"].lower())
    assert anchor in anchors(RUNBOOKS)


def test_there_is_no_runbook_without_an_alert() -> None:
    assert set(re.findall(r"^### (\w+)$", RUNBOOKS, re.MULTILINE)) == {rule["alert"] for rule in alerts()}


def test_the_links_of_the_runbooks_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", RUNBOOKS):
        path, _, anchor = link.partition("#")
        page = RUNBOOKS if not path else (ROOT / "docs" / path).read_text(encoding="utf-8")
        assert not anchor or anchor in anchors(page), link


@pytest.mark.parametrize("expr", [rule["expr"] for rule in alerts()] + [target.expr for target in targets()])
def test_a_query_asks_for_what_is_served(expr: str) -> None:
    served = {metric.name for metric in Metrics().described()}
    served |= {"process_cpu_seconds_total", "process_resident_memory_bytes"}
    assert series_in(expr)
    assert series_in(expr) <= served


@pytest.mark.parametrize("expr", [rule["expr"] for rule in alerts()] + [target.expr for target in targets()])
def test_a_query_asks_for_reasons_that_are_given(expr: str) -> None:
    asked = {reason for reasons in re.findall(r'reason!?=~?"([^"]*)"', expr) for reason in reasons.split("|")}
    documented = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", README, re.MULTILINE))))
    assert asked <= documented


def test_the_dashboard_is_fresh() -> None:
    assert DASHBOARD.read_text(encoding="utf-8") == dashboard.text(), (
        "make it anew: uv run --directory tests python -m e2e.dashboard"
    )


def test_a_panel_that_does_not_heed_the_chosen_namespaces_says_so() -> None:
    calls = {panel.title for panel in dashboard.CALLS}
    theirs = {
        panel["title"]: panel["description"]
        for panel in panels()
        for each in panel["targets"]
        if "$provider" in each["expr"] and "$namespace" not in each["expr"] and panel["title"] not in calls
    }
    assert theirs.keys() == {"Paused keys", "Updates sent", "Versions made", "Rollouts under way"}
    assert [title for title, told in theirs.items() if "namespace" not in told] == []


def test_the_dashboard_is_one_that_grafana_can_show() -> None:
    units = {"short", "s", "reqps", "ops", "bytes"}
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"] in units
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in dashboard.dashboard()["panels"]]
    assert len(set(numbers)) == len(numbers)


# ── with a real Prometheus ────────────────────────────────────────────────────────────────────────────


@dataclass
class Scene:
    """What stands in front of Prometheus."""

    rig: Rig
    server: Prometheus
    endpoints: Mapping[str, str]

    def value(self, expr: str) -> float | None:
        """The one value of a query; None where it has none."""
        found = self.server.query(expr)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None


@pytest.fixture(scope="module")
def scene(
    control_plane: ControlPlane, emulators: EmulatorControl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """An operator whose resources stand as differently as they can, and a Prometheus that scrapes it."""
    with rigged(control_plane, emulators, tmp_path_factory.mktemp("scene")) as rig:
        slow = f"{TOKEN}-slow-{rig.namespace}"
        emulators.add_account(slow, [slow])
        rig.secret("slow", token=slow)
        endpoints = {name: rig.endpoint("friendli") for name in ("serving", "drifted", "rolling", "undecided")}
        endpoints |= {"sdxl": rig.endpoint("novita"), "missing": "ep-nowhere", "throttled": f"ep-{rig.namespace}"}
        emulators.create_endpoint("friendli", endpoints["throttled"], slow)
        emulators.set_knobs("friendli", endpoints["rolling"], rollout_seconds=3600)
        silence = {"Retry-After": "300"}
        emulators.add_fault(Fault(endpoint_id=endpoints["throttled"], status=429, headers=silence, count=None))
        lost = Fault(endpoint_id=endpoints["undecided"], operation="update", commit="never", delivery="reset")
        emulators.add_fault(lost)
        rig.start(settle_seconds=120)
        with prometheus(rig.folder, rig.processes[0].address.removeprefix("http://")) as server:
            wait_for(lambda: server.query("up == 1"), what="the first scrape", log=server.log)
            awake = {"scaling": {"minReplicas": 2, "maxReplicas": 3, "cooldownSeconds": 300}}
            for name, endpoint_id in endpoints.items():
                more: dict[str, Any] = {**awake} if name in {"serving", "sdxl"} else {}
                more |= {"credentialsSecretRef": {"name": "slow"}} if name == "throttled" else {}
                more |= {"progressDeadlineSeconds": 1} if name == "rolling" else {}
                more |= {"managementPolicy": "Observe"} if name == "drifted" else {}
                rig.apply(name, spec_of("novita" if name == "sdxl" else "friendli", endpoint_id, 2, **more))
            yield Scene(rig, server, endpoints)


def chosen(scene: Scene) -> dict[str, list[str]]:
    """What stands in the variables when everything is chosen, as soon as there is everything."""

    def found() -> dict[str, list[str]] | None:
        names = ("provider", "namespace")
        values = {name: scene.server.values(name, "inference_operator_resource_state") for name in names}
        return values if values == {"provider": ["friendli", "novita"], "namespace": [scene.rig.namespace]} else None

    values: dict[str, list[str]] = wait_for(found, what="the first scrapes", log=scene.server.log)
    return values


def test_every_query_of_the_dashboard_has_data(scene: Scene) -> None:
    values = chosen(scene)
    missing = {target: interpolated(target.expr.removesuffix(" or vector(0)"), values) for target in targets()}
    assert len(missing) > 30

    def all_have() -> bool:
        for target, expr in list(missing.items()):
            if scene.server.query(expr):
                del missing[target]
        return not missing

    wait_for(all_have, what="data", seconds=45, state=lambda: list(missing.values()), log=scene.server.log)


@pytest.mark.parametrize(
    ("panel", "label", "kinds"),
    [
        ("Updates sent", "outcome", {("friendli", "confirmed"), ("friendli", "ambiguous"), ("novita", "confirmed")}),
        ("Versions made", "result", {("friendli", "Applied"), ("novita", "Applied")}),
    ],
)
def test_the_first_update_of_each_kind_is_drawn(
    scene: Scene, panel: str, label: str, kinds: set[tuple[str, str]]
) -> None:
    """Whatever the moment: the highest bar of each series."""
    (expr,) = [target.expr for target in targets() if target.panel == panel]
    drawn = f"max_over_time(({interpolated(expr, chosen(scene))})[30m:1s])"

    def above_zero() -> set[tuple[str, str]]:
        series = scene.server.query(f"{drawn} > 0")
        return {(each["metric"]["provider"], each["metric"][label]) for each in series}

    wait_for(lambda: above_zero() >= kinds, what=f"bars of {kinds}", state=above_zero)
    assert above_zero() == kinds
    every = {(each["metric"]["provider"], each["metric"][label]) for each in scene.server.query(drawn)}
    known = {"outcome": WRITE_OUTCOMES, "result": WRITE_RESULTS}[label]
    assert every == set(product(("friendli", "novita"), known))


def test_what_needs_somebody_is_counted_in_the_chosen_namespaces(scene: Scene) -> None:
    values = chosen(scene)
    exprs = {target.panel: target.expr for target in targets()}

    def counts(namespace: str) -> dict[str, float | None]:
        names = ("Stalled", "Held back", "Drifted", "Overdue rollouts")
        return {name: scene.value(interpolated(exprs[name], {**values, "namespace": [namespace]})) for name in names}

    here = {"Stalled": 1, "Held back": 1, "Drifted": 1, "Overdue rollouts": 1}
    wait_for(lambda: counts(scene.rig.namespace) == here, what="counts", state=lambda: counts(scene.rig.namespace))
    assert counts("elsewhere") == dict.fromkeys(here, 0)


def test_the_numbers_are_those_of_the_scene(scene: Scene) -> None:
    """As the status and the providers' books say, and each resource once."""
    name = "inference_operator_resource_"
    wait_for(lambda: scene.value(f'{name}gpus{{name="serving"}}'), what="a look to be scraped")
    for resource in ("serving", "sdxl"):
        status = scene.rig.wait(resource)["status"]
        series = f'{{name="{resource}"}}'
        assert scene.value(f"{name}replicas_current{series}") == status["currReplicaCnt"] > 0
        assert scene.value(f"{name}replicas_desired{series}") == status.get("desiredReplicaCnt")  # Novita tells none
        each = int(status["gpu"].rpartition("x")[2])
        assert scene.value(f"{name}gpus{series}") == status["currReplicaCnt"] * each
        assert scene.value(f'{name}condition{{name="{resource}",type="Synced"}}') == 1
    told = {
        "sum(inference_operator_resources)": len(scene.endpoints),
        f"count({name}state)": len(scene.endpoints),
        'inference_operator_provider_paused_keys{provider="friendli"}': 1,
        "sum(inference_operator_drifted_resources)": 1,
        "sum(inference_operator_overdue_rollouts)": 1,
        "sum(inference_operator_rollouts)": 2,  # the one that rolls, and the undecided one
        "sum(inference_operator_undecided_writes)": 1,
        f"count({name}undecided_write_start_timestamp_seconds)": 1,
        "sum(inference_operator_settled_writes_total)": 3,
        "sum(inference_operator_writes_total)": 4,
    }

    def found() -> dict[str, float | None]:
        return {expr: scene.value(expr) for expr in told}

    wait_for(lambda: found() == told, what="the numbers of the scene", state=found)
    assert sum(scene.rig.committed(each) for each in scene.endpoints.values()) == 3
    assert sum(len(scene.rig.mutations(each)) for each in scene.endpoints.values()) == 4
    age = scene.value(f'time() - {name}undecided_write_start_timestamp_seconds{{name="undecided"}}')
    assert age is not None
    assert 0 <= age < 120


def test_an_alert_waits_for_each_resource_that_gives_cause(scene: Scene) -> None:
    """The rules select series as a real operator serves them; that they fire in time is for `promtool`."""

    def waiting() -> dict[str, str] | None:
        found = {
            alert["labels"]["alertname"]: alert["labels"]["name"]
            for alert in scene.server.get("alerts")["alerts"]
            if "name" in alert["labels"]
        }
        return found if found == PENDING else None

    wait_for(waiting, what="alerts", state=lambda: scene.server.get("alerts"), log=scene.server.log)
    rules = [rule for group in scene.server.get("rules")["groups"] for rule in group["rules"]]
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}
    assert len(rules) == len(alerts())


def test_no_number_shows_a_key(scene: Scene) -> None:
    everything = scene.server.get("series", **{"match[]": '{__name__=~".+"}'})
    assert len(everything) > 200
    assert not shows(str(everything))


def test_the_events_are_of_the_documented_kinds(scene: Scene) -> None:
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8").partition("## Events")[2]
    kinds = {
        reason: {kind for kind in ("Normal", "Warning") if kind.lower() in told.lower()}
        for reasons, told in re.findall(r"^\| (`.*?) \| (.*?) \|$", page, re.MULTILINE)
        for reason in re.findall(r"`(\w+)`", reasons)
    }
    answer = scene.rig.api.get(f"/apis/events.k8s.io/v1/namespaces/{scene.rig.namespace}/events")
    posted = {(event["reason"], event["type"]) for event in answer.json()["items"]}
    assert {"Applied", "EndpointNotFound", "Throttled", "DeadlineExceeded", "Drifted"} <= {each for each, _ in posted}
    assert {(reason, kind) for reason, kind in posted if kind not in kinds.get(reason, ())} == set()


def test_a_resource_that_is_deleted_leaves_no_series(scene: Scene) -> None:
    gone = 'count({__name__=~"inference_operator_resource_.+",name="sdxl"})'
    wait_for(lambda: scene.value(gone), what="its series")
    scene.rig.delete("sdxl")
    wait_for(lambda: scene.value(gone) is None, what="its series to end")
    assert scene.value('inference_operator_resources{provider="novita"}') is None
