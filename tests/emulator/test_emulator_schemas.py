from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from inference_operator.playground.emulators.validate import Schemas, load

FRIENDLI = load("friendli")
NOVITA = load("novita")

# The response example of the page "Dedicated Update Endpoint".
SPEC_EXAMPLE = {
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

# The request example of the page "Update Endpoint", with values for port, policy type and volume type, which are
# placeholders there.
NOVITA_EXAMPLE: dict[str, Any] = {
    "id": "<string>",
    "name": "<string>",
    "clusterID": "<string>",
    "workerConfig": {
        "minNum": 123,
        "maxNum": 123,
        "freeTimeout": 123,
        "maxConcurrent": 123,
        "gpuNum": 123,
        "requestTimeout": 123,
    },
    "ports": [{"port": "8080"}],
    "policy": {"type": "queue", "value": 123},
    "image": {"image": "<string>", "authId": "<string>", "command": "<string>"},
    "volumeMounts": [{"type": "network", "size": 123, "id": "<string>", "mountPath": "<string>"}],
    "envs": [{"key": "<string>", "value": "<string>"}],
    "healthy": {"path": "<string>"},
}

TOKENIZER = {"tokenizer_skip_special_tokens": True, "tokenizer_add_special_tokens": False}
FRIENDLI_FULL: dict[str, Any] = {
    "name": "n",
    "advanced": {
        **TOKENIZER,
        "max_batch_size": 8,
        "max_token_count": 8192,
        "enable_content_logging": None,
        "max_input_length": 4096,
    },
    "simplescale": {"replicas": 1},
    "autoscalingPolicy": {"minReplica": 0, "maxReplica": 10, "cooldownPeriod": 300},
    "hfModelRepo": "m",
    "hfModelRepoRevision": "r",
    "newVersionComment": "c",
    "instanceOptionId": "TwD5AqnBSVN0",
}


def changed(example: dict[str, Any], **change: Any) -> dict[str, Any]:
    return {**example, **change}


def test_the_documents_examples_conform() -> None:
    assert FRIENDLI.problems("Spec", SPEC_EXAMPLE) == []
    assert NOVITA.problems("UpdateBody", NOVITA_EXAMPLE) == []


@pytest.mark.parametrize("body", [{}, FRIENDLI_FULL, dict.fromkeys(FRIENDLI_FULL)])
def test_every_friendli_field_is_optional_and_nullable(body: dict[str, Any]) -> None:
    assert FRIENDLI.problems("UpdateBody", body) == []


@pytest.mark.parametrize(
    ("body", "location", "rule"),
    [
        ({"projectId": "p"}, (), "additionalProperties"),
        ({"advanced": {**TOKENIZER, "maxTokenCount": 1}}, ("advanced",), "additionalProperties"),
        ({"advanced": {"tokenizer_skip_special_tokens": True}}, ("advanced",), "required"),
        ({"advanced": {**TOKENIZER, "max_token_count": None}}, ("advanced", "max_token_count"), "type"),
        ({"advanced": {**TOKENIZER, "max_token_count": 1.0}}, ("advanced", "max_token_count"), "type"),
        ({"advanced": {**TOKENIZER, "max_batch_size": True}}, ("advanced", "max_batch_size"), "type"),
        ({"simplescale": {"replicas": 0}}, ("simplescale", "replicas"), "minimum"),
        ({"simplescale": {}}, ("simplescale",), "required"),
        ({"autoscalingPolicy": {"minReplica": -1}}, ("autoscalingPolicy", "minReplica"), "minimum"),
        ({"autoscalingPolicy": {"maxReplica": 11}}, ("autoscalingPolicy", "maxReplica"), "maximum"),
        ({"autoscalingPolicy": {"maxReplica": "3"}}, ("autoscalingPolicy", "maxReplica"), "type"),
        ({"name": 1}, ("name",), "type"),
        ([], (), "type"),
        (None, (), "type"),
    ],
)
def test_friendli_refuses(body: Any, location: tuple[str, ...], rule: str) -> None:
    assert [(each.location, each.rule) for each in FRIENDLI.problems("UpdateBody", body)] == [(location, rule)]


@pytest.mark.parametrize(
    ("body", "location", "rule"),
    [
        (changed(NOVITA_EXAMPLE, extra=1), (), "additionalProperties"),
        (changed(NOVITA_EXAMPLE, id=None), ("id",), "type"),
        (changed(NOVITA_EXAMPLE, name=None), ("name",), "type"),
        (changed(NOVITA_EXAMPLE, clusterID="x" * 256), ("clusterID",), "maxLength"),
        (changed(NOVITA_EXAMPLE, ports=[]), ("ports",), "minItems"),
        (changed(NOVITA_EXAMPLE, ports=[{"port": "1"}, {"port": "2"}]), ("ports",), "maxItems"),
        (changed(NOVITA_EXAMPLE, ports=[{"port": 8080}]), ("ports", 0, "port"), "type"),
        (changed(NOVITA_EXAMPLE, ports=[{"port": "http"}]), ("ports", 0, "port"), "pattern"),
        (changed(NOVITA_EXAMPLE, policy={"type": "latency", "value": 1}), ("policy", "type"), "enum"),
        (changed(NOVITA_EXAMPLE, policy={"type": "queue", "value": "1"}), ("policy", "value"), "type"),
        (changed(NOVITA_EXAMPLE, image={"image": "x" * 512}), ("image", "image"), "maxLength"),
        (changed(NOVITA_EXAMPLE, image={}), ("image",), "required"),
        (changed(NOVITA_EXAMPLE, envs=[{"name": "A", "value": "b"}]), ("envs", 0), "additionalProperties"),
        (changed(NOVITA_EXAMPLE, envs=[{"key": "A", "value": 1}]), ("envs", 0, "value"), "type"),
        (
            changed(NOVITA_EXAMPLE, volumeMounts=[{"type": "nfs", "mountPath": "/"}]),
            ("volumeMounts", 0, "type"),
            "enum",
        ),
        (changed(NOVITA_EXAMPLE, healthy={"path": "/", "period": 10}), ("healthy",), "additionalProperties"),
    ],
)
def test_novita_refuses(body: dict[str, Any], location: tuple[str | int, ...], rule: str) -> None:
    found = [(each.location, each.rule) for each in NOVITA.problems("UpdateBody", body)]
    assert (location, rule) in found


@pytest.mark.parametrize("missing", ["id", "workerConfig", "ports", "policy", "image"])
def test_novita_requires(missing: str) -> None:
    body = {key: value for key, value in NOVITA_EXAMPLE.items() if key != missing}
    assert [each.rule for each in NOVITA.problems("UpdateBody", body)] == ["required"]


def test_a_long_value_does_not_make_a_long_message() -> None:
    (problem,) = NOVITA.problems("UpdateBody", changed(NOVITA_EXAMPLE, name=["x" * 100_000]))
    assert len(problem.message) < 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from("abc"), children, max_size=3),
    max_leaves=8,
)
LEAVES = st.sampled_from(
    [{"type": "string", "maxLength": 2}, {"type": "integer"}, {"type": "boolean"}, {"type": ["string", "null"]}]
)


@given(schemas=st.dictionaries(st.sampled_from("abc"), LEAVES), value=JSON)
def test_the_shortcut_judges_as_the_library_does(schemas: dict[str, Any], value: Any) -> None:
    schema = {"type": "object", "properties": schemas}
    ours = Schemas({"$defs": {"X": schema}}).problems("X", value)
    assert bool(ours) is not Draft202012Validator(schema).is_valid(value)
