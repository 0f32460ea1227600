"""Everything that can be set: one frozen model, from which flags, variables and their reference follow.

`environment.load` fills it; nothing else in the package looks at an environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, FilePath, SecretStr, ValidationInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from inference_operator.addresses import Address, origin, proxy

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PREFIX = "INFERENCE_OPERATOR_"


class UnusableSettings(Exception):  # noqa: N818 - what is the case, not what went wrong
    """The process cannot start like this; exit code 2.

    Attributes:
        problems: One line each, beginning with the variable or flag; none shows a secret value.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Group(StrEnum):
    """The headings that settings stand under."""

    SCOPE = "What to work on"
    PROVIDERS = "Calling providers"
    LOOKS = "When to look"
    WRITES = "When to write"
    SECRETS = "Secrets"
    REPLICAS = "Several replicas"
    PROCESS = "The process"


@dataclass(frozen=True, slots=True)
class Shown:
    """How a setting appears on the command line, in the environment and on the reference page.

    Attributes:
        group: Heading that it stands under.
        metavar: What its flag takes, in one word; the choices where there are any.
        unit: Unit of its value, or what else it is.
        flag: Its flag; made from the name where not given.
        variable: Its environment variable; made from the name where not given, empty for none.
        default: Its default in words; the value where not given.
        meaning: One sentence; the field's docstring.
    """

    group: Group
    metavar: str = ""
    unit: str = ""
    flag: str | None = None
    variable: str | None = None
    default: str | None = None
    meaning: str = ""


def _listed(value: Any) -> Any:
    names = value.split(",") if isinstance(value, str) else value
    return list(dict.fromkeys(name.strip() for name in names))


