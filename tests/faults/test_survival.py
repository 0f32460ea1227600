"""Whatever the machine does to the process: it goes on, or comes back, and every change is one version."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from faults.kubeproxy import KubeProxy
from faults.kubescript import KubeFault
from faults.vitals import (
    STALL_SECONDS,
    Pulse,
    apply,
    await_all,
    intents_before,
    metric,
    once_each,
    outcomes,
    placed,
    program,
)
from inference_operator.api.names import PLURAL
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.processes import free_ports
from rig import UNHURRIED, Process, Rig, wait_for

pytestmark = pytest.mark.faults

STEADY = {**UNHURRIED, "max-rollouts": 0}


DESCRIPTORS = 64
MANY = 100


@pytest.mark.covers("H1")
def test_with_64_descriptors_a_hundred_resources_queue_and_no_call_fails(rig: Rig) -> None:
    limit = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, {DESCRIPTORS}))"
    rig.program = program("import resource", limit)
    process = rig.start(**STEADY)
    fleet = placed(rig, MANY)
    for number in (2, 3):
        apply(rig, fleet, number)
        await_all(rig, fleet)
    assert outcomes(rig, fleet) == once_each(fleet, 2)
    log = process.log.read_text()
    assert "no complete answer" not in log
    assert "could not be reached" not in log
    assert "Too many open files" not in log


def unheard(fifo: Path, room: int) -> tuple[str, ...]:
    """An operator whose standard output is a pipe with an open end that nobody reads."""
    return program(
        "import fcntl, os",
        f"fd = os.open({str(fifo)!r}, os.O_RDWR)",
        "fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 4096)",
        "os.dup2(fd, 1), os.dup2(fd, 2)",
        "from inference_operator import telemetry",
        f"telemetry.MAX_WAITING = {room}",
    )


def start_unseen(rig: Rig) -> tuple[Process, str]:
    """Start an operator whose log tells nothing; returns where it serves its metrics, too."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    process = rig.start(wait=False, http_address=address, **STEADY)
    wait_for(lambda: is_working(f"http://{address}"), what="the operator to work")
    return process, f"http://{address}"


def is_working(address: str) -> bool:
    try:
        return "working" in httpx.get(f"{address}/readyz", trust_env=False).text
    except httpx.TransportError:
        return False


