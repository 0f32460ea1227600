"""What the chart renders: which values give which objects, which are refused, and what holds whatever is given."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.chart import (
    CHART,
    EVERY_SETTING,
    NAMESPACE,
    RELEASE,
    VALUES,
    Object,
    container,
    deployments,
    environment,
    helm,
    notes,
    of_kind,
    parse,
    render,
    template,
)
from inference_operator import app
from inference_operator.api.names import CRD_NAME
from inference_operator.environment import load
from inference_operator.kube import lease, operator
from inference_operator.kube.scopes import lease_name
from inference_operator.providers.registry import DRIVERS
from inference_operator.settings import PREFIX, Settings
from inference_operator.validate import validate_text
from rig import CRD, ROOT

pytestmark = pytest.mark.usefixtures("tools")

PROVIDERS = [driver.name for driver in DRIVERS]
CLUSTER_WIDE = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
STANDARD = {
    "app.kubernetes.io/name": "inference-operator",
    "app.kubernetes.io/instance": RELEASE,
    "app.kubernetes.io/version": "0.1.0",
    "app.kubernetes.io/managed-by": "Helm",
    "helm.sh/chart": "inference-operator-0.1.0",
}
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
every_set = pytest.mark.parametrize("name", VALUES)


@cache
def text_of(name: str) -> str:
    return render(VALUES[name])


@cache
def _objects_of(name: str) -> list[Object]:
    return parse(text_of(name))


def objects_of(name: str) -> list[Object]:
    return copy.deepcopy(_objects_of(name))


def one(objects: list[Object], kind: str, suffix: str = "") -> Object:
    (found,) = [each for each in of_kind(objects, kind) if each["metadata"]["name"].endswith(suffix)]
    return found


def rules(objects: list[Object], kind: str, suffix: str) -> set[tuple[str, str, str]]:
    """What a role grants: group, resource, verb."""
    return {
        (group, resource, verb)
        for rule in one(objects, kind, suffix)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


# ── lint, refusals ────────────────────────────────────────────────────────────────────────────────────


@every_set
def test_lint_finds_nothing(name: str) -> None:
    found = helm("lint", "--strict", CHART, values=VALUES[name]).stdout
    assert set(re.findall(r"^\[(?:INFO|WARNING|ERROR)\].*", found, re.MULTILINE)) == {
        "[INFO] Chart.yaml: icon is recommended"
    }


WRONG: dict[str, Mapping[str, Any]] = {
    "/": {"replica": 3},
    "/replicas": {"replicas": -1},
    "/image/tag": {"image": {"tag": "with space"}},
    "/image/digest": {"image": {"digest": "sha256:abc"}},
    "/image/pullPolicy": {"image": {"pullPolicy": "Sometimes"}},
    "/image": {"image": {"registry": "registry.example"}},
    "/secrets": {"secrets": "list"},
    "/scope/namespaces": {"scope": {"namespaces": "team-a,team-b"}},
    "/scope/namespaces/0": {"scope": {"namespaces": ["Team_A"]}},
    "/settings": {"settings": {"pollSecond": 5}},
    "/settings/pollSeconds": {"settings": {"pollSeconds": "60"}},
    "/settings/workers": {"settings": {"workers": 1.5}},
    "/settings/claimSeconds": {"settings": {"claimSeconds": 0}},
    "/settings/readOnly": {"settings": {"readOnly": "yes"}},
    "/settings/logLevel": {"settings": {"logLevel": "trace"}},
    "/settings/adoptionPolicy": {"settings": {"adoptionPolicy": "match"}},
    "/settings/baseUrls/friendli": {"settings": {"baseUrls": {"friendli": "http://friendli.example"}}},
    "/settings/baseUrls": {"settings": {"baseUrls": {"aws": "https://aws.example"}}},
    "/shards/0": {"shards": [{"labelSelector": "a=b"}]},
    "/shards/0/name": {"shards": [{"name": "Gold"}]},
    "/shards/1/replicas": {"shards": [{"name": "a"}, {"name": "b", "replicas": "2"}]},
    "/crds/keep": {"crds": {"keep": "true"}},
    "/rbac/aggregate": {"rbac": {"aggregate": "always"}},
    "/rbac/connections": {"rbac": {"connections": "yes"}},
    "/caBundle/key": {"caBundle": {"configMap": "ca", "key": "a/b"}},
    "/commonLabels/team": {"commonLabels": {"team": "not a label"}},
    "/commonLabels": {"commonLabels": {"the team": "platform"}},
    "/podAnnotations": {"podAnnotations": {"the team": "platform"}},
    "/resources/limits": {"resources": {"limits": {"graphics cards": 1}}},
    "/resources/limits/memory": {"resources": {"limits": {"memory": "lots"}}},
    "/podSecurityContext/runAsUser": {"podSecurityContext": {"runAsUser": "nobody"}},
    "/tolerations/0/effect": {"tolerations": [{"effect": "NeverSchedule"}]},
    "/extraEnv/0": {"extraEnv": [{"name": "A", "value": "b", "from": "c"}]},
    "/networkPolicy/apiServer/ports/0": {"networkPolicy": {"apiServer": {"ports": [70000]}}},
    "/networkPolicy/metricsFrom/0": {"networkPolicy": {"metricsFrom": [{}]}},
    "/podDisruptionBudget/maxUnavailable": {"podDisruptionBudget": {"maxUnavailable": 0}},
    "/http/host": {"http": {"host": "localhost"}},
    "/livenessProbe": {"livenessProbe": {"path": "/"}},
    "/metrics/serviceMonitor/interval": {"metrics": {"serviceMonitor": {"interval": "half a minute"}}},
    "/metrics/prometheusRule/runbookUrl": {"metrics": {"prometheusRule": {"runbookUrl": "docs/alerts.md"}}},
    "/grafana/dashboard": {"grafana": {"dashboard": {"on": True}}},
}


@pytest.mark.parametrize("place", WRONG)
def test_a_wrong_value_is_refused_by_its_path(place: str) -> None:
    refused = helm("template", RELEASE, CHART, values=WRONG[place], check=False)
    assert refused.returncode != 0
    assert refused.stdout == ""
    assert re.findall(r"^- at '(\S*)'", refused.stderr, re.MULTILINE)[0] == place.rstrip("/")


def needed(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The path of every value and group that cannot be null, by the types in the schema."""
    for name, inner in schema.get("properties", {}).items():
        if f"{path}{name}" != "global" and "null" not in inner.get("type", ()) and None not in inner.get("enum", ()):
            yield f"{path}{name}"
        yield from needed(inner, f"{path}{name}.")


