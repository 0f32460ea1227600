"""A newer operator and a newer CRD over what an older release has stored: nothing is sent for the upgrade alone."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
import yaml

from fleet import wait_for_all
from inference_operator.api.names import GROUP, PLURAL
from rig import CRD, QUICK, Rig, install_crd, spec_of, wait_for

BLOCKS: dict[str, dict[str, Any]] = {"friendli": {"hfModelRepo": "org/model"}, "novita": {}}
OLDER_SCHEME = "v0:"
MERGE = {"Content-Type": "application/merge-patch+json"}


def store_as_older_release(rig: Rig, name: str) -> None:
    """Put the hash of the last write under an older scheme: the same payload, another value."""
    applied = rig.get(name)["status"]["applied"]
    older = OLDER_SCHEME + applied["hash"].partition(":")[2][::-1]
    status = {"status": {"applied": {"hash": older}}}
    rig.editor.patch(f"{rig.path}/{name}/status", headers=MERGE, json=status).raise_for_status()


def install_older_crd(rig: Rig) -> None:
    """A definition with another description and with fewer columns, as before some upgrade."""
    document = yaml.safe_load(CRD.read_text())
    version = document["spec"]["versions"][0]
    version["additionalPrinterColumns"] = version["additionalPrinterColumns"][:2]
    version["schema"]["openAPIV3Schema"]["description"] = "older"
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
    rig.api.patch(path, headers=MERGE, json=document).raise_for_status()


@pytest.mark.covers("A13", "D13")
def test_an_upgrade_of_operator_and_crd_sends_nothing(rig: Rig) -> None:
    ids = {provider: rig.endpoint(provider) for provider in BLOCKS}
    install_older_crd(rig)
    process = rig.start()
    for provider, block in BLOCKS.items():
        rig.apply(provider, spec_of(provider, ids[provider], 5, **{provider: block}))
    wait_for_all(rig, BLOCKS)
    assert process.terminate() == 0
    for name in BLOCKS:
        store_as_older_release(rig, name)
    install_crd(rig.api)
    rig.start()
    for name in BLOCKS:
        wait_for(partial(is_of_this_scheme, rig, name), what="the status to be understood")
    time.sleep(2 * QUICK["poll-seconds"])
    for provider, endpoint_id in ids.items():
        assert [update.committed for update in rig.mutations(endpoint_id)] == [True]
        assert rig.condition(provider, "Synced") == ("True", "Applied")
        rig.apply(provider, spec_of(provider, endpoint_id, 6, **{provider: BLOCKS[provider]}))
    wait_for_all(rig, BLOCKS)
    for endpoint_id in ids.values():
        assert [update.committed for update in rig.mutations(endpoint_id)] == [True, True]


def is_of_this_scheme(rig: Rig, name: str) -> bool:
    return not str(rig.get(name)["status"]["applied"]["hash"]).startswith(OLDER_SCHEME)
