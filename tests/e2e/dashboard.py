"""Makes the dashboard for Grafana that the chart ships: `uv run --directory tests python -m e2e.dashboard`.

Each panel is a title, what it shows in a sentence, and queries; the layout follows from the order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rig import ROOT

FILE: Final = ROOT / "charts" / "inference-operator" / "files" / "dashboard.json"
SCHEMA_VERSION: Final = 39
"""Of Grafana 10.4; later versions migrate it when they load it."""

WIDTH: Final = 24
"""Columns of Grafana's grid."""

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
OURS: Final = 'namespace=~"$namespace",provider=~"$provider"'
"""Selects the resources that the variables choose."""

THEIRS: Final = 'provider=~"$provider"'
"""Selects the providers that the variables choose."""

OPERATOR: Final = "and on (job, instance) inference_operator_build_info"
"""Of all that Prometheus scrapes, the processes of the operator."""

CONDITION: Final = "inference_operator_resource_condition"
HELD: Final = "Waiting|Throttled|ProviderUnavailable|CapacityUnavailable"
CALLS_RATE: Final = f"rate(inference_operator_provider_calls_total{{{THEIRS}}}[$__rate_interval])"
SENT: Final = f"increase(inference_operator_writes_total{{{THEIRS}}}[$__rate_interval])"
SETTLED: Final = f"increase(inference_operator_settled_writes_total{{{THEIRS}}}[$__rate_interval])"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `kind` is Grafana's name of the visualisation, `unit` its name of the unit."""

    title: str
    meaning: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    bars: bool = False
    limit: float | None = None
    none: str = ""
    columns: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]
    height: int = 8


def _quantile(share: float, metric: str, by: str, selector: str = "") -> str:
    chosen = f"{{{selector}}}" if selector else ""
    return f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket{chosen}[$__rate_interval])))"


def _count(title: str, meaning: str, expr: str, **more: Any) -> Panel:
    return Panel(title, meaning, [Query(f"{expr} or vector(0)")], kind="stat", width=4, limit=1, **more)


ATTENTION = (
    _count(
        "Stalled",
        "Resources that cannot go on before somebody acts.",
        f'count({CONDITION}{{type="Stalled",{OURS}}})',
    ),
    _count(
        "Held back",
        "Resources whose spec is not applied yet and is tried again by itself.",
        f'count({CONDITION}{{type="Synced",reason=~"{HELD}",{OURS}}})',
    ),
    _count(
        "Drifted",
        "Resources that others changed at the provider.",
        f'count({CONDITION}{{type="Synced",reason="Drifted",{OURS}}})',
    ),
    _count(
        "Overdue rollouts",
        "Rollouts that take longer than progressDeadlineSeconds.",
        f'count({CONDITION}{{type="Reconciling",reason="DeadlineExceeded",{OURS}}})',
    ),
    _count(
        "Oldest undecided update",
        "How long ago the oldest update was begun of which nobody knows whether it arrived; 0 without one.",
        f"max(time() - inference_operator_resource_undecided_write_start_timestamp_seconds{{{OURS}}})",
        unit="s",
    ),
    _count(
        "Paused keys",
        "Keys that a provider asked to slow down, whatever namespace uses them.",
        f"sum(inference_operator_provider_paused_keys{{{THEIRS}}})",
    ),
)

NEEDS = Panel(
    "What needs somebody",
    "Resources that are stalled, not as the spec says, or not serving, with the reason; `kubectl describe` says more.",
    [
        Query(
            f'max by (namespace, name, provider, type, reason) ({CONDITION}{{type="Stalled",{OURS}}}'
            f' or {CONDITION}{{type="Synced",status!="True",{OURS}}}'
            f' or {CONDITION}{{type="Ready",status="False",{OURS}}})'
        )
    ],
    kind="table",
    width=24,
    none="Nothing needs anybody.",
    columns=(
        ("namespace", "Namespace"),
        ("name", "Name"),
        ("provider", "Provider"),
        ("type", "Condition"),
        ("reason", "Reason"),
    ),
)