@pytest.mark.parametrize("path", list(needed(SCHEMA)))
def test_a_value_that_is_left_empty_is_refused_by_its_name(path: str) -> None:
    # Helm takes a null for "no default", and drops it before it asks the schema.
    refused = helm("template", RELEASE, CHART, values=with_value({}, path, None), check=False)
    group, _, name = path.rpartition(".")
    assert (refused.returncode, refused.stdout) == (1, "")
    place = f"/{group.replace('.', '/')}" if group else ""
    assert f"- at '{place}': missing property '{name}'\n" in f"{refused.stderr}\n"


def test_the_definition_is_kept_unless_it_is_said_that_it_is_not() -> None:
    """Even where nothing asks the schema."""
    found = one(template({"crds": {"keep": None}}, "--skip-schema-validation"), "CustomResourceDefinition")
    assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


IMPOSSIBLE: dict[str, Mapping[str, Any]] = {
    "shards: two are named a; give each a name of its own": {"shards": [{"name": "a"}, {"name": "a"}]},
    "shards: one is named default, as the shard for all the rest is; write another name": {
        "shards": [{"name": "default"}]
    },
    "shards: gold has a labelSelector of its own, so the chart cannot know what is left for the default shard; write "
    "defaultShard.labelSelector, or defaultShard.enabled: false if nothing is left": {
        "shards": [{"name": "gold", "labelSelector": "tier=gold"}]
    },
    "nothing would run; name a shard in shards, or write defaultShard.enabled: true": {
        "defaultShard": {"enabled": False}
    },
    "serviceAccount.create is false, and no account is named; write its name in serviceAccount.name": {
        "serviceAccount": {"create": False}
    },
    "settings.settleSeconds is 60 and settings.requestTimeoutSeconds 60.5, so a write could land after it was judged "
    "lost; write settleSeconds: 60.5 or more": {"settings": {"requestTimeoutSeconds": 60.5}},
}


@pytest.mark.parametrize("message", IMPOSSIBLE)
def test_what_cannot_be_is_refused_with_what_to_write_instead(message: str) -> None:
    refused = helm("template", RELEASE, CHART, values=IMPOSSIBLE[message], check=False)
    assert refused.returncode != 0
    assert refused.stdout == ""
    assert message in refused.stderr


DECIDED = {"LEADER_ELECTION", "LEASE_NAMESPACE", "KUBECONFIG", "CONTEXT"}
"""Variables that no value stands for: there is one right way in a pod."""

STANDS_FOR = {
    "NAMESPACES": "scope.namespaces",
    "LABEL_SELECTOR": "defaultShard.labelSelector",
    "SECRETS": "secrets",
    "HTTP_ADDRESS": "http.port",
    "CA_FILE": "caBundle.configMap",
    "PROXY_URL": "proxy.secret",
}
"""The value that stands for a variable, where it is not the setting of the same name."""


