from __future__ import annotations

import gzip
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_operator.playground.emulators.accounts import Account, Accounts, Bucket, fingerprint
from inference_operator.playground.emulators.delivery import gzipped
from inference_operator.playground.emulators.faults import Fault
from inference_operator.playground.emulators.friendli_state import (
    INSTANCE_OPTIONS,
    Config,
    ConfigurationError,
    FriendliState,
)
from inference_operator.playground.emulators.novita_state import (
    DEFAULT_LIMITS,
    NovitaState,
    kept,
    rule_problems,
    shown,
)
from inference_operator.playground.emulators.paging import CursorError, LimitError, page
from inference_operator.playground.emulators.timeline import Cause, Interval, Timeline, peaks

BASE = Config(instance_option_id="TwD5AqnBSVN0", max_token_count=8192, enable_content_logging=True)
TOKENIZER = {"tokenizer_skip_special_tokens": True, "tokenizer_add_special_tokens": True}


# --- Friendli: what an update makes of a configuration ---


@pytest.mark.parametrize(
    ("body", "change"),
    [
        ({}, {}),
        ({"name": None, "advanced": None, "simplescale": None, "autoscalingPolicy": None}, {}),
        ({"name": "n", "hfModelRepo": "m"}, {"name": "n", "hf_model_repo": "m"}),
        ({"simplescale": {"replicas": 3}}, {"autoscaling_min": 3, "autoscaling_max": 3}),
        ({"autoscalingPolicy": {}}, {}),
        ({"autoscalingPolicy": {"maxReplica": 4}}, {"autoscaling_max": 4}),
        ({"autoscalingPolicy": {"cooldownPeriod": 60}}, {"autoscaling_cooldown": 60}),
        ({"advanced": TOKENIZER}, {"max_token_count": 2560, "enable_content_logging": None}),
        (
            {"advanced": {**TOKENIZER, "max_token_count": 9, "enable_content_logging": True, "max_batch_size": 4}},
            {"max_token_count": 9, "max_batch_size": 4},
        ),
    ],
)
def test_friendli_merges(body: dict[str, Any], change: dict[str, Any]) -> None:
    assert BASE.merged(body) == replace(BASE, **change)


def test_friendli_resets_what_a_sent_policy_leaves_out() -> None:
    scaled = replace(BASE, autoscaling_min=2, autoscaling_max=5, autoscaling_cooldown=60)
    assert scaled.merged({"autoscalingPolicy": {"maxReplica": 4}}) == replace(BASE, autoscaling_max=4)