FLEET = (
    Panel(
        "Resources by state",
        "What the endpoints do, as in status.state.",
        [Query(f"count by (state) (inference_operator_resource_state{{{OURS}}})", "{{state}}")],
        stacked=True,
    ),
    Panel(
        "Replicas",
        "Replicas that exist, and that the providers want.",
        [
            Query(
                f"sum by (provider) (inference_operator_resource_replicas_current{{{OURS}}})", "{{provider}} current"
            ),
            Query(
                f"sum by (provider) (inference_operator_resource_replicas_desired{{{OURS}}})", "{{provider}} desired"
            ),
        ],
    ),
    Panel(
        "GPUs by namespace",
        "GPUs of the replicas that exist.",
        [
            Query(
                f"sum by (namespace, provider) (inference_operator_resource_gpus{{{OURS}}})",
                "{{namespace}} {{provider}}",
            )
        ],
        stacked=True,
    ),
    Panel(
        "Resources",
        "Every resource: why it is ready or not, its replicas and its GPUs.",
        [
            Query(f'max by (namespace, name, provider, status, reason) ({CONDITION}{{type="Ready",{OURS}}})'),
            Query(f"max by (namespace, name, provider) (inference_operator_resource_replicas_current{{{OURS}}})"),
            Query(f"max by (namespace, name, provider) (inference_operator_resource_replicas_desired{{{OURS}}})"),
            Query(f"max by (namespace, name, provider) (inference_operator_resource_gpus{{{OURS}}})"),
        ],
        kind="table",
        width=24,
        columns=(
            ("namespace", "Namespace"),
            ("name", "Name"),
            ("provider", "Provider"),
            ("status", "Ready"),
            ("reason", "Reason"),
            ("Value #B", "Current"),
            ("Value #C", "Desired"),
            ("Value #D", "GPUs"),
        ),
    ),
)

UPDATES = (
    Panel(
        "Updates sent",
        "Per provider, in all namespaces. Each is at most one version. Ambiguous: the answer was lost.",
        [
            Query(
                f"sum by (provider, outcome) ({SENT})",
                "{{provider}} {{outcome}}",
            )
        ],
        bars=True,
    ),
    Panel(
        "Versions made",
        "Per provider, in all namespaces: updates that took effect, by their result in status.history.",
        [
            Query(
                f"sum by (provider, result) ({SETTLED})",
                "{{provider}} {{result}}",
            )
        ],
        bars=True,
    ),
    Panel(
        "Rollouts under way",
        "Per provider, in all namespaces: transitions that an update of the operator began. MAX_ROLLOUTS bounds them"
        " for each key.",
        [
            Query(f"sum by (provider) (inference_operator_rollouts{{{THEIRS}}})", "{{provider}}"),
            Query(f"sum by (provider) (inference_operator_overdue_rollouts{{{THEIRS}}})", "{{provider}} overdue"),
        ],
    ),
)

CALLS = (
    Panel(
        "Calls by operation",
        "Calls to providers.",
        [
            Query(
                f"sum by (provider, operation) ({CALLS_RATE})",
                "{{provider}} {{operation}}",
            )
        ],
        unit="reqps",
        width=6,
    ),
    Panel(
        "Calls by outcome",
        "All but ok are failures; docs/alerts.md tells what to do about them.",
        [
            Query(
                f"sum by (provider, outcome) ({CALLS_RATE})",
                "{{provider}} {{outcome}}",
            )
        ],
        unit="reqps",
        width=6,
        stacked=True,
    ),
    Panel(
        "Time of a call",
        "Half of the calls, and 95 of 100, take no longer.",
        [
            Query(
                _quantile(0.5, "inference_operator_provider_call_duration_seconds", "provider, le", THEIRS),
                "{{provider}} p50",
            ),
            Query(
                _quantile(0.95, "inference_operator_provider_call_duration_seconds", "provider, le", THEIRS),
                "{{provider}} p95",
            ),
        ],
        unit="s",
        width=6,
    ),
    Panel(
        "Wait for the call budget",
        "95 of 100 calls wait no longer for their turn under CALLS_PER_SECOND.",
        [
            Query(
                _quantile(0.95, "inference_operator_provider_budget_wait_seconds", "provider, le", THEIRS),
                "{{provider}} p95",
            )
        ],
        unit="s",
        width=6,
    ),
)

