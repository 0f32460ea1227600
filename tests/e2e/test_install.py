"""Helm installs, upgrades and uninstalls the operator; resources, definition and endpoints outlive it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import audit
from e2e.chart import container, environment
from e2e.release import Release, definition_of, older_chart, released, rest, values_for
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from planes import USERS
from rig import QUICK, rigged, spec_of, wait_for

PROVIDERS = ("friendli", "novita")


@pytest.fixture
def plane(tools: Mapping[str, Path]) -> Iterator[ControlPlane]:
    """A control plane that knows nothing of the operator."""
    del tools
    with ControlPlane(users=USERS, controller_manager=True) as made:
        yield made


def writes_of(release: Release) -> list[audit.Write]:
    """What the operator's account has written; the Lease apart, which is renewed for ever."""
    audit.settle(release.plane)
    found = audit.writes(release.plane.audit_log, user=release.account)
    return [write for write in found if write.resource != "leases"]


def test_install_upgrade_and_uninstall(
    plane: ControlPlane, emulators: EmulatorControl, tools: Mapping[str, Path], tmp_path: Path
) -> None:
    values = values_for(emulators, rbac={"connections": True})
    with released(plane, tmp_path, values, older_chart(tmp_path)) as release:
        account = release.account
        deployment = release.deployment()
        assert container(deployment)["args"] == ["run"]
        assert environment(deployment)["INFERENCE_OPERATOR_SECRETS"] == "get"
        with rigged(plane, emulators, tmp_path, define=False) as rig:
            # a release is installed, and works
            pod = release.start()
            endpoints = {provider: rig.endpoint(provider) for provider in PROVIDERS}
            for provider, endpoint_id in endpoints.items():
                rig.apply(provider, spec_of(provider, endpoint_id, 5))
            for provider in PROVIDERS:
                rig.wait(provider)
                rig.wait(provider, "Ready")
            assert {len(rig.mutations(endpoint_id)) for endpoint_id in endpoints.values()} == {1}

            # it is upgraded with everything in place: the definition first, then a new pod starts before the old ends
            before = writes_of(release)
            assert definition_of(plane)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] == "older"
            release.upgrade()
            schema = definition_of(plane)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            assert "writeConnectionTo" in schema["properties"]["spec"]["properties"]
            newer = release.start("standing by")
            assert "working" in release.readiness(pod)
            rest(2 * QUICK["poll-seconds"])
            assert "standing by" in release.readiness(newer)
            assert pod.terminate() == 0
            pod = newer
            release.wait(pod, "working")
            rest(3 * QUICK["poll-seconds"])
            assert {len(rig.mutations(endpoint_id)) for endpoint_id in endpoints.values()} == {1}
            assert writes_of(release) == before
            rig.apply(
                "friendli", spec_of("friendli", endpoints["friendli"], 6, writeConnectionTo={"configMapName": "chat"})
            )
            wait_for(
                lambda: rig.api.get(f"/api/v1/namespaces/{rig.namespace}/configmaps/chat").is_success,
                what="what only the newer definition knows",
            )
            rig.wait("friendli", "Ready")
            assert len(rig.mutations(endpoints["friendli"])) == 2

            # it is uninstalled: the account goes first, and the pod ends cleanly all the same
            release.uninstall()
            assert pod.terminate() == 0
            assert release.api.get(f"/api/v1/namespaces/{release.namespace}/serviceaccounts").json()["items"][1:] == []
            assert account not in rig.api.get("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings").text
            assert {each["metadata"]["name"] for each in rig.list()} == {*PROVIDERS}
            assert definition_of(plane)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
            assert [len(rig.mutations(endpoint_id)) for endpoint_id in endpoints.values()] == [2, 1]
            for provider, endpoint_id in endpoints.items():
                assert rig.emulators.get_endpoint(provider, endpoint_id)

            # nothing holds what is deleted without an operator, and what belongs to a resource goes with it
            kubectl = [str(tools["kubectl"]), "--kubeconfig", str(plane.kubeconfig), "--namespace", rig.namespace]
            subprocess.run([*kubectl, "delete", "ie", "--all", "--timeout=20s"], check=True, capture_output=True)
            wait_for(
                lambda: not rig.api.get(f"/api/v1/namespaces/{rig.namespace}/configmaps/chat").is_success,
                what="the ConfigMap to go with its resource",
                seconds=90,  # garbage collection learns of new kinds every half a minute
            )
            for provider, endpoint_id in endpoints.items():
                assert rig.emulators.get_endpoint(provider, endpoint_id)
            assert [len(rig.mutations(endpoint_id)) for endpoint_id in endpoints.values()] == [2, 1]
            assert not rig.secrets_shown()


def test_a_second_install_takes_over_what_the_first_has_left(
    plane: ControlPlane, emulators: EmulatorControl, tmp_path: Path
) -> None:
    with (
        released(plane, tmp_path, values_for(emulators)) as first,
        rigged(plane, emulators, tmp_path, define=False) as rig,
    ):
        pod = first.start()
        endpoint_id = rig.endpoint("friendli")
        rig.apply("chat", spec_of("friendli", endpoint_id, 5))
        rig.wait("chat", "Ready")
        first.uninstall()
        assert pod.terminate() == 0
        second = Release(plane, tmp_path, first.values, namespace=first.namespace)
        second.install()
        try:
            second.start()
            rest(2 * QUICK["poll-seconds"])
            assert len(rig.mutations(endpoint_id)) == 1
            rig.apply("chat", spec_of("friendli", endpoint_id, 6))
            rig.wait("chat", "Ready")
            assert len(rig.mutations(endpoint_id)) == 2
        finally:
            second.close()
