"""The Helm chart as tests use it: rendered by the real Helm, and the values of installs that differ in kind."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from inference_operator.playground.binaries import ensure
from rig import ROOT

CHART: Final = ROOT / "charts" / "inference-operator"
RELEASE: Final = "inference-operator"
NAMESPACE: Final = "operator-home"

Object = Mapping[str, Any]


def helm(
    *arguments: str | Path, values: Mapping[str, Any] | None = None, kubeconfig: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run Helm, with folders of its own and nothing of the user's environment.

    Args:
        arguments: The command line.
        values: Given as a file of values.
        kubeconfig: Leads to a cluster; without it there is none.
        check: Fail if Helm does.
    """
    with _surroundings(kubeconfig) as environment:
        command = [str(ensure(["helm"])["helm"]), *map(str, arguments), *(["--values", "-"] if values else [])]
        done = subprocess.run(
            command,
            input=json.dumps(dict(values or {})),  # YAML that reads the same in every version of it
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert not check or done.returncode == 0, f"helm {arguments[0]}: {done.stdout}{done.stderr}"
    return done


@contextmanager
def _surroundings(kubeconfig: Path | None) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="helm-") as folder:
        homes = {f"HELM_{kind}_HOME": f"{folder}/{kind.lower()}" for kind in ("CACHE", "CONFIG", "DATA")}
        yield {"HOME": folder, "PATH": os.defpath, "KUBECONFIG": str(kubeconfig or os.devnull), **homes}


def render(values: Mapping[str, Any] | None = None, *arguments: str, namespace: str = NAMESPACE) -> str:
    """What Helm would install, hooks included, as text."""
    return helm("template", RELEASE, CHART, "--namespace", namespace, *arguments, values=values).stdout


def template(values: Mapping[str, Any] | None = None, *arguments: str, namespace: str = NAMESPACE) -> list[Object]:
    """What Helm would install, hooks included."""
    return parse(render(values, *arguments, namespace=namespace))


def notes(values: Mapping[str, Any] | None = None) -> str:
    """What Helm tells the user after an install."""
    arguments = ("install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client")
    return helm(*arguments, values=values).stdout.partition("\nNOTES:\n")[2]


def parse(text: str) -> list[Object]:
    """The objects of a text."""
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    """The objects of these kinds."""
    return [each for each in objects if each["kind"] in kinds]


def deployments(objects: Sequence[Object]) -> dict[str, Object]:
    """The Deployments, by the name of their shard."""
    found = of_kind(objects, "Deployment")
    return {each["metadata"]["labels"]["inference-operator.io/shard"]: each for each in found}


def container(deployment: Object) -> Object:
    """The operator's container."""
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(deployment: Object) -> dict[str, str]:
    """The variables of the operator; of one that a Secret holds, its name and key."""
    return {
        each["name"]: each["value"] if "value" in each else "/".join(each["valueFrom"]["secretKeyRef"].values())
        for each in container(deployment)["env"]
    }


EVERY_SETTING: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "baseUrls": {"friendli": "https://friendli.example:8443", "novita": "http://127.0.0.1:9002"},
        "requestTimeoutSeconds": 12.5,
        "callsPerSecond": 0.25,
        "callsBurst": 3,
        "pollSeconds": 100000000,
        "transitionPollSeconds": 7,
        "driftSeconds": 1234567,
        "workers": 1000000,
        "readOnly": True,
        "maxRollouts": 0,
        "scaleIntervalSeconds": 90,
        "claimSeconds": 4,
        "settleSeconds": 45.5,
        "driftCooldownSeconds": 300,
        "adoptionPolicy": "Match",
        "secretGraceSeconds": 0.000001,
        "logFormat": "console",
        "logLevel": "debug",
    }
)

