from __future__ import annotations

import itertools
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from friendli_cases import ADVANCED, DOCUMENT, SPEC, UPDATE_BODY, desired, document, observed, render, spec
from inference_operator.core.compare import differences
from inference_operator.core.model import Failure, Replicas, State
from inference_operator.errors import InvalidSpec
from inference_operator.playground.emulators.friendli_state import Config
from inference_operator.providers.friendli import translate
from inference_operator.providers.friendli.options import INSTANCE_OPTIONS, FriendliOptions
from inference_operator.providers.friendli.translate import CURES, agrees, gpu_name, snapshot
from inference_operator.providers.friendli.wire import Spec

GPUS = sorted({gpu for gpu, _ in INSTANCE_OPTIONS})

CODES = (
    "WORKLOAD_INIT_UNKNOWN_ERROR",
    "WORKLOAD_INIT_SETTINGS_ERROR",
    "WORKLOAD_INIT_GRPC_ERROR",
    "WORKLOAD_INIT_MANIFEST_NOT_FOUND_ERROR",
    "WORKLOAD_INIT_MANIFEST_TYPE_ERROR",
    "WORKLOAD_INIT_DOWNLOAD_ERROR",
    "WORKLOAD_INIT_INVALID_TOKEN_ERROR",
    "WORKLOAD_INIT_CANNOT_ACCESS_REPO_ERROR",
    "WORKLOAD_INIT_HF_WANDB_API_ERROR",
    "WORKLOAD_INIT_INSUFFICIENT_DISK_ERROR",
    "INFERENCE_ENGINE_UNKNOWN_ERROR",
    "INFERENCE_ENGINE_INVALID_ARGUMENT_ERROR",
    "INFERENCE_ENGINE_MEMORY_ERROR",
    "INFERENCE_ENGINE_METERING_CLIENT_CONFIG_ERROR",
)

# ── any spec ──────────────────────────────────────────────────────────────────────────────────────────

COUNTS = st.integers(1, 2**31 - 1)
TEXTS = st.text(min_size=1, max_size=20)
SHAPES = st.sampled_from(sorted(INSTANCE_OPTIONS))
FIXED = st.builds(lambda n: {"replicas": n}, st.integers(1, 10))
BOUNDS = st.builds(
    lambda least, more, cooldown: {"minReplicas": least, "maxReplicas": min(10, least + more)} | cooldown,
    st.integers(0, 9),
    st.integers(1, 10),
    st.just({}) | st.builds(lambda seconds: {"cooldownSeconds": seconds}, COUNTS),
)
BLOCKS = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXTS,
        "teamId": st.just("team-1"),
        "projectId": TEXTS,
        "hfModelRepo": TEXTS,
        "hfModelRepoRevision": TEXTS,
        "advanced": st.fixed_dictionaries(
            {"tokenizerSkipSpecialTokens": st.booleans(), "tokenizerAddSpecialTokens": st.booleans()},
            optional={
                "maxBatchSize": COUNTS,
                "maxTokenCount": COUNTS,
                "maxInputLength": COUNTS,
                "enableContentLogging": st.booleans(),
            },
        ),
    },
)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    raw = spec(draw(BLOCKS))
    if draw(st.booleans()):
        raw["scaling"] = draw(FIXED | BOUNDS)
    name, count = draw(SHAPES)
    if draw(st.booleans()):
        raw["gpu"] = {"type": name, "count": count}
    elif draw(st.booleans()):
        raw["friendli"]["instanceOptionId"] = INSTANCE_OPTIONS[name, count]
    return raw


