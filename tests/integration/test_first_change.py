"""The shortest way through everything: apply, one update at the provider, a true status."""

from __future__ import annotations

import pytest

from rig import Rig, spec_of


@pytest.mark.parametrize("provider", ["friendli", "novita"])
def test_a_change_reaches_the_provider_once_and_comes_back_into_the_status(rig: Rig, provider: str) -> None:
    endpoint_id = rig.endpoint(provider)
    rig.start()
    rig.apply("a", spec_of(provider, endpoint_id, 5))
    resource = rig.wait("a")
    assert resource["status"]["history"][0]["result"] == "Applied"
    assert rig.committed(endpoint_id) == 1
    rig.apply("a", spec_of(provider, endpoint_id, 6))
    rig.wait("a")
    assert rig.committed(endpoint_id) == 2
    rig.wait("a", "Ready")
    assert rig.processes[-1].terminate() == 0