@pytest.mark.covers("H3")
def test_a_log_that_nobody_reads_holds_up_nothing_and_tells_later_what_is_missing(rig: Rig, tmp_path: Path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    rig.program = unheard(fifo, room=20)
    process, address = start_unseen(rig)
    fleet = placed(rig, 20)
    with Pulse(address) as pulse:
        for number in (2, 3):
            apply(rig, fleet, number)
            await_all(rig, fleet)
    assert pulse.slowest < STALL_SECONDS
    assert outcomes(rig, fleet) == once_each(fleet, 2)
    lost = metric(address, "inference_operator_log_lines_lost_total")
    assert lost > 0
    with os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        lines = bytearray()

        def are_told() -> bool:
            lines.extend(reader.read(65536) or b"")
            return f"{lost:.0f} log lines were lost".encode() in lines

        wait_for(are_told, what="the loss to be told")
        assert rig.token.encode() not in lines
    print(f"{lost:.0f} lines lost, /healthz answered within {pulse.slowest:.3f} s")
    assert process.terminate() == 0


@pytest.mark.covers("H3")
def test_a_process_whose_log_stays_full_ends_when_told_to(rig: Rig, tmp_path: Path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    rig.program = unheard(fifo, room=5)
    process, _ = start_unseen(rig)
    fleet = placed(rig, 4)
    apply(rig, fleet, 2)
    await_all(rig, fleet)
    assert process.terminate() == 0


CLOSED = """
import os, sys
shell = ["sh", "-c", 'exec "$0" "$@" >&- 2>&-', sys.executable, "-m", "inference_operator"]
os.execv("/bin/sh", shell + sys.argv[1:])
"""

GONE = {
    "closed": ("-c", CLOSED),
    "a pipe without a reader": program(
        "import os", "read, write = os.pipe()", "os.dup2(write, 1), os.dup2(write, 2)", "os.close(read)"
    ),
}


@pytest.mark.covers("H3")
@pytest.mark.parametrize("how", GONE)
def test_without_standard_output_everything_else_works(rig: Rig, how: str) -> None:
    rig.program = GONE[how]
    process, address = start_unseen(rig)
    fleet = placed(rig, 4)
    for number in (2, 3):
        apply(rig, fleet, number)
        await_all(rig, fleet)
    assert outcomes(rig, fleet) == once_each(fleet, 2)
    assert is_working(address)
    assert process.terminate() == 0


SHARE, SLICE_SECONDS = 0.1, 0.1


@contextmanager
def slowed(process: Process) -> Iterator[None]:
    """Stop the process for nine tenths of the time, as a quota of a tenth of a processor does."""
    over = threading.Event()

    def ration() -> None:
        while not over.is_set():
            process.pause()
            over.wait((1 - SHARE) * SLICE_SECONDS)
            process.resume()
            over.wait(SHARE * SLICE_SECONDS)

    thread = threading.Thread(target=ration, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.covers("H4")
def test_with_a_tenth_of_a_processor_every_change_is_one_version_all_the_same(rig: Rig) -> None:
    process = rig.start(**STEADY)
    fleet = placed(rig, 20)
    apply(rig, fleet, 2)
    await_all(rig, fleet)
    lost = fleet[:6]
    for each in lost:
        rig.emulators.add_fault(Fault(operation="update", endpoint_id=each.endpoint_id, delivery="reset"))
    began = time.monotonic()
    with slowed(process):
        apply(rig, fleet, 3)
        await_all(rig, fleet)
    print(f"{len(fleet)} changes with a tenth of a processor: {time.monotonic() - began:.1f} s")
    assert outcomes(rig, fleet) == once_each(fleet, 2)


HOARD = """
import resource, signal
kept = []
def hoard(*_):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))
    for size in (1 << 20, 1 << 16, 1 << 12, 512, 64):
        try:
            while True:
                kept.append(bytearray(size))
        except MemoryError:
            pass
signal.signal(signal.SIGUSR1, hoard)
"""
"""At a signal, all memory that the process may have is taken."""


@pytest.mark.covers("A10")
@pytest.mark.parametrize("when", ["before the change", "while the answer is on its way"])
def test_a_process_without_memory_ends_and_its_successor_converges(rig: Rig, when: str) -> None:
    rig.program = program(*HOARD.splitlines())
    process = rig.start(**STEADY)
    fleet = placed(rig, 6)
    apply(rig, fleet, 2)
    await_all(rig, fleet)
    if when == "before the change":
        process.popen.send_signal(signal.SIGUSR1)
        apply(rig, fleet, 3)
    else:
        for each in fleet:
            fault = Fault(operation="update", endpoint_id=each.endpoint_id, gate_after="committed")
            rig.emulators.add_fault(fault)
        apply(rig, fleet, 3)
        rig.emulators.wait_for_gate("committed", requests=len(fleet))
        process.popen.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        rig.emulators.release_gate("committed")
    wait_for(lambda: process.popen.poll() is not None, what="the end of the process")
    assert process.popen.returncode != 0
    rig.start(**STEADY)
    await_all(rig, fleet)
    assert outcomes(rig, fleet) == once_each(fleet, 2)


CLAIM_SECONDS = 1.0
BLOCKED_SECONDS = 4.0
"""Longer than the claim, and than the time for a call."""

BLOCK = ("import signal, time", f"signal.signal(signal.SIGUSR1, lambda *_: time.sleep({BLOCKED_SECONDS}))")
"""At a signal, the event loop stands still."""


def is_mute(process: Process) -> bool:
    """Whether the liveness probe gets no answer, upon which a kubelet would start the process anew."""
    try:
        httpx.get(f"{process.address}/healthz", trust_env=False, timeout=1)
    except httpx.ReadTimeout:
        return True
    return False


@pytest.mark.covers("H2")
def test_an_event_loop_that_stands_still_after_the_intent_sends_nothing_on_it(rig: Rig) -> None:
    with KubeProxy(rig.plane) as proxy:
        rig.program = program(*BLOCK)
        process = rig.start(kubeconfig=proxy.kubeconfig, claim_seconds=CLAIM_SECONDS)
        fleet = placed(rig, 2)
        apply(rig, fleet, 2)
        await_all(rig, fleet)
        intents = KubeFault(verb="patch", resource=PLURAL, body='"operation":', gate_after="stored", count=len(fleet))
        proxy.add_fault(intents)
        apply(rig, fleet, 3)
        proxy.wait_for_gate("stored", requests=len(fleet))
        process.popen.send_signal(signal.SIGUSR1)
        proxy.release_gate("stored")
        still_until = time.monotonic() + BLOCKED_SECONDS - 0.5
        assert is_mute(process)
        await_all(rig, fleet)
        assert outcomes(rig, fleet) == once_each(fleet, 2)
        for each in fleet:
            _, late = rig.mutations(each.endpoint_id)
            assert late.at > still_until
            assert len(intents_before(proxy, each.name, late.at)) > 1 + 1  # that of the first change, and a new one


@pytest.mark.covers("H2")
def test_an_event_loop_that_stands_still_while_the_answer_comes_sends_nothing_twice(rig: Rig) -> None:
    rig.program = program(*BLOCK)
    process = rig.start()
    fleet = placed(rig, 2)
    apply(rig, fleet, 2)
    await_all(rig, fleet)
    for each in fleet:
        rig.emulators.add_fault(Fault(operation="update", endpoint_id=each.endpoint_id, gate_after="committed"))
    apply(rig, fleet, 3)
    rig.emulators.wait_for_gate("committed", requests=len(fleet))
    process.popen.send_signal(signal.SIGUSR1)
    assert is_mute(process)
    rig.emulators.release_gate("committed")
    await_all(rig, fleet)
    assert outcomes(rig, fleet) == once_each(fleet, 2)
