from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from inference_operator.core.compare import differences
from inference_operator.core.model import EndpointRef, Failure, Field, Replicas, SecretData, SecretValues, State
from inference_operator.errors import InvalidSpec, SecretMissing
from inference_operator.providers.novita import translate, wire
from novita_cases import DOCUMENT, SECRETS, SPEC, a_document, a_spec, desired, observed, render

TOKEN_ENV = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}


class TestDesired:
    def test_a_whole_spec(self) -> None:
        wanted = desired(SPEC)
        assert wanted.ref == EndpointRef("novita", "ep-1")
        assert {path: declared.value for path, declared in wanted.fields.items()} == {
            "gpu": {"count": 1},
            "scaling.minReplicas": 1,
            "scaling.maxReplicas": 3,
            "scaling.cooldownSeconds": 120,
            "novita.name": "sdxl",
            "novita.clusterID": "cluster-1",
            "novita.workerConfig.maxConcurrent": 4,
            "novita.workerConfig.requestTimeout": 600,
            "novita.port": 8080,
            "novita.policy.type": "queue",
            "novita.policy.value": 30,
            "novita.image.image": "registry.example.test/sdxl:1",
            "novita.image.authId": "7",
            "novita.image.command": "serve",
            "novita.healthy.path": "/health",
            "novita.envs[HF_TOKEN]": "hf-swordfish",
            "novita.envs[MODE]": "fast",
            "novita.volumeMounts[/data]": {"type": "local", "size": 30},
        }
        assert wanted.owned == {"novita.envs", "novita.volumeMounts"}
        assert wanted.secrets == {"hf": "41"}
        assert wanted.unverifiable == ()

    def test_an_empty_spec_asks_for_nothing(self) -> None:
        wanted = desired(a_spec(scaling={}, gpu={}))
        assert (wanted.fields, wanted.owned, wanted.secrets) == ({}, frozenset(), {})

    def test_zero_and_empty_are_declared(self) -> None:
        wanted = desired(a_spec(scaling={"replicas": 0}, image={"command": ""}))
        assert {path: declared.value for path, declared in wanted.fields.items()} == {
            "scaling.replicas": 0,
            "novita.image.command": "",
        }

    def test_a_value_from_a_secret_is_known_by_its_reference(self) -> None:
        wanted = desired(a_spec(envs=[TOKEN_ENV]))
        assert wanted.fields["novita.envs[HF_TOKEN]"] == Field(
            "hf-swordfish", identity={"secretKeyRef": {"name": "hf", "key": "token"}}
        )

    def test_a_rotated_secret_leaves_the_hash_and_shows_in_secrets(self) -> None:
        rotated = SecretValues({"hf": SecretData("99", {"token": b"hf-marmalade"})})
        before, after = desired(a_spec(envs=[TOKEN_ENV])), desired(a_spec(envs=[TOKEN_ENV]), rotated)
        assert before.hash == after.hash
        assert after.secrets == {"hf": "99"}

    @pytest.mark.parametrize(
        ("name", "key", "message"),
        [
            ("hx", "token", r"Secret hx, which novita.envs\[HF_TOKEN\] names, does not exist"),
            ("hf", "tokne", r"Secret hf lacks the key tokne of novita.envs\[HF_TOKEN\]"),
        ],
    )
    def test_a_missing_secret_is_named(self, name: str, key: str, message: str) -> None:
        env = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
        with pytest.raises(SecretMissing, match=message) as raised:
            desired(a_spec(envs=[env]))
        assert not raised.value.credentials

    def test_a_secret_that_is_not_text_is_refused_without_a_trace_of_it(self) -> None:
        binary = SecretValues({"hf": SecretData("1", {"token": b"swordfish\xff"})})
        with pytest.raises(InvalidSpec, match="key token of Secret hf") as raised:
            desired(a_spec(envs=[TOKEN_ENV]), binary)
        assert "swordfish" not in str(raised.value)
        assert raised.value.__suppress_context__

    def test_an_endpoint_must_be_named(self) -> None:
        with pytest.raises(InvalidSpec, match="endpointId"):
            desired(a_spec() | {"endpointId": None})

    @pytest.mark.parametrize("bound", ["minReplicas", "maxReplicas"])
    def test_a_fixed_count_excludes_bounds(self, bound: str) -> None:
        with pytest.raises(InvalidSpec, match="either replicas, or minReplicas and maxReplicas"):
            desired(a_spec(scaling={"replicas": 2, bound: 2}))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({}, {"envs": []}),
            ({}, {"volumeMounts": []}),
            ({"envs": []}, {"volumeMounts": []}),
            ({"envs": []}, {"envs": [{"name": "A", "value": ""}]}),
            ({"image": {"command": ""}}, {"image": {}}),
        ],
    )
    def test_different_wishes_have_different_hashes(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        assert desired(a_spec(**one)).hash != desired(a_spec(**other)).hash

    def test_the_order_of_lists_means_nothing(self) -> None:
        turned = deepcopy(SPEC)
        turned["novita"]["envs"].reverse()
        assert desired(turned).hash == desired(SPEC).hash
        assert render(turned) == render(SPEC)

    def test_a_local_size_left_out_is_the_only_one_there_is(self) -> None:
        mounts = [{"type": "local", "mountPath": "/data"}]
        assert desired(a_spec(volumeMounts=mounts)).fields["novita.volumeMounts[/data]"].value == {
            "type": "local",
            "size": 30,
        }


class TestSnapshot:
    def test_a_whole_endpoint_shows_what_its_spec_declares(self) -> None:
        wanted, seen = desired(SPEC), observed(DOCUMENT).live
        assert seen.values == {path: declared.value for path, declared in wanted.fields.items()}
        assert differences(wanted, seen, translate.agrees) == ()

    @pytest.mark.parametrize(("low", "high", "replicas"), [(2, 2, 2), (0, 0, 0), ("2", 2, 2), (0, 2, None)])
    def test_equal_bounds_are_a_fixed_count(self, low: Any, high: Any, replicas: int | None) -> None:
        seen = observed(a_document(workerConfig={"minNum": low, "maxNum": high})).live.values
        assert seen.get("scaling.replicas") == replicas
        assert (seen["scaling.minReplicas"], seen["scaling.maxReplicas"]) == (int(low), int(high))

    def test_absent_null_and_empty_texts_show_alike(self) -> None:
        shown = [
            observed(a_document(clusterID=nothing, image={"authId": nothing, "command": nothing})).live
            for nothing in (None, "")
        ]
        assert shown[0] == shown[1]
        assert shown[0].values["novita.image.authId"] == ""

    def test_ids_of_local_and_sizes_of_network_volumes_are_ignored(self) -> None:
        mounts = [
            {"type": "local", "size": "0", "id": "x", "mountPath": "/a"},
            {"type": "network", "size": 500, "id": "disk-1", "mountPath": "/b"},
            {"type": "tape", "size": 7, "id": "t", "mountPath": "/c"},
        ]
        values = observed(a_document(volumeMounts=mounts)).live.values
        assert [values[f"novita.volumeMounts[{path}]"] for path in ("/a", "/b", "/c")] == [
            {"type": "local", "size": 30},
            {"type": "network", "id": "disk-1"},
            {"type": "tape", "size": 7, "id": "t"},
        ]

    def test_an_older_server_shows_no_request_timeout_and_contradicts_none(self) -> None:
        seen = observed(a_document(workerConfig={"requestTimeout": None})).live
        assert "novita.workerConfig.requestTimeout" not in seen.values
        assert differences(desired(SPEC), seen, translate.agrees) == ()

    def test_what_an_owned_list_lacks_is_a_difference(self) -> None:
        seen = observed(a_document(envs=[{"key": "EXTRA", "value": "1"}])).live
        assert [each.path for each in differences(desired(a_spec(envs=[])), seen, translate.agrees)] == [
            "novita.envs[EXTRA]"
        ]


@pytest.mark.parametrize(
    ("path", "wanted", "seen", "same"),
    [
        ("novita.image.image", "vllm", "docker.io/library/vllm", True),
        ("novita.image.image", "vllm:1", "docker.io/vllm:1", True),
        ("novita.image.image", "team/vllm@sha256:0", "docker.io/team/vllm@sha256:0", True),
        ("novita.image.image", "library/vllm", "vllm", True),
        ("novita.image.image", "vllm", "vllm:latest", False),
        ("novita.image.image", "ghcr.io/vllm", "vllm", False),
        ("novita.image.image", "ghcr.io/vllm", "ghcr.io/library/vllm", False),
        ("novita.image.image", "localhost/vllm", "docker.io/localhost/vllm", False),
        ("novita.image.image", "host:5000/vllm", "docker.io/host:5000/vllm", False),
        ("novita.image.image", "vllm", None, False),
        ("novita.image.authId", "", None, True),
        ("novita.image.command", None, "", True),
        ("novita.clusterID", "cluster-1", "", False),
        ("novita.name", "", None, False),
        ("novita.workerConfig.requestTimeout", 600, None, True),
        ("novita.workerConfig.requestTimeout", 600, 60, False),
        ("novita.workerConfig.maxConcurrent", 4, None, False),
        ("novita.envs[A]", "1", "1", True),
        ("novita.envs[A]", "1", None, False),
        ("novita.envs[A]", None, None, True),
        ("scaling.replicas", 2, None, False),
        ("gpu", {"count": 1}, {"count": 2}, False),
    ],
)
def test_agreement(path: str, wanted: Any, seen: Any, same: bool) -> None:  # noqa: FBT001 - a column of the table
    assert translate.agrees(path, wanted, seen) is same


@pytest.mark.parametrize(
    ("path", "secret"), [("novita.envs[A]", True), ("novita.envs", False), ("novita.name", False), ("gpu", False)]
)
def test_environment_variables_are_confidential(path: str, secret: bool) -> None:  # noqa: FBT001 - a column of the table
    assert translate.confidential(path) is secret


def test_no_repr_shows_an_environment_variable() -> None:
    endpoint = wire.Endpoint.model_validate(a_document(unknown={"secret": "hf-swordfish"}))
    for value in (desired(SPEC), observed(DOCUMENT), endpoint, endpoint.envs, SECRETS, desired(SPEC).fields):
        assert "swordfish" not in f"{value!r} {value!s}"


def workers(*shown: str) -> list[dict[str, Any]]:
    """`+` healthy, `-` not yet, `x` removed, `d` being drained."""
    return [
        {"state": {"state": "removed" if each == "x" else "running"}, "healthy": each in "+xd", "drain": each == "d"}
        for each in shown
    ]


@pytest.mark.parametrize(
    ("word", "least", "shown", "state", "current"),
    [
        ("serving", 1, "+", State.RUNNING, 1),
        ("running", 1, "+", State.RUNNING, 1),
        ("Serving", 1, "++-", State.RUNNING, 3),
        ("serving", 0, "+", State.RUNNING, 1),
        ("serving", 0, "", State.SLEEPING, 0),
        ("serving", 0, "xd", State.SLEEPING, 0),
        ("serving", 0, "-", State.WAKING, 1),
        ("serving", 1, "", State.CREATING, 0),
        ("serving", 2, "-x", State.CREATING, 1),
        ("serving", 2, "+-", State.UPDATING, 2),
        ("serving", 2, "+dx", State.UPDATING, 1),
        ("creating", 1, "+", State.CREATING, 1),
        ("pending", 0, "", State.CREATING, 0),
        ("updating", 1, "+", State.UPDATING, 1),
        ("stopped", 1, "", State.STOPPED, 0),
        ("deleting", 1, "+", State.STOPPING, 1),
        ("hibernating", 1, "+", State.UNKNOWN, 1),
        ("", 1, "+", State.UNKNOWN, 1),
    ],
)
def test_states(word: str, least: int, shown: str, state: State, current: int) -> None:
    seen = observed(
        a_document(state={"state": word}, workerConfig={"minNum": least, "maxNum": 9}, workers=workers(*shown))
    )
    assert (seen.state, seen.provider_state, seen.failure) == (state, word, None)
    assert seen.replicas == Replicas(current=current)
    assert seen.minimum == least


def test_a_fixed_count_is_the_desired_one() -> None:
    assert observed(a_document(workerConfig={"minNum": 2, "maxNum": "2"})).replicas.desired == 2


@pytest.mark.parametrize(
    ("state", "failure", "words"),
    [
        (
            {"state": "serving", "error": "PULL", "message": "no\n such\timage"},
            Failure("PULL", "no such image"),
            "serving/PULL",
        ),
        ({"state": "failed", "error": "", "message": ""}, Failure("failed", "Novita gives no reason"), "failed"),
        ({"state": "Error", "message": "x" * 999}, Failure("Error", "x" * 255 + "…"), "Error"),
    ],
)
def test_failures(state: dict[str, str], failure: Failure, words: str) -> None:
    seen = observed({**DOCUMENT, "state": state})
    assert (seen.state, seen.failure, seen.provider_state) == (State.FAILED, failure, words)


def test_a_failure_that_quotes_an_environment_variable_is_told_without_its_words() -> None:
    state = {"state": "failed", "error": "LOGIN", "message": "cannot log in with hf-swordfish"}
    seen = observed({**DOCUMENT, "state": state})
    assert seen.failure == Failure("LOGIN", "what Novita says quotes an environment variable and is not shown")
    assert seen.state is State.FAILED


def test_a_state_that_is_also_a_value_is_still_the_state() -> None:
    assert observed(a_document(envs=[{"key": "MODE", "value": "serving"}])).state is State.RUNNING
