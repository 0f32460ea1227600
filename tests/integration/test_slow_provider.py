"""A provider that allows far fewer calls than the settings say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fleet import wait_for_all
from rig import TOKEN, Rig, spec_of

PATIENCE_SECONDS = 90.0

LIMIT = 2.0
"""Calls per second that the provider allows; a fifth of what the operator is told."""


def test_resources_converge_under_a_limit_far_below_the_configured_rate(rig: Rig) -> None:
    """A look is several reads at once, and each 429 begins it anew; what the settings allow would never be enough."""
    account = f"slow-{rig.namespace}"
    token = f"{TOKEN}-{account}"
    rig.emulators.add_account(account, [token], rate=LIMIT, burst=1)
    rig.secret("slow", token=token)
    names = {f"slow-{number}": f"ep-{account}-{number}" for number in range(3)}
    for endpoint_id in names.values():
        rig.emulators.create_endpoint("friendli", endpoint_id, account)
    flags: dict[str, Any] = {"poll_seconds": 60, "transition_poll_seconds": 20, "drift_seconds": 600}
    rig.start(calls_per_second=5 * LIMIT, calls_burst=20, settle_seconds=30, claim_seconds=30, **flags)
    for name, endpoint_id in names.items():
        rig.apply(name, spec_of("friendli", endpoint_id, 2, credentialsSecretRef={"name": "slow"}))
    wait_for_all(rig, names, seconds=PATIENCE_SECONDS)
    statuses = Counter(entry.status for each in names.values() for entry in rig.emulators.reads(each))
    print(f"answers to reads: {dict(statuses)}")
    assert {name: rig.committed(endpoint_id) for name, endpoint_id in names.items()} == dict.fromkeys(names, 1)