@pytest.mark.parametrize(
    "body",
    [
        {"simplescale": {"replicas": 1}, "autoscalingPolicy": {}},
        {"autoscalingPolicy": {"minReplica": 2}},
        {"instanceOptionId": "no-such-option"},
    ],
)
def test_friendli_refuses_what_makes_no_sense(body: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        BASE.merged(body)


@pytest.mark.parametrize("body", [{"simplescale": {"replicas": 9}}, {"autoscalingPolicy": {"maxReplica": 9}}])
def test_friendli_clamps(body: dict[str, Any]) -> None:
    assert BASE.merged(body, clamp=5).autoscaling_max == 5


def test_instance_options_are_the_documents() -> None:
    assert len(INSTANCE_OPTIONS) == 20
    assert INSTANCE_OPTIONS["zfTutSiLn0Hq"] == ("NVIDIA H100", 2)
    assert INSTANCE_OPTIONS["ShbPuOs4tfGb"] == ("NVIDIA A100 80GB", 1)
    assert INSTANCE_OPTIONS["drbc6G9FxJWZ"] == ("NVIDIA B200", 8)


# --- Friendli: a rollout as time passes ---


def resting(status: str = "RUNNING", replicas: int = 2, config: Config = BASE) -> FriendliState:
    return FriendliState(config=config, rest=status, after=replicas, created_at=0.0)


def test_a_rollout_moves_from_running_over_updating_to_running() -> None:
    state = resting(replicas=2).updated(replace(BASE, autoscaling_min=4, autoscaling_max=4), Cause("t", 100, 8))
    seen = [(state.status(at), *state.replicas(at).values()) for at in (100, 104, 107.9, 108)]
    assert seen == [
        ("UPDATING", 2, 4, 0),
        ("UPDATING", 3, 4, 2),
        ("UPDATING", 3, 4, 3),
        ("RUNNING", 4, 4, 4),
    ]


def test_a_rollout_without_duration_is_over_at_once() -> None:
    state = resting().updated(BASE, Cause("t", 100))
    assert state.status(100) == "RUNNING"


def test_a_second_update_starts_from_what_the_first_had_reached() -> None:
    first = resting(replicas=0).updated(replace(BASE, autoscaling_min=4, autoscaling_max=4), Cause("t", 100, 8))
    second = first.updated(replace(BASE, autoscaling_max=4), Cause("t", 104, 8))
    assert second.replicas(104)["currReplicaCnt"] == 2
    assert (second.status(111.9), second.status(112)) == ("UPDATING", "RUNNING")


def test_a_rollout_can_fail() -> None:
    state = resting().updated(replace(BASE, autoscaling_max=2), Cause("t", 100, 1, "INFERENCE_ENGINE_MEMORY_ERROR"))
    assert (state.status(100), state.status(101), state.error_code) == (
        "UPDATING",
        "FAILED",
        "INFERENCE_ENGINE_MEMORY_ERROR",
    )
    assert state.replicas(101) == {"currReplicaCnt": 0, "desiredReplicaCnt": 2, "updatedReplicaCnt": 0}


@pytest.mark.parametrize(
    ("status", "minimum", "during"),
    [
        ("RUNNING", 0, "UPDATING"),
        ("READY", 0, "UPDATING"),
        ("FAILED", 0, "UPDATING"),
        ("INITIALIZING", 0, "INITIALIZING"),
        ("SLEEPING", 0, "SLEEPING"),
        ("SLEEPING", 1, "AWAKING"),
        ("TERMINATED", 1, "TERMINATED"),
    ],
)
def test_what_an_update_does_depends_on_the_status(status: str, minimum: int, during: str) -> None:
    state = resting(status, 0).updated(replace(BASE, autoscaling_min=minimum, autoscaling_max=4), Cause("t", 100, 8))
    assert state.status(104) == during
    assert state.config.autoscaling_min == minimum


def test_a_start_goes_through_three_phases() -> None:
    state = resting("SLEEPING", 0).moved(Cause("t", 0, 9), via="AWAKING", rest="RUNNING", after=1)
    assert [state.phase(at) for at in (0, 3, 6, 9)] == [
        "REQUESTING_VIRTUAL_MACHINE",
        "DOWNLOADING_MODEL",
        "ENGINE_INITIALIZING",
        None,
    ]


# --- Novita ---

UPDATE: dict[str, Any] = {
    "id": "e",
    "name": "n",
    "workerConfig": {
        "minNum": 1,
        "maxNum": 3,
        "freeTimeout": 60,
        "maxConcurrent": 2,
        "gpuNum": 1,
        "requestTimeout": 600,
    },
    "ports": [{"port": "8080"}],
    "policy": {"type": "queue", "value": 30},
    "image": {"image": "i"},
}
FIXED = {"appName": "e", "products": [{"id": "1"}], "rootfsSize": 100, "cudaVersion": ""}


def with_worker(**change: int) -> dict[str, Any]:
    return {**UPDATE, "workerConfig": {**UPDATE["workerConfig"], **change}}


@pytest.mark.parametrize(
    "body",
    [
        with_worker(maxNum=101),
        with_worker(minNum=-1),
        with_worker(minNum=3, maxNum=2),
        with_worker(gpuNum=9),
        with_worker(requestTimeout=0),
        {**UPDATE, "policy": {"type": "queue", "value": 0}},
        {**UPDATE, "policy": {"type": "concurrency", "value": 10_001}},
        *({**UPDATE, "ports": [{"port": port}]} for port in ("2222", "2223", "2224", "65536")),
        {**UPDATE, "volumeMounts": [{"type": "local", "size": 31, "mountPath": "/d"}]},
        {**UPDATE, "clusterID": "c", "volumeMounts": [{"type": "network", "mountPath": "/d"}]},
        {**UPDATE, "volumeMounts": [{"type": "network", "id": "v", "mountPath": "/d"}]},
        {**UPDATE, "envs": [{"key": "A", "value": "1"}, {"key": "A", "value": "2"}]},
    ],
)
def test_novita_breaks_one_rule(body: dict[str, Any]) -> None:
    assert len(list(rule_problems(body, DEFAULT_LIMITS))) == 1


def test_novita_rules_allow_the_ordinary() -> None:
    mounts = [{"type": "local", "mountPath": "/a"}, {"type": "network", "id": "v", "mountPath": "/b"}]
    body = {**UPDATE, "clusterID": "c", "volumeMounts": mounts}
    assert list(rule_problems(body, DEFAULT_LIMITS)) == []


def test_novita_clears_what_an_update_leaves_out() -> None:
    config = kept({key: value for key, value in UPDATE.items() if key != "name"})
    assert (config["name"], config["clusterID"], config["envs"], config["volumeMounts"]) == ("", "", [], [])
    assert config["healthy"] is None
    assert config["image"] == {"image": "i", "authId": "", "command": ""}


def test_novita_replaces_workers_one_after_the_other() -> None:
    state = NovitaState(config=kept(UPDATE), fixed=FIXED).scaled(2, 0.0)
    state = state.updated(kept(with_worker(minNum=1)), Cause("t", 100, 10), via="serving", kept_seconds=600)

    def words(at: float) -> list[str]:
        view = shown("e", state, at, form="get", kept_seconds=600)
        return [worker["state"]["state"] for worker in view["workers"]]

    assert words(100) == ["running", "running", "pending", "pending"]
    assert words(105) == ["removed", "running", "running", "pending"]
    assert words(110) == ["removed", "removed", "running", "running"]
    assert words(704) == ["removed", "removed", "running", "running"]
    assert words(705) == ["removed", "running", "running"]
    assert [state.usable(at) for at in (100, 105, 110)] == [2, 2, 2]


def test_novita_forgets_workers_that_were_removed_long_ago() -> None:
    state = NovitaState(config=kept(UPDATE), fixed=FIXED).scaled(1, 0.0)
    for at in (100.0, 200.0, 300.0):
        state = state.updated(kept(UPDATE), Cause("t", at), via="serving", kept_seconds=150)
    assert [worker.id for worker in state.workers] == ["worker-2", "worker-3", "worker-4"]


def test_novita_says_so_when_a_rollout_fails() -> None:
    state = NovitaState(config=kept(UPDATE), fixed=FIXED)
    failed = state.updated(state.config, Cause("t", 100, 5, "IMAGE_PULL"), via="updating", kept_seconds=1)
    assert failed.status(101) == {"state": "updating", "error": "", "message": ""}
    assert failed.status(105)["state"] == "failed"
    assert failed.status(105)["error"] == "IMAGE_PULL"


# --- Timelines and their overlaps ---


@dataclass(frozen=True)
class Moment:
    name: str
    begins: float = 0.0
    ends: float = 0.0
    by: str = "t"
    deleted: bool = False


def test_a_timeline_shows_the_past() -> None:
    timeline = Timeline(Moment("a"))
    timeline.append(Moment("b"), 10)
    timeline.append(Moment("c"), 20)
    assert [getattr(timeline.as_of(at), "name", None) for at in (-1, 9.9, 10, 19, 20)] == ["a", "a", "b", "b", "c"]


def test_there_is_nothing_before_a_creation() -> None:
    assert Timeline(Moment("a"), at=5).as_of(4.9) is None


def test_a_newer_state_cuts_an_older_transition_short() -> None:
    timeline = Timeline(Moment("a"))
    timeline.append(Moment("b", begins=10, ends=20), 10)
    timeline.append(Moment("c", begins=15, ends=25, by="u"), 15)
    assert list(timeline.intervals(since=0)) == [Interval("t", 10, 15), Interval("u", 15, 25)]
    assert list(timeline.intervals(since=16)) == [Interval("u", 16, 25)]


SPANS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.integers(1, 10)).map(
        lambda it: Interval(it[0], it[1], it[1] + it[2])
    )
)


