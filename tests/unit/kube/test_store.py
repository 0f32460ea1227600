from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inference_operator.api.names import REFRESH_ANNOTATION
from inference_operator.core.model import Resource
from inference_operator.kube.resources import is_newer, parse
from inference_operator.kube.store import Store, referenced_secrets


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def resource(
    uid: str = "u1", version: int | str = 1, *, endpoint: str | None = "ep-1", secret: str = "key", **changes: Any
) -> Resource:
    spec: dict[str, Any] = {"provider": "friendli", "credentialsSecretRef": {"name": secret}}
    return replace(
        Resource(
            namespace="team-a",
            name=f"name-of-{uid}",
            uid=uid,
            generation=1,
            resource_version=str(version),
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            deleting=False,
            annotations={},
            spec=spec | ({"endpointId": endpoint} if endpoint else {}),
            status={},
        ),
        **changes,
    )


def store(clock: Clock | None = None) -> Store:
    return Store(clock=clock or Clock(), remember_seconds=100)


@pytest.mark.parametrize(
    ("version", "known", "newer"),
    [
        ("10", "9", True),
        ("9", "10", False),
        ("9", "9", False),
        ("100000000000000000000", "99999999999999999999", True),
        ("b", "a", True),
        ("a", "b", True),
        ("a", "a", False),
        ("", "7", True),
        ("²", "7", True),
    ],
)
def test_versions_are_numbers_where_they_are(version: str, known: str, *, newer: bool) -> None:
    assert is_newer(version, known) == newer


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, set()),
        ({"credentialsSecretRef": {"name": "key"}}, {"key"}),
        (
            {
                "provider": "novita",
                "credentialsSecretRef": {"name": "key", "key": "token"},
                "novita": {
                    "envs": [
                        {"name": "A", "value": "secretKeyRef"},
                        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}},
                        {"name": "C", "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "token"}}},
                    ]
                },
                "friendli": {"x": {"secretKeyRef": {"name": "of another provider"}}},
            },
            {"key", "hf", "wandb"},
        ),
        ({"provider": "novita", "credentialsSecretRef": "key", "novita": [None, {"secretKeyRef": 3}]}, set()),
        ({"provider": "novita", "novita": {"secretKeyRef": {"key": "token"}}}, set()),
    ],
)
def test_secrets_are_found_in_any_spec(spec: dict[str, Any], names: set[str]) -> None:
    assert referenced_secrets(spec) == names


def test_older_and_equal_versions_are_echoes() -> None:
    kept = store()
    assert kept.put(resource(version=5))
    assert not kept.put(resource(version=5))
    assert not kept.put(resource(version=4, generation=9))
    assert kept.get("u1") == resource(version=5)
    assert kept.put(resource(version=6))
    assert len(kept) == 1


def test_an_answer_counts_more_than_an_older_observation_whatever_the_number() -> None:
    clock = Clock()
    kept = store(clock)
    kept.put(resource(version=500))
    clock.now = 10
    restored = resource(version=20, generation=7)
    assert not kept.put(restored, asked_at=0)
    assert kept.put(restored, asked_at=9)
    assert kept.get("u1") == restored
    assert not kept.put(restored, asked_at=20)  # known already
    assert kept.put(resource(version=21))


def test_what_was_deleted_does_not_come_back_by_an_old_event() -> None:
    clock = Clock()
    kept = store(clock)
    kept.put(resource(version=5))
    assert kept.remove("u1", "7") == resource(version=5)
    assert not kept.put(resource(version=6))
    assert kept.get("u1") is None
    assert kept.put(resource(version=8))  # came back into scope
    assert kept.remove("u1", "7") is None  # an old deletion
    assert kept.get("u1") == resource(version=8)


def test_an_answer_to_a_write_does_not_bring_back_what_has_left_our_scope() -> None:
    """The API server answers a write in the same way whether or not the resource still has the labels of our shard."""
    it = store()
    it.put(resource(version=4))
    it.remove("u1", "5")
    it.answered(resource(version=6))
    assert it.get("u1") is None
    assert it.put(resource(version=7))  # it is told of again


