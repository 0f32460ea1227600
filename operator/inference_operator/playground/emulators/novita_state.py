"""How a Novita endpoint behaves: what an update keeps, how workers are replaced, and how both are shown.

Sources: the page "Update Endpoint" for the request; the provider's reference pages for the responses, whose types
differ from it; observations of third parties for the probe's constants and for removed workers, which stay listed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from inference_operator.playground.emulators.timeline import Cause

_LOCAL_VOLUME_SIZE = 30
_INTERNAL_PORTS = frozenset({2222, 2223, 2224})
_LARGEST_PORT = 65535
_PROBE = {"initialDelay": 10, "period": 10, "timeout": 10, "successThreshold": 1, "failureThreshold": 3}

DEFAULT_LIMITS: Mapping[str, Any] = {
    "minRootfsSize": 10,
    "maxRootfsSize": 500,
    "freeRootfsSize": 100,
    "minLocalVolumeSize": _LOCAL_VOLUME_SIZE,
    "maxLocalVolumeSize": _LOCAL_VOLUME_SIZE,
    "freeLocalVolumeSize": _LOCAL_VOLUME_SIZE,
    "minWorkerNum": 0,
    "maxWorkerNum": 100,
    "minFreeTimeout": 1,
    "maxFreeTimeout": 86400,
    "minConcurrencyNum": 1,
    "maxConcurrencyNum": 1000,
    "minQueueWaitTime": 1,
    "maxQueueWaitTime": 3600,
    "minRequestNum": 1,
    "maxRequestNum": 10000,
    "minGPUNum": 1,
    "maxGPUNum": 8,
    "minRequestTimeout": 1,
    "maxRequestTimeout": 86400,
    "cudaVersionList": ["12.4", "12.6", "12.8"],
}

# Field of workerConfig -> the limits that bound it.
_WORKER_LIMITS = {
    "minNum": "WorkerNum",
    "maxNum": "WorkerNum",
    "freeTimeout": "FreeTimeout",
    "maxConcurrent": "ConcurrencyNum",
    "gpuNum": "GPUNum",
    "requestTimeout": "RequestTimeout",
}
_POLICY_LIMITS = {"queue": "QueueWaitTime", "concurrency": "RequestNum"}


def rule_problems(body: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[str]:
    """Yields what is wrong with a configuration that fits the schema: values out of limits, and rules between fields.

    Args:
        body: An update body, or the endpoint of a create body.
        limits: The ranges in the form of the parameter limits call.
    """
    worker, policy, port = body["workerConfig"], body["policy"], int(body["ports"][0]["port"])
    values = [(f"workerConfig.{name}", worker[name], limit) for name, limit in _WORKER_LIMITS.items()]
    values.append(("policy.value", policy["value"], _POLICY_LIMITS[policy["type"]]))
    for name, value, limit in values:
        if not limits[f"min{limit}"] <= value <= limits[f"max{limit}"]:
            yield f"{name} must be from {limits[f'min{limit}']} to {limits[f'max{limit}']}"
    if worker["minNum"] > worker["maxNum"]:
        yield "workerConfig.minNum is larger than workerConfig.maxNum"
    if port > _LARGEST_PORT or port in _INTERNAL_PORTS:
        yield "ports: a port is from 1 to 65535 and not 2222, 2223 or 2224"
    yield from _volume_problems(body)
    keys = [env["key"] for env in body.get("envs", ())]
    if len(set(keys)) < len(keys):
        yield "envs: a key is given twice"


def _volume_problems(body: Mapping[str, Any]) -> Iterator[str]:
    for mount in body.get("volumeMounts", ()):
        if mount["type"] == "local" and mount.get("size", _LOCAL_VOLUME_SIZE) != _LOCAL_VOLUME_SIZE:
            yield f"volumeMounts: a local volume has size {_LOCAL_VOLUME_SIZE}"
        if mount["type"] == "network" and not mount.get("id"):
            yield "volumeMounts: a network volume needs an id"
        if mount["type"] == "network" and not body.get("clusterID"):
            yield "clusterID is required with a network volume"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, told by the times at which it was asked for, became ready, and was removed (monotonic seconds)."""

    id: str
    ready: float
    removed: float = math.inf

    def shown(self, at: float) -> dict[str, Any]:
        """Returns the worker as get and list show it."""
        state = "removed" if at >= self.removed else "running" if at >= self.ready else "pending"
        return {
            "id": self.id,
            "state": {"state": state, "error": "", "message": ""},
            "log": "",
            "metrics": "",
            "healthy": state == "running",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NovitaState:
    """An endpoint between two commits, as a function of time.

    Attributes:
        config: The last update body without its id, as it was kept.
        fixed: What only a create can give: appName, products, rootfsSize, cudaVersion.
        workers: Its workers, the removed ones included.
        spawned: Workers that were ever made.
        via: State word while in transition.
        rest: State word after it.
        begins: Begin of the transition, monotonic seconds.
        ends: Its end; the same as ``begins`` where there is none.
        by: Who caused it.
        error: Why the endpoint is abnormal after the transition, empty if it is not.
        deleted: Whether the endpoint is gone.
    """

    config: Mapping[str, Any]
    fixed: Mapping[str, Any]
    workers: tuple[Worker, ...] = ()
    spawned: int = 0
    via: str = "serving"
    rest: str = "serving"
    begins: float = 0.0
    ends: float = 0.0
    by: str = ""
    error: str = ""
    deleted: bool = False

    def status(self, at: float) -> dict[str, str]:
        """Returns the state object at a monotonic time."""
        if at < self.ends:
            return {"state": self.via, "error": "", "message": ""}
        return {"state": self.rest, "error": self.error, "message": self.error and f"the endpoint reports {self.error}"}

    def usable(self, at: float) -> int:
        """Returns the number of workers that serve at a monotonic time."""
        return sum(worker.ready <= at < worker.removed for worker in self.workers)

    def updated(self, config: Mapping[str, Any], cause: Cause, *, via: str, kept_seconds: float) -> NovitaState:
        """Returns the state after a new configuration was accepted: every worker is replaced, one after the other.

        Args:
            config: The configuration as it is kept.
            cause: Who, when, for how long, and how it ends.
            via: State word while workers are replaced.
            kept_seconds: How long removed workers stay listed; older ones are dropped here.
        """
        old = [worker for worker in self.workers if worker.removed == math.inf]
        bounds = config["workerConfig"]
        count = max(min(len(old), bounds["maxNum"]), bounds["minNum"])
        step = cause.seconds / max(count, 1)
        new = [Worker(f"worker-{self.spawned + i + 1}", cause.at + step * (i + 1)) for i in range(count)]
        retired = [
            replace(worker, removed=min(cause.at + step * (i + 1), cause.at + cause.seconds))
            for i, worker in enumerate(old)
        ]
        leaving = [worker for worker in self.workers if cause.at - kept_seconds < worker.removed < math.inf]
        return replace(
            self,
            config=config,
            workers=(*leaving, *retired, *new),
            spawned=self.spawned + count,
            via=via,
            rest="failed" if cause.error else "serving",
            begins=cause.at,
            ends=cause.at + cause.seconds,
            by=cause.by,
            error=cause.error or "",
        )

    def scaled(self, count: int, at: float) -> NovitaState:
        """Returns the state in which there are ``count`` workers at once."""
        live = [worker for worker in self.workers if worker.removed > at]
        gone = [worker for worker in self.workers if worker.removed <= at]
        more = [Worker(f"worker-{self.spawned + i + 1}", at) for i in range(count - len(live))]
        fewer = [replace(worker, removed=at) for worker in live[count:]]
        kept = [replace(worker, ready=min(worker.ready, at), removed=math.inf) for worker in live[:count]]
        return replace(self, workers=(*gone, *fewer, *kept, *more), spawned=self.spawned + len(more))


def kept(body: Mapping[str, Any], clamp: int | None = None) -> dict[str, Any]:
    """Returns what the provider keeps of an update body, or of the endpoint of a create body.

    The documents ask for all parameters in full; what is absent is cleared.

    Args:
        body: A body that fits the schema and the rules.
        clamp: The largest number of workers that is kept.
    """
    worker = dict(body["workerConfig"])
    if clamp is not None:
        worker |= {name: min(worker[name], clamp) for name in ("minNum", "maxNum")}
    return {
        "name": body.get("name", ""),
        "clusterID": body.get("clusterID", ""),
        "workerConfig": worker,
        "ports": body["ports"],
        "policy": body["policy"],
        "image": {"authId": "", "command": "", **body["image"]},
        "volumeMounts": [_volume(mount) for mount in body.get("volumeMounts", ())],
        "envs": body.get("envs", []),
        "healthy": body.get("healthy"),
    }


def _volume(mount: Mapping[str, Any]) -> dict[str, Any]:
    local = mount["type"] == "local"
    size, identity = (_LOCAL_VOLUME_SIZE, "") if local else (0, mount["id"])
    return {"type": mount["type"], "size": size, "id": identity, "mountPath": mount["mountPath"]}


def shown(
    identity: str, state: NovitaState, at: float, *, form: Literal["get", "list"], kept_seconds: float
) -> dict[str, Any]:
    """Returns an endpoint as the provider shows it: some numbers have become strings, and ports differ by operation.

    Args:
        identity: The endpoint's id.
        state: Its state.
        at: The monotonic time at which to look at it.
        form: Which operation shows it.
        kept_seconds: How long removed workers stay listed.
    """
    config, worker, policy = state.config, state.config["workerConfig"], state.config["policy"]
    port = config["ports"][0]["port"]
    answer = {
        "id": identity,
        "name": config["name"],
        "appName": state.fixed["appName"],
        "url": f"https://{state.fixed['appName']}.endpoints.example",
        "state": state.status(at),
        "workerConfig": worker
        | {
            "freeTimeout": str(worker["freeTimeout"]),
            "maxConcurrent": str(worker["maxConcurrent"]),
            "cudaVersion": state.fixed["cudaVersion"],
        },
        "policy": {"type": policy["type"], "value": str(policy["value"])},
        "image": config["image"],
        "rootfsSize": state.fixed["rootfsSize"],
        "volumeMounts": config["volumeMounts"],
        "envs": config["envs"],
        "ports": [{"port": int(port) if form == "get" else port}],
        "workers": [worker.shown(at) for worker in state.workers if at < worker.removed + kept_seconds],
        "products": state.fixed["products"],
        "log": "",
    }
    if config["clusterID"]:
        answer["clusterID"] = config["clusterID"]
    if config["healthy"]:
        answer["healthy"] = config["healthy"] | _PROBE
    return answer