@given(SPANS)
def test_peaks_are_what_counting_at_every_instant_gives(spans: list[Interval]) -> None:
    counted = {
        by: max(sum(s.by == by and s.begins <= at < s.ends for s in spans) for at in range(31))
        for by in {span.by for span in spans}
    }
    assert peaks(spans) == counted


# --- Pages, limits, accounts, faults, compression ---


@given(total=st.integers(0, 50), limit=st.integers(1, 20), hidden=st.sets(st.integers(0, 49)))
def test_pages_show_everything_once_and_in_order(total: int, limit: int, hidden: set[int]) -> None:
    items = [(str(i), None if i in hidden else {"n": i}) for i in range(total)]
    seen: list[str] = []
    query = {"limit": str(limit)}
    while True:
        answer = page(items, query)
        assert len(answer["data"]) <= limit
        seen += answer["data"]
        if answer["nextCursor"] is None:
            break
        query["cursor"] = answer["nextCursor"]
    assert seen == [key for key, value in items if value]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "²"])
def test_a_page_has_one_to_a_hundred_items(limit: str) -> None:
    with pytest.raises(LimitError):
        page([], {"limit": limit})


@pytest.mark.parametrize("cursor", ["!", "a", "/w==", "_w==", "é", "eno="])
def test_a_cursor_that_was_not_made_here_is_refused(cursor: str) -> None:
    with pytest.raises(CursorError):
        page([], {"cursor": cursor})


