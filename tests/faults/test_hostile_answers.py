"""Whatever providers answer: it harms nobody else, and costs no second update."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from faults.vitals import (
    PROVIDERS,
    STALL_SECONDS,
    Managed,
    Pulse,
    apply,
    await_all,
    once_each,
    outcomes,
    peak_mib,
    placed,
)
from inference_operator.playground.emulators.faults import Commit, Fault
from inference_operator.providers.answers import decode
from rig import UNHURRIED, Rig
from tally import show

pytestmark = pytest.mark.faults

GIB = 1 << 30
GROWTH_MIB = 100
"""Far less than what is sent, far more than what many answers at once need."""

DEPTH = 100_000


@dataclass(frozen=True)
class Answer:
    """A way to answer that hurts, on a read for as long as it is scripted, on an update once."""

    name: str
    fault: Fault


def body(name: str, content: bytes) -> Answer:
    return Answer(name, Fault(body_base64=base64.b64encode(content).decode()))


HOSTILE = [
    body("arrays 100,000 deep", b"[" * DEPTH + b"]" * DEPTH),
    body("objects 100,000 deep", b'{"a":' * DEPTH + b"1" + b"}" * DEPTH),
    body("100,000 open arrays", b"[" * DEPTH),
    body("NaN", b'{"id": NaN, "status": Infinity}'),
    body("10^400", b'{"version": 1' + b"0" * 400 + b"}"),
    body("1e400", b'{"version": 1e400}'),
    body("a million digits", b'{"version": ' + b"9" * 1_000_000 + b"}"),
    body("bad UTF-8", b'{"status": "\xff\xfe\xc0\x80"}'),
    body("half a surrogate pair", rb'{"status": "\ud800"}'),
    body("a name twice", b'{"status": "RUNNING", "status": "FAILED"}'),
    body("byte order marks", b"\xef\xbb\xbf\xef\xbb\xbf{}"),
    body("UTF-16", '{"status": "RUNNING"}'.encode("utf-16")),
    body("a list", b"[{}]"),
    body("null", b"null"),
    body("a number", b"1"),
    body("a text", b'"RUNNING"'),
    body("200,000 empty lists", b"[" + b"[]," * 200_000 + b"[]]"),
    body("half of it", b'{"status": "RUNN'),
]

LARGE = [
    Answer("1 GB", Fault(delivery="huge", size=GIB)),
    Answer("without end", Fault(delivery="endless")),
    Answer("1 GB packed into 1 MB", Fault(delivery="gzip_bomb", size=GIB)),
    Answer("a header of 1 MB", Fault(headers={"X-Padding": "x" * (1 << 20)})),
]

SLOW = [
    Answer("nothing", Fault(delivery="stall")),
    Answer("headers byte by byte", Fault(delivery="stall", interval=0.1)),
    Answer("half of it, then byte by byte", Fault(delivery="stall", size=150, interval=0.1, body=" " * 1000 + "{}")),
    Answer("a drop of body now and then", Fault(delivery="endless", interval=0.4)),
]


def afflicted(rig: Rig, answers: Sequence[Answer], prefix: str) -> dict[Managed, Answer]:
    """A resource for each way to answer and each provider, in sync."""
    pairs = [(provider, answer) for provider in PROVIDERS for answer in answers]
    return {
        Managed(f"{prefix}{at}", provider, rig.endpoint(provider)): answer
        for at, (provider, answer) in enumerate(pairs)
    }


def hurt(rig: Rig, reads: dict[Managed, Answer], writes: dict[Managed, Answer], losses: dict[Managed, Answer]) -> None:
    """Every read of the first, one update of the others; only the last ones' is not committed."""
    for each, answer in reads.items():
        rig.emulators.add_fault(replace(answer.fault, method="GET", endpoint_id=each.endpoint_id, count=None))
    for each, answer in (writes | losses).items():
        commit: Commit = "never" if each in losses else "now"
        rig.emulators.add_fault(replace(answer.fault, operation="update", endpoint_id=each.endpoint_id, commit=commit))


