"""Documents, specs and the request schema of Friendli for tests: whole ones, of which a case changes one thing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.model import Desired, History, Observed
from inference_operator.providers.friendli import translate
from inference_operator.providers.friendli.options import FriendliOptions
from inference_operator.providers.friendli.wire import Spec, Status

SCHEMAS: dict[str, Any] = json.loads(
    files("inference_operator.playground.emulators").joinpath("schemas/friendli.json").read_text()
)
"""The documented bodies, as the emulator checks them."""

UPDATE_BODY = {**SCHEMAS, "$ref": "#/$defs/UpdateBody"}

DOCUMENT: dict[str, Any] = {
    "name": "endpoint-name",
    "gpuType": "NVIDIA H100",
    "numGpu": 1,
    "instanceId": "instance-id",
    "projectId": "project-id",
    "creatorId": "creator-id",
    "teamId": "team-id",
    "autoscalingMin": 0,
    "autoscalingMax": 1,
    "autoscalingCooldown": 300,
    "maxBatchSize": 10,
    "maxInputLength": 1024,
    "tokenizerSkipSpecialTokens": True,
    "tokenizerAddSpecialTokens": True,
    "currReplicaCnt": 1,
    "desiredReplicaCnt": 1,
    "updatedReplicaCnt": 1,
}
"""A configuration as Friendli's page shows it."""

ADVANCED: dict[str, Any] = {
    "tokenizerSkipSpecialTokens": True,
    "tokenizerAddSpecialTokens": True,
    "maxBatchSize": 128,
    "maxTokenCount": 8192,
    "maxInputLength": 4096,
    "enableContentLogging": False,
}

BLOCK: dict[str, Any] = {
    "name": "llama-chat",
    "teamId": "team-1",
    "projectId": "prj-1",
    "hfModelRepo": "meta-llama/Llama-3.1-8B-Instruct",
    "hfModelRepoRevision": "0e9e39f",
    "advanced": ADVANCED,
}

SPEC: dict[str, Any] = {
    "provider": "friendli",
    "endpointId": "ep-1",
    "credentialsSecretRef": {"name": "friendli", "key": "token"},
    "writeConnectionTo": {"configMapName": "endpoint", "keys": {}},
    "gpu": {"type": "H100", "count": 2},
    "scaling": {"minReplicas": 1, "maxReplicas": 4, "cooldownSeconds": 120},
    "versionComment": "roll out r2",
    "friendli": BLOCK,
}
"""A spec that declares everything but what excludes something else in it."""


def document(**changes: Any) -> dict[str, Any]:
    """A configuration with some fields changed; None takes a field away."""
    return {name: value for name, value in {**DOCUMENT, **changes}.items() if value is not None}


def spec(block: Mapping[str, Any] | None = None, **neutral: Any) -> dict[str, Any]:
    """A spec that declares only what is given."""
    required = {name: SPEC[name] for name in ("provider", "endpointId", "credentialsSecretRef")}
    return {**required, **neutral, "friendli": dict(block or {})}


def desired(raw: Mapping[str, Any]) -> Desired:
    """What a raw spec asks for."""
    return translate.desired(InferenceEndpointSpec.model_validate(raw), FriendliOptions.model_validate(raw["friendli"]))


def observed(
    raw: Mapping[str, Any] = DOCUMENT, status: Mapping[str, Any] | None = None, history: History | None = None
) -> Observed:
    """A look that shows a raw configuration."""
    return translate.observed(Spec.model_validate(raw), Status.model_validate(status or {"status": "RUNNING"}), history)


def render(raw: Mapping[str, Any], live: Mapping[str, Any] = DOCUMENT, comment: str = "why") -> dict[str, Any]:
    """The update that a raw spec makes of a raw live configuration."""
    return translate.render(desired(raw), observed(live), comment)