def test_what_leaves_our_scope_is_gone_although_a_later_answer_came_first() -> None:
    it = store()
    it.put(resource(version=4))
    it.answered(resource(version=6))
    assert it.remove("u1", "5") is not None
    assert it.get("u1") is None


def test_deletions_are_forgotten_after_a_while() -> None:
    clock = Clock()
    kept = store(clock)
    for number in range(50):
        clock.now = number * 10
        kept.put(resource(f"u{number}", 5, endpoint=f"ep-{number}"))
        kept.remove(f"u{number}", "7")
    assert len(kept._removed) == len(kept._claims_removed) == 11
    assert kept.last_claim_removed("friendli", "ep-0") is None
    assert kept.last_claim_removed("friendli", "ep-49") == 490


def test_who_names_an_endpoint() -> None:
    clock = Clock()
    kept = store(clock)
    kept.put(resource("u1"))
    kept.put(resource("u2"))
    kept.put(resource("u3", endpoint="ep-2"))
    kept.put(resource("u4", endpoint=None, status={"endpointId": "ep-1"}))
    kept.put(resource("u5", endpoint=None))
    kept.put(resource("u6", spec={"provider": "novita", "endpointId": "ep-1"}))
    assert kept.claimants("friendli", "ep-1") == {"u1", "u2", "u4"}
    assert kept.rivals(resource("u1")) == {"u2", "u4"}
    assert kept.rivals(resource("u5", endpoint=None)) == set()
    assert kept.claimants("friendli", "ep-3") == set()
    assert kept.last_claim_removed("friendli", "ep-1") is None
    clock.now = 3
    kept.remove("u2")
    assert kept.claimants("friendli", "ep-1") == {"u1", "u4"}
    assert kept.last_claim_removed("friendli", "ep-1") == 3
    clock.now = 4
    kept.put(resource("u1", 2, endpoint="ep-2"))
    assert kept.last_claim_removed("friendli", "ep-1") == 4
    assert kept.claimants("friendli", "ep-2") == {"u1", "u3"}


def test_who_refers_to_a_secret() -> None:
    kept = store()
    kept.put(resource("u1"))
    kept.put(resource("u2", namespace="team-b"))
    assert kept.dependents(("team-a", "key")) == {"u1"}
    assert kept.secrets("u2") == {("team-b", "key")}
    kept.put(resource("u1", 2, secret="other"))
    assert kept.dependents(("team-a", "key")) == set()
    assert kept.dependents(("team-a", "other")) == {"u1"}
    kept.remove("u1")
    assert kept.dependents(("team-a", "other")) == set()
    assert kept.secrets("u1") == set()


def test_what_a_list_lacks_is_gone_unless_it_was_seen_since() -> None:
    clock = Clock()
    kept = store(clock)
    kept.put(resource("u1"))
    kept.put(resource("u2"))
    clock.now = 5
    kept.put(resource("u3"))
    assert kept.unlisted({"u1"}, asked_at=4) == ["u2"]
    assert kept.unlisted({"u1"}, asked_at=6) == ["u2", "u3"]


