"""A metrics API as a cluster's adapter would serve it: one external metric whose value the test sets."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from inference_operator.playground.controlplane import ControlPlane
from planes import api_client
from rig import wait_for

GROUP_VERSION = "external.metrics.k8s.io/v1beta1"
METRIC = "requests_waiting"
NAMESPACE = "default"


class ExternalMetrics(ThreadingHTTPServer):
    """Serves `METRIC` to whoever asks.

    Attributes:
        value: What it is now; a Kubernetes quantity.
    """

    daemon_threads = True
    value = "1"

    def answer(self, path: str) -> dict[str, Any] | None:
        """The document at a path; None for one that there is not."""
        root = f"/apis/{GROUP_VERSION}"
        if path == root:
            resource = {"name": METRIC, "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList"}
            resources = [resource | {"verbs": ["get"]}]
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": GROUP_VERSION,
                "resources": resources,
            }
        if path.startswith(f"{root}/namespaces/") and path.endswith(f"/{METRIC}"):
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            item = {"metricName": METRIC, "metricLabels": {}, "timestamp": now, "value": self.value}
            return {"kind": "ExternalMetricValueList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": [item]}
        return None


class _Handler(BaseHTTPRequestHandler):
    server: ExternalMetrics

    def do_GET(self) -> None:
        found = self.server.answer(self.path.partition("?")[0])
        body = json.dumps(found or {}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def external_metrics(plane: ControlPlane) -> Iterator[ExternalMetrics]:
    """Serve the metric, and have the API server forward the group to it."""
    server = ExternalMetrics(("127.0.0.1", 0), _Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(plane.ca_file, plane.ca_file.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        _register(plane, server.server_address[1])
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _register(plane: ControlPlane, port: int) -> None:
    group, version = GROUP_VERSION.split("/")
    service = {
        "metadata": {"name": "metrics-adapter", "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }
    registration = {
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "service": {"name": "metrics-adapter", "namespace": NAMESPACE, "port": port},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    with api_client(plane) as api:
        api.post(f"/api/v1/namespaces/{NAMESPACE}/services", json=service).raise_for_status()
        api.post("/apis/apiregistration.k8s.io/v1/apiservices", json=registration).raise_for_status()
        path = f"/apis/{GROUP_VERSION}/namespaces/{NAMESPACE}/{METRIC}"
        wait_for(
            lambda: api.get(path).is_success, what="the metric through the API server", state=lambda: api.get(path).text
        )
