"""How a Friendli endpoint behaves: what an update makes of a configuration, and how a rollout looks as time passes.

Sources: the page "Dedicated Update Endpoint" for the fields, their defaults and the instance options; the provider's
guides for the meaning of the statuses. Where they are silent, the reading that is hardest on a client was taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference_operator.playground.emulators.timeline import Cause

# Instance option id -> GPU and count per replica. The B300 ids stand in the provider's SDK only.
INSTANCE_OPTIONS = {
    option: (f"NVIDIA {gpu}", number)
    for gpu, options in {
        "A100 80GB": ("ShbPuOs4tfGb", "mrAHuYt7T40o", "JkNob0NMdoF3", "sYH4kHmAcA5P"),
        "H100": ("TwD5AqnBSVN0", "zfTutSiLn0Hq", "lfkRz5G48REc", "GUA4qYFmsYz8"),
        "H200": ("LnK1wTaKc7WO", "Tu6GjBnfHPe4", "OhTzYtZuomzI", "ahBzWtOuomsI"),
        "B200": ("8GiQTLKfJNOr", "brTZGIuYgVrs", "AFoZMFXZnAdD", "drbc6G9FxJWZ"),
        "B300": ("b300x1", "b300x2", "b300x4", "b300x8"),
    }.items()
    for option, number in zip(options, (1, 2, 4, 8), strict=True)
}

_POLICY_DEFAULTS = {"minReplica": 0, "maxReplica": 1, "cooldownPeriod": 300}
_MAX_TOKEN_COUNT = 2560
_MAX_BATCH_SIZE = 128  # the response is never null, and what the server picks is not documented

_TOP_LEVEL = {
    "name": "name",
    "projectId": "project_id",
    "instanceOptionId": "instance_option_id",
    "hfModelRepo": "hf_model_repo",
    "hfModelRepoRevision": "hf_model_repo_revision",
}

_PHASES = ("REQUESTING_VIRTUAL_MACHINE", "DOWNLOADING_MODEL", "ENGINE_INITIALIZING")
_WITH_PHASES = frozenset({"INITIALIZING", "AWAKING"})

# What a PUT does to an endpoint in this status: the status during the rollout. Others keep still.
_UPDATED_VIA = {
    "RUNNING": "UPDATING",
    "READY": "UPDATING",
    "UPDATING": "UPDATING",
    "UNKNOWN": "UPDATING",
    "FAILED": "UPDATING",
    "INITIALIZING": "INITIALIZING",
    "AWAKING": "AWAKING",
}


class ConfigurationError(ValueError):
    """A configuration that fits the schema and still makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What one version holds. The last five fields cannot be read back through the provider's API."""

    name: str = ""
    project_id: str = ""
    autoscaling_min: int = 0
    autoscaling_max: int = 1
    autoscaling_cooldown: int = 300
    max_batch_size: int = _MAX_BATCH_SIZE
    max_input_length: int | None = None
    tokenizer_skip_special_tokens: bool = True
    tokenizer_add_special_tokens: bool = True
    instance_option_id: str = ""
    hf_model_repo: str = ""
    hf_model_repo_revision: str | None = None
    max_token_count: int = _MAX_TOKEN_COUNT
    enable_content_logging: bool | None = None

    def merged(self, body: Mapping[str, Any], clamp: int | None = None) -> Config:
        """Returns the configuration after an update or create body.

        Members that are absent or null stay as they are; nested objects replace the old ones whole, their absent
        members falling back to the documented defaults.

        Args:
            body: A body that fits the schema.
            clamp: The largest number of replicas that is kept.

        Raises:
            ConfigurationError: For two scaling modes at once, a minimum above the maximum, or an unknown option id.
        """
        given = {field: value for field, value in body.items() if value is not None}
        changes = {_TOP_LEVEL[field]: value for field, value in given.items() if field in _TOP_LEVEL}
        if changes.get("instance_option_id", self.instance_option_id) not in INSTANCE_OPTIONS:
            raise ConfigurationError("instanceOptionId is not one of the available options")
        return replace(self, **changes, **_scaling(given, clamp), **_engine(given.get("advanced")))

    def readable(self) -> dict[str, Any]:
        """Returns the part of a Spec response that depends on the configuration."""
        gpu, number = INSTANCE_OPTIONS[self.instance_option_id]
        return {
            "name": self.name,
            "projectId": self.project_id,
            "gpuType": gpu,
            "numGpu": number,
            "autoscalingMin": self.autoscaling_min,
            "autoscalingMax": self.autoscaling_max,
            "autoscalingCooldown": self.autoscaling_cooldown,
            "maxBatchSize": self.max_batch_size,
            "maxInputLength": self.max_input_length,
            "tokenizerSkipSpecialTokens": self.tokenizer_skip_special_tokens,
            "tokenizerAddSpecialTokens": self.tokenizer_add_special_tokens,
        }


