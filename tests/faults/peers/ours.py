"""This operator, as the other tests of the rig start it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from faults.comparison import Profile
from faults.peers.subject import POLL_SECONDS, TIMEOUT_SECONDS, Subject, condition_of
from faults.peers.wish import BATCH, COOLDOWN, REVISION, TOKENS, Wish
from inference_operator import __version__
from inference_operator.api.names import API_VERSION, KIND, PLURAL
from inference_operator.settings import Settings
from rig import QUICK

FLAGS: Final[Mapping[str, Any]] = QUICK | {"poll-seconds": POLL_SECONDS, "request-timeout-seconds": TIMEOUT_SECONDS}


def _shipped(flag: str) -> float:
    return float(Settings.model_fields[flag.replace("-", "_")].default)


def scaling(wish: Wish) -> dict[str, Any]:
    """The bounds between which the provider scales."""
    return {"minReplicas": wish.least, "maxReplicas": wish.replicas, "cooldownSeconds": COOLDOWN}


class Ours(Subject):
    """The operator with its default policies; its times are shorter than its defaults, its call budget is larger."""

    profile = Profile(
        name="ours",
        title="this operator",
        version=__version__,
        settings="default policies, no election (as shipped outside a cluster); as shipped in brackets: "
        + ", ".join(f"--{name}={value:g} ({_shipped(name):g})" for name, value in FLAGS.items()),
    )
    version, kind, plural = API_VERSION, KIND, PLURAL

    def install(self) -> None:
        """Every rig has its definition already."""

    def start(self) -> None:
        self.rig.start(**{name.replace("-", "_"): value for name, value in FLAGS.items()})

    def spec(self, wish: Wish) -> dict[str, Any]:
        return {
            "provider": "friendli",
            "endpointId": wish.endpoint_id,
            "credentialsSecretRef": {"name": "key"},
            "versionComment": wish.comment,
            "gpu": {"type": "H100", "count": 1},
            "scaling": scaling(wish),
            "driftPolicy": "Correct" if wish.correct else "Report",
            "friendli": {
                "hfModelRepo": wish.model,
                "hfModelRepoRevision": REVISION,
                "advanced": {
                    "tokenizerSkipSpecialTokens": True,
                    "tokenizerAddSpecialTokens": True,
                    "maxBatchSize": BATCH,
                    "maxTokenCount": TOKENS,
                },
            },
        }

    def claims(self, resource: Mapping[str, Any]) -> bool:
        current: bool = resource["status"].get("observedGeneration") == resource["metadata"]["generation"]
        return current and condition_of(resource, "Synced").get("status") == "True"
