"""What processes cost, as the operating system tells it; and what the machine is."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from bench.record import Machine

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError)


class Vitals(NamedTuple):
    """Of all processes together.

    Attributes:
        cpu: Seconds, user and system.
        resident: MiB.
        descriptors: Open ones.
        connections: To other processes, by their ports.
    """

    cpu: float
    resident: float
    descriptors: int
    connections: Mapping[int, int]


def vitals(roots: Iterable[int]) -> Vitals:
    """Of these processes and all their children."""
    tree = [pid for root in roots for pid in family(root)]
    opened = [name for pid in tree for name in _descriptors(pid)]
    lead_to = _far_ports()
    connections = Counter(lead_to[name] for name in opened if name in lead_to)
    return Vitals(sum(map(_cpu, tree)), sum(map(_resident, tree)), len(opened), connections)


def family(root: int) -> Iterator[int]:
    """A process and everything that it has started and that is still there."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    waiting = [root]
    while waiting:
        waiting += children.get(waiting[0], [])
        yield waiting.pop(0)


def _stat(pid: int) -> list[str]:
    """What follows the name in `/proc/PID/stat`, from the state on; empty if it is gone."""
    with suppress(*_GONE):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def _resident(pid: int) -> float:
    with suppress(*_GONE, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
    return 0.0


def _descriptors(pid: int) -> list[str]:
    """What each open descriptor stands for, a socket as `socket:[INODE]`."""
    found = []
    with suppress(*_GONE):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(*_GONE):
                found.append(str(descriptor.readlink()))
    return found


def _far_ports() -> dict[str, int]:
    """The port at the far end of every TCP connection of this machine, by its socket."""
    tables = [Path(f"/proc/self/net/{name}") for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    ports = {f"socket:[{fields[9]}]": int(fields[2].rpartition(":")[2], 16) for fields in lines}
    return {name: port for name, port in ports.items() if port}  # 0: it listens


def pin(roots: Iterable[int], core: int) -> None:
    """Hold processes, and what they start from now on, to one core."""
    for root in roots:
        for pid in family(root):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(*_GONE):
                    os.sched_setaffinity(int(thread.name), {core})


class Share:
    """How much of the machine's processor time others had since this was made."""

    def __init__(self) -> None:
        self._busy, self._all, self._own = _machine_time(), _all_time(), _own_time()

    def of_others(self) -> float:
        """Between 0 and 1."""
        busy, everything, own = _machine_time() - self._busy, _all_time() - self._all, _own_time() - self._own
        return min(1.0, max(0.0, (busy - own) / everything)) if everything else 0.0


def _machine_time() -> float:
    fields = _processor_fields()
    return sum(fields[:3]) + sum(fields[5:8])


def _all_time() -> float:
    return float(sum(_processor_fields()[:8]))


def _processor_fields() -> list[int]:
    """Ticks: user, nice, system, idle, iowait, irq, softirq, steal, and guests."""
    return [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]


def _own_time() -> float:
    """Ticks of this process and everything below it, processes that have ended included."""
    return sum(_ticks(pid) for pid in family(os.getpid()))


def _ticks(pid: int) -> int:
    return sum(map(int, _stat(pid)[11:15]))


def machine() -> Machine:
    """This machine."""
    models = [line.partition(":")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return Machine(
        cores=os.cpu_count() or 0,
        model=(models or [platform.machine()])[0].strip(),
        kernel=f"{platform.system()} {platform.release()}",
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    )
