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


def live(rig: Rig, *, connects: bool) -> None:
    """A life in which everything happens that the operator may do.

    Args:
        rig: Where.
        connects: Whether ConfigMaps are part of it.
    """
    endpoint_id = rig.endpoint("friendli")
    target = {"configMapName": "chat"}
    extra = {"writeConnectionTo": target} if connects else {}
    rig.apply("chat", spec_of("friendli", endpoint_id, 5, **extra))
    rig.wait("chat", "Ready")
    if connects:
        keyed = {"writeConnectionTo": target | {"keys": {"endpointId": "ID"}}}
        rig.apply("chat", spec_of("friendli", endpoint_id, 5, **keyed))
        config_map = f"/api/v1/namespaces/{rig.namespace}/configmaps/chat"
        wait_for(lambda: "ID" in rig.api.get(config_map).json()["data"], what="the ConfigMap to change")
    # An edit while an update is under way: the status can only be written on what is read anew.
    rig.emulators.add_fault(Fault(method="PUT", endpoint_id=endpoint_id, gate_after=rig.namespace, count=1))
    rig.apply("chat", spec_of("friendli", endpoint_id, 6, **extra))
    rig.emulators.wait_for_gate(rig.namespace)
    rig.merge("chat", {"metadata": {"annotations": {"example.org/note": "edited"}}})
    rig.emulators.release_gate(rig.namespace)
    rig.wait("chat", "Ready")
    assert len(rig.mutations(endpoint_id)) == 2
    events = f"/apis/events.k8s.io/v1/namespaces/{rig.namespace}/events"
    wait_for(lambda: rig.api.get(events).json()["items"], what="an Event")
    rig.delete("chat")  # the next operator of the whole cluster would find it, and need other rights than its own life


class Mode(NamedTuple):
    """An install that has other rights.

    Attributes:
        listed: Whether it works in a list of namespaces.
        secrets: The value of that name; empty: the default.
        connections: The value `rbac.connections`.
        watches: Whether it may list Secrets.
        connects: Whether it may touch ConfigMaps.
    """

    listed: bool
    secrets: str
    connections: bool | str
    watches: bool
    connects: bool


MODES: Mapping[str, Mode] = {
    "the whole cluster": Mode(False, "", "auto", watches=False, connects=False),
    "the whole cluster, with connections": Mode(False, "", True, watches=False, connects=True),
    "the whole cluster, Secrets watched": Mode(False, "watch", "auto", watches=True, connects=False),
    "namespaces": Mode(True, "", "auto", watches=True, connects=True),
    "namespaces, Secrets got": Mode(True, "get", "auto", watches=False, connects=True),
    "namespaces, without connections": Mode(True, "", False, watches=True, connects=False),
}


@pytest.mark.parametrize("name", MODES)
def test_every_right_is_used_and_none_is_missing(
    plane: ControlPlane, emulators: EmulatorControl, tmp_path: Path, name: str
) -> None:
    mode = MODES[name]
    with rigged(plane, emulators, tmp_path) as rig:
        values = {
            "fullnameOverride": rig.namespace,
            "crds": {"install": False},
            "scope": {"namespaces": [rig.namespace] if mode.listed else []},
            "secrets": mode.secrets,
            "rbac": {"aggregate": False, "connections": mode.connections},
        }
        with released(plane, tmp_path, values_for(emulators, **values)) as release:
            pod = release.start()
            live(rig, connects=mode.connects)
            rights = granted(release)
            assert pod.terminate() == 0
            requests = requests_of(release)
        needed = {right for event in requests if (right := used(event)) is not None}
        denied = {str(used(event)) for event in requests if event["responseStatus"]["code"] == FORBIDDEN}
        rows = [(str(right), sum(used(event) == right for event in requests)) for right in sorted(rights)]
        show(f"Rights in {name}, and how often each was used", ("", ""), rows)
        assert denied == set()
        assert needed - rights == set(), "allowed by a role that is not the chart's"
        assert rights - needed == set(), "granted and never used"
        assert any(right.group == GROUP for right in rights)
        assert (Right("", "secrets", "list") in rights) == mode.watches
        assert (Right("", "configmaps", "patch") in rights) == mode.connects
        if mode.listed:
            beyond = {event["objectRef"].get("namespace") for event in requests if event.get("objectRef")}
            assert beyond == {rig.namespace, release.namespace}
