"""How many connections this process may hold, so that requests wait for each other instead of failing."""

from __future__ import annotations

import resource
from typing import Final

RESERVED: Final = 24
"""Descriptors for everything else: standard streams, the event loop, watches, probes, name resolution."""

POOLS: Final = 4
"""Who shares the rest: the API server's client, and as many providers as anybody uses at once."""

FEWEST: Final = 2


def connections_per_pool() -> int:
    """The most connections that one pool may open under the limit of open files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = RESERVED + POOLS * 1024
    return max(FEWEST, (limit - RESERVED) // POOLS)
