"""How each resource stands, in the text that Prometheus reads.

The lines of a resource are made when it is reported and not when somebody scrapes: for the 30,000 series of 5,000
resources the client library needs most of a second, and a scrape is answered on the event loop that does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from inference_operator.api.status import InferenceEndpointStatus, Operation
from inference_operator.core.model import Observed, Resource

RESOURCE_LABELS = ("namespace", "name", "provider")

ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(frozen=True, slots=True)
class Standing:
    """How one resource stands.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        provider: The provider it names.
        state: The endpoint's neutral state, as in `status.state`.
        conditions: Type, status and reason of each.
        current: Replicas that exist; None where the provider does not tell.
        desired: Replicas that the provider wants; None where it does not tell.
        gpus_per_replica: None before the first look, and where the provider does not tell.
        undecided: A write is open, and nobody knows yet whether it arrived.
        undecided_since: When it began, as Unix time, where the status tells.
        drifted: The provider holds something else than the spec declares.
        rolling: A transition that our write began is under way.
        overdue: It takes longer than its progress deadline.
    """

    namespace: str
    name: str
    provider: str
    state: str
    conditions: tuple[tuple[str, str, str], ...] = ()
    current: int | None = None
    desired: int | None = None
    gpus_per_replica: int | None = None
    undecided: bool = False
    undecided_since: float | None = None
    drifted: bool = False
    rolling: bool = False
    overdue: bool = False

    @property
    def gpus(self) -> int | None:
        """GPUs of all replicas that exist."""
        return None if self.gpus_per_replica is None or self.current is None else self.gpus_per_replica * self.current


def standing(
    resource: Resource, status: InferenceEndpointStatus, *, gpus_per_replica: int | None, rolling: bool, overdue: bool
) -> Standing:
    """How a resource stands by what its status says."""
    return Standing(
        namespace=resource.namespace,
        name=resource.name,
        provider=str(resource.spec.get("provider")),
        state=status.state or "Unknown",
        conditions=tuple((each.type, each.status, each.reason) for each in status.conditions),
        current=status.curr_replica_cnt,
        desired=status.desired_replica_cnt,
        gpus_per_replica=gpus_per_replica,
        undecided=status.operation is not None,
        undecided_since=_begun(status.operation),
        drifted=bool(status.drift),
        rolling=rolling,
        overdue=overdue,
    )


def gpus_per_replica(observed: Observed) -> int | None:
    """The number of GPUs of one replica, where the provider shows `spec.gpu` of the endpoint."""
    gpu = observed.live.values.get("gpu")
    count = gpu.get("count") if isinstance(gpu, dict) else None
    return int(count) if isinstance(count, int | float) else None


def _begun(operation: Operation | None) -> float | None:
    try:
        return datetime.fromisoformat(operation.started_at).timestamp() if operation else None
    except ValueError:
        return None


Series = Iterable[tuple[tuple[str, ...], float | None]]
"""Values of the labels beyond those that all have, and the number; None for no series."""


@dataclass(frozen=True, slots=True)
class Family:
    """A gauge that each resource may have series of."""

    name: str
    meaning: str
    series: Callable[[Standing], Series]
    more_labels: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of all labels."""
        return (*RESOURCE_LABELS, *self.more_labels)


FAMILIES = (
    Family(
        "inference_operator_resource_state",
        "Always 1; a label tells the state of the endpoint.",
        lambda one: [((one.state,), 1)],
        ("state",),
    ),
    Family(
        "inference_operator_resource_condition",
        "Always 1; one series for each condition that the status holds, and none for others.",
        lambda one: [(condition, 1) for condition in one.conditions],
        ("type", "status", "reason"),
    ),
    Family(
        "inference_operator_resource_replicas_current",
        "Replicas that exist; no series where the provider does not tell.",
        lambda one: [((), one.current)],
    ),
    Family(
        "inference_operator_resource_replicas_desired",
        "Replicas that the provider wants; no series where it does not tell.",
        lambda one: [((), one.desired)],
    ),
    Family(
        "inference_operator_resource_gpus",
        "GPUs of all replicas that exist: those of one replica times the replicas; no series before the first look.",
        lambda one: [((), one.gpus)],
    ),
    Family(
        "inference_operator_resource_undecided_write_start_timestamp_seconds",
        "When the write began of which nobody knows yet whether it arrived, as Unix time; no series without one.",
        lambda one: [((), one.undecided_since)],
    ),
)


class Standings:
    """All resources that this process has reported on."""

    def __init__(self) -> None:
        self._standings: dict[str, Standing] = {}
        self._lines: dict[str, Sequence[str]] = {}

    def __iter__(self) -> Iterator[Standing]:
        return iter(self._standings.values())

    def note(self, uid: str, standing: Standing) -> None:
        """Remember how a resource stands from now on."""
        if self._standings.get(uid) != standing:
            self._standings[uid] = standing
            self._lines[uid] = _lines(standing)

    def get(self, uid: str) -> Standing | None:
        """How a resource was last said to stand."""
        return self._standings.get(uid)

    def forget(self, uid: str) -> None:
        """The resource is gone, and its series with it."""
        self._standings.pop(uid, None)
        self._lines.pop(uid, None)

    def render(self) -> bytes:
        """All series of all resources, in the text format of Prometheus."""
        parts: list[str] = []
        for number, family in enumerate(FAMILIES):
            parts.append(f"# HELP {family.name} {family.meaning}\n# TYPE {family.name} gauge\n")
            parts += [lines[number] for lines in self._lines.values()]
        return "".join(parts).encode()


def _lines(one: Standing) -> Sequence[str]:
    """The lines of one resource, those of each family together."""
    whose = _labels(RESOURCE_LABELS, (one.namespace, one.name, one.provider))
    return ["".join(_line(family, whose, *series) for series in family.series(one)) for family in FAMILIES]


def _line(family: Family, whose: str, more: tuple[str, ...], value: float | None) -> str:
    if value is None:
        return ""
    labels = f"{whose},{_labels(family.more_labels, more)}" if more else whose
    return f"{family.name}{{{labels}}} {value}\n"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{text.translate(ESCAPES)}"' for name, text in zip(names, values, strict=True))
