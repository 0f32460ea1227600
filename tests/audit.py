"""Counting what was written to a control plane, from its own audit log: the API server's word, not the client's."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from inference_operator.playground.controlplane import ControlPlane
from planes import api_client

_MUTATING = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class Write(NamedTuple):
    """One mutating request. A server-side apply has the verb `patch`; `code` is the HTTP status of the answer."""

    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int


def audit_events(path: Path) -> Iterator[dict[str, Any]]:
    """Read the events (`audit.k8s.io/v1`) that are in an audit log now, in the order in which they were written."""
    with path.open() as lines:
        for line in lines:
            if line.endswith("\n"):  # the last one may be half written
                yield json.loads(line)


def writes(path: Path, *, user: str | None = None) -> list[Write]:
    """Every completed request that could change something, of one user or of all; dry runs are not among them.

    Call `settle` first where the count has to be exact.
    """
    return [
        _write(event)
        for event in audit_events(path)
        if event["verb"] in _MUTATING
        and event["stage"] != "ResponseStarted"
        and "dryRun=" not in event["requestURI"]
        and user in {None, event["user"]["username"]}
    ]


def settle(plane: ControlPlane, *, timeout_seconds: float = 10.0) -> None:
    """Wait until every request that was answered before this call is in the audit log.

    An event is written right after its answer was sent, so a client can be faster than the log. This sends a marked
    request and waits for its event.
    """
    mark = f"/version?settle={uuid.uuid4()}"
    with api_client(plane) as admin:
        admin.get(mark).raise_for_status()
    deadline = time.monotonic() + timeout_seconds
    while not any(event["requestURI"] == mark for event in audit_events(plane.audit_log)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the audit log did not show {mark} within {timeout_seconds} s")
        time.sleep(0.01)


def _write(event: dict[str, Any]) -> Write:
    target = event.get("objectRef", {})
    return Write(
        verb=event["verb"],
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
    )