def test_a_document_becomes_a_resource() -> None:
    document = {
        "apiVersion": "inference-operator.io/v1alpha1",
        "metadata": {
            "namespace": "team-a",
            "name": "chat",
            "uid": "u1",
            "generation": 3,
            "resourceVersion": "42",
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "spec": {"provider": "friendli"},
    }
    plain = parse(document)
    assert plain == Resource(
        namespace="team-a",
        name="chat",
        uid="u1",
        generation=3,
        resource_version="42",
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        deleting=False,
        annotations={},
        spec={"provider": "friendli"},
        status={},
    )
    document["metadata"] |= {  # type: ignore[operator] # a dict, seen as an object
        "deletionTimestamp": "2026-01-02T03:04:06Z",
        "annotations": {REFRESH_ANNOTATION: "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
        "labels": {"c": "d"},
        "managedFields": [{"manager": "kubectl"}],
    }
    marked = parse(document | {"status": {"state": "Running"}})
    assert marked == replace(plain, deleting=True, annotations={REFRESH_ANNOTATION: "b"}, status={"state": "Running"})


def test_what_many_resources_say_is_kept_once() -> None:
    def listed(uid: str) -> Resource:
        text = json.dumps({"conditions": [{"type": "Ready", "message": "The endpoint serves."}], "count": 2, "x": None})
        return replace(resource(uid, 1), status=json.loads(text))

    kept = store()
    for uid in ("u1", "u2"):
        kept.put(listed(uid))
    one, other = (kept.get(uid) for uid in ("u1", "u2"))
    assert one is not None
    assert other is not None
    assert one == listed("u1")
    ours, theirs = one.status["conditions"][0], other.status["conditions"][0]
    assert ours["message"] is theirs["message"]
    assert next(iter(ours)) is next(iter(theirs))


def test_what_a_new_version_says_as_before_is_not_stored_anew() -> None:
    def written(number: int, **changes: Any) -> Resource:
        status = {"history": [{"result": "Applied"}], "version": 7, "gpu": None, "conditions": [{"type": "Ready"}]}
        return resource("u1", number, status=json.loads(json.dumps(status | changes)))

    kept = store()
    kept.put(written(1, operation={"id": "x"}))
    before = kept.get("u1")
    changed = written(2, version=8, conditions=[{"type": "Ready"}, {"type": "Stalled"}], url=None)
    kept.answered(changed)
    after = kept.get("u1")
    assert before is not None
    assert after == changed
    assert after.status["history"] is before.status["history"]
    assert after.spec["credentialsSecretRef"] is before.spec["credentialsSecretRef"]


def test_all_resources_are_given_once_and_as_they_are_now() -> None:
    kept = store()
    for each in (resource("u1", 1), resource("u2", 1), resource("u1", 3), resource("u1", 2), resource("u3", 1)):
        kept.put(each)
    kept.remove("u2")
    assert [(each.uid, each.resource_version) for each in kept.resources()] == [("u1", "3"), ("u3", "1")]


UIDS = st.sampled_from(["u1", "u2", "u3"])


class StoreMachine(RuleBasedStateMachine):
    """Events of a cluster, in any order and repeated: the store ends where the newest of them says."""

    def __init__(self) -> None:
        super().__init__()
        self.store = store()
        self.newest: dict[str, tuple[int, Resource | None]] = {}

    @rule(
        uid=UIDS,
        version=st.integers(1, 20),
        endpoint=st.sampled_from(["ep-1", "ep-2", None]),
        secret=st.sampled_from(["a", "b"]),
    )
    def put(self, uid: str, version: int, endpoint: str | None, secret: str) -> None:
        found = resource(uid, version, endpoint=endpoint, secret=secret)
        newer = version > self.newest.get(uid, (0, None))[0]
        assert self.store.put(found) == newer
        if newer:
            self.newest[uid] = (version, found)

    @rule(uid=UIDS, version=st.integers(1, 20))
    def remove(self, uid: str, version: int) -> None:
        known, before = self.newest.get(uid, (0, None))
        removed = self.store.remove(uid, str(version))
        if version >= known or before is None:
            assert removed == before
            self.newest[uid] = (max(version, known) if before is None else version, None)
        else:
            assert removed is None

    @invariant()
    def the_newest_is_known(self) -> None:
        alive = {uid: found for uid, (_, found) in self.newest.items() if found}
        assert len(self.store) == len(alive)
        for uid in ("u1", "u2", "u3"):
            assert self.store.get(uid) == alive.get(uid)

    @invariant()
    def the_indexes_agree(self) -> None:
        alive = [found for _, found in self.newest.values() if found]
        for endpoint in ("ep-1", "ep-2"):
            claimants = {found.uid for found in alive if found.spec.get("endpointId") == endpoint}
            assert self.store.claimants("friendli", endpoint) == claimants
        for secret in ("a", "b"):
            dependents = {found.uid for found in alive if found.spec["credentialsSecretRef"]["name"] == secret}
            assert self.store.dependents(("team-a", secret)) == dependents


TestStore = StoreMachine.TestCase
