"""What an operator process is made to suffer before it begins, and its vital signs meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx

from faults.kubeproxy import KubeProxy
from fleet import wait_for_all
from rig import Process, Rig, spec_of

PROVIDERS = ("friendli", "novita")
PATIENCE_SECONDS = 90.0
"""For everybody to be in sync, on a machine with much else to do."""

STALL_SECONDS = 5.0
"""A process whose event loop is free answers a probe sooner, even on such a machine."""

_BEAT_SECONDS = 0.05


def program(*lines: str) -> tuple[str, ...]:
    """The operator as `Rig.program`, in a process that first runs some lines of Python."""
    return "-c", "\n".join([*lines, "from inference_operator.cli import main", "main()"])


class Pulse:
    """Asks a process again and again whether it is alive, in a `with` statement; its event loop has to answer.

    Attributes:
        slowest: The longest that an answer took, in seconds.
        beats: Answers.
    """

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=address, timeout=30, trust_env=False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._feel, daemon=True)
        self.slowest = 0.0
        self.beats = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._http.close()

    def _feel(self) -> None:
        while not self._over.wait(_BEAT_SECONDS):
            began = time.monotonic()
            self._http.get("/healthz").raise_for_status()
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.beats += 1


def peak_mib(process: Process) -> float:
    """The most memory that the process has ever had resident."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def metric(address: str, name: str) -> float:
    """A metric without labels."""
    text = httpx.get(f"{address}/metrics", trust_env=False).text
    return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])


class Managed(NamedTuple):
    """A resource and its endpoint."""

    name: str
    provider: str
    endpoint_id: str

    def spec(self, number: int, **changes: Any) -> dict[str, Any]:
        return spec_of(self.provider, self.endpoint_id, number, **changes)


def placed(rig: Rig, count: int, prefix: str = "r") -> list[Managed]:
    """Endpoints at both providers in turn, whose resources are not applied yet."""
    chosen = [PROVIDERS[number % len(PROVIDERS)] for number in range(count)]
    return [Managed(f"{prefix}{at}", provider, rig.endpoint(provider)) for at, provider in enumerate(chosen)]


def apply(rig: Rig, fleet: Sequence[Managed], number: int) -> None:
    for each in fleet:
        rig.apply(each.name, each.spec(number))


def await_all(
    rig: Rig, fleet: Iterable[Managed], kind: str = "Synced", status: str = "True", reason: str | None = None
) -> None:
    """Wait until all have the condition."""
    wait_for_all(rig, [each.name for each in fleet], kind, status, reason, seconds=PATIENCE_SECONDS)


def outcomes(rig: Rig, fleet: Sequence[Managed]) -> Mapping[str, list[bool]]:
    """For each resource whether each update that was sent was committed."""
    sent: dict[str, list[bool]] = {each.endpoint_id: [] for each in fleet}
    for entry in rig.emulators.mutations():
        if entry.endpoint_id in sent:
            sent[entry.endpoint_id].append(entry.committed)
    return {each.name: sent[each.endpoint_id] for each in fleet}


def intents_before(proxy: KubeProxy, name: str, moment: float) -> set[str]:
    """Ids of the operations that were stored for a resource before a moment."""
    stored = [call for call in proxy.calls() if call.name == name and call.committed and call.at < moment]
    statuses = [step["value"] for call in stored for step in call.body if step["path"] == "/status"]
    return {status["operation"]["id"] for status in statuses if "operation" in status}


def once_each(fleet: Sequence[Managed], times: int = 1) -> Mapping[str, list[bool]]:
    """What `outcomes` is when every change was sent once and committed."""
    return {each.name: [True] * times for each in fleet}
