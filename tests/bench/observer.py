"""The one observer outside all subjects: the provider's ledger, the API server's audit log and watch, one clock."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self, TextIO

import httpx

from bench.contestants import REGISTRY
from faults.peers.subject import Subject
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.ledger import Entry
from planes import api_client

_LOOK_SECONDS: Final = 0.05
_WATCHING: Final = httpx.Timeout(30, read=2)
_LAG_SECONDS: Final = 30.0


class AuditLog:
    """Reads an audit log from its present end on, also across the API server's rotation of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO = path.open()
        self._file.seek(0, os.SEEK_END)
        self._rest = ""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def events(self) -> Sequence[dict[str, Any]]:
        """Every event since the last call."""
        found = self._lines()
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
                self._file.close()
                self._file = self._path.open()
                found += self._lines()
        return [json.loads(line) for line in found]

    def _lines(self) -> list[str]:
        *whole, self._rest = (self._rest + self._file.read()).split("\n")
        return whole


class Writes:
    """Counts what a subject writes to Kubernetes in its namespace.

    Attributes:
        seen: Every event since the last reset.
    """

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._client = api_client(plane)
        self._namespace = namespace
        self._log = AuditLog(plane.audit_log)
        self.seen: list[dict[str, Any]] = []
        self.reset()

    def close(self) -> None:
        """Stop."""
        self._client.close()
        self._log.close()

    def reset(self) -> None:
        """Forget everything up to now."""
        self._read()
        self.seen = []

    def count(self, plural: str) -> dict[str, int]:
        """Everything since the last reset: writes of the resources, of Events, of the rest, and those refused."""
        self._read()
        theirs = filter(_is_write, self.seen)
        mine = [event for event in theirs if event["objectRef"].get("namespace") == self._namespace]
        kinds = Counter(event["objectRef"]["resource"] for event in mine)
        refused = sum(event["responseStatus"]["code"] >= httpx.codes.BAD_REQUEST for event in mine)
        resources, posted, leases = kinds.pop(plural, 0), kinds.pop("events", 0), kinds.pop("leases", 0)
        others = kinds.total()
        return {"writes": resources, "events": posted, "leases": leases, "other_writes": others, "conflicts": refused}

    def _read(self) -> None:
        """Take in every request that was answered before this call; the log lags a little behind the answers."""
        mark = f"/version?settle={uuid.uuid4()}"
        self._client.get(mark).raise_for_status()
        deadline = time.monotonic() + _LAG_SECONDS
        while True:
            found = self._log.events()
            self.seen += found
            if any(event["requestURI"] == mark for event in found):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the audit log did not show {mark} within {_LAG_SECONDS:g} s")
            time.sleep(_LOOK_SECONDS / 5)


def _is_write(event: Mapping[str, Any]) -> bool:
    by_subject = event["user"]["username"] == "operator" and event["stage"] == "ResponseComplete"
    return by_subject and event["verb"] in {"create", "update", "patch", "delete"} and "objectRef" in event


class Watched:
    """Notes by a watch when each of the things that can be read in a resource with a status was there first.

    Args:
        subject: Whose resources.
        keys: What can be read in one.

    Attributes:
        seen: When each was first seen, monotonic.
    """

    def __init__(self, subject: Subject, keys: Callable[[Mapping[str, Any]], Iterable[Hashable]]) -> None:
        self._subject = subject
        self._keys = keys
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._http = api_client(subject.rig.plane)
        self._version = ""
        self.seen: dict[Any, float] = {}

    def __enter__(self) -> Self:
        answer = self._http.get(self._subject.path, params={"limit": "1"})
        self._version = answer.raise_for_status().json()["metadata"]["resourceVersion"]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._http.close()

    def _watch(self) -> None:
        while not self._over.is_set():
            query = {"watch": "1", "resourceVersion": self._version, "allowWatchBookmarks": "true"}
            with (
                suppress(httpx.TransportError),  # a silence ends the request, and another goes on from there
                self._http.stream("GET", self._subject.path, params=query, timeout=_WATCHING) as events,
            ):
                for line in events.iter_lines():
                    found = json.loads(line)["object"]
                    self._version = found["metadata"]["resourceVersion"]
                    if found.get("status"):
                        now = time.monotonic()
                        for key in self._keys(found):
                            self.seen.setdefault(key, now)


def claims(subject: Subject) -> Watched:
    """Notes when each resource was first seen to claim each generation."""

    def keys(found: Mapping[str, Any]) -> list[tuple[str, int]]:
        metadata = found["metadata"]
        return [(metadata["name"], metadata["generation"])] if subject.claims(found) else []

    return Watched(subject, keys)


def wait_until(check: Callable[[], bool], seconds: float) -> bool:
    """Look until it holds, leaving the machine to the others; False if it does not in time."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if check():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(max(_LOOK_SECONDS, 4 * (time.monotonic() - began)))


def update_of(entries: Sequence[Entry], endpoint_id: str, model: str) -> Entry | None:
    """The first update that brings this model to an endpoint."""
    for entry in entries:
        if entry.mutates and entry.endpoint_id == endpoint_id and model_of(entry) == model:
            return entry
    return None


def model_of(entry: Entry) -> str | None:
    """The model that an update asks for, on Novita the image that stands for it; None if it asks for none."""
    body: Mapping[str, Any] = entry.body or {}
    image: str | None = body.get("image", {}).get("image")
    found: str | None = image.removeprefix(f"{REGISTRY}/") if image else body.get("hfModelRepo")
    return found
