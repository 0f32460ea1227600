from __future__ import annotations

import base64
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from bench.editing import Kind, first
from bench.resting import CONFIGURATION, STATE, ConsoleEdit, Told, asked, told_by
from bench.vitals import vitals
from inference_operator.playground.emulators.ledger import Entry

CONNECT = """
import socket, sys
kept = [socket.create_server(("127.0.0.1", 0))]
kept += [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(3)]
print(flush=True)
input()
"""


def read(at: float, operation: str, endpoint_id: str | None, **known: Any) -> Entry:
    base: dict[str, Any] = {"seq": 1, "provider": "friendli", "method": "GET", "path": "/"}
    return Entry(**(base | known), at=at, operation=operation, endpoint_id=endpoint_id)


PLACES = {"a": 0, "b": 1, "ep": 2, "d": 3}


def cursor_of(endpoint_id: str) -> str:
    return base64.urlsafe_b64encode(endpoint_id.encode()).decode()


def edit(what: str, before: Told) -> ConsoleEdit:
    return ConsoleEdit(100.0, "r", "ep", PLACES["ep"], Kind.FIXED, what, frozenset({"get_spec", "list"}), before)


BEFORE = Told("r", drifted=False, state=("Running", 2))


def test_reads_are_counted_by_operation_and_by_kind_of_endpoint() -> None:
    kinds = {"ep-1": Kind.FIXED, "ep-2": Kind.FIXED, "ep-3": Kind.AUTOSCALED}
    ledger = [
        read(1, "list", None),
        read(2, "get_spec", "ep-1"),
        read(2, "get_status", "ep-3"),
        read(2, "get_status", "ep-unknown"),
        read(3, "update", "ep-1", mutates=True),
    ]
    assert asked(ledger, kinds) == {
        "mutations": 1,
        "reads": 4,
        "lists": 1,
        "asked_list": 1,
        "asked_get_spec": 1,
        "asked_get_status": 2,
        "reads_fixed": 1,
        "reads_autoscaled": 1,
        "with_fixed": 2,
        "with_autoscaled": 1,
    }


def test_a_change_by_others_is_read_by_the_first_read_of_it() -> None:
    before = [read(99, "get_spec", "ep"), read(101, "get_spec", "other"), read(102, "get_status", "ep")]
    assert edit(CONFIGURATION, BEFORE).read_at(before, PLACES) is None
    assert edit(CONFIGURATION, BEFORE).read_at([*before, read(104, "get_spec", "ep")], PLACES) == 104
    update = read(103, "get_spec", "ep", mutates=True)
    assert edit(CONFIGURATION, BEFORE).read_at([update], PLACES) is None


@pytest.mark.parametrize(
    ("query", "shows"),
    [
        ("limit=3", True),
        ("limit=2", False),
        (f"limit=1&cursor={cursor_of('b')}", True),
        (f"limit=9&cursor={cursor_of('a')}", True),
        (f"limit=9&cursor={cursor_of('ep')}", False),
        ("pageSize=2&pageNum=1", True),
        ("pageSize=2&pageNum=0", False),
        ("pageSize=2&pageNum=2", False),
    ],
)
def test_a_list_counts_if_the_page_shows_it(query: str, *, shows: bool) -> None:
    pages = [read(101, "list", None, path=f"/endpoints?{query}")]
    assert edit(CONFIGURATION, BEFORE).read_at(pages, PLACES) == (101 if shows else None)


def test_a_change_by_others_is_shown_once_the_status_tells_it() -> None:
    drifted, asleep = Told("r", drifted=True, state=("Running", 2)), Told("r", drifted=False, state=("Sleeping", None))
    other = Told("other", drifted=True, state=("Sleeping", None))
    told = {BEFORE: 101.0, other: 101.0, drifted: 105.0, asleep: 110.0}
    assert edit(CONFIGURATION, BEFORE).shown_at(told) == 105
    assert edit(STATE, BEFORE).shown_at(told) == 110
    assert edit(STATE, BEFORE).shown_at({asleep: 99.0}) is None, "it was told before"


def test_a_status_tells_drift_and_state() -> None:
    found = {"metadata": {"name": "r"}, "status": {"state": "Running", "currReplicaCnt": 2, "drift": [{"field": "x"}]}}
    assert told_by(found) == Told("r", drifted=True, state=("Running", 2))
    assert told_by({"metadata": {"name": "r"}}) == Told("r", drifted=False, state=(None, None))


@pytest.mark.parametrize(("kind", "least", "most"), [(Kind.FIXED, 2, 2), (Kind.ASLEEP, 0, 2), (Kind.AUTOSCALED, 1, 2)])
def test_kinds_differ_in_their_bounds(kind: Kind, least: int, most: int) -> None:
    wish = first("ep", kind)
    assert (wish.least, wish.replicas) == (least, most)
    assert wish.body()["autoscalingPolicy"] == {"minReplica": least, "maxReplica": most, "cooldownPeriod": 300}


@pytest.fixture(name="listener")
def listener_of_test() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener


def test_connections_are_counted_by_the_port_that_they_lead_to_and_listening_is_none(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    command = [sys.executable, "-c", CONNECT, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = vitals([process.pid])
        process.communicate(b"\n")
    assert found.connections == {port: 3}
    assert found.descriptors >= 6
    assert found.resident > 1
    assert vitals([process.pid]) == (0.0, 0.0, 0, {})
