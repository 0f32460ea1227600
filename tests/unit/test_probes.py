from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx
import pytest
from structlog.testing import capture_logs

from inference_operator.addresses import Address
from inference_operator.metrics import Metrics
from inference_operator.probes import Check, serving
from inference_operator.settings import UnusableSettings

LOOPBACK = Address("127.0.0.1", 0)


def fine() -> tuple[bool, str]:
    return True, "ok"


def started(
    address: Address = LOOPBACK, *, alive: Check = fine, ready: Check = fine, metrics: Callable[[], bytes] = bytes
) -> AbstractAsyncContextManager[Address]:
    return serving(address, alive=alive, ready=ready, metrics=metrics)


async def get(address: Address, path: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://{address}{path}")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize(("passed", "status"), [(True, 200), (False, 503)])
async def test_a_probe_answers_with_the_verdict_and_its_reason(*, path: str, passed: bool, status: int) -> None:
    def asked() -> tuple[bool, str]:
        return passed, "as the check says"

    def other() -> tuple[bool, str]:
        return not passed, "the other"

    checks = {"alive": asked, "ready": other} if path == "/healthz" else {"alive": other, "ready": asked}
    async with started(alive=checks["alive"], ready=checks["ready"]) as address:
        answer = await get(address, path)
    assert (answer.status_code, answer.text) == (status, "as the check says\n")


async def test_each_answer_is_fresh() -> None:
    verdicts = iter([(False, "starting"), (True, "ok")])
    async with started(ready=lambda: next(verdicts)) as address:
        answers = [(await get(address, "/readyz")).status_code for _ in range(2)]
    assert answers == [503, 200]


async def test_a_check_that_breaks_is_no_pass_and_shows_no_detail() -> None:
    def broken() -> tuple[bool, str]:
        raise RuntimeError("hunter2")

    async with started(alive=broken) as address:
        answer = await get(address, "/healthz")
        other = await get(address, "/readyz")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert other.status_code == 200


async def test_metrics_are_served_in_the_format_of_prometheus() -> None:
    metrics = Metrics()
    async with started(metrics=metrics.render) as address:
        metrics.event_dropped()
        answer = await get(address, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert "inference_operator_events_dropped_total 1.0" in answer.text


async def test_nothing_else_is_served() -> None:
    async with started() as address:
        assert [(await get(address, path)).status_code for path in ("/", "/debug", "/metrics/")] == [404] * 3


async def test_the_chosen_port_is_told_and_logged() -> None:
    with capture_logs() as lines:
        async with started() as address:
            assert address.port > 0
    assert [line["address"] for line in lines] == [str(address)]


async def test_the_port_is_free_again_afterwards() -> None:
    async with started() as address:
        pass
    async with started(address) as again:
        assert again == address


async def test_an_address_in_use_is_an_unusable_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(*taken.getsockname())
        with pytest.raises(UnusableSettings, match=f"cannot listen on {address}.*in use"):
            async with started(address):
                pass