def _namespace(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise ValueError(f"{name!r} cannot be the name of a namespace")
    return name


def _mapped(value: Any) -> Any:
    if isinstance(value, str):
        return _from_json(value)
    if isinstance(value, Mapping):
        return value
    pairs = [entry.partition("=") for entry in value]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("write provider=origin, as in friendli=http://127.0.0.1:9001")
    return {provider.strip(): url for provider, _, url in pairs}


def _from_json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError('not a JSON map; write {"friendli": "https://host"}')  # noqa: TRY004 - pydantic collects it
    return value


def _address(value: Any) -> Any:
    return Address.parse(value) if isinstance(value, str) else value


def _proxy(value: SecretStr) -> SecretStr:
    return SecretStr(proxy(value.get_secret_value()))


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _settling(seconds: float, fields: ValidationInfo) -> float:
    timeout = fields.data.get("request_timeout_seconds", 0)
    if seconds < timeout:
        raise ValueError(
            f"{seconds:g} is below REQUEST_TIMEOUT_SECONDS ({timeout:g}), a write could land after it was judged lost"
        )
    return seconds


Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Namespace = Annotated[str, AfterValidator(_namespace)]
Origin = Annotated[str, AfterValidator(origin)]
Proxy = Annotated[SecretStr, AfterValidator(_proxy)]


def _seconds(group: Group) -> Shown:
    return Shown(group, "SECONDS", "seconds")


class Settings(BaseSettings):
    """What `inference-operator run` can be told. Given directly, only the arguments count."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    namespaces: Annotated[
        tuple[Namespace, ...],
        NoDecode,
        BeforeValidator(_listed),
        Shown(Group.SCOPE, "NAME", "names", flag="--namespace", default="all"),
    ] = ()
    """Work in this namespace only; repeatable, separated by commas in the variable."""

    label_selector: Annotated[str | None, Shown(Group.SCOPE, "SELECTOR", "label selector", default="none")] = None
    """Work on resources with these labels only, as `kubectl -l`."""

    kubeconfig: Annotated[
        str | None,
        Shown(Group.SCOPE, "PATH", variable="KUBECONFIG", default="the pod's account, else ~/.kube/config"),
    ] = None
    """The kubeconfig that leads to the cluster."""

    context: Annotated[str | None, Shown(Group.SCOPE, "NAME", variable="", default="the current one")] = None
    """The context of the kubeconfig."""

    base_urls: Annotated[
        Mapping[str, Origin],
        NoDecode,
        BeforeValidator(_mapped),
        Shown(Group.PROVIDERS, "PROVIDER=ORIGIN", "JSON map", flag="--base-url", default="the public origins"),
    ] = Field(default_factory=dict)
    """Call a provider elsewhere, by https, or http on loopback; repeatable, a JSON map in the variable."""

    request_timeout_seconds: Annotated[Positive, _seconds(Group.PROVIDERS)] = 30
    """The longest that one provider call may take as a whole."""

    calls_per_second: Annotated[Positive, Shown(Group.PROVIDERS, "NUMBER", "calls per second")] = 5
    """Provider calls per second and credential, reads and writes together; halved for a while by every 429."""

    calls_burst: Annotated[Count, Shown(Group.PROVIDERS, "COUNT", "calls")] = 20
    """Provider calls that a credential may make at once after a pause."""

    ca_file: Annotated[FilePath | None, Shown(Group.PROVIDERS, "PATH", default="those of the package certifi")] = None
    """Certificate authorities to verify providers with, PEM."""

    proxy_url: Annotated[Proxy | None, Shown(Group.PROVIDERS, "URL", "URL", default="none")] = None
    """Proxy for provider calls; HTTPS_PROXY and its like are ignored."""

    poll_seconds: Annotated[Positive, _seconds(Group.LOOKS)] = 60
    """How often the state of an endpoint is seen; of those at rest by lists of the whole account."""

    transition_poll_seconds: Annotated[Positive, _seconds(Group.LOOKS)] = 10
    """How often an endpoint in transition is looked at."""

    drift_seconds: Annotated[Positive, _seconds(Group.LOOKS)] = 600
    """How often an endpoint at rest is read whole; less often in accounts of a hundred and more."""

    workers: Annotated[Count, Shown(Group.LOOKS, "COUNT", "resources")] = 64
    """Resources that are worked on at the same time."""

    read_only: Annotated[bool, Shown(Group.WRITES, unit="`true` or `false`")] = False
    """Read and report everything, write nothing to any provider."""

    max_rollouts: Annotated[int, Field(ge=0), Shown(Group.WRITES, "COUNT", "endpoints")] = 25
    """Endpoints per credential that our writes may hold in transition at once; 0: no limit."""

    scale_interval_seconds: Annotated[Positive, _seconds(Group.WRITES)] = 60
    """The least time between two writes that change nothing but replicas."""

    claim_seconds: Annotated[Positive, _seconds(Group.WRITES)] = 5
    """How long after its intent was stored a write may still be sent."""

    settle_seconds: Annotated[
        Positive, AfterValidator(_settling), Field(validate_default=True), _seconds(Group.WRITES)
    ] = 60
    """How late a write may land, how far reads may lag; at least the request time-out."""

    drift_cooldown_seconds: Annotated[Positive, _seconds(Group.WRITES)] = 600
    """Pause after a correction of drift, per endpoint; doubles each time."""

    adoption_policy: Annotated[Literal["Apply", "Match"], Shown(Group.WRITES)] = "Apply"
    """Where a resource names none; `Match`, for a restore, writes nothing if all readable fields agree."""

    secrets: Annotated[Literal["watch", "get"], BeforeValidator(_lower), Shown(Group.SECRETS)] = "watch"
    """`watch` takes a rotated key within a second; `get` never lists, and reads at writes and polls."""

    secret_grace_seconds: Annotated[Positive, _seconds(Group.SECRETS)] = 120
    """How long a missing Secret is waited for before it counts as a mistake."""

    leader_election: Annotated[
        bool,
        Shown(
            Group.REPLICAS,
            unit="`true` or `false`",
            flag="--leader-election/--no-leader-election",
            default="true in a cluster, false outside",
        ),
    ] = False
    """Write only while holding the Lease; needed for more than one replica."""

    lease_namespace: Annotated[
        Namespace, Shown(Group.REPLICAS, "NAME", default="the pod's, default outside a cluster")
    ] = "default"
    """The namespace of the Lease; each combination of namespaces and label selector has its own."""

    http_address: Annotated[Address, NoDecode, BeforeValidator(_address), Shown(Group.PROCESS, "HOST:PORT")] = Address(
        "0.0.0.0", 8080
    )
    """Where /metrics, /healthz and /readyz are served; port 0 takes a free one."""

    log_format: Annotated[
        Literal["json", "console"],
        BeforeValidator(_lower),
        Shown(Group.PROCESS, default="json in a cluster, console outside"),
    ] = "console"
    """What log lines look like."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(_lower), Shown(Group.PROCESS)
    ] = "info"
    """The least severe level that is logged; libraries never log below warning."""

    @property
    def quiet_seconds(self) -> float:
        """Q: how long after its intent was stored a write can still land, whatever became of its process."""
        return self.claim_seconds + self.request_timeout_seconds + self.settle_seconds

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - same
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only, so that building settings never depends on where that happens."""
        return (init_settings,)


def catalogue() -> Mapping[str, Shown]:
    """Every setting by name, with nothing left to be made from the name; in the order of the help pages."""
    return {name: _shown(name, field) for name, field in Settings.model_fields.items()}


def _shown(name: str, field: FieldInfo) -> Shown:
    shown = next(part for part in field.metadata if isinstance(part, Shown))
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return replace(
        shown,
        metavar="|".join(choices) or shown.metavar,
        unit=" or ".join(f"`{choice}`" for choice in choices) or shown.unit or shown.metavar.lower(),
        flag=shown.flag or "--" + name.replace("_", "-"),
        variable=PREFIX + name.upper() if shown.variable is None else shown.variable,
        default=shown.default or _text(field.default),
        meaning=field.description or "",
    )


def _text(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:g}"
        case _:
            return str(value)
