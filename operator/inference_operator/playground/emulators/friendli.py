"""Emulates the control API of Friendli Dedicated Endpoints (beta).

Left out is only the creation from a W&B artifact, which is another product's door to the same endpoints.
"""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from inference_operator.playground.emulators.exchange import Call, Refused, Reply
from inference_operator.playground.emulators.friendli_state import (
    Config,
    ConfigurationError,
    FriendliState,
    awake_replicas,
)
from inference_operator.playground.emulators.paging import CursorError, LimitError, page
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
    from collections.abc import Callable, Iterable, Iterator, Mapping

_ROOT = "/dedicated/beta/endpoint"
_ITEM = rf"{_ROOT}/(?P<id>[^/]+)"
_WITHOUT_REPLICAS = frozenset({"SLEEPING", "TERMINATED", "FAILED"})

_EXAMPLE = {
    "projectId": "project-1",
    "name": "example",
    "instanceOptionId": "TwD5AqnBSVN0",
    "hfModelRepo": "meta-llama/Llama-3.1-8B-Instruct",
    "advanced": {
        "tokenizer_skip_special_tokens": True,
        "tokenizer_add_special_tokens": True,
        "max_batch_size": 128,
    },
}


@dataclass(frozen=True, kw_only=True)
class FriendliKnobs(Knobs):
    """Knobs of Friendli.

    Attributes:
        noop_puts_make_no_version: An update that changes nothing makes no version. The documents promise one for
            every update.
        newest_version_first: Order of the version list, which is not documented.
    """

    noop_puts_make_no_version: bool = False
    newest_version_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """An entry of the version history, with what the provider never tells."""

    number: int
    config: Config
    comment: str | None
    by: str
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """One of the operations that only change the status: from where it is allowed, and where it leads."""

    allowed: frozenset[str]
    via: str
    rest: str
    awake: bool
    instant: bool = False


_ALIVE = frozenset({"INITIALIZING", "RUNNING", "READY", "UPDATING", "SLEEPING", "AWAKING", "FAILED", "UNKNOWN"})
_MOVES = {
    "sleep": _Move(allowed=frozenset({"RUNNING", "READY"}), via="SLEEPING", rest="SLEEPING", awake=False, instant=True),
    "wake": _Move(allowed=frozenset({"SLEEPING"}), via="AWAKING", rest="RUNNING", awake=True),
    "terminate": _Move(allowed=_ALIVE, via="TERMINATING", rest="TERMINATED", awake=False),
    "restart": _Move(allowed=frozenset({"FAILED", "TERMINATED"}), via="INITIALIZING", rest="RUNNING", awake=True),
}