VALUES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "default": {},
        "namespaces": {"scope": {"namespaces": ["tenant-a", "tenant-b"]}},
        "namespaces, Secrets got": {
            "scope": {"namespaces": ["tenant-a"]},
            "secrets": "get",
            "rbac": {"connections": False},
        },
        "cluster, Secrets watched": {"secrets": "watch", "rbac": {"aggregate": False, "connections": True}},
        "shards": {"shards": [{"name": "a"}, {"name": "b", "replicas": 1}, {"name": "big-1", "replicas": 0}]},
        "shards with selectors": {
            "scope": {"namespaces": ["tenant-a"]},
            "defaultShard": {"labelSelector": "!tier"},
            "shards": [
                {"name": "gold", "labelSelector": "tier=gold", "resources": {"limits": {"memory": "1Gi"}}},
                {"name": "rest", "labelSelector": "tier,tier!=gold"},
            ],
        },
        "no default shard": {"defaultShard": {"enabled": False}, "shards": [{"name": "a"}]},
        "closed network": {
            "networkPolicy": {
                "enabled": True,
                "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
                "dns": {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]},
                "apiServer": {"ports": [6443], "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]},
                "providers": {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]},
                "extraEgress": [{"ports": [{"protocol": "TCP", "port": 3128}]}],
            },
            "proxy": {"secret": "proxy", "key": "address"},
            "caBundle": {"configMap": "authorities", "key": "bundle.pem"},
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more", "readOnly": True}],
        },
        "network open to all": {"networkPolicy": {"enabled": True}},
        "observed": {
            "metrics": {
                "service": {"annotations": {"example.org/scrape": "true"}},
                "serviceMonitor": {
                    "enabled": True,
                    "labels": {"release": "prometheus", "app.kubernetes.io/instance": "refused"},
                    "interval": "30s",
                    "scrapeTimeout": "10s",
                    "relabelings": [{"action": "labeldrop", "regex": "endpoint"}],
                    "metricRelabelings": [{"action": "drop", "sourceLabels": ["__name__"], "regex": "process_.*"}],
                },
                "prometheusRule": {
                    "enabled": True,
                    "labels": {"release": "prometheus"},
                    "ruleLabels": {"team": "platform"},
                    "runbookUrl": "https://runbooks.example/inference-operator",
                },
            },
            "grafana": {"dashboard": {"enabled": True, "folder": "Inference", "annotations": {"a.example/b": "c"}}},
            "argocd": {"configMap": {"enabled": True}},
        },
        "placed": {
            "replicas": 3,
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [
                {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
            ],
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
            "priorityClassName": "system-cluster-critical",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "50%"}},
            "podDisruptionBudget": {"maxUnavailable": "50%"},
        },
        "labelled": {
            "nameOverride": "endpoints",
            "fullnameOverride": "e-1",
            "commonLabels": {"example.org/team": "platform", "app.kubernetes.io/name": "refused"},
            "commonAnnotations": {"example.org/owner": "platform"},
            "podLabels": {"example.org/pod": "yes", "app.kubernetes.io/instance": "refused"},
            "podAnnotations": {"example.org/restarted": "1"},
            "serviceAccount": {"name": "writer", "annotations": {"example.org/role": "r"}},
            "image": {
                "repository": "registry.example/operator",
                "digest": f"sha256:{'0' * 64}",
                "pullPolicy": "Always",
            },
            "imagePullSecrets": [{"name": "registry"}],
            "extraEnv": [{"name": "OTEL_SERVICE_NAME", "value": "inference-operator"}],
        },
        "everything there already": {
            "crds": {"install": False},
            "rbac": {"create": False, "aggregate": False},
            "serviceAccount": {"create": False, "name": "existing"},
            "podDisruptionBudget": {"enabled": False},
            "replicas": 1,
        },
        "IPv6, a user of OpenShift's choice": {
            "http": {"host": "::", "port": 9090},
            "podSecurityContext": {"runAsUser": None, "runAsGroup": None},
            "crds": {"keep": False, "annotations": {"example.org/a": "b"}},
        },
        "every setting": {"settings": dict(EVERY_SETTING)},
    }
)
"""Values of installs that differ in kind, by what they are about."""
