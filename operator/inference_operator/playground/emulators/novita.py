"""Emulates the control API of Novita's serverless GPU endpoints, version 1.

Left out are the operations that list products, clusters, network storages and registry credentials.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inference_operator.playground.emulators.exchange import NO_BODY, Call, Reply
from inference_operator.playground.emulators.novita_state import DEFAULT_LIMITS, NovitaState, kept, rule_problems, shown
from inference_operator.playground.emulators.provider import (
    JSON_CONTENT_TYPE,
    Endpoint,
    Knobs,
    Provider,
    Refusal,
    Route,
    overlaid,
)
from inference_operator.playground.emulators.timeline import Cause, Timeline
from inference_operator.playground.emulators.validate import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_ROOT = "/gpu-instance/openapi/v1"
_DEFAULT_PAGE_SIZE = "10"

_EXAMPLE = {
    "name": "example",
    "products": [{"id": "1"}],
    "rootfsSize": 100,
    "workerConfig": {
        "minNum": 0,
        "maxNum": 3,
        "freeTimeout": 300,
        "maxConcurrent": 1,
        "gpuNum": 1,
        "requestTimeout": 600,
    },
    "ports": [{"port": "8000"}],
    "policy": {"type": "queue", "value": 30},
    "image": {"image": "registry.example/model:1"},
    "volumeMounts": [{"type": "local", "size": 30, "mountPath": "/data"}],
    "healthy": {"path": "/health"},
}


@dataclass(frozen=True, kw_only=True)
class NovitaKnobs(Knobs):
    """Knobs of Novita.

    Attributes:
        updating_state: The state word while workers are replaced; the documents know only ``serving``.
        empty_update_answer: Updates are answered without a body instead of ``{}``; no answer is documented.
        omit_request_timeout: Reads lack workerConfig.requestTimeout, as in older revisions of the documents.
        removed_worker_seconds: How long a removed worker stays listed.
        image_prefix: What the provider puts before an image's name, for example ``docker.io/``.
    """

    updating_state: str = "serving"
    empty_update_answer: bool = False
    omit_request_timeout: bool = False
    removed_worker_seconds: float = 600.0
    image_prefix: str = ""


class Novita(Provider[NovitaState, NovitaKnobs]):
    """The emulated provider."""

    name = "novita"
    not_found = Refusal(400, "SERVERLESS_ENDPOINT_NOT_FOUND", "serverless endpoint not found")
    busy = Refusal(400, "DEPENDENT_RESOURCE_STATE", "the endpoint is being updated")
    routes = (
        Route("get", "GET", re.compile(f"{_ROOT}/endpoint")),
        Route("list", "GET", re.compile(f"{_ROOT}/endpoints")),
        Route("update", "POST", re.compile(f"{_ROOT}/endpoint/update"), mutates=True, takes_body=True),
        Route("limit", "GET", re.compile(f"{_ROOT}/endpoint/limit")),
        Route("create", "POST", re.compile(f"{_ROOT}/endpoint/create"), mutates=True, takes_body=True),
        Route("delete", "POST", re.compile(f"{_ROOT}/endpoint/delete"), mutates=True, takes_body=True),
    )

    def __init__(self) -> None:
        super().__init__(NovitaKnobs())
        self.limits: dict[str, Any] = dict(DEFAULT_LIMITS)

    def operations(self) -> Mapping[str, Callable[[Call], Reply]]:
        """Returns the function that carries out each operation."""
        return {
            "get": self._get,
            "list": self._list,
            "update": self._update,
            "limit": self._limit,
            "create": self._create,
            "delete": self._delete,
        }

    def refusal(self, refusal: Refusal) -> Reply:
        """Puts a refusal into the provider's error object."""
        code, reason, message = refusal
        body = {"code": code, "reason": reason, "message": message, "metadata": {}}
        return Reply(status=code, body=body, errors=[f"{reason}: {message}"])

    def invalid(self, place: str, problems: list[Problem]) -> Reply:
        """Answers 400 VALIDATOR_PARAM, naming everything that is wrong."""
        return self.refusal(Refusal(400, "VALIDATOR_PARAM", f"{place}: " + "; ".join(map(str, problems))))

    def identify(self, match: re.Match[str], query: Mapping[str, str], body: Any) -> str | None:  # noqa: ARG002 - no path names it here
        """Returns the id in the query or the body; a delete may call it ``name``."""
        if "id" in query:
            return query["id"]
        named = body if isinstance(body, dict) else {}
        key = "id" if "id" in named else "name"
        return named[key] if isinstance(named.get(key), str) else None

    def content_type_problem(self, route: Route, content_type: str) -> Problem | None:  # noqa: ARG002 - all operations ask for it
        """Asks for JSON on every request, reads included: the documents call the header required."""
        if content_type != JSON_CONTENT_TYPE:
            return Problem(("Content-Type",), "enum", f"must be {JSON_CONTENT_TYPE}")
        return None

    def place(self, *, endpoint_id: str, account: str, team: str, spec: Mapping[str, Any]) -> None:
        """Puts a serving endpoint there; ``spec`` has the fields of a create request's ``endpoint``."""
        body = overlaid({**_EXAMPLE, "name": endpoint_id}, spec)
        if problems := self._schemas.problems("CreateBody", {"endpoint": body}):
            raise ValueError("; ".join(map(str, problems)))
        state = _created(endpoint_id, body, kept(body)).scaled(body["workerConfig"]["minNum"], 0.0)
        self.endpoints[endpoint_id] = Endpoint(id=endpoint_id, account=account, team=team, timeline=Timeline(state))

    def turn(self, endpoint_id: str, at: float, change: Mapping[str, Any]) -> None:
        """Changes state word, number of workers and error at once."""
        timeline = self.endpoint(endpoint_id).timeline
        old = timeline.latest
        word = change.get("state") or old.rest
        new = old.scaled(change.get("replicas", old.usable(at)), at)
        error = change.get("error") or ""
        timeline.append(replace(new, via=word, rest=word, begins=at, ends=at, by="control", error=error), at)

    def internals(self, endpoint_id: str, at: float) -> dict[str, Any]:
        """Returns the configuration as it is kept, workers and state."""
        endpoint = self.endpoint(endpoint_id)
        state = endpoint.timeline.latest
        return {
            "id": endpoint.id,
            "account": endpoint.account,
            "deleted": state.deleted,
            "config": dict(state.config),
            "fixed": dict(state.fixed),
            "status": state.status(at)["state"],
            "error": state.error,
            "usable": state.usable(at),
            "workers": [worker.shown(at) for worker in state.workers],
        }

    def set_limits(self, values: Mapping[str, Any]) -> None:
        """Changes what the parameter limits call gives and updates are judged by.

        Raises:
            ValueError: For a limit that does not exist.
        """
        if unknown := sorted(set(values) - set(self.limits)):
            raise ValueError(f"no such limit: {', '.join(unknown)}")
        self.limits.update(values)

    def _get(self, call: Call) -> Reply:
        if "id" not in call.query:
            raise self.deny(400, "VALIDATOR_PARAM", "id is required")
        endpoint, state, at = self.reading(call)
        return Reply(status=200, body={"endpoint": self._shown(endpoint, state, at, form="get")})

    def _list(self, call: Call) -> Reply:
        number, size = call.query.get("pageNum", "0"), call.query.get("pageSize", _DEFAULT_PAGE_SIZE)
        if not (number.isdecimal() and size.isdecimal() and int(size)):
            raise self.deny(400, "VALIDATOR_PARAM", "pageNum starts at 0, pageSize at 1")
        found = []
        for endpoint in self.visible(call):
            at = call.at - self.knobs_of(endpoint).read_lag_seconds
            state = endpoint.timeline.as_of(at)
            if state and not state.deleted:
                found.append((endpoint, state, at))
        start = int(number) * int(size)
        page = [self._shown(*each, form="list") for each in found[start : start + int(size)]]
        return Reply(status=200, body={"endpoints": page, "total": len(found)})

    def _limit(self, _call: Call) -> Reply:
        return Reply(status=200, body=self.limits)

    def _update(self, call: Call) -> Reply:
        self.check_body("UpdateBody", call.body)
        self._check_rules(call.body)
        endpoint, old = self.writing(call)
        knobs = self.knobs_of(endpoint)
        cause = Cause(call.by, call.at, knobs.rollout_seconds, knobs.rollout_error)
        config = kept(call.body, knobs.clamp_replicas)
        image = config["image"]["image"]
        config["image"]["image"] = knobs.image_prefix + image.removeprefix(knobs.image_prefix)
        new = old.updated(config, cause, via=knobs.updating_state, kept_seconds=knobs.removed_worker_seconds)
        if call.write:
            endpoint.timeline.append(new, call.at)
        return Reply(status=200, body=NO_BODY if knobs.empty_update_answer else {}, committed=call.write)

    def _create(self, call: Call) -> Reply:
        self.check_body("CreateBody", call.body)
        body, knobs = call.body["endpoint"], self.knobs
        self._check_rules(body)
        identity = self.new_id("sls")
        cause = Cause(call.by, call.at, knobs.rollout_seconds, knobs.rollout_error)
        config = kept(body, knobs.clamp_replicas)
        state = _created(identity, body, config).updated(config, cause, via="creating", kept_seconds=0.0)
        if any(state.fixed["appName"] == other.timeline.latest.fixed["appName"] for other in self._alive()):
            raise self.deny(400, "SERVERLESS_APP_NAME_IS_EXIST", "the app name exists")
        if call.write:
            timeline = Timeline(state, call.at)
            self.endpoints[identity] = Endpoint(id=identity, account=call.account.name, team="", timeline=timeline)
        return Reply(status=200, body={"id": identity}, committed=call.write, endpoint_id=identity)

    def _delete(self, call: Call) -> Reply:
        self.check_body("DeleteBody", call.body)
        endpoint, old = self.writing(call)
        if call.write:
            endpoint.timeline.append(replace(old, deleted=True, ends=min(old.ends, call.at)), call.at)
        return Reply(status=200, body={}, committed=call.write)

    def _alive(self) -> list[Endpoint[NovitaState]]:
        return [endpoint for endpoint in self.endpoints.values() if not endpoint.timeline.latest.deleted]

    def _check_rules(self, body: Mapping[str, Any]) -> None:
        if problems := list(rule_problems(body, self.limits)):
            raise self.deny(400, "VALIDATOR_PARAM", "; ".join(problems))

    def _shown(self, endpoint: Endpoint[NovitaState], state: NovitaState, at: float, *, form: Any) -> dict[str, Any]:
        knobs = self.knobs_of(endpoint)
        answer = shown(endpoint.id, state, at, form=form, kept_seconds=knobs.removed_worker_seconds)
        if knobs.omit_request_timeout:
            del answer["workerConfig"]["requestTimeout"]
        return answer


def _created(identity: str, body: Mapping[str, Any], config: Mapping[str, Any]) -> NovitaState:
    fixed = {
        "appName": body.get("appName") or identity,
        "products": body["products"],
        "rootfsSize": body["rootfsSize"],
        "cudaVersion": "",
    }
    return NovitaState(config=config, fixed=fixed)
