"""What a change asks of one endpoint, the same for every subject, and whether the provider holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

REVISION: Final = "r1"
OPTION: Final = "TwD5AqnBSVN0"
GPU: Final = ("NVIDIA H100", 1)
BATCH: Final = 64
TOKENS: Final = 2560
COOLDOWN: Final = 300


@dataclass(frozen=True)
class Wish:
    """One endpoint as its owner wants it.

    Attributes:
        endpoint_id: The endpoint at the provider.
        replicas: The largest number of replicas, which the provider shows.
        model: The model, which the provider never shows.
        comment: What the next version is to be called; no part of the configuration.
        correct: Whether a change by somebody else is to be undone, where a subject leaves the choice.
        least: The smallest number of replicas, which it shows as well.
    """

    endpoint_id: str
    replicas: int = 2
    model: str = "org/model-a"
    comment: str = "first"
    correct: bool = False
    least: int = 0

    def body(self) -> dict[str, Any]:
        """The provider's update request that asks for all of it."""
        return {
            "name": self.endpoint_id,
            "hfModelRepo": self.model,
            "hfModelRepoRevision": REVISION,
            "newVersionComment": self.comment,
            "instanceOptionId": OPTION,
            "autoscalingPolicy": {"minReplica": self.least, "maxReplica": self.replicas, "cooldownPeriod": COOLDOWN},
            "advanced": {
                "tokenizer_skip_special_tokens": True,
                "tokenizer_add_special_tokens": True,
                "max_batch_size": BATCH,
                "max_token_count": TOKENS,
            },
        }

    def is_held_by(self, kept: Mapping[str, Any]) -> bool:
        """Whether the provider holds it, by everything it keeps, what it never shows included.

        Left out are the comment, and the name, in which one of the subjects has to keep a mark.
        """
        wanted = {
            "autoscaling_min": self.least,
            "autoscaling_max": self.replicas,
            "autoscaling_cooldown": COOLDOWN,
            "hf_model_repo": self.model,
            "hf_model_repo_revision": REVISION,
            "instance_option_id": OPTION,
            "max_batch_size": BATCH,
            "max_token_count": TOKENS,
            "tokenizer_skip_special_tokens": True,
            "tokenizer_add_special_tokens": True,
        }
        config: Mapping[str, Any] = kept["config"]
        return wanted.items() <= config.items()
