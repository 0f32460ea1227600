"""NAIVE: what one writes in an afternoon with kopf; each change of the spec becomes one request to the provider."""

from __future__ import annotations

import os
from typing import Any

import httpx
import kopf

PASSING = {408, 425, 429}


@kopf.on.startup()
async def connect(memo: kopf.Memo, **_: Any) -> None:
    memo.http = httpx.AsyncClient(
        base_url=os.environ["PROVIDER_ORIGIN"],
        headers={"Authorization": f"Bearer {os.environ['PROVIDER_TOKEN']}"},
        trust_env=False,
    )


@kopf.on.cleanup()
async def disconnect(memo: kopf.Memo, **_: Any) -> None:
    await memo.http.aclose()


@kopf.on.create("plain.test", "v1", "endpoints")
@kopf.on.update("plain.test", "v1", "endpoints", field="spec")
async def apply(spec: kopf.Spec, meta: kopf.Meta, memo: kopf.Memo, patch: kopf.Patch, **_: Any) -> None:
    answer = await memo.http.put(f"/dedicated/beta/endpoint/{spec['endpointId']}", json=dict(spec["update"]))
    if answer.is_client_error and answer.status_code not in PASSING:
        raise kopf.PermanentError(f"the provider refused the update with {answer.status_code}")
    answer.raise_for_status()
    patch.status.update(observedGeneration=meta["generation"], state="Applied")