def _scaling(given: Mapping[str, Any], clamp: int | None) -> dict[str, Any]:
    if "simplescale" in given and "autoscalingPolicy" in given:
        raise ConfigurationError("simplescale and autoscalingPolicy exclude each other")
    limit = float("inf") if clamp is None else clamp
    if "simplescale" in given:
        replicas = min(given["simplescale"]["replicas"], limit)
        return {"autoscaling_min": replicas, "autoscaling_max": replicas}
    if "autoscalingPolicy" not in given:
        return {}
    policy = _POLICY_DEFAULTS | given["autoscalingPolicy"]
    if policy["minReplica"] > policy["maxReplica"]:
        raise ConfigurationError("minReplica is larger than maxReplica")
    return {
        "autoscaling_min": min(policy["minReplica"], limit),
        "autoscaling_max": min(policy["maxReplica"], limit),
        "autoscaling_cooldown": policy["cooldownPeriod"],
    }


def _engine(advanced: Mapping[str, Any] | None) -> dict[str, Any]:
    if advanced is None:
        return {}
    return {
        "max_batch_size": advanced.get("max_batch_size") or _MAX_BATCH_SIZE,
        "max_input_length": advanced.get("max_input_length"),
        "tokenizer_skip_special_tokens": advanced["tokenizer_skip_special_tokens"],
        "tokenizer_add_special_tokens": advanced["tokenizer_add_special_tokens"],
        "max_token_count": advanced.get("max_token_count", _MAX_TOKEN_COUNT),
        "enable_content_logging": advanced.get("enable_content_logging"),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class FriendliState:
    """An endpoint between two commits, as a function of time.

    Attributes:
        config: The configuration in force.
        version: Number of the version that holds it.
        via: Status while in transition.
        rest: Status after it.
        begins: Begin of the transition, monotonic seconds.
        ends: Its end; the same as ``begins`` where there is none.
        by: Who caused it.
        before: Replicas at the begin.
        after: Replicas at the end.
        error_code: Why it failed, shown in status FAILED.
        created_at: When the endpoint was made, seconds since the epoch.
        updated_at: When the state was committed, seconds since the epoch.
        deleted: Whether the endpoint is gone.
    """

    config: Config
    version: int = 0
    via: str = "UPDATING"
    rest: str = "RUNNING"
    begins: float = 0.0
    ends: float = 0.0
    by: str = ""
    before: int = 0
    after: int = 0
    error_code: str | None = None
    created_at: float
    updated_at: float | None = None
    deleted: bool = False

    def status(self, at: float) -> str:
        """Returns the status word at a monotonic time."""
        return self.via if at < self.ends else self.rest

    def phase(self, at: float) -> str | None:
        """Returns the phase of a start at a monotonic time: each of the three lasts a third of it."""
        if self.status(at) not in _WITH_PHASES:
            return None
        return _PHASES[min(int(self._progress(at) * len(_PHASES)), len(_PHASES) - 1)]

    def replicas(self, at: float) -> dict[str, int]:
        """Returns the three replica counts of a Spec response at a monotonic time."""
        if self.status(at) == "FAILED":
            return {"currReplicaCnt": 0, "desiredReplicaCnt": self.after, "updatedReplicaCnt": 0}
        progress = self._progress(at)
        return {
            "currReplicaCnt": self.before + int((self.after - self.before) * progress),
            "desiredReplicaCnt": self.after,
            "updatedReplicaCnt": int(self.after * progress),
        }

    def moved(self, cause: Cause, *, via: str, rest: str, after: int) -> FriendliState:
        """Returns the state in which a transition begins; the replicas start from what they are at that moment."""
        return replace(
            self,
            via=via,
            rest="FAILED" if cause.error else rest,
            begins=cause.at,
            ends=cause.at + cause.seconds,
            by=cause.by,
            before=self.replicas(cause.at)["currReplicaCnt"],
            after=after,
            error_code=cause.error,
        )

    def updated(self, config: Config, cause: Cause) -> FriendliState:
        """Returns the state after a new configuration was accepted.

        An endpoint that is asleep is woken only by a minimum above zero; one that is terminated, or on its way
        there, keeps the configuration for its next start.
        """
        status = self.status(cause.at)
        new = replace(self, config=config)
        if status == "SLEEPING" and config.autoscaling_min > 0:
            return new.moved(cause, via="AWAKING", rest="RUNNING", after=config.autoscaling_min)
        if status not in _UPDATED_VIA:
            return new
        return new.moved(cause, via=_UPDATED_VIA[status], rest="RUNNING", after=awake_replicas(config, self.after))

    def _progress(self, at: float) -> float:
        if at >= self.ends:
            return 1.0
        return max(at - self.begins, 0.0) / (self.ends - self.begins)


def awake_replicas(config: Config, wanted: int) -> int:
    """Returns how many replicas an endpoint that is awake runs: what is wanted, within bounds, at least one."""
    return max(min(max(wanted, config.autoscaling_min), config.autoscaling_max), 1)