def places(body: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if isinstance(body, dict):
        return {place: leaf for key, each in body.items() for place, leaf in places(each, (*path, key)).items()}
    return {path: body}


@given(specs())
def test_an_update_fits_the_documented_schema_and_holds_no_null(raw: dict[str, Any]) -> None:
    body = render(raw)
    jsonschema.validate(body, UPDATE_BODY)
    assert None not in places(body).values()
    assert not {"simplescale", "autoscalingPolicy"} <= body.keys()


@given(specs(), st.integers(1, 10_000), st.integers(0, 10))
def test_an_update_carries_all_that_is_declared_and_of_the_live_object_only_what_completes_it(
    raw: dict[str, Any], cooldown: int, least: int
) -> None:
    live = document(autoscalingCooldown=cooldown, autoscalingMin=least, maxBatchSize=77, maxInputLength=None)
    body = places(render(raw, live))
    declared = {translate.PLACES[path] for path in desired(raw).fields} | {("newVersionComment",)}
    assert declared <= body.keys()
    completed = {place: value for place, value in body.items() if place not in declared}
    assert (
        completed.items()
        <= {
            ("autoscalingPolicy", "cooldownPeriod"): cooldown,
            ("advanced", "max_batch_size"): 77,
        }.items()
    )


@given(specs())
def test_a_spec_always_means_the_same(raw: dict[str, Any]) -> None:
    backwards = {key: raw[key] for key in reversed(raw)} | {"friendli": dict(reversed(raw["friendli"].items()))}
    assert desired(raw) == desired(backwards)
    assert desired(raw).hash == desired(backwards).hash
    assert render(raw) == render(backwards)


@given(specs())
def test_what_a_provider_makes_of_an_update_reads_back_as_wished(raw: dict[str, Any]) -> None:
    before = Config(instance_option_id="TwD5AqnBSVN0", autoscaling_cooldown=55, max_batch_size=9, max_input_length=8)
    live = document(autoscalingCooldown=55, maxBatchSize=9, maxInputLength=8)
    after = before.merged(render(raw, live))
    shown = snapshot(Spec.model_validate(document(**after.readable())))
    assert differences(desired(raw), shown, agrees) == ()
    if "advanced" in raw["friendli"]:
        assert after.max_batch_size == raw["friendli"]["advanced"].get("maxBatchSize", 9)
        assert after.max_input_length == raw["friendli"]["advanced"].get("maxInputLength", 8)
    if "scaling" in raw and "cooldownSeconds" not in raw["scaling"]:
        assert after.autoscaling_cooldown == 55


# ── one spec at a time ────────────────────────────────────────────────────────────────────────────────


def test_the_whole_spec_becomes_the_whole_body() -> None:
    assert render(SPEC, comment="roll out r2") == {
        "name": "llama-chat",
        "hfModelRepo": "meta-llama/Llama-3.1-8B-Instruct",
        "hfModelRepoRevision": "0e9e39f",
        "instanceOptionId": "zfTutSiLn0Hq",
        "autoscalingPolicy": {"minReplica": 1, "maxReplica": 4, "cooldownPeriod": 120},
        "advanced": {
            "tokenizer_skip_special_tokens": True,
            "tokenizer_add_special_tokens": True,
            "max_batch_size": 128,
            "max_token_count": 8192,
            "max_input_length": 4096,
            "enable_content_logging": False,
        },
        "newVersionComment": "roll out r2",
    }


def test_an_empty_spec_declares_nothing() -> None:
    assert desired(spec()).fields == {}
    assert render(spec(), comment="") == {}


def test_write_only_fields_are_declared_unverifiable() -> None:
    assert desired(SPEC).unverifiable == (
        "friendli.advanced.enableContentLogging",
        "friendli.advanced.maxTokenCount",
        "friendli.hfModelRepo",
        "friendli.hfModelRepoRevision",
    )


def test_the_team_is_part_of_the_reference_and_project_and_team_of_no_update() -> None:
    wanted = desired(spec({"teamId": "team-1", "projectId": "prj-1"}))
    assert (wanted.ref.endpoint_id, wanted.ref.team) == ("ep-1", "team-1")
    assert wanted.fields == {}
    assert desired(spec()).ref.team is None


@pytest.mark.parametrize(("shape", "option"), INSTANCE_OPTIONS.items())
def test_a_shape_and_its_option_id_are_the_same_declaration(shape: tuple[str, int], option: str) -> None:
    by_name = desired(spec(gpu={"type": shape[0], "count": shape[1]}))
    by_id = desired(spec({"instanceOptionId": option}))
    assert by_name.fields == by_id.fields
    assert by_name.hash == by_id.hash
    assert by_name.fields["gpu"].value == {"type": shape[0], "count": shape[1]}
    assert render(spec({"instanceOptionId": option}), comment="") == {"instanceOptionId": option}


def test_an_unknown_option_id_is_sent_and_not_compared() -> None:
    raw = spec({"instanceOptionId": "brandNewGpu1"})
    assert desired(raw).unverifiable == ("friendli.instanceOptionId",)
    assert render(raw, comment="") == {"instanceOptionId": "brandNewGpu1"}


def test_a_comment_changes_the_body_and_not_the_hash() -> None:
    other = {**SPEC, "versionComment": "other"}
    assert desired(other).hash == desired(SPEC).hash
    assert render(SPEC, comment="a") == {**render(SPEC, comment="b"), "newVersionComment": "a"}


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({**SPEC, "endpointId": None}, "spec.endpointId"),
        (spec(gpu={"type": "H100"}), "type and count"),
        (spec(gpu={"count": 2}), "type and count"),
        (spec(gpu={"type": "H100", "count": 3}), "H100 x1, H100 x2"),
        (spec(gpu={"type": "RTX", "count": 1}), "B300 x8"),
        (spec({"instanceOptionId": "x"}, gpu={"type": "H100", "count": 2}), "only one of them"),
        (spec(scaling={"minReplicas": 1}), "go together"),
        (spec(scaling={"maxReplicas": 1, "cooldownSeconds": 5}), "go together"),
        (spec(scaling={"replicas": 1, "minReplicas": 1, "maxReplicas": 1}), "either replicas, or"),
        (spec(scaling={"cooldownSeconds": 5}), "belongs to bounds"),
        (spec(scaling={"replicas": 2, "cooldownSeconds": 5}), "belongs to bounds"),
    ],
)
def test_what_an_update_cannot_say_is_refused(raw: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidSpec, match=complaint):
        desired(raw)