def assert_others_are_served(rig: Rig, answers: Sequence[Answer], **flags: Any) -> None:
    """Some read and some write badly; others do not notice, and in the end every change was one version.

    The same answer stands over updates that were committed and over updates that were not, so that it is no use to take
    it for either: only a look tells them apart.
    """
    process = rig.start(max_rollouts=0, **flags)
    reads, writes = afflicted(rig, answers, "read-"), afflicted(rig, answers, "write-")
    losses = afflicted(rig, answers, "loss-")
    others = placed(rig, 6, "other-")
    sound = [*reads, *writes, *others]
    everybody = [*sound, *losses]
    apply(rig, everybody, 2)
    await_all(rig, everybody)
    before = peak_mib(process)
    hurt(rig, reads, writes, losses)
    with Pulse(process.address) as pulse:
        began = time.monotonic()
        apply(rig, everybody, 3)
        await_all(rig, others)
        served = time.monotonic() - began
        await_all(rig, [*writes, *losses])
        assert outcomes(rig, [*reads]) == once_each([*reads])
        rig.emulators.clear_faults()
        await_all(rig, everybody)
    assert outcomes(rig, sound) == once_each(sound, 2)
    assert outcomes(rig, [*losses]) == {each.name: [True, False, True] for each in losses}
    patience = min(seconds_until_sent_again(rig, each) for each in losses)
    rows = [
        ("resources with bad answers", len(reads) + len(writes) + len(losses)),
        ("seconds until the first lost update was sent again", f"{patience:.1f}"),
        ("seconds until the others were in sync", f"{served:.1f}"),
        ("slowest answer of /healthz, seconds", f"{pulse.slowest:.3f}"),
        ("growth of the memory peak, MiB", f"{peak_mib(process) - before:.1f}"),
    ]
    show("Bad answers", ("", "figure"), rows)
    assert pulse.slowest < STALL_SECONDS
    assert peak_mib(process) - before < GROWTH_MIB
    assert patience > flags["settle-seconds"]  # it could have landed until then


def seconds_until_sent_again(rig: Rig, each: Managed) -> float:
    """Between the update that was lost and the next one."""
    _, lost, again = rig.mutations(each.endpoint_id)
    return again.at - lost.at


@pytest.mark.covers("B8")
def test_no_json_disturbs_anybody_else_or_costs_a_second_update(rig: Rig) -> None:
    assert_others_are_served(rig, HOSTILE, **UNHURRIED)


@pytest.mark.covers("B7")
def test_no_amount_of_bytes_fills_the_memory(rig: Rig) -> None:
    assert_others_are_served(rig, LARGE, **UNHURRIED)


@pytest.mark.covers("B6")
def test_an_answer_that_trickles_ends_with_the_time_for_the_whole_call(rig: Rig) -> None:
    assert_others_are_served(rig, SLOW, **{"request-timeout-seconds": 4, "settle-seconds": 5})


HEAVIEST = {
    **{answer.name: base64.b64decode(answer.fault.body_base64 or "") for answer in HOSTILE},
    "as many values as are read": b"[" + b"1," * 99_998 + b"1]",
    "as many names as are read": b"{" + b",".join(b'"%d":{}' % name for name in range(99_999)) + b"}",
    "a mebibyte of escapes": b'"' + rb"\u0041" * ((1 << 20) // 6) + b'"',
    "a mebibyte of open objects": b'{"":' * ((1 << 20) // 4),
}
LOOP_SECONDS = 0.1


@pytest.mark.covers("B8")
@pytest.mark.parametrize("name", HEAVIEST)
def test_no_body_that_is_read_at_all_takes_the_processor_for_long(name: str) -> None:
    began = time.thread_time()
    decode(HEAVIEST[name])
    assert time.thread_time() - began < LOOP_SECONDS


def raw(name: str, text: str) -> Answer:
    return Answer(name, Fault(delivery="raw", body=text))


ODD = [
    raw("100 and nothing else", "HTTP/1.1 100 Continue\r\n\r\n"),
    raw("many 103", "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" * 1000),
    raw("101", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    raw("HTTP/2 that goes away", "\0\0\x08\x07\0\0\0\0\0" + "\0" * 8),
    raw("half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
    raw("a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
    raw("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    raw(
        "trailers behind half a JSON",
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{"\r\n0\r\nX-Trailer: 1\r\n\r\n',
    ),
]


@pytest.mark.covers("B12")
def test_answers_that_are_no_answers_are_undecided_and_harm_nobody(rig: Rig) -> None:
    assert_others_are_served(rig, ODD, **UNHURRIED)


@pytest.mark.covers("B12")
def test_an_early_refusal_is_one_and_the_next_spec_is_sent(rig: Rig) -> None:
    rig.start()
    fleet = placed(rig, 2)
    apply(rig, fleet, 2)
    await_all(rig, fleet)
    refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    for each in fleet:
        fault = Fault(operation="update", endpoint_id=each.endpoint_id, commit="never", delivery="raw", body=refusal)
        rig.emulators.add_fault(fault)
    apply(rig, fleet, 3)
    await_all(rig, fleet, "Stalled", "True", "InvalidSpec")
    apply(rig, fleet, 4)
    await_all(rig, fleet)
    assert outcomes(rig, fleet) == {each.name: [True, False, True] for each in fleet}
