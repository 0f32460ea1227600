"""A plain operator, as one writes it in an afternoon: each change of the spec becomes one request to the provider."""

import base64
import os
from typing import Any

import httpx
import kopf
from kubernetes.aio import client, config

ORIGIN = os.environ["PROVIDER_ORIGIN"]
TIMEOUT_SECONDS = float(os.environ["TIMEOUT_SECONDS"])
BACKOFF_SECONDS = float(os.environ["BACKOFF_SECONDS"])
PASSING = {408, 425, 429}


async def read_token(namespace: str, name: str) -> str:
    async with client.ApiClient() as api:
        secret = await client.CoreV1Api(api).read_namespaced_secret(name, namespace)
    return base64.b64decode((secret.data or {})["token"]).decode().strip()


@kopf.on.startup()
async def connect(**_: Any) -> None:
    await config.load_kube_config()  # type: ignore[no-untyped-call]  # the client has no types there


@kopf.on.create("plain.test", "v1", "endpoints", backoff=BACKOFF_SECONDS)
@kopf.on.update("plain.test", "v1", "endpoints", field="spec", backoff=BACKOFF_SECONDS)
async def apply(spec: kopf.Spec, meta: kopf.Meta, namespace: str | None, patch: kopf.Patch, **_: Any) -> None:
    token = await read_token(str(namespace), spec["secretName"])
    async with httpx.AsyncClient(base_url=ORIGIN, timeout=TIMEOUT_SECONDS, trust_env=False) as http:
        answer = await http.put(
            f"/dedicated/beta/endpoint/{spec['endpointId']}",
            json=dict(spec["update"]),
            headers={"Authorization": f"Bearer {token}"},
        )
    if answer.is_client_error and answer.status_code not in PASSING:
        patch.status.update(observedGeneration=meta["generation"], state="Rejected", reason=answer.text[:200])
        raise kopf.PermanentError(f"the provider refused the update with {answer.status_code}")
    answer.raise_for_status()
    replicas = answer.json()["desiredReplicaCnt"]
    patch.status.update(observedGeneration=meta["generation"], state="Applied", desiredReplicas=replicas)
