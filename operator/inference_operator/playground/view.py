"""What the demonstration shows, as tables: resources as they report themselves, and calls as the providers saw them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from rich.table import Column, Table
from rich.text import Text

from inference_operator.playground.emulators.ledger import Entry

LATEST_READS: Final = 2
"""Reads that are shown below the writes; there are many, and they are all alike."""

CALLS_WIDTH: Final = 108
"""Characters that the longest call takes."""

_STYLES: Final = MappingProxyType(
    {
        "True": "green",
        "False": "red",
        "Unknown": "yellow",
        "Running": "green",
        "Sleeping": "cyan",
        "Creating": "yellow",
        "Updating": "yellow",
        "Waking": "yellow",
        "Failed": "red",
    }
)
_ABSENT: Final = "-"
_HTTP_ERROR: Final = 400


@dataclass(frozen=True, slots=True)
class Row:
    """A resource as it reports itself; what it does not report yet is a dash.

    Attributes:
        name: Its name.
        provider: Its provider.
        state: `status.state`.
        replicas: Current and desired number.
        version: `status.version`.
        synced: Status of the condition Synced.
        ready: Status of the condition Ready.
        reason: Reasons of both.
        message: What the first of them says that is not True; empty where there is none.
        current: All of this is about the newest generation.
        resource_version: Changes with every write to the resource.
    """

    name: str
    provider: str
    state: str
    replicas: str
    version: str
    synced: str
    ready: str
    reason: str
    message: str
    current: bool
    resource_version: str

    @property
    def converged(self) -> bool:
        """Whether the provider holds the newest generation, and the endpoint serves or sleeps as asked."""
        return self.current and self.synced == self.ready == "True"


def row(resource: Mapping[str, Any]) -> Row:
    """Read a resource as the API server returns it, whatever of its status is there yet."""
    status = resource.get("status", {})
    found = {condition["type"]: condition for condition in status.get("conditions", ())}
    both = [found[kind] for kind in ("Synced", "Ready") if kind in found]
    counts = [str(status.get(name, _ABSENT)) for name in ("currReplicaCnt", "desiredReplicaCnt")]
    return Row(
        name=resource["metadata"]["name"],
        provider=resource["spec"]["provider"],
        state=status.get("state", _ABSENT),
        replicas="/".join(counts),
        version=str(status.get("version", _ABSENT)),
        synced=found.get("Synced", {}).get("status", _ABSENT),
        ready=found.get("Ready", {}).get("status", _ABSENT),
        reason=", ".join(dict.fromkeys(condition["reason"] for condition in both)),
        message=next((each.get("message", "") for each in both if each["status"] != "True"), ""),
        current=status.get("observedGeneration") == resource["metadata"]["generation"],
        resource_version=resource["metadata"]["resourceVersion"],
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything at one moment.

    Attributes:
        rows: The resources.
        writes: All requests for a change that the providers have received, in order of arrival.
        reads: The latest of the other requests, in order of arrival.
        read_count: How many of those there were.
    """

    rows: Sequence[Row] = ()
    writes: Sequence[Entry] = ()
    reads: Sequence[Entry] = ()
    read_count: int = 0


def resources_table(rows: Sequence[Row]) -> Table:
    """The resources, one in each row."""
    table = _table(
        _column("Name", 10),
        _column("Provider", 8),
        _column("State", 8),
        _column("Replicas", 8, justify="right"),
        _column("Version", 7, justify="right"),
        _column("Synced", 7),
        _column("Ready", 7),
        Column("Reason"),
    )
    for each in rows:
        cells = (each.name, each.provider, each.state, each.replicas, each.version, each.synced, each.ready)
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells), _cut(each.reason))
    return table


def calls_table(picture: Picture, *, limit: int, width: int, since: float) -> Table:
    """The latest calls: writes, and below them a few reads.

    Args:
        picture: What to show.
        limit: Rows, at most.
        width: Characters that there are; paths give way when they are few.
        since: The moment that times count from, monotonic seconds.
    """
    count = min(LATEST_READS, limit // 3)  # where there is room for few calls, they are writes
    reads = picture.reads[max(len(picture.reads) - count, 0) :]
    writes = picture.writes[-max(limit - count, 1) :]
    table = _table(
        _column("Time", 7, justify="right"),
        _column("Provider", 8),
        _column("Call", 4),
        Column("Path", ratio=1),
        _column("Endpoint", 14),
        _column("Status", 6, justify="right"),
        _column("Version", 7, justify="right"),
        title=f"Provider calls: {len(picture.writes)} writes, {picture.read_count} reads",
    )
    table.width = min(width, CALLS_WIDTH)
    for entry in (*writes, *reads):
        table.add_row(*_cells(entry, since), style="" if entry.mutates else "dim")
    return table


def sentence(entry: Entry) -> str:
    """A call in one line."""
    made = "" if entry.version is None else f", version {entry.version}"
    return f"{entry.provider} {entry.method} {entry.path} ({entry.endpoint_id}): {entry.status}{made}"


def _cells(entry: Entry, since: float) -> tuple[str | Text, ...]:
    status = Text("" if entry.status is None else str(entry.status))
    status.stylize("red" if (entry.status or 0) >= _HTTP_ERROR else "green")
    return (
        f"{entry.at - since:.1f} s",
        entry.provider,
        entry.method,
        _cut(entry.path.partition("?")[0]),
        entry.endpoint_id or "",
        status,
        "" if entry.version is None else str(entry.version),
    )


def _column(name: str, width: int, *, justify: Literal["left", "right"] = "left") -> Column:
    """A column that keeps its width while what it shows changes, so that nothing jumps."""
    return Column(name, no_wrap=True, min_width=width, justify=justify)


def _cut(text: str) -> Text:
    """What gives way when the terminal is too narrow; its column may shrink because it is not `no_wrap` itself."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _table(*columns: Column, title: str | None = None) -> Table:
    return Table(
        *columns,
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
