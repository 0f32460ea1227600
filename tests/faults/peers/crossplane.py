"""Crossplane's provider-http, which turns any HTTP API into resources: built from its module, in two configurations."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml

from faults.comparison import Profile
from faults.peers.subject import POLL_SECONDS, TIMEOUT_SECONDS, Subject, condition_of
from faults.peers.wish import GPU, OPTION, Wish
from inference_operator.playground import binaries, toolchain
from inference_operator.playground.progress import on_terminal
from inference_operator.playground.toolchain import GoModule

SOURCE: Final = "github.com/crossplane-contrib/provider-http"
_NAME = "provider-http"
_TIMES = f"--poll={POLL_SECONDS:g}s (1m), waitTimeout {TIMEOUT_SECONDS:g}s (5m), no election (as shipped)"


class Module(GoModule):
    """The provider's module, unchanged but for the port of its metrics, which is fixed and would allow one copy."""

    @cached_property
    def flags(self) -> tuple[str, ...]:
        variable = "sigs.k8s.io/controller-runtime/pkg/metrics/server.DefaultBindAddress"
        return ("-trimpath", f"-ldflags=-s -w -X {variable}=127.0.0.1:0")


MODULE: Final = Module(Path(__file__).with_name("providerhttp"), stamped=SOURCE)


@cache
def program() -> Path:
    """Where the provider's program is, after building it if that has not been done.

    Raises:
        BuildError: It could not be built.
    """
    with on_terminal() as report, binaries._locked(binaries.cache_folder(MODULE), report, _NAME) as folder:
        if not (folder / _NAME).exists():
            toolchain.build(MODULE, {_NAME: f"{SOURCE}/cmd/provider"}, folder, report)
        return folder / _NAME


@cache
def definitions() -> tuple[Mapping[str, Any], ...]:
    """The custom resource definitions that the module ships, after downloading it if that has not been done."""
    go = toolchain.find_go(MODULE.go_version)
    command = [str(go), "mod", "download", "-json", SOURCE]
    listed = subprocess.run(
        command, cwd=MODULE.folder, env=toolchain._environment(), capture_output=True, text=True, check=True
    )
    folder = Path(json.loads(listed.stdout)["Dir"]) / "package" / "crds"
    return tuple(yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml")))


class ProviderHttp(Subject):
    """A `Request` whose OBSERVE is a GET and whose UPDATE is a PUT; the subclasses say how the two are compared."""

    version, kind, plural = "http.m.crossplane.io/v1alpha2", "Request", "requests"
    rate: ClassVar[int]
    update_body: ClassVar[str]
    more: ClassVar[Mapping[str, Any]] = {}
    check: ClassVar[Mapping[str, Any]] = {}

    def install(self) -> None:
        self.define(definitions())
        config = {"spec": {"credentials": {"source": "None"}}}
        path = f"/apis/{self.version}/namespaces/{self.rig.namespace}/providerconfigs/friendli"
        self.rig._apply(path, config, self.version, "ProviderConfig", "friendli")

    def start(self) -> None:
        self.spawn([program(), f"--poll={POLL_SECONDS:g}s", f"--max-reconcile-rate={self.rate}"])

    def spec(self, wish: Wish) -> dict[str, Any]:
        url = f"{self.rig.emulators.urls()['friendli']}/dedicated/beta/endpoint/{wish.endpoint_id}"
        target = {"url": ".payload.baseUrl"}
        return {
            "providerConfigRef": {"kind": "ProviderConfig", "name": "friendli"},
            "forProvider": {
                "waitTimeout": f"{TIMEOUT_SECONDS:g}s",
                "headers": {
                    "Content-Type": ["application/json"],
                    "Authorization": [f"Bearer {{{{ key:{self.rig.namespace}:token }}}}"],
                },
                "payload": {"baseUrl": url, "body": json.dumps(wish.body())},
                "mappings": [
                    {"action": "OBSERVE", "method": "GET", **target},
                    {"action": "UPDATE", "method": "PUT", "body": self.update_body, **target},
                ],
                **({"expectedResponseCheck": dict(self.check)} if self.check else {}),
            },
            **self.more,
        }

    def claims(self, resource: Mapping[str, Any]) -> bool:
        synced, ready = condition_of(resource, "Synced"), condition_of(resource, "Ready")
        current: bool = synced.get("observedGeneration") == resource["metadata"]["generation"]
        return current and synced["status"] == ready.get("status") == "True"


class Default(ProviderHttp):
    """As it comes: in sync when the answer of the GET holds every field of the PUT."""

    rate, update_body = 10, ".payload.body"
    profile = Profile(
        name="default",
        title="provider-http, default check",
        version=MODULE.version,
        settings=f"--max-reconcile-rate={rate} (10 as shipped), {_TIMES}; default response check",
    )


_MARK = '(.payload.body.name + " " + .payload.body.hfModelRepo + "@" + .payload.body.hfModelRepoRevision)'
_READABLE: Final = {
    ".response.body.name": _MARK,
    ".response.body.autoscalingMin": ".payload.body.autoscalingPolicy.minReplica",
    ".response.body.autoscalingMax": ".payload.body.autoscalingPolicy.maxReplica",
    ".response.body.autoscalingCooldown": ".payload.body.autoscalingPolicy.cooldownPeriod",
    ".response.body.maxBatchSize": ".payload.body.advanced.max_batch_size",
    ".response.body.tokenizerSkipSpecialTokens": ".payload.body.advanced.tokenizer_skip_special_tokens",
    ".response.body.tokenizerAddSpecialTokens": ".payload.body.advanced.tokenizer_add_special_tokens",
    "[.response.body.gpuType, .response.body.numGpu]": json.dumps({OPTION: GPU}) + "[.payload.body.instanceOptionId]",
}


class Best(ProviderHttp):
    """The best that was found: every readable field compared, the model in the name, failed reads left alone."""

    rate, update_body = 100, f".payload.body + {{name: {_MARK}}}"
    more: ClassVar = {"managementPolicies": ["Observe", "Create", "Update", "LateInitialize"]}
    check: ClassVar = {
        "type": "CUSTOM",
        "logic": "if .response.statusCode != 200 then true elif "
        + " and ".join(f"({shown} == {wanted})" for shown, wanted in _READABLE.items())
        + " then true else false end",
    }
    profile = Profile(
        name="best",
        title="provider-http, best check",
        version=MODULE.version,
        settings=f"--max-reconcile-rate={rate} (10 as shipped), {_TIMES}; custom check in jq over every readable field,"
        " model and revision kept in the endpoint's name, failed reads count as in sync, no Delete policy",
    )