class Friendli(Provider[FriendliState, FriendliKnobs]):
    """The emulated provider."""

    name = "friendli"
    not_found = Refusal(404, "not_found", "Endpoint not found")
    busy = Refusal(400, "busy", "Endpoint is being updated")
    routes = (
        Route("get_status", "GET", re.compile(rf"{_ITEM}/status")),
        Route("get_spec", "GET", re.compile(_ITEM)),
        Route("get_version_history", "GET", re.compile(rf"{_ITEM}/version")),
        Route("update", "PUT", re.compile(_ITEM), mutates=True, takes_body=True),
        Route("list", "GET", re.compile(_ROOT)),
        Route("create", "POST", re.compile(_ROOT), mutates=True, takes_body=True),
        Route("delete", "DELETE", re.compile(_ITEM), mutates=True),
        *(Route(move, "PUT", re.compile(rf"{_ITEM}/{move}"), mutates=True) for move in _MOVES),
    )

    def __init__(self) -> None:
        super().__init__(FriendliKnobs())
        self._histories: dict[str, list[Version]] = {}

    def operations(self) -> Mapping[str, Callable[[Call], Reply]]:
        """Returns the function that carries out each operation."""
        return {
            "get_status": self._get_status,
            "get_spec": self._get_spec,
            "get_version_history": self._get_version_history,
            "update": self._update,
            "list": self._list,
            "create": self._create,
            "delete": self._delete,
            **dict.fromkeys(_MOVES, self._move),
        }

    def refusal(self, refusal: Refusal) -> Reply:
        """Puts a refusal into a ``detail``."""
        return Reply(status=refusal.status, body={"detail": refusal.message}, errors=[refusal.message])

    def invalid(self, place: str, problems: list[Problem]) -> Reply:
        """Answers 422 with a list of details, as FastAPI does."""
        detail = [{"type": rule, "loc": [place, *where], "msg": message} for where, rule, message in problems]
        return Reply(status=422, body={"detail": detail}, errors=[str(problem) for problem in problems])

    def identify(self, match: re.Match[str], query: Mapping[str, str], body: Any) -> str | None:  # noqa: ARG002 - only the path names it here
        """Returns the id in the path."""
        return match.groupdict().get("id")

    def content_type_problem(self, route: Route, content_type: str) -> Problem | None:
        """Asks for JSON where there is a body."""
        if route.takes_body and content_type != JSON_CONTENT_TYPE:
            return Problem(("content-type",), "content_type", f"a body is {JSON_CONTENT_TYPE}")
        return None

    def sees(self, call: Call, endpoint: Endpoint[FriendliState]) -> bool:
        """An endpoint is seen by the tokens of its account while they act as its team."""
        team = call.team or call.account.teams[0]
        return call.account.name == endpoint.account and team == endpoint.team and team in call.account.teams

    def place(self, *, endpoint_id: str, account: str, team: str, spec: Mapping[str, Any]) -> None:
        """Puts a running endpoint there; ``spec`` has the fields of a create request."""
        body = overlaid({**_EXAMPLE, "name": endpoint_id}, spec)
        if problems := self._schemas.problems("CreateBody", body):
            raise ValueError("; ".join(map(str, problems)))
        config = Config().merged(body)
        state = FriendliState(config=config, after=awake_replicas(config, 1), created_at=time.time())
        self._open(Endpoint(id=endpoint_id, account=account, team=team, timeline=Timeline(state)), body, "initial")

    def turn(self, endpoint_id: str, at: float, change: Mapping[str, Any]) -> None:
        """Changes status, replica counts and error code at once."""
        timeline = self.endpoint(endpoint_id).timeline
        old = timeline.latest
        status = change.get("state") or old.rest
        if self._schemas.problems("StatusWord", status):
            raise ValueError(f"{status!r} is not a status")
        resting = 0 if status in _WITHOUT_REPLICAS else awake_replicas(old.config, old.after)
        cause = Cause("control", at, 0.0, None)
        new = old.moved(cause, via=status, rest=status, after=change.get("replicas", resting))
        timeline.append(replace(new, error_code=change.get("error")), at)

    def internals(self, endpoint_id: str, at: float) -> dict[str, Any]:
        """Returns configuration and history with their write-only fields, beside status and counts."""
        endpoint = self.endpoint(endpoint_id)
        state = endpoint.timeline.latest
        return {
            "id": endpoint.id,
            "account": endpoint.account,
            "team": endpoint.team,
            "deleted": state.deleted,
            "status": state.status(at),
            "error": state.error_code,
            "version": state.version,
            "config": asdict(state.config),
            "versions": [asdict(version) for version in self._histories[endpoint_id]],
            **state.replicas(at),
        }

    def _get_status(self, call: Call) -> Reply:
        _, state, at = self.reading(call)
        return Reply(status=200, body=_status(state, at))

    def _get_spec(self, call: Call) -> Reply:
        endpoint, state, at = self.reading(call)
        return Reply(status=200, body=_spec(endpoint, state.config) | state.replicas(at))

    def _get_version_history(self, call: Call) -> Reply:
        endpoint, state, _ = self.reading(call)
        versions: Iterable[Version] = self._histories[endpoint.id][: state.version + 1]
        if self.knobs_of(endpoint).newest_version_first:
            versions = reversed(list(versions))
        return self._page(call, ((str(each.number), _spec(endpoint, each.config)) for each in versions))

    def _list(self, call: Call) -> Reply:
        return self._page(call, self._listed(call))

    def _listed(self, call: Call) -> Iterator[tuple[str, dict[str, Any] | None]]:
        project = call.query.get("project_id")
        for endpoint in self.visible(call):
            at = call.at - self.knobs_of(endpoint).read_lag_seconds
            state = endpoint.timeline.as_of(at)
            shown = state and not state.deleted and project in (None, "", state.config.project_id)
            yield endpoint.id, _status(state, at) if state and shown else None

    def _update(self, call: Call) -> Reply:
        self.check_body("UpdateBody", call.body)
        endpoint, old = self.writing(call)
        knobs = self.knobs_of(endpoint)
        config = self._merged(old.config, call.body, knobs)
        if config == old.config and knobs.noop_puts_make_no_version:
            return Reply(status=200, body=_spec(endpoint, config) | old.replicas(call.at))
        moved = old.updated(config, Cause(call.by, call.at, knobs.rollout_seconds, knobs.rollout_error))
        new = replace(moved, version=old.version + 1, updated_at=self.wall_clock(call.at))
        if call.write:
            self._histories[endpoint.id].append(_version(new, call.body.get("newVersionComment"), call.by))
            endpoint.timeline.append(new, call.at)
        body = _spec(endpoint, config) | new.replicas(call.at)
        return Reply(status=200, body=body, committed=call.write, version=new.version)

    def _create(self, call: Call) -> Reply:
        self.check_body("CreateBody", call.body)
        team = call.team or call.account.teams[0]
        if team not in call.account.teams:
            raise self.deny(404, "not_found", "Team not found")
        config = self._merged(Config(), call.body, self.knobs)
        cause = Cause(call.by, call.at, self.knobs.rollout_seconds, self.knobs.rollout_error)
        blank = FriendliState(config=config, created_at=self.wall_clock(call.at))
        state = blank.moved(cause, via="INITIALIZING", rest="RUNNING", after=awake_replicas(config, 1))
        endpoint = Endpoint(
            id=self.new_id("dep"), account=call.account.name, team=team, timeline=Timeline(state, call.at)
        )
        if call.write:
            self._open(endpoint, call.body, call.by)
        body = _status(state, call.at)
        return Reply(status=200, body=body, committed=call.write, version=0, endpoint_id=endpoint.id)

    def _delete(self, call: Call) -> Reply:
        endpoint, old = self.writing(call)
        if call.write:
            endpoint.timeline.append(replace(old, deleted=True, ends=min(old.ends, call.at)), call.at)
        return Reply(status=200, body=None, committed=call.write)

    def _move(self, call: Call) -> Reply:
        endpoint, old = self.writing(call)
        move, status = _MOVES[call.operation], old.status(call.at)
        if status not in move.allowed:
            raise self.deny(400, "bad_request", f"Endpoint is {status}")
        knobs = self.knobs_of(endpoint)
        error = knobs.rollout_error if move.awake else None
        cause = Cause(call.by, call.at, 0.0 if move.instant else knobs.rollout_seconds, error)
        after = awake_replicas(old.config, 1) if move.awake else 0
        moved = old.moved(cause, via=move.via, rest=move.rest, after=after)
        new = replace(moved, updated_at=self.wall_clock(call.at))
        if call.write:
            endpoint.timeline.append(new, call.at)
        return Reply(status=200, body=_status(new, call.at), committed=call.write)

    def _page(self, call: Call, items: Iterator[tuple[str, dict[str, Any] | None]]) -> Reply:
        try:
            return Reply(status=200, body=page(items, call.query))
        except LimitError as error:
            raise Refused(self.invalid("query", [Problem(("limit",), "range", str(error))])) from None
        except CursorError as error:
            raise self.deny(400, "bad_request", str(error)) from None

    def _merged(self, config: Config, body: Mapping[str, Any], knobs: FriendliKnobs) -> Config:
        try:
            return config.merged(body, knobs.clamp_replicas)
        except ConfigurationError as error:
            raise self.deny(400, "bad_request", str(error)) from None

    def _open(self, endpoint: Endpoint[FriendliState], body: Mapping[str, Any], by: str) -> None:
        first = _version(endpoint.timeline.latest, body.get("initialVersionComment"), by)
        self.endpoints[endpoint.id] = endpoint
        self._histories[endpoint.id] = [first]


def _spec(endpoint: Endpoint[FriendliState], config: Config) -> dict[str, Any]:
    return config.readable() | {
        "instanceId": f"instance-{endpoint.id}",
        "creatorId": f"creator-{endpoint.account}",
        "teamId": endpoint.team,
        "currReplicaCnt": None,
        "desiredReplicaCnt": None,
        "updatedReplicaCnt": None,
    }


def _timestamp(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _version(state: FriendliState, comment: str | None, by: str) -> Version:
    wall = state.updated_at or state.created_at
    return Version(number=state.version, config=state.config, comment=comment, by=by, wall=wall)


def _status(state: FriendliState, at: float) -> dict[str, Any]:
    status = state.status(at)
    return {
        "status": status,
        "createdAt": _timestamp(state.created_at),
        "updatedAt": state.updated_at and _timestamp(state.updated_at),
        "errorCode": state.error_code if status == "FAILED" else None,
        "phase": state.phase(at),
    }
