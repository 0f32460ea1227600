"""A real Prometheus beside the operator, and the queries of the dashboard as Grafana would send them."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

import debian
from rig import ROOT, wait_for

FILES = ROOT / "charts" / "inference-operator" / "files"
ALERTS = FILES / "alerts.yaml"
DASHBOARD = FILES / "dashboard.json"
ALERT_CASES = Path(__file__).parent / "alerts_test.yaml"

SCRAPE_SECONDS = 1
VARIABLES = {
    "$__rate_interval": "5s",
    "$__interval": "1s",
    "$__range": "60s",
}
"""What Grafana puts in for a data source that is scraped every second: four scrapes and a bit, one, and a minute."""


def alerts() -> list[dict[str, Any]]:
    """All alerts."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def program(name: str) -> Path:
    """`prometheus` or `promtool`."""
    return debian.program(name, "prometheus")


class Target(NamedTuple):
    """One query of the dashboard."""

    panel: str
    expr: str
    instant: bool


def panels() -> list[dict[str, Any]]:
    """All panels, rows apart."""
    return [panel for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"]


def targets() -> list[Target]:
    """All queries."""
    return [Target(panel["title"], each["expr"], each["instant"]) for panel in panels() for each in panel["targets"]]


def interpolated(expr: str, values: Mapping[str, Sequence[str]]) -> str:
    """A query with its variables put in as Grafana does it: several values as a regular expression."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    for name, several in values.items():
        chosen = several[0] if len(several) == 1 else f"({'|'.join(several)})"
        expr = expr.replace(f"${name}", chosen)
    assert "$" not in expr, expr
    return expr


@dataclass
class Prometheus:
    """A running one."""

    url: str
    log: Path

    def get(self, path: str, **params: Any) -> Any:
        """The data of an answer of its API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=30, trust_env=False)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that a query gives now; those that are not a number are none."""
        return [each for each in self.get("query", query=expr)["result"] if each["value"][1] != "NaN"]

    def values(self, label: str, metric: str) -> list[str]:
        """The values of a label, as Grafana asks for those of a variable."""
        return list(self.get(f"label/{label}/values", **{"match[]": metric}))

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes one address every second and knows the alerts; ends with the context.

    Args:
        folder: For its configuration, data and log.
        target: Host and port.
    """
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {"job_name": "inference-operator", "honor_labels": True, "static_configs": [{"targets": [target]}]}
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = folder / "prometheus.log"
    command = [
        str(program("prometheus")),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT) as process:
        running = Prometheus(f"http://{address}", log)
        try:
            wait_for(running.is_ready, what="Prometheus to be ready", log=log)
            yield running
        finally:
            process.terminate()
            process.wait(timeout=30)
