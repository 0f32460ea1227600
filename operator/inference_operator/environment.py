"""Where settings come from: flags before variables before defaults, with every mistake told at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from inference_operator.settings import PREFIX, Settings, UnusableSettings, catalogue

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
"""Variables that Kubernetes puts into every pod for a Service whose name begins like our prefix."""

SERVICE_LINK_PORT = re.compile(r"^(tcp|udp|sctp)://")
"""The value of another such variable, `…_PORT`, whose name alone could be a mistyped setting's."""


def load(
    environment: Mapping[str, str],
    flags: Mapping[str, Any],
    *,
    providers: Collection[str],
    pod_namespace_file: Path = POD_NAMESPACE_FILE,
) -> Settings:
    """Read the settings.

    Args:
        environment: The process's variables; an empty one is as good as none.
        flags: The flags that were given, by name of the setting.
        providers: The providers that may have a base URL.
        pod_namespace_file: Where a pod finds the name of its namespace.

    Raises:
        UnusableSettings: Something is unknown, malformed or contradictory.
    """
    values = {**_surroundings(environment, pod_namespace_file), **_variables(environment), **flags}
    problems = _unknown_variables(environment)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise UnusableSettings(problems + [_problem(details, flags) for details in error.errors()]) from None
    problems += _unknown_providers(settings, flags, providers)
    if problems:
        raise UnusableSettings(problems)
    return settings


def _surroundings(environment: Mapping[str, str], pod_namespace_file: Path) -> dict[str, Any]:
    """The defaults that differ inside a cluster."""
    if "KUBERNETES_SERVICE_HOST" not in environment:
        return {}
    inside: dict[str, Any] = {"leader_election": True, "log_format": "json"}
    if pod_namespace_file.is_file():
        inside["lease_namespace"] = pod_namespace_file.read_text(encoding="utf-8").strip()
    return inside


def _variables(environment: Mapping[str, str]) -> dict[str, Any]:
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in environment.items() if value}
    return {"kubeconfig": environment.get("KUBECONFIG") or None, **source()}


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    known = [shown.variable for shown in catalogue().values() if shown.variable]
    return [
        f"{name}: no such setting; the nearest is {_nearest(name.upper(), known)}"
        for name, value in sorted(environment.items())
        if name.upper().startswith(PREFIX) and name.upper() not in known and not _is_service_link(name, value)
    ]


def _is_service_link(name: str, value: str) -> bool:
    return bool(SERVICE_LINK.search(name) or (name.endswith("_PORT") and SERVICE_LINK_PORT.search(value)))


def _unknown_providers(settings: Settings, flags: Mapping[str, Any], providers: Collection[str]) -> list[str]:
    return [
        f"{_spelling('base_urls', flags)}: no provider is named {name!r}; the nearest is {_nearest(name, providers)}"
        for name in settings.base_urls
        if name not in providers
    ]


def _nearest(word: str, known: Collection[str]) -> str:
    return difflib.get_close_matches(word, known, n=1, cutoff=0)[0]


def _problem(details: ErrorDetails, flags: Mapping[str, Any]) -> str:
    """One line of a validation error: who said it, and what is wrong with it."""
    if details["type"] == "value_error":
        what = str(details["ctx"]["error"])
    else:
        what = f"{details['input']!r}: {details['msg'][0].lower()}{details['msg'][1:]}"
    where = [str(part) for part in details["loc"] if isinstance(part, str)]
    if not where:
        return what
    return " ".join([_spelling(where[0], flags), *where[1:]]) + f": {what}"


def _spelling(name: str, flags: Mapping[str, Any]) -> str:
    """The setting as the user gave it: by flag or by variable."""
    shown = catalogue()[name]
    return str(shown.flag if name in flags or not shown.variable else shown.variable)