@pytest.mark.parametrize("left_out", [(), ("maxTokenCount",), ("enableContentLogging",), tuple(ADVANCED)[3:]])
def test_a_block_that_makes_friendli_forget_is_warned_of(left_out: tuple[str, ...]) -> None:
    advanced = {name: value for name, value in ADVANCED.items() if name not in left_out}
    warnings = desired(spec({"advanced": advanced})).warnings
    for field in ("maxTokenCount", "enableContentLogging"):
        assert any(f"without {field} " in warning for warning in warnings) == (field in left_out)


def test_nothing_is_warned_of_where_nothing_is_sent() -> None:
    assert desired(spec()).warnings == ()


# ── one document at a time ────────────────────────────────────────────────────────────────────────────


def test_every_field_of_a_configuration_is_read() -> None:
    seen = observed()
    assert seen.live.values == {
        "friendli.name": "endpoint-name",
        "gpu": {"type": "H100", "count": 1},
        "scaling.minReplicas": 0,
        "scaling.maxReplicas": 1,
        "scaling.cooldownSeconds": 300,
        "friendli.advanced.maxBatchSize": 10,
        "friendli.advanced.maxInputLength": 1024,
        "friendli.advanced.tokenizerSkipSpecialTokens": True,
        "friendli.advanced.tokenizerAddSpecialTokens": True,
    }
    assert (seen.minimum, seen.replicas, seen.gpu) == (0, Replicas(1, 1, 1), "NVIDIA H100 x1")
    assert set(DOCUMENT) == {field.alias for field in Spec.model_fields.values()}


@pytest.mark.parametrize(
    ("least", "most", "wished", "agreeing"),
    [(3, 3, None, {3}), (0, 3, 2, {2}), (3, 3, 2, {2, 3}), (0, 1, None, set())],
)
def test_a_fixed_count_shows_as_equal_bounds_or_as_the_wished_count(
    least: int, most: int, wished: int | None, agreeing: set[int]
) -> None:
    live = snapshot(Spec.model_validate(document(autoscalingMin=least, autoscalingMax=most, desiredReplicaCnt=wished)))
    counts = range(1, 5)
    assert {n for n in counts if not differences(desired(spec(scaling={"replicas": n})), live, agrees)} == agreeing


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("NVIDIA H100", "H100"),
        ("nvidia  h100", "H100"),
        ("H100", "H100"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("NVIDIA A100 80GB", "A100-80GB"),
        ("NVIDIA A100", "A100-80GB"),
        ("a100-80gb", "A100-80GB"),
        ("NVIDIA A100-SXM4-80 GB", "A100-80GB"),
        ("NVIDIA A100 40GB", "A100-40GB"),
        ("NVIDIA H200 141GB", "H200"),
        ("NVIDIA GH200", "GH200"),
        ("NVIDIA B300", "B300"),
        ("NVIDIA L40S", "L40S"),
        ("", ""),
    ],
)
def test_a_gpu_has_one_name_however_it_is_spelled(shown: str, name: str) -> None:
    assert gpu_name(shown) == name
    assert gpu_name(name) == name


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(GPUS, 2)))
def test_two_gpus_of_the_table_are_never_the_same(one: str, other: str) -> None:
    assert not agrees("gpu", {"type": one, "count": 1}, {"type": other, "count": 1})