def test_a_bucket_gives_back_at_its_rate() -> None:
    bucket = Bucket(rate=2, burst=3, at=0)
    assert [bucket.take(1) for _ in range(4)] == [0, 0, 0, 0.5]
    assert [bucket.take(1.5) for _ in range(2)] == [0, 0.5]


def test_accounts_keep_no_token() -> None:
    accounts = Accounts()
    accounts.add(Account("a", ("t",)), ["secret-token"])
    name, account = accounts.identify("secret-token")
    assert account is accounts["a"]
    assert name == fingerprint("secret-token")
    assert "secret-token" not in repr(vars(accounts))
    assert accounts.identify("other")[1] is None


@pytest.mark.parametrize(
    "mistake",
    [{"commit": "sometimes"}, {"delivery": "pigeon"}, {"json": {}, "body": ""}, {"path": "("}, {"body_base64": "*"}],
)
def test_a_fault_that_can_only_be_a_mistake_is_refused(mistake: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"commit|exclude|path"):
        Fault(**mistake)


def test_a_fault_survives_the_way_through_json() -> None:
    fault = Fault(provider="novita", path="update$", commit="late", late_seconds=2, headers={"A": "b"}, json=[1])
    assert Fault(**fault.as_json()) == fault


@given(blanks=st.integers(0, 3 << 20), tail=st.binary(max_size=50))
def test_the_bomb_is_a_valid_archive(blanks: int, tail: bytes) -> None:
    packed = b"".join(gzipped(blanks, tail))
    size = math.ceil(blanks / (1 << 20)) << 20
    assert gzip.decompress(packed) == b" " * size + tail
    assert len(packed) < 20_000