@pytest.mark.parametrize("variable", [name.upper() for name in Settings.model_fields])
def test_a_setting_among_the_variables_is_refused_with_the_value_that_stands_for_it(variable: str) -> None:
    given = {"extraEnv": [{"name": f"{PREFIX}{variable}", "value": "x"}]}
    refused = helm("template", RELEASE, CHART, values=given, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    found = re.search(rf"extraEnv: {PREFIX}{variable} (?:is decided by|is a setting; write ([\w.]+))", refused.stderr)
    assert found, refused.stderr
    first, *rest = variable.lower().split("_")
    setting = f"settings.{first}{''.join(word.title() for word in rest)}"
    assert found[1] == (None if variable in DECIDED else STANDS_FOR.get(variable, setting))
    assert found[1] is None or found[1] in CHANGES


# ── every value has an effect ─────────────────────────────────────────────────────────────────────────

BASE: Mapping[str, Any] = {
    "networkPolicy": {"enabled": True, "metricsFrom": [{"podSelector": {}}]},
    "metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
    "grafana": {"dashboard": {"enabled": True}},
    "argocd": {"configMap": {"enabled": True}},
    "caBundle": {"configMap": "ca"},
    "proxy": {"secret": "proxy"},
}
"""With these, every template renders something."""

PEER: list[dict[str, Any]] = [{"podSelector": {}}]
CHANGES: dict[str, Any] = {
    **{f"settings.{name}": value for name, value in EVERY_SETTING.items()},
    "nameOverride": "x",
    "fullnameOverride": "x",
    "commonLabels": {"x": "y"},
    "commonAnnotations": {"x": "y"},
    "image.repository": "x",
    "image.tag": "x",
    "image.digest": f"sha256:{'1' * 64}",
    "image.pullPolicy": "Never",
    "imagePullSecrets": [{"name": "x"}],
    "scope.namespaces": ["x"],
    "secrets": "watch",
    "caBundle.configMap": "",
    "caBundle.key": "x",
    "proxy.secret": "",
    "proxy.key": "x",
    "replicas": 1,
    "defaultShard.enabled": False,
    "defaultShard.labelSelector": "x",
    "shards": [{"name": "x"}],
    "podDisruptionBudget.enabled": False,
    "podDisruptionBudget.maxUnavailable": 2,
    "crds.install": False,
    "crds.keep": False,
    "crds.annotations": {"x": "y"},
    "serviceAccount.create": False,
    "serviceAccount.name": "x",
    "serviceAccount.annotations": {"x": "y"},
    "rbac.create": False,
    "rbac.connections": True,
    "rbac.aggregate": False,
    "resources": {"limits": {"cpu": 1}},
    "podLabels": {"x": "y"},
    "podAnnotations": {"x": "y"},
    "podSecurityContext": {"fsGroup": 1},
    "securityContext": {"privileged": False},
    "affinity": {"podAffinity": {}},
    "topologySpreadConstraints": [{"topologyKey": "x", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
    "nodeSelector": {"x": "y"},
    "tolerations": [{"operator": "Exists"}],
    "priorityClassName": "x",
    "updateStrategy": {"type": "Recreate"},
    "revisionHistoryLimit": 1,
    "startupProbe": {"failureThreshold": 1},
    "livenessProbe": {"failureThreshold": 1},
    "readinessProbe": {"failureThreshold": 1},
    "http.host": "::",
    "http.port": 1,
    "extraEnv": [{"name": "x", "value": "y"}],
    "extraVolumes": [{"name": "x", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}],
    "networkPolicy.enabled": False,
    "networkPolicy.metricsFrom": [],
    "networkPolicy.dns.to": PEER,
    "networkPolicy.apiServer.ports": [1],
    "networkPolicy.apiServer.to": PEER,
    "networkPolicy.providers.ports": [1],
    "networkPolicy.providers.to": PEER,
    "networkPolicy.extraEgress": [{"to": PEER}],
    "metrics.service.annotations": {"x": "y"},
    "metrics.serviceMonitor.enabled": False,
    "metrics.serviceMonitor.labels": {"x": "y"},
    "metrics.serviceMonitor.annotations": {"x": "y"},
    "metrics.serviceMonitor.interval": "1s",
    "metrics.serviceMonitor.scrapeTimeout": "1s",
    "metrics.serviceMonitor.relabelings": [{"action": "x"}],
    "metrics.serviceMonitor.metricRelabelings": [{"action": "x"}],
    "metrics.prometheusRule.enabled": False,
    "metrics.prometheusRule.labels": {"x": "y"},
    "metrics.prometheusRule.annotations": {"x": "y"},
    "metrics.prometheusRule.runbookUrl": "https://x",
    "metrics.prometheusRule.ruleLabels": {"x": "y"},
    "grafana.dashboard.enabled": False,
    "grafana.dashboard.labels": {"x": "y"},
    "grafana.dashboard.annotations": {"x": "y"},
    "grafana.dashboard.folder": "x",
    "argocd.configMap.enabled": False,
    "argocd.configMap.name": "x",
}
NEEDS: dict[str, Mapping[str, Any]] = {
    "defaultShard.enabled": {"shards": [{"name": "x"}]},
    "serviceAccount.create": {"serviceAccount": {"name": "x"}},
}
"""What else has to be given for a change to be possible."""


def leaves(values: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        inner = schema["properties"][name]
        yield from leaves(value, inner, f"{path}{name}.") if "properties" in inner else [f"{path}{name}"]


def with_value(values: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(dict(values))
    *groups, last = path.split(".")
    place = changed
    for group in groups:
        place = place.setdefault(group, {})
    place[last] = value
    return changed


def test_every_value_is_in_the_table_of_changes() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert sorted(leaves(values, SCHEMA)) == sorted(CHANGES)


@cache
def _base(needs: str) -> str:
    return render({**BASE, **NEEDS.get(needs, {})})


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_of_any_value_changes_what_is_rendered(path: str) -> None:
    values = {**BASE, **NEEDS.get(path, {})}
    assert render(with_value(values, path, CHANGES[path])) != _base(path if path in NEEDS else "")


# ── what holds for each ───────────────────────────────────────────────────────────────────────────────


@every_set
def test_the_same_values_give_the_same_text(name: str) -> None:
    assert render(VALUES[name]) == text_of(name)


@every_set
def test_lines_are_tidy_and_no_number_is_in_scientific_notation(name: str) -> None:
    # What stands in ConfigMaps is other people's: a dashboard, scripts.
    own = "".join(each for each in text_of(name).split("\n---\n") if "\nkind: ConfigMap\n" not in each)
    assert [line for line in own.splitlines() if line != line.rstrip()] == []
    assert re.findall(r"(?<![\w.-])\d+(?:\.\d+)?e[+-]\d+", own) == []


@every_set
def test_every_object_has_the_labels_of_the_convention_and_a_name_of_its_own(name: str) -> None:
    objects = objects_of(name)
    keys = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(set(keys)) == len(keys) >= 3
    for each in objects:
        labels = each["metadata"]["labels"]
        if name != "labelled":
            assert labels.items() >= STANDARD.items()
        assert labels.keys() >= {*STANDARD, "app.kubernetes.io/component"}
        assert ("namespace" in each["metadata"]) == (each["kind"] not in CLUSTER_WIDE)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        (
            "default",
            (
                "ClusterRole ClusterRole ClusterRole ClusterRoleBinding CustomResourceDefinition Deployment Pod "
                "PodDisruptionBudget Role RoleBinding Service ServiceAccount"
            ),
        ),
        (
            "namespaces",
            (
                "CustomResourceDefinition Deployment Pod PodDisruptionBudget Role Role Role RoleBinding RoleBinding "
                "RoleBinding Service ServiceAccount"
            ),
        ),
        ("everything there already", "Deployment Pod Service"),
        (
            "observed",
            (
                "ClusterRole ClusterRole ClusterRole ClusterRoleBinding ConfigMap ConfigMap CustomResourceDefinition "
                "Deployment Pod PodDisruptionBudget PrometheusRule Role RoleBinding Service ServiceAccount "
                "ServiceMonitor"
            ),
        ),
    ],
)
def test_what_is_installed_is_this_and_no_more(name: str, kinds: str) -> None:
    assert sorted(each["kind"] for each in objects_of(name)) == kinds.split()


def test_labels_and_annotations_of_the_user_come_beside_those_of_the_chart_and_never_instead() -> None:
    objects = objects_of("labelled")
    for each in objects:
        labels = each["metadata"]["labels"]
        assert labels["example.org/team"] == "platform"
        assert labels["app.kubernetes.io/name"] == "endpoints"
        assert each["metadata"]["annotations"]["example.org/owner"] == "platform"
        assert each["metadata"]["name"].startswith("e-1") or each["kind"] in {
            "CustomResourceDefinition",
            "ServiceAccount",
        }
    pod = deployments(objects)["default"]["spec"]["template"]["metadata"]
    assert pod["annotations"] == {"example.org/restarted": "1"}
    assert pod["labels"] == {
        "app.kubernetes.io/component": "operator",
        "app.kubernetes.io/instance": RELEASE,
        "app.kubernetes.io/name": "endpoints",
        "example.org/pod": "yes",
        "example.org/team": "platform",
        "inference-operator.io/shard": "default",
    }


def chosen(selector: Mapping[str, Any], labelled: list[Mapping[str, str]]) -> list[int]:
    wanted = selector.get("matchLabels", selector)
    return [index for index, labels in enumerate(labelled) if labels.items() >= wanted.items()]


@every_set
def test_every_selector_selects_the_pods_that_it_is_about(name: str) -> None:
    objects = objects_of(name)
    found = deployments(objects)
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in found.values()]
    pods.append(one(objects, "Pod")["metadata"]["labels"])
    operators = list(range(len(found)))
    for index, each in enumerate(found.values()):
        assert chosen(each["spec"]["selector"], pods) == [index]
    assert chosen(one(objects, "Service")["spec"]["selector"], pods) == operators
    for policy in of_kind(objects, "NetworkPolicy"):
        assert chosen(policy["spec"]["podSelector"], pods) == operators
        for source in policy["spec"]["ingress"][0].get("from", [])[:1]:
            assert chosen(source["podSelector"], pods) == [len(operators)]
    for monitor in of_kind(objects, "ServiceMonitor"):
        services = [each["metadata"]["labels"] for each in of_kind(objects, "Service")]
        assert chosen(monitor["spec"]["selector"], services) == [0]
    budgets = [chosen(each["spec"]["selector"], pods) for each in of_kind(objects, "PodDisruptionBudget")]
    several = [index for index, each in enumerate(found.values()) if each["spec"]["replicas"] > 1]
    assert budgets == ([] if name == "everything there already" else [[index] for index in several])


@every_set
def test_pods_are_restricted_and_keep_to_themselves(name: str) -> None:
    for each in deployments(objects_of(name)).values():
        pod, operator_ = each["spec"]["template"]["spec"], container(each)
        users = {} if name.startswith("IPv6") else {"runAsUser": 65532, "runAsGroup": 65532}
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **users}
        assert operator_["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is True
        assert operator_["args"] == ["run"]
        assert "command" not in operator_
        assert {kind: operator_[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")} == {
            "startup": {"path": "/healthz", "port": "http"},
            "liveness": {"path": "/healthz", "port": "http"},
            "readiness": {"path": "/readyz", "port": "http"},
        }
        memory = "1Gi" if each["metadata"]["name"].endswith("-gold") else "256Mi"
        assert operator_["resources"]["limits"] == {"memory": memory}
    accounts = of_kind(objects_of(name), "ServiceAccount")
    assert [each["automountServiceAccountToken"] for each in accounts] == [False] * len(accounts)


def test_replicas_prefer_different_nodes_unless_told_otherwise() -> None:
    pod = deployments(objects_of("shards"))["a"]["spec"]["template"]
    (preferred,) = pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert preferred["podAffinityTerm"]["labelSelector"]["matchLabels"] == pod["metadata"]["labels"]
    placed = deployments(objects_of("placed"))["default"]["spec"]["template"]
    assert placed["spec"]["affinity"] == {"nodeAffinity": {}}
    (spread,) = placed["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == placed["metadata"]["labels"]


def test_shards_have_replicas_and_resources_of_their_own_where_they_say_so() -> None:
    def replicas(values: Mapping[str, Any]) -> dict[str, int]:
        return {shard: each["spec"]["replicas"] for shard, each in deployments(template(values)).items()}

    assert replicas(VALUES["shards"]) == {"default": 2, "a": 2, "b": 1, "big-1": 0}
    assert replicas({**VALUES["shards"], "replicas": 0}) == {"default": 0, "a": 0, "b": 1, "big-1": 0}


def test_the_network_is_closed_but_for_what_the_operator_needs() -> None:
    policy = one(objects_of("network open to all"), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8080}]}]
    assert policy["egress"] == [
        {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
        {"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]},
        {"ports": [{"protocol": "TCP", "port": 443}]},
    ]
    closed, given = (
        one(objects_of("closed network"), "NetworkPolicy")["spec"],
        VALUES["closed network"]["networkPolicy"],
    )
    assert closed["ingress"][0]["from"][1:] == given["metricsFrom"]
    names, server, providers, proxy = closed["egress"]
    assert (names["to"], server["to"], providers["to"]) == tuple(
        given[part]["to"] for part in ("dns", "apiServer", "providers")
    )
    assert server["ports"] == [{"protocol": "TCP", "port": 6443}]
    assert [proxy] == given["extraEgress"]


def test_a_digest_wins_over_a_tag() -> None:
    assert container(deployments(objects_of("default"))["default"])["image"] == "inference-operator:0.1.0"
    (found,) = of_kind(template({"image": {"tag": "1", "digest": f"sha256:{'a' * 64}"}}), "Deployment")
    assert container(found)["image"] == f"inference-operator@sha256:{'a' * 64}"


# ── the definition ────────────────────────────────────────────────────────────────────────────────────


@every_set
def test_the_definition_is_the_generated_one_but_for_labels_and_annotations(name: str) -> None:
    found = of_kind(objects_of(name), "CustomResourceDefinition")
    assert len(found) == (name != "everything there already")
    for each in found:
        assert each["metadata"].keys() <= {"name", "labels", "annotations"}
        assert {**each, "metadata": {"name": each["metadata"]["name"]}} == yaml.safe_load(CRD.read_text())


def test_the_definition_survives_helm_and_argo_cd_if_it_is_to_be_kept() -> None:
    kept = {
        "helm.sh/resource-policy": "keep",
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    }
    assert one(objects_of("default"), "CustomResourceDefinition")["metadata"]["annotations"] == kept
    unkept = one(objects_of("IPv6, a user of OpenShift's choice"), "CustomResourceDefinition")
    assert unkept["metadata"]["annotations"] == {"example.org/a": "b"}


# ── access ────────────────────────────────────────────────────────────────────────────────────────────


@every_set
def test_a_list_of_namespaces_makes_nothing_of_the_cluster_but_the_definition(name: str) -> None:
    objects = objects_of(name)
    listed = VALUES[name].get("scope", {}).get("namespaces", [])
    of_cluster = {each["kind"] for each in objects if each["kind"] in CLUSTER_WIDE}
    if listed:
        assert of_cluster == {"CustomResourceDefinition"}
    elif name != "everything there already":
        assert of_cluster == CLUSTER_WIDE
    places = [each["metadata"]["namespace"] for each in of_kind(objects, "Role")]
    assert places == sorted([*listed, *([NAMESPACE] if name != "everything there already" else [])], key=places.index)
    assert {each["metadata"].get("namespace") for each in objects} <= {None, NAMESPACE, *listed}


@every_set
def test_every_binding_binds_a_role_that_is_there_to_the_account_of_the_pods(name: str) -> None:
    objects = objects_of(name)
    there = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects}
    accounts = {each["spec"]["template"]["spec"]["serviceAccountName"] for each in deployments(objects).values()}
    bindings = of_kind(objects, "RoleBinding", "ClusterRoleBinding")
    for each in bindings:
        role = each["roleRef"]
        assert (role["kind"], each["metadata"].get("namespace"), role["name"]) in there
        assert each["subjects"] == [{"kind": "ServiceAccount", "name": next(iter(accounts)), "namespace": NAMESPACE}]
    roles = [
        each
        for each in of_kind(objects, "Role", "ClusterRole")
        if "user-roles" not in each["metadata"]["labels"].values()
    ]
    assert len(bindings) == len(roles)
    assert len(accounts) == 1


def demonstrated() -> set[tuple[str, str, str]]:
    """What the operator of the demonstration may do, and so every test of it."""
    role = next(yaml.safe_load_all((ROOT / "operator/inference_operator/playground/access.yaml").read_text()))
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_operator_may_do_what_it_may_in_the_demonstration_and_use_one_lease_namespace() -> None:
    objects = objects_of("cluster, Secrets watched")
    granted = rules(objects, "ClusterRole", RELEASE), rules(objects, "Role", "-lease")
    assert granted[0] | granted[1] == demonstrated()
    assert {resource for _, resource, _ in granted[1]} == {"leases"}
    assert granted[0].isdisjoint(granted[1])


def test_secrets_that_are_only_got_are_neither_listed_nor_watched() -> None:
    secrets = {("", "secrets", verb) for verb in ("get", "list", "watch")}
    for name, verbs in {
        "default": {"get"},
        "cluster, Secrets watched": {"get", "list", "watch"},
        "namespaces, Secrets got": {"get"},
        "namespaces": {"get", "list", "watch"},
    }.items():
        objects = [each for each in objects_of(name) if each["metadata"].get("namespace") in {None, "tenant-a"}]
        role = "Role" if "namespaces" in name else "ClusterRole"
        assert rules(objects, role, RELEASE) & secrets == {("", "secrets", verb) for verb in verbs}
        mode = environment(deployments(objects_of(name))["default"])["INFERENCE_OPERATOR_SECRETS"]
        assert mode == ("watch" if "watch" in verbs else "get")


@pytest.mark.parametrize(
    ("name", "verbs"),
    [
        ("default", set()),
        ("cluster, Secrets watched", {"get", "create", "patch"}),
        ("namespaces", {"get", "create", "patch"}),
        ("namespaces, Secrets got", set()),
    ],
)
def test_config_maps_are_touched_in_listed_namespaces_or_where_that_is_asked_for(name: str, verbs: set[str]) -> None:
    objects = [each for each in objects_of(name) if each["metadata"].get("namespace") in {None, "tenant-a"}]
    role = "Role" if "namespaces" in name else "ClusterRole"
    found = {verb for _, resource, verb in rules(objects, role, RELEASE) if resource == "configmaps"}
    assert found == verbs


def test_users_get_what_their_role_in_the_cluster_says_and_nobody_a_status_to_write() -> None:
    objects = objects_of("default")
    view, edit = rules(objects, "ClusterRole", "-view"), rules(objects, "ClusterRole", "-edit")
    group, plural = "inference-operator.io", "inferenceendpoints"
    assert view == {
        *((group, plural, verb) for verb in ("get", "list", "watch")),
        (group, f"{plural}/status", "get"),
        (group, f"{plural}/scale", "get"),
    }
    assert edit == {
        *((group, plural, verb) for verb in ("create", "update", "patch", "delete", "deletecollection")),
        *((group, f"{plural}/scale", verb) for verb in ("update", "patch")),
    }
    to = "rbac.authorization.k8s.io/aggregate-to-"
    for suffix, roles in {"-view": {"view", "edit", "admin"}, "-edit": {"edit", "admin"}}.items():
        labels = one(objects, "ClusterRole", suffix)["metadata"]["labels"]
        assert {key.removeprefix(to) for key in labels if key.startswith(to)} == roles


# ── what the operator is told ─────────────────────────────────────────────────────────────────────────


def settings_of(deployment: Object, folder: Path) -> Settings:
    """What the operator makes of its variables; what a volume or a Secret would give is put in their place."""
    variables = environment(deployment)
    if f"{PREFIX}CA_FILE" in variables:
        mounts = {each["mountPath"] for each in container(deployment)["volumeMounts"]}
        assert str(Path(variables[f"{PREFIX}CA_FILE"]).parent) in mounts
        (folder / "ca.crt").touch()
        variables[f"{PREFIX}CA_FILE"] = str(folder / "ca.crt")
    if f"{PREFIX}PROXY_URL" in variables:
        assert variables[f"{PREFIX}PROXY_URL"] == "proxy/address"
        variables[f"{PREFIX}PROXY_URL"] = "http://proxy.example:3128"
    return load({"KUBERNETES_SERVICE_HOST": "10.0.0.1", **variables}, {}, providers=PROVIDERS)


@every_set
def test_the_operator_accepts_its_variables_and_competes_with_its_own_replicas_only(name: str, tmp_path: Path) -> None:
    told = {shard: settings_of(each, tmp_path) for shard, each in deployments(objects_of(name)).items()}
    scopes = VALUES[name].get("scope", {}).get("namespaces", [])
    for settings in told.values():
        assert settings.leader_election is True
        assert settings.lease_namespace == NAMESPACE
        assert settings.namespaces == tuple(scopes)
        assert settings.secrets == VALUES[name].get("secrets", "watch" if scopes else "get")
        assert str(settings.http_address) == ("[::]:9090" if name.startswith("IPv6") else "0.0.0.0:8080")
    leases = {lease_name(settings.namespaces, settings.label_selector) for settings in told.values()}
    assert len(leases) == len(told)


def test_every_setting_arrives(tmp_path: Path) -> None:
    settings = settings_of(deployments(objects_of("every setting"))["default"], tmp_path)
    for name, value in EVERY_SETTING.items():
        assert getattr(settings, re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)) == value


def test_what_is_not_set_is_left_to_the_operator() -> None:
    assert environment(deployments(objects_of("default"))["default"]).keys() == {
        f"{PREFIX}{name}" for name in ("LEADER_ELECTION", "LEASE_NAMESPACE", "HTTP_ADDRESS", "SECRETS")
    }


@pytest.mark.parametrize(
    "budget",
    [{}, {"callsPerSecond": 7.5, "callsBurst": 2, "maxRollouts": 100}, {"maxRollouts": 0}, {"maxRollouts": 1}],
)
@pytest.mark.parametrize("shards", [0, 1, 2, 6])
def test_shards_together_use_the_budget_of_one(budget: Mapping[str, Any], shards: int, tmp_path: Path) -> None:
    values = {"settings": budget, "shards": [{"name": f"s{number}"} for number in range(shards)]}
    told = [settings_of(each, tmp_path) for each in deployments(template(values)).values()]
    whole = settings_of(deployments(template({"settings": budget}))["default"], tmp_path)
    assert len(told) == shards + 1
    assert math.isclose(sum(each.calls_per_second for each in told), whole.calls_per_second, rel_tol=1e-9)
    for each in told:
        assert each.calls_burst == max(1, whole.calls_burst // len(told))
        assert each.max_rollouts == (max(1, whole.max_rollouts // len(told)) if whole.max_rollouts else 0)


@pytest.mark.parametrize("timeout", [None, 0.5, 12.25, 45])
def test_kubernetes_waits_for_calls_under_way_before_it_kills(timeout: float | None, tmp_path: Path) -> None:
    found = deployments(template({"settings": {"requestTimeoutSeconds": timeout}} if timeout else {}))["default"]
    settings = settings_of(found, tmp_path)
    drain = settings.request_timeout_seconds + app.STATUS_SECONDS
    afterwards = 3 * lease.REQUEST_SECONDS + operator.FLUSH_SECONDS + operator.UNWATCH_SECONDS
    grace = found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert drain + afterwards < grace < drain + afterwards + 5


# ── monitoring, Argo CD ───────────────────────────────────────────────────────────────────────────────


def test_alerts_are_those_of_the_file_with_the_links_and_labels_that_are_asked_for() -> None:
    source = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    plain = one(template({"metrics": {"prometheusRule": {"enabled": True}}}), "PrometheusRule")
    for rule in (rule for group in source["groups"] for rule in group["rules"]):
        del rule["annotations"]["runbook_url"]  # a path in the project is no link
    assert plain["spec"] == source
    found = one(objects_of("observed"), "PrometheusRule")["spec"]["groups"]
    alerts = [rule for group in found for rule in group["rules"] if "alert" in rule]
    assert len(alerts) >= 5
    for alert in alerts:
        base, _, section = alert["annotations"]["runbook_url"].partition("#")
        assert base == "https://runbooks.example/inference-operator"
        assert section
        assert alert["labels"]["team"] == "platform"
        assert "severity" in alert["labels"]


def test_the_dashboard_is_that_of_the_file() -> None:
    found = one(objects_of("observed"), "ConfigMap", "-dashboard")
    source = (CHART / "files" / "dashboard.json").read_text(encoding="utf-8")
    assert [json.loads(each) for each in found["data"].values()] == [json.loads(source)]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"a.example/b": "c", "grafana_folder": "Inference"}


def test_what_argo_cd_needs_is_that_of_the_file() -> None:
    source = yaml.safe_load((CHART / "files" / "argocd" / "argocd-cm.yaml").read_text(encoding="utf-8"))
    assert one(objects_of("observed"), "ConfigMap", "-argocd")["data"] == source["data"]


# ── notes, test, package ──────────────────────────────────────────────────────────────────────────────


def test_the_notes_say_what_is_installed_and_three_commands_to_copy() -> None:
    told = notes()
    commands = re.findall(r"^kubectl .*", told, re.MULTILINE)
    assert commands == [
        "kubectl -n team-a create secret generic friendli --from-file=token=friendli.key",
        "kubectl apply -f - <<END",
        "kubectl -n team-a describe inferenceendpoint llama-chat",
    ]
    resource = told.partition("<<END\n")[2].partition("\nEND\n")[0]
    assert yaml.safe_load(resource)["spec"]["managementPolicy"] == "Observe"
    assert validate_text(resource, file="NOTES.txt", drivers=DRIVERS).findings == ()
    assert "works in   every namespace\n" in told
    assert "writes     to providers" in told
    assert "Secrets    got by name, never listed\n" in told
    assert "ConfigMaps none, so spec.writeConnectionTo cannot work; rbac.connections=true allows it\n" in told
    assert "kubectl create namespace team-a makes one" in told


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"settings": {"readOnly": True}}, "  writes     nothing: settings.readOnly is true"),
        ({"scope": {"namespaces": ["b", "a"]}}, "  works in   b, a\n"),
        ({"scope": {"namespaces": ["b", "a"]}}, "kubectl -n b describe"),
        ({"scope": {"namespaces": ["b", "a"]}}, "  Secrets    watched where it works\n"),
        ({"scope": {"namespaces": ["b", "a"]}}, "  ConfigMaps got, created and patched where it works, for spec."),
        ({"scope": {"namespaces": ["b", "a"]}}, "beside the resources that will use it:\n"),
        ({"rbac": {"connections": True}}, "  ConfigMaps got, created and patched where it works, for spec."),
        ({"shards": [{"name": "x"}]}, "  shards     default, x\n"),
        ({"replicas": 0}, "  replicas   0: it is stopped\n"),
        ({"rbac": {"create": False}}, "  access     none by this chart"),
        ({"shards": [{"name": "x"}], "defaultShard": {"enabled": False}}, "\nResources that no shard selects are"),
        (VALUES["observed"], f"get configmap {RELEASE}-argocd -o jsonpath="),
    ],
)
def test_the_notes_follow_the_values(values: Mapping[str, Any], line: str) -> None:
    assert line in notes(values)
    assert line not in notes()