PROCESS = (
    Panel(
        "Active process",
        "1 for the process that works, 0 for one that stands by.",
        [Query("max by (lease, instance) (inference_operator_leader)", "{{instance}}")],
        width=6,
    ),
    Panel(
        "Passes by result",
        "A pass looks at one resource and decides.",
        [Query("sum by (result) (rate(inference_operator_passes_total[$__rate_interval]))", "{{result}}")],
        unit="ops",
        width=6,
        stacked=True,
    ),
    Panel(
        "Time of a pass",
        "95 of 100 passes take no longer.",
        [Query(_quantile(0.95, "inference_operator_pass_duration_seconds", "le"), "p95")],
        unit="s",
        width=6,
    ),
    Panel(
        "Wait for a worker",
        "95 of 100 passes wait no longer once they are due.",
        [Query(_quantile(0.95, "inference_operator_queue_wait_seconds", "le"), "p95")],
        unit="s",
        width=6,
    ),
    Panel(
        "Queue and workers",
        "Resources that are due and wait, passes that run, and how many may.",
        [
            Query("sum(inference_operator_queue_depth)", "due"),
            Query("sum(inference_operator_busy_workers)", "running"),
            Query("sum(inference_operator_workers and on (job, instance) (inference_operator_leader == 1))", "workers"),
        ],
        width=6,
    ),
    Panel(
        "Oldest watch",
        "Time since the oldest watch was opened or listed; up to 5 minutes is normal.",
        [Query("max by (instance) (inference_operator_oldest_watch_age_seconds)", "{{instance}}")],
        unit="s",
        width=6,
    ),
    Panel(
        "CPU",
        "Cores in use.",
        [Query(f"rate(process_cpu_seconds_total[$__rate_interval]) {OPERATOR}", "{{instance}}")],
        width=6,
    ),
    Panel(
        "Memory",
        "Resident memory.",
        [Query(f"process_resident_memory_bytes {OPERATOR}", "{{instance}}")],
        unit="bytes",
        width=6,
    ),
    Panel(
        "Lost and failed",
        "Log lines that nobody read in time, Events that were not posted, and attempts at the Lease that failed.",
        [
            Query("sum(increase(inference_operator_log_lines_lost_total[$__range]))", "log lines"),
            Query("sum(increase(inference_operator_events_dropped_total[$__range]))", "Events"),
            Query("sum(increase(inference_operator_lease_failures_total[$__range]))", "Lease"),
        ],
        kind="stat",
        width=12,
        limit=1,
    ),
    Panel(
        "Versions of the operator",
        "Processes by version; more than one during an upgrade.",
        [Query("count by (version) (inference_operator_build_info)", "{{version}}")],
        kind="stat",
        width=12,
    ),
)

ROWS = (
    Row("What needs somebody", ATTENTION, height=4),
    Row("", (NEEDS,)),
    Row("Fleet", FLEET),
    Row("Updates and versions", UPDATES),
    Row("Provider calls, of all namespaces", CALLS),
    Row("Operator", PROCESS, height=7),
)


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's JSON model."""
    return {
        "uid": "inference-operator",
        "title": "Inference operator",
        "description": "Model endpoints at GPU providers, as the inference operator reports them.",
        "tags": ["inference-operator"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_datasource(), *_variables()]},
        "panels": list(_panels()),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}


def _variables() -> Iterator[dict[str, Any]]:
    known = "inference_operator_resource_state"
    for name, query in (
        ("provider", f"label_values({known}, provider)"),
        ("namespace", f"label_values({known}{{{THEIRS}}}, namespace)"),
    ):
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": DATASOURCE,
            "definition": query,
            "query": {"qryType": 1, "query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for row in ROWS:
        if row.title:
            number += 1
            yield {
                "id": number,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
            }
            y += 1
        x = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + row.height
            number += 1
            yield _panel(panel, number, {"h": row.height, "w": panel.width, "x": x, "y": y})
            x += panel.width
        y += row.height


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    instant = panel.kind in {"stat", "table"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": instant,
                "range": not instant,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for position, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        "transformations": _transformations(panel),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "orange", "value": panel.limit})
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.none:
        defaults["noValue"] = panel.none
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "bars" if panel.bars else "line",
            "fillOpacity": 60 if panel.bars else 20 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked or panel.bars else "none", "group": "A"},
        }
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    match panel.kind:
        case "stat":
            return {"colorMode": "value", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
        case "table":
            return {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "Namespace", "desc": False}]}
        case _:
            return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}


def _transformations(panel: Panel) -> list[dict[str, Any]]:
    """For a table: its queries as columns of one, with names and in an order for people."""
    if not panel.columns:
        return []
    order = {field: position for position, (field, _) in enumerate(panel.columns)}
    hidden = {"Time": True, "Value": True, "Value #A": True}
    organize = {"excludeByName": hidden, "indexByName": order, "renameByName": dict(panel.columns)}
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
