"""The chart grants what the operator uses and nothing else, by the API server's own audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import audit
from e2e.release import Release, released, values_for
from inference_operator.api.names import GROUP
from inference_operator.playground.controlplane import ControlPlane
from inference_operator.playground.emulators.control import EmulatorControl
from inference_operator.playground.emulators.faults import Fault
from planes import USERS
from rig import Rig, rigged, spec_of, wait_for
from tally import show

FORBIDDEN = 403
SECRETS = "/secrets"


class Right(NamedTuple):
    """One verb on one resource, in the namespace of the release or where the operator works."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{self.group and '.'}{self.group}"


@pytest.fixture(scope="module")
def plane(tools: Mapping[str, Path]) -> Iterator[ControlPlane]:
    del tools
    with ControlPlane(users=USERS) as made:
        yield made


def granted(release: Release) -> set[Right]:
    """Every right of the release's account, by its roles; the rights of all accounts apart."""
    root = "/apis/rbac.authorization.k8s.io/v1"
    rights = set()
    for kind in ("clusterrole", "role"):
        roles = {_key(each): each for each in release.api.get(f"{root}/{kind}s").json()["items"]}
        for binding in release.api.get(f"{root}/{kind}bindings").json()["items"]:
            subjects = binding.get("subjects", [])
            if any(
                each.get("namespace") == release.namespace and each["kind"] == "ServiceAccount" for each in subjects
            ):
                role = roles[binding["metadata"].get("namespace"), binding["roleRef"]["name"]]
                rights |= {
                    Right(group, resource, verb)
                    for rule in role["rules"]
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                }
    return rights


def _key(each: Mapping[str, Any]) -> tuple[str | None, str]:
    return each["metadata"].get("namespace"), each["metadata"]["name"]


def requests_of(release: Release) -> list[Mapping[str, Any]]:
    account = release.account  # asking is a request itself
    audit.settle(release.plane)
    events = audit.audit_events(release.plane.audit_log)
    return [event for event in events if event["user"]["username"] == account]


def used(event: Mapping[str, Any]) -> Right | None:
    """The right that a request needed; None for what every account may ask."""
    target = event.get("objectRef")
    if target is None:
        return None
    path = "/".join(filter(None, (target["resource"], target.get("subresource"))))
    return Right(target.get("apiGroup", ""), path, event["verb"])


def live(rig: Rig) -> None:
    """A life in which everything happens that the operator may do."""
    endpoint_id = rig.endpoint("friendli")
    target = {"configMapName": "chat"}
    rig.apply("chat", spec_of("friendli", endpoint_id, 5, writeConnectionTo=target))
    rig.wait("chat", "Ready")
    rig.apply("chat", spec_of("friendli", endpoint_id, 5, writeConnectionTo=target | {"keys": {"endpointId": "ID"}}))
    config_map = f"/api/v1/namespaces/{rig.namespace}/configmaps/chat"
    wait_for(lambda: "ID" in rig.api.get(config_map).json()["data"], what="the ConfigMap to change")
    # An edit while an update is under way: the status can only be written on what is read anew.
    rig.emulators.add_fault(Fault(method="PUT", endpoint_id=endpoint_id, gate_after=rig.namespace, count=1))
    rig.apply("chat", spec_of("friendli", endpoint_id, 6, writeConnectionTo=target))
    rig.emulators.wait_for_gate(rig.namespace)
    rig.merge("chat", {"metadata": {"annotations": {"example.org/note": "edited"}}})
    rig.emulators.release_gate(rig.namespace)
    rig.wait("chat", "Ready")
    assert len(rig.mutations(endpoint_id)) == 2
    events = f"/apis/events.k8s.io/v1/namespaces/{rig.namespace}/events"
    wait_for(lambda: rig.api.get(events).json()["items"], what="an Event")


MODES: Mapping[str, Mapping[str, Any]] = {
    "the whole cluster": {},
    "the whole cluster, Secrets watched": {"secrets": "watch"},
    "namespaces": {"scope": {"namespaces": ["{namespace}"]}},
    "namespaces, Secrets got": {"scope": {"namespaces": ["{namespace}"]}, "secrets": "get"},
}


@pytest.mark.parametrize("mode", MODES)
def test_every_right_is_used_and_none_is_missing(
    plane: ControlPlane, emulators: EmulatorControl, tmp_path: Path, mode: str
) -> None:
    with rigged(plane, emulators, tmp_path) as rig:
        values = dict(MODES[mode])
        if "scope" in values:
            values["scope"] = {"namespaces": [rig.namespace]}
        values |= {"fullnameOverride": rig.namespace, "crds": {"install": False}, "rbac": {"aggregate": False}}
        with released(plane, tmp_path, values_for(emulators, **values)) as release:
            pod = release.start()
            live(rig)
            rights = granted(release)
            assert pod.terminate() == 0
            requests = requests_of(release)
        needed = {right for event in requests if (right := used(event)) is not None}
        denied = {str(used(event)) for event in requests if event["responseStatus"]["code"] == FORBIDDEN}
        rows = [(str(right), sum(used(event) == right for event in requests)) for right in sorted(rights)]
        show(f"Rights in {mode}, and how often each was used", ("", ""), rows)
        assert denied == set()
        assert needed - rights == set(), "allowed by a role that is not the chart's"
        assert rights - needed == set(), "granted and never used"
        assert any(right.group == GROUP for right in rights)
        lists_secrets = Right("", "secrets", "list") in rights
        assert lists_secrets == (values.get("secrets", "watch" if "scope" in values else "get") == "watch")
        if "scope" in values:
            beyond = {event["objectRef"].get("namespace") for event in requests if event.get("objectRef")}
            assert beyond == {rig.namespace, release.namespace}