@contextmanager
def answering(answers: Mapping[str, bytes]) -> Iterator[int]:
    """A server with these answers; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in answers
            self.send_response(200 if known else 503)
            self.end_headers()
            self.wfile.write(answers.get(self.path, b""))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("metrics", "code"), [(b"# HELP\ninference_operator_build_info 1\n", 0), (b"python_info 1\n", 1)]
)
def test_the_test_of_the_release_asks_the_service_for_readiness_and_metrics(metrics: bytes, code: int) -> None:
    objects = objects_of("default")
    pod, service = one(objects, "Pod"), one(objects, "Service")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (probe,) = pod["spec"]["containers"]
    assert probe["image"] == container(deployments(objects)["default"])["image"]
    interpreter, *arguments, script = probe["command"]
    origin = f"http://{service['metadata']['name']}.{NAMESPACE}.svc:{service['spec']['ports'][0]['port']}"
    assert (interpreter, script.count(origin)) == ("python", 1)
    with answering({"/readyz": b"working\n", "/metrics": metrics}) as port:
        command = [sys.executable, *arguments, script.replace(origin, f"http://127.0.0.1:{port}")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[0]) == (code, "/readyz says: working")


def test_the_package_holds_what_an_install_needs_and_no_more(tmp_path: Path) -> None:
    helm("package", CHART, "--destination", tmp_path)
    with tarfile.open(tmp_path / "inference-operator-0.1.0.tgz") as package:
        names = {Path(each).relative_to("inference-operator") for each in package.getnames()}
    outside = {each for each in names if each.parts[0] != "templates"}
    assert outside == {
        Path(each)
        for each in (
            "Chart.yaml",
            "README.md",
            "values.yaml",
            "values.schema.json",
            ".helmignore",
            "files/alerts.yaml",
            "files/argocd/argocd-cm.yaml",
            "files/dashboard.json",
            f"files/{CRD_NAME}.yaml",
        )
    }