@given(st.text())
def test_any_gpu_has_a_stable_name(shown: str) -> None:
    assert gpu_name(gpu_name(shown)) == gpu_name(shown)


def test_gpus_agree_by_name_and_count() -> None:
    wanted = {"type": "A100-80GB", "count": 2}
    assert agrees("gpu", wanted, {"type": "A100", "count": 2})
    assert not agrees("gpu", wanted, {"type": "A100", "count": 1})
    assert not agrees("gpu", wanted, None)
    assert not agrees("friendli.name", "a", None)


@pytest.mark.covers("C13")
@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("INITIALIZING", State.CREATING),
        ("RUNNING", State.RUNNING),
        ("READY", State.RUNNING),
        ("UPDATING", State.UPDATING),
        ("SLEEPING", State.SLEEPING),
        ("AWAKING", State.WAKING),
        ("FAILED", State.FAILED),
        ("STOPPING", State.STOPPING),
        ("TERMINATING", State.STOPPING),
        ("TERMINATED", State.STOPPED),
        ("UNKNOWN", State.UNKNOWN),
        ("HIBERNATING", State.UNKNOWN),
        ("<script>", State.UNKNOWN),
        (7, State.UNKNOWN),
        ("running", State.UNKNOWN),
    ],
)
def test_every_status_has_a_state(status: object, state: State) -> None:
    assert observed(status={"status": status}).state is state


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"status": "RUNNING"}, "RUNNING"),
        ({"status": "INITIALIZING", "phase": "DOWNLOADING_MODEL", "errorCode": None}, "INITIALIZING/DOWNLOADING_MODEL"),
        ({"status": "FAILED", "errorCode": CODES[-2]}, "FAILED/INFERENCE_ENGINE_MEMORY_ERROR"),
        ({"status": "FAILED", "phase": "ENGINE_INITIALIZING", "errorCode": "A"}, "FAILED/ENGINE_INITIALIZING/A"),
        ({"status": "x" * 10_000, "phase": "\x1b[31m"}, "UNKNOWN/UNKNOWN"),
    ],
)
def test_the_providers_own_words_carry_phase_and_error(status: dict[str, Any], words: str) -> None:
    assert observed(status=status).provider_state == words


def test_every_documented_error_has_its_cure_in_one_sentence() -> None:
    assert set(CURES) == set(CODES)
    for code in CODES:
        failure = observed(status={"status": "FAILED", "errorCode": code}).failure
        assert failure == Failure(code, CURES[code])
        assert CURES[code].endswith(".")
        assert ". " not in CURES[code]


@pytest.mark.parametrize("code", [None, "SOMETHING_NEW"])
def test_a_failure_without_a_known_cause_says_where_to_look(code: str | None) -> None:
    failure = observed(status={"status": "FAILED", "errorCode": code}).failure
    assert failure == Failure(code or "FAILED", translate.NO_CURE)


def test_only_a_failed_endpoint_has_failed() -> None:
    assert observed(status={"status": "RUNNING", "errorCode": CODES[0]}).failure is None


def test_what_people_see_of_a_gpu_is_one_short_line() -> None:
    assert observed(document(gpuType="NVIDIA\nH100\x1b" + "x" * 500)).gpu == ("NVIDIA H100 " + "x" * 500)[:128]


def test_the_block_of_the_spec_has_no_field_that_is_forgotten() -> None:
    known = {path.split(".")[1] for path in translate.PLACES if path.startswith("friendli.")}
    assert {field.alias for field in FriendliOptions.model_fields.values()} == known | {"teamId", "projectId"}
