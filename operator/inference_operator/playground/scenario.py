"""What the demonstration plays: endpoints that exist already, the samples that take them over, and one edit.

Every endpoint tells how many updates its sample costs, so that the outcome can be counted and not only looked at.
"""

import secrets
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from inference_operator.playground.cluster import Cluster, Manifest
from inference_operator.playground.emulators.control import EmulatorControl

NAMESPACE: Final = "demo"
EDITED: Final = "friendli-autoscaled"
"""The sample that is edited once all samples have converged."""

EDIT: Final = MappingProxyType({"versionComment": "up to six replicas", "scaling": {"maxReplicas": 6}})
"""What the edit lays over its spec: one field that the provider acts on, and the words for its version history."""

EDIT_IN_WORDS: Final = "maxReplicas from 3 to 6, and a versionComment"

_SAMPLES: Final = Path(__file__).with_name("samples")
_ACCOUNT: Final = "demo"
_KEY_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Part:
    """A sample and the endpoint that it takes over.

    Attributes:
        sample: File name of the sample, without its ending.
        writes: Updates that the provider receives before the endpoint holds the sample.
        spec: What the endpoint is at first: fields of the provider's create request, laid over a complete example.
        turned: What it is turned to then, in the words of the emulators' `set_endpoint`.
    """

    sample: str
    writes: int = 1
    spec: Mapping[str, Any] = field(default_factory=dict)
    turned: Mapping[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> dict[str, Any]:
        """The sample, in the demonstration's namespace."""
        manifest: dict[str, Any] = yaml.safe_load((_SAMPLES / f"{self.sample}.yaml").read_text(encoding="utf-8"))
        manifest["metadata"]["namespace"] = NAMESPACE
        return manifest

    @property
    def endpoint_id(self) -> str:
        """The provider's id of the endpoint."""
        return str(self.manifest["spec"]["endpointId"])


PARTS: Final = (
    Part("friendli-autoscaled"),
    Part("friendli-asleep", turned={"state": "SLEEPING"}),
    Part("friendli-fixed"),
    Part("friendli-model"),
    Part("friendli-adopted", writes=0),
    Part("novita-asleep"),
    Part("novita-fixed", spec={"workerConfig": {"minNum": 1}}),
    Part("novita-secret-env", spec={"workerConfig": {"minNum": 1}}),
)


def expected_writes(*, edited: bool) -> dict[str, int]:
    """Updates that each endpoint receives in all, by its id: one for each change that the provider does not hold."""
    return {part.endpoint_id: part.writes + (edited and part.sample == EDITED) for part in PARTS}


def set_up_providers(control: EmulatorControl, *, rollout_seconds: float) -> dict[str, str]:
    """Create an account with all endpoints, whose rollouts take so long; returns its API key at each provider."""
    keys = {"friendli": f"flp_{secrets.token_urlsafe(_KEY_BYTES)}", "novita": f"sk_{secrets.token_urlsafe(_KEY_BYTES)}"}
    control.add_account(_ACCOUNT, list(keys.values()))
    for provider in keys:
        control.set_knobs(provider, rollout_seconds=rollout_seconds)
    for part in PARTS:
        provider = part.manifest["spec"]["provider"]
        control.create_endpoint(provider, part.endpoint_id, _ACCOUNT, spec=part.spec)
        if part.turned:
            control.set_endpoint(provider, part.endpoint_id, **part.turned)
    return keys


def apply_samples(cluster: Cluster, keys: Mapping[str, str]) -> None:
    """Apply the namespace, the Secrets and the samples, in the order in which a person would.

    Raises:
        ClusterError: The API server refused one of them.
    """
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for name, token in {**keys, "hf": f"hf_{secrets.token_urlsafe(_KEY_BYTES)}"}.items():
        cluster.apply(_secret(name, token))
    for part in PARTS:
        cluster.apply(part.manifest)


def apply_edit(cluster: Cluster) -> None:
    """Apply the edited sample; the same field manager, as an edit of the file would.

    Raises:
        ClusterError: The API server refused it.
    """
    cluster.apply(edited_manifest())


def edited_manifest() -> dict[str, Any]:
    """The sample `EDITED` with `EDIT` laid over its spec."""
    manifest = next(part for part in PARTS if part.sample == EDITED).manifest
    manifest["spec"] = _overlaid(manifest["spec"], EDIT)
    return manifest


def access() -> Iterator[dict[str, Any]]:
    """The objects that give the operator's user its rights."""
    yield from yaml.safe_load_all(Path(__file__).with_name("access.yaml").read_text(encoding="utf-8"))


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = deepcopy(dict(below))
    for name, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _overlaid(merged[name], value) if nested else value
    return merged


def _secret(name: str, token: str) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": token}}
