from __future__ import annotations

from typing import Any

import pytest

from inference_operator.errors import InvalidSpec
from inference_operator.providers.novita import wire
from novita_cases import LIMITS, SPEC, a_document, a_spec, render


class TestRender:
    def test_what_the_spec_leaves_out_keeps_its_live_value(self) -> None:
        assert render(a_spec(name="other")) == {
            "id": "ep-1",
            "name": "other",
            "clusterID": "cluster-1",
            "workerConfig": {
                "minNum": 1,
                "maxNum": 3,
                "freeTimeout": 120,
                "maxConcurrent": 4,
                "gpuNum": 1,
                "requestTimeout": 600,
            },
            "ports": [{"port": "8080"}],
            "policy": {"type": "queue", "value": 30},
            "image": {"image": "registry.example.test/sdxl:1", "authId": "7", "command": "serve"},
            "volumeMounts": [{"type": "local", "size": 30, "mountPath": "/data"}],
            "envs": [{"key": "HF_TOKEN", "value": "hf-swordfish"}, {"key": "MODE", "value": "fast"}],
            "healthy": {"path": "/health"},
        }

    def test_unknown_fields_are_sent_back_without_nulls(self) -> None:
        document = a_document(
            tier={"name": "gold", "until": None},
            workerConfig={"spread": True},
            ports=[{"port": "8080", "protocol": "http"}],
            image={"pullPolicy": "Always"},
            envs=[{"key": "MODE", "value": "fast", "origin": "console"}],
            volumeMounts=[
                {"type": "network", "id": "d", "mountPath": "/a", "speed": 1},
                {"type": "network", "id": "e", "mountPath": "/b", "speed": 2},
            ],
        )
        mounts = [{"type": "network", "id": "d", "mountPath": "/a"}, {"type": "network", "id": "f", "mountPath": "/b"}]
        spec = a_spec(port=9000, envs=[{"name": "MODE", "value": "slow"}], volumeMounts=mounts)
        body = render(spec, document)
        assert body["tier"] == {"name": "gold"}
        assert body["workerConfig"]["spread"] is True
        assert body["ports"] == [{"port": "9000", "protocol": "http"}]
        assert body["image"]["pullPolicy"] == "Always"
        assert body["envs"] == [{"key": "MODE", "value": "slow", "origin": "console"}]
        assert body["volumeMounts"] == [
            {"type": "network", "id": "d", "mountPath": "/a", "speed": 1},
            {"type": "network", "id": "f", "mountPath": "/b"},
        ]

    def test_empty_lists_are_sent_and_absent_ones_are_not_invented(self) -> None:
        bare = a_document(envs=None, volumeMounts=None, healthy=None)
        assert render(a_spec(), bare).keys().isdisjoint({"envs", "volumeMounts", "healthy"})
        emptied = render(a_spec(envs=[], volumeMounts=[]))
        assert (emptied["envs"], emptied["volumeMounts"]) == ([], [])
        assert render(a_spec(healthy={"path": "/up"}), bare)["healthy"] == {"path": "/up"}

    def test_a_health_check_without_a_path_is_none(self) -> None:
        assert "healthy" not in render(a_spec(), a_document(healthy={"path": ""}))

    def test_doubled_environment_variables_that_nobody_owns_are_left_alone(self) -> None:
        envs = [{"key": "A", "value": "1"}, {"key": "A", "value": "2"}]
        assert render(a_spec(), a_document(envs=envs))["envs"] == envs

    def test_a_port_that_cannot_be_sent_back_is_named(self) -> None:
        with pytest.raises(InvalidSpec, match="8080, 9000"):
            render(a_spec(port=8080), a_document(ports=[{"port": 8080}, {"port": "9000"}]))

    @pytest.mark.parametrize(
        ("changes", "spec", "field"),
        [
            ({"workerConfig": {"requestTimeout": None}}, a_spec(), "novita.workerConfig.requestTimeout"),
            ({"ports": []}, a_spec(), "novita.port"),
            ({"image": {"image": ""}}, a_spec(), "novita.image.image"),
            ({"policy": {"type": ""}}, a_spec(), "novita.policy.type"),
        ],
    )
    def test_a_required_field_is_never_invented(self, changes: Any, spec: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidSpec, match=field):
            render(spec, a_document(**changes))
        assert render(SPEC, a_document(**changes))

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            (a_spec(scaling={"replicas": 11}), "scaling.replicas is 11.*minWorkerNum 0 and maxWorkerNum 10"),
            (a_spec(scaling={"minReplicas": 0, "maxReplicas": 99}), "scaling.maxReplicas is 99"),
            (
                a_spec(scaling={"cooldownSeconds": 0}),
                "scaling.cooldownSeconds is 0.*minFreeTimeout 1 and maxFreeTimeout 3600",
            ),
            (a_spec(gpu={"count": 9}), "gpu is 9.*maxGPUNum 8"),
            (a_spec(workerConfig={"maxConcurrent": 65}), "maxConcurrent is 65.*maxConcurrencyNum 64"),
            (a_spec(workerConfig={"requestTimeout": 9999}), "requestTimeout is 9999.*maxRequestTimeout 3600"),
            (a_spec(policy={"type": "queue", "value": 61}), "policy.value is 61.*maxQueueWaitTime 60"),
            (a_spec(policy={"type": "concurrency", "value": 0}), "policy.value is 0.*minRequestNum 1"),
        ],
    )
    def test_a_declared_value_outside_the_limits_is_refused_with_the_bounds(self, spec: Any, message: str) -> None:
        with pytest.raises(InvalidSpec, match=message):
            render(spec, limits=LIMITS)
        assert render(spec)

    def test_the_unit_of_the_policy_chooses_its_limit(self) -> None:
        assert render(a_spec(policy={"type": "concurrency", "value": 1000}), limits=LIMITS)

    def test_values_that_nobody_declares_and_limits_that_are_not_told_refuse_nothing(self) -> None:
        assert render(a_spec(name="other"), a_document(workerConfig={"minNum": 50, "maxNum": 50}), limits=LIMITS)
        assert render(a_spec(workerConfig={"requestTimeout": 99999}), limits={"minRequestTimeout": 1})


def test_limits_are_read_leniently() -> None:
    answer = {
        "minWorkerNum": "0",
        "maxWorkerNum": 10,
        "cudaVersionList": ["12"],
        "minGPUNum": None,
        "maxGPUNum": "many",
    }
    assert wire.read_limits(answer) == {"minWorkerNum": 0, "maxWorkerNum": 10}
