"""Documents, specs and the request schema of Novita for tests: whole ones, of which a case changes what it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from importlib.resources import files
from typing import Any

from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.model import Desired, Observed, SecretData, SecretValues
from inference_operator.providers.novita import translate, wire
from inference_operator.providers.novita.options import NovitaOptions

SCHEMAS: dict[str, Any] = json.loads(
    files("inference_operator.playground.emulators").joinpath("schemas/novita.json").read_text()
)["$defs"]
"""The documented bodies, as the emulator checks them."""

SECRETS = SecretValues(
    {
        "hf": SecretData("41", {"token": b"hf-swordfish", "other": b"hf-xylophone"}),
        "wb": SecretData("42", {"token": b"wb-marmalade"}),
    }
)

LIMITS = {
    "minWorkerNum": 0,
    "maxWorkerNum": 10,
    "minFreeTimeout": 1,
    "maxFreeTimeout": 3600,
    "minConcurrencyNum": 1,
    "maxConcurrencyNum": 64,
    "minQueueWaitTime": 1,
    "maxQueueWaitTime": 60,
    "minRequestNum": 1,
    "maxRequestNum": 1000,
    "minGPUNum": 1,
    "maxGPUNum": 8,
    "minRequestTimeout": 1,
    "maxRequestTimeout": 3600,
}

DOCUMENT: dict[str, Any] = {
    "id": "ep-1",
    "name": "sdxl",
    "appName": "sdxl-app",
    "url": "https://sdxl.example.test",
    "state": {"state": "serving", "error": "", "message": ""},
    "workerConfig": {
        "minNum": 1,
        "maxNum": 3,
        "freeTimeout": "120",
        "maxConcurrent": "4",
        "gpuNum": 1,
        "requestTimeout": 600,
        "cudaVersion": "12.4",
    },
    "ports": [{"port": 8080}],
    "policy": {"type": "queue", "value": "30"},
    "image": {"image": "registry.example.test/sdxl:1", "authId": "7", "command": "serve"},
    "rootfsSize": 100,
    "volumeMounts": [{"type": "local", "size": 30, "id": "", "mountPath": "/data"}],
    "envs": [{"key": "HF_TOKEN", "value": "hf-swordfish"}, {"key": "MODE", "value": "fast"}],
    "workers": [{"id": "w1", "state": {"state": "running", "error": "", "message": ""}, "healthy": True, "log": "l"}],
    "products": [{"id": "SL-3"}],
    "healthy": {
        "path": "/health",
        "initialDelay": 10,
        "period": 10,
        "timeout": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    },
    "clusterID": "cluster-1",
    "log": "",
}
"""An endpoint as get shows it, types flipped as Novita flips them."""

SPEC: dict[str, Any] = {
    "provider": "novita",
    "endpointId": "ep-1",
    "credentialsSecretRef": {"name": "novita"},
    "writeConnectionTo": {"configMapName": "endpoint"},
    "gpu": {"count": 1},
    "scaling": {"minReplicas": 1, "maxReplicas": 3, "cooldownSeconds": 120},
    "novita": {
        "name": "sdxl",
        "clusterID": "cluster-1",
        "workerConfig": {"maxConcurrent": 4, "requestTimeout": 600},
        "port": 8080,
        "policy": {"type": "queue", "value": 30},
        "image": {"image": "registry.example.test/sdxl:1", "authId": "7", "command": "serve"},
        "volumeMounts": [{"type": "local", "size": 30, "mountPath": "/data"}],
        "envs": [
            {"name": "MODE", "value": "fast"},
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}},
        ],
        "healthy": {"path": "/health"},
    },
}
"""A spec that declares every field, with the values that `DOCUMENT` shows."""


def a_spec(*, scaling: Mapping[str, Any] | None = None, gpu: Any = None, **block: Any) -> dict[str, Any]:
    """A spec that declares what is given and nothing else."""
    spec = {"provider": "novita", "endpointId": "ep-1", "credentialsSecretRef": {"name": "novita"}, "novita": block}
    return spec | ({"scaling": scaling} if scaling is not None else {}) | ({"gpu": gpu} if gpu is not None else {})


def a_document(**changes: Any) -> dict[str, Any]:
    """`DOCUMENT` with other top-level fields; nested objects are merged one level deep."""
    document = deepcopy(DOCUMENT)
    for name, value in changes.items():
        merges = isinstance(value, dict) and isinstance(document.get(name), dict)
        document[name] = document[name] | value if merges else value
    return document


def desired(spec: Mapping[str, Any], secrets: SecretValues = SECRETS) -> Desired:
    """What a spec, as users write it, asks for."""
    return translate.desired(
        InferenceEndpointSpec.model_validate(spec), NovitaOptions.model_validate(spec["novita"]), secrets
    )


def observed(document: Mapping[str, Any], limits: Mapping[str, int] | None = None) -> Observed:
    """A look at an endpoint that get shows so."""
    return translate.observed(wire.Endpoint.model_validate(document), limits)


def render(spec: Mapping[str, Any], document: Mapping[str, Any] = DOCUMENT, **options: Any) -> dict[str, Any]:
    """The body of an update."""
    return translate.render(desired(spec), observed(document, **options))


def shown(body: Mapping[str, Any], before: Mapping[str, Any] = DOCUMENT) -> dict[str, Any]:
    """What get shows after a server has taken a body: its fields, types flipped, and what updates do not take."""
    kept = {key: before[key] for key in ("appName", "url", "state", "rootfsSize", "workers", "products", "log")}
    numbers = {key: str(body["workerConfig"][key]) for key in ("freeTimeout", "maxConcurrent")}
    mounts = [{"size": 0, "id": "", **mount} for mount in body.get("volumeMounts", [])]
    return {
        **body,
        **kept,
        "workerConfig": {**body["workerConfig"], **numbers, "cudaVersion": "12.4"},
        "ports": [{**port, "port": int(port["port"])} for port in body["ports"]],
        "policy": {**body["policy"], "value": str(body["policy"]["value"])},
        "image": {"authId": "", "command": "", **body["image"]},
        "volumeMounts": mounts,
        "clusterID": body.get("clusterID", ""),
    }
