"""The `friendli` block of the spec, in Friendli's own field names, and the rules that the API server enforces for it.

Facts are those of Friendli's update operation (`PUT /dedicated/beta/endpoint/{endpoint_id}`) and the models of
its official client.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar

from pydantic import Field

from inference_operator.api.base import ApiModel
from inference_operator.api.spec import PositiveCount
from inference_operator.core.port import Rule

INSTANCE_OPTIONS: Mapping[tuple[str, int], str] = MappingProxyType(
    {
        ("A100-80GB", 1): "ShbPuOs4tfGb",
        ("A100-80GB", 2): "mrAHuYt7T40o",
        ("A100-80GB", 4): "JkNob0NMdoF3",
        ("A100-80GB", 8): "sYH4kHmAcA5P",
        ("H100", 1): "TwD5AqnBSVN0",
        ("H100", 2): "zfTutSiLn0Hq",
        ("H100", 4): "lfkRz5G48REc",
        ("H100", 8): "GUA4qYFmsYz8",
        ("H200", 1): "LnK1wTaKc7WO",
        ("H200", 2): "Tu6GjBnfHPe4",
        ("H200", 4): "OhTzYtZuomzI",
        ("H200", 8): "ahBzWtOuomsI",
        ("B200", 1): "8GiQTLKfJNOr",
        ("B200", 2): "brTZGIuYgVrs",
        ("B200", 4): "AFoZMFXZnAdD",
        ("B200", 8): "drbc6G9FxJWZ",
        ("B300", 1): "b300x1",
        ("B300", 2): "b300x2",
        ("B300", 4): "b300x4",
        ("B300", 8): "b300x8",
    }
)
"""GPU type and count to instance option id. A100 to B200: field `instanceOptionId` of the update operation;
B300: the official client, version 0.16.5. No operation of the API lists them."""

MAX_REPLICAS = 10
"""`autoscalingPolicy.maxReplica` is at most this; a fixed count reads back as equal bounds, so it is bound too."""

_COUNTS = {gpu: sorted(count for name, count in INSTANCE_OPTIONS if name == gpu) for gpu, _ in INSTANCE_OPTIONS}
_HAS_SHAPE = " || ".join(f"(self.type == '{gpu}' && self.count in {counts})" for gpu, counts in _COUNTS.items())
_SHAPES = ", ".join(f"{gpu} x{'/'.join(map(str, counts))}" for gpu, counts in _COUNTS.items())


class Advanced(ApiModel):
    """Engine options (advanced), always sent whole: Friendli resets members that a sent block leaves out."""

    tokenizer_skip_special_tokens: bool
    """Whether special tokens are left out of the output. Friendli: advanced.tokenizer_skip_special_tokens."""

    tokenizer_add_special_tokens: bool
    """Whether special tokens are added to the input. Friendli: advanced.tokenizer_add_special_tokens."""

    max_batch_size: PositiveCount | None = None
    """Requests per batch. Default: Friendli's choice. Friendli: advanced.max_batch_size."""

    max_token_count: PositiveCount | None = None
    """Tokens. Left out of a sent block, Friendli resets it to 2560. Cannot be read back.
    Friendli: advanced.max_token_count."""

    max_input_length: PositiveCount | None = None
    """Tokens of one input. Default: Friendli's choice. Friendli: advanced.max_input_length."""

    enable_content_logging: bool | None = None
    """Whether contents of requests are logged. Left out of a sent block, Friendli may reset it. Cannot be read back.
    Friendli: advanced.enable_content_logging."""


class FriendliOptions(ApiModel):
    """Fields of a Friendli Dedicated Endpoint, as in Friendli's update operation."""

    notes: ClassVar[Mapping[str, str]] = {
        "gpu": f"instanceOptionId, one of {_SHAPES}",
        "gpu.type": f"{', '.join(_COUNTS)}; required",
        "gpu.count": "required",
        "scaling.replicas": f"simplescale.replicas, 1 to {MAX_REPLICAS}",
        "scaling.minReplicas": "autoscalingPolicy.minReplica",
        "scaling.maxReplicas": f"autoscalingPolicy.maxReplica, 1 to {MAX_REPLICAS}",
        "scaling.cooldownSeconds": "autoscalingPolicy.cooldownPeriod, only with minReplicas and maxReplicas",
        "versionComment": "newVersionComment",
    }

    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Name of the endpoint. Friendli: name."""

    team_id: Annotated[str, Field(pattern=r"^[!-~]+$", max_length=255)] | None = None
    """Team to act as. Default: the default team of the API key. Friendli: header X-Friendli-Team."""

    project_id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Project that owns the endpoint; used on creation only, and never changed. Friendli: projectId."""

    hf_model_repo: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Hugging Face id of the model, such as meta-llama/Llama-3.1-8B-Instruct. Cannot be read back.
    Friendli: hfModelRepo."""

    hf_model_repo_revision: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Hugging Face commit hash of the model. Cannot be read back. Friendli: hfModelRepoRevision."""

    instance_option_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Id of a GPU shape that spec.gpu has no name for; excludes spec.gpu. Friendli: instanceOptionId."""

    advanced: Advanced | None = None
    """Engine options, always sent whole. Absent: the options that the endpoint has stay."""


RULES: tuple[Rule, ...] = (
    Rule(
        path="gpu",
        rule="has(self.type) && has(self.count)",
        message="gpu on friendli needs both type and count; write for example gpu: {type: H100, count: 2}",
    ),
    Rule(
        path="gpu",
        rule=f"!has(self.type) || !has(self.count) || {_HAS_SHAPE}",
        message=f"friendli has no such GPU shape; write one of {_SHAPES}, or give the shape's id in"
        " friendli.instanceOptionId instead of gpu",
    ),
    Rule(
        rule="!has(self.gpu) || !has(self.friendli) || !has(self.friendli.instanceOptionId)",
        message="gpu and friendli.instanceOptionId both name a GPU shape; write only one of them",
    ),
    Rule(
        path="scaling",
        rule=f"!has(self.replicas) || (self.replicas >= 1 && self.replicas <= {MAX_REPLICAS})",
        message=f"scaling.replicas on friendli is 1 to {MAX_REPLICAS}; to let the endpoint sleep when idle write"
        " scaling: {minReplicas: 0, maxReplicas: 1} instead",
    ),
    Rule(
        path="scaling",
        rule=f"!has(self.maxReplicas) || (self.maxReplicas >= 1 && self.maxReplicas <= {MAX_REPLICAS})",
        message=f"scaling.maxReplicas on friendli is 1 to {MAX_REPLICAS}; write a number in that range",
    ),
    Rule(
        path="scaling",
        rule="!has(self.cooldownSeconds) || (has(self.minReplicas) && has(self.maxReplicas))",
        message="scaling.cooldownSeconds on friendli belongs to autoscaling; write minReplicas and maxReplicas"
        " with it, or remove it",
    ),
)
