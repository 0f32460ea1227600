from __future__ import annotations

import resource

import pytest

from inference_operator.descriptors import FEWEST, POOLS, RESERVED, connections_per_pool


@pytest.mark.covers("H1")
@pytest.mark.parametrize(
    ("limit", "connections"),
    [(0, FEWEST), (RESERVED, FEWEST), (64, 10), (1024, 250), (resource.RLIM_INFINITY, 1024)],
)
def test_all_pools_together_leave_room_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, limit: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert connections_per_pool() == connections
    if limit > RESERVED + POOLS * FEWEST:
        assert connections * POOLS + RESERVED <= limit
