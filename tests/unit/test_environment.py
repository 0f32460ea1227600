from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inference_operator.environment import load
from inference_operator.settings import PREFIX, Settings, UnusableSettings

PROVIDERS = ("friendli", "novita")
NOWHERE = Path("/nonexistent/namespace")


def loaded(variables: dict[str, str], flags: dict[str, Any] | None = None, **others: str) -> Settings:
    environment = {PREFIX + name: value for name, value in variables.items()} | others
    return load(environment, flags or {}, providers=PROVIDERS, pod_namespace_file=NOWHERE)


def problems(variables: dict[str, str], flags: dict[str, Any] | None = None, **others: str) -> list[str]:
    with pytest.raises(UnusableSettings) as refused:
        loaded(variables, flags, **others)
    return list(refused.value.problems)


def test_an_empty_environment_gives_the_defaults() -> None:
    assert loaded({}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("BASE_URLS", '{"friendli": "http://127.0.0.1:9001/"}', {"friendli": "http://127.0.0.1:9001"}),
        ("NAMESPACES", "team-a, team-b,team-a", ("team-a", "team-b")),
        ("LABEL_SELECTOR", "tier in (gold),!beta", "tier in (gold),!beta"),
        ("POLL_SECONDS", "0.5", 0.5),
        ("WORKERS", "8", 8),
        ("READ_ONLY", "true", True),
        ("SECRETS", "GET", "get"),
        ("ADOPTION_POLICY", "Match", "Match"),
        ("LEADER_ELECTION", "1", True),
        ("HTTP_ADDRESS", ":0", ("0.0.0.0", 0)),
        ("LOG_LEVEL", "DEBUG", "debug"),
    ],
)
def test_variables_are_read(name: str, text: str, value: object) -> None:
    assert getattr(loaded({name: text}), name.lower()) == value


def test_a_flag_wins_over_its_variable() -> None:
    settings = loaded({"POLL_SECONDS": "30", "NAMESPACES": "team-a"}, {"poll_seconds": "20", "namespaces": ["team-b"]})
    assert (settings.poll_seconds, settings.namespaces) == (20, ("team-b",))


def test_an_empty_variable_counts_as_none() -> None:
    assert loaded({"NAMESPACES": "", "POLL_SECONDS": "", "READ_ONLY": ""}) == Settings()


def test_kubeconfig_has_the_variable_that_every_client_has() -> None:
    assert loaded({}, KUBECONFIG="/a:/b").kubeconfig == "/a:/b"
    assert loaded({}, {"kubeconfig": "/c"}, KUBECONFIG="/a:/b").kubeconfig == "/c"


def test_in_a_cluster_other_defaults_hold(tmp_path: Path) -> None:
    namespace = tmp_path / "namespace"
    namespace.write_text("platform\n")
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    settings = load(pod, {}, providers=PROVIDERS, pod_namespace_file=namespace)
    assert (settings.leader_election, settings.log_format, settings.lease_namespace) == (True, "json", "platform")
    outside = load({}, {}, providers=PROVIDERS, pod_namespace_file=namespace)
    assert (outside.leader_election, outside.log_format, outside.lease_namespace) == (False, "console", "default")


def test_in_a_cluster_too_variables_and_flags_win(tmp_path: Path) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", PREFIX + "LOG_FORMAT": "console"}
    settings = load(pod, {"leader_election": False}, providers=PROVIDERS, pod_namespace_file=tmp_path / "none")
    assert (settings.leader_election, settings.log_format, settings.lease_namespace) == (False, "console", "default")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("POL_SECONDS", "POLL_SECONDS"),
        ("NAMESPACE", "NAMESPACES"),
        ("READONLY", "READ_ONLY"),
        ("HTTP_PORT", "HTTP_ADDRESS"),
        ("poll_second", "POLL_SECONDS"),
        ("BASE_URL", "BASE_URLS"),
    ],
)
def test_a_mistyped_variable_is_refused_with_the_nearest_name(name: str, nearest: str) -> None:
    assert problems({name: "1"}) == [f"{PREFIX}{name}: no such setting; the nearest is {PREFIX}{nearest}"]


def test_settings_that_are_flags_only_have_no_variable() -> None:
    assert len(problems({"CONTEXT": "prod", "KUBECONFIG": "/a"})) == 2


def test_variables_that_kubernetes_sets_for_services_are_no_mistakes() -> None:
    links = {
        "SERVICE_HOST": "10.96.0.10",
        "SERVICE_PORT": "8080",
        "SERVICE_PORT_HTTP": "8080",
        "PORT": "tcp://10.96.0.10:8080",
        "PORT_8080_TCP": "tcp://10.96.0.10:8080",
        "PORT_8080_TCP_PROTO": "tcp",
        "PORT_8080_TCP_PORT": "8080",
        "PORT_8080_TCP_ADDR": "10.96.0.10",
        "METRICS_SERVICE_HOST": "10.96.0.11",
        "METRICS_PORT": "tcp://10.96.0.11:8080",
    }
    assert loaded(links) == Settings()


def test_all_mistakes_are_told_at_once() -> None:
    told = problems(
        {
            "TYPO": "1",
            "POLL_SECONDS": "soon",
            "WORKERS": "0",
            "NAMESPACES": "team-a,Team_B,",
            "BASE_URLS": '{"friendli": "http://api.example.com", "novita": "https://api.example.com/v1"}',
            "HTTP_ADDRESS": "8080",
            "LOG_LEVEL": "loud",
            "ADOPTION_POLICY": "apply",
            "CA_FILE": "/nonexistent/ca.pem",
        },
        {"settle_seconds": "10"},
    )
    beginnings = {line.split(":")[0].removeprefix(PREFIX) for line in told}
    assert beginnings == {
        "TYPO",
        "POLL_SECONDS",
        "WORKERS",
        "NAMESPACES",
        "BASE_URLS friendli",
        "BASE_URLS novita",
        "HTTP_ADDRESS",
        "LOG_LEVEL",
        "ADOPTION_POLICY",
        "CA_FILE",
        "--settle-seconds",
    }
    assert len(told) == 12


def test_a_mistake_is_told_by_the_name_that_was_used() -> None:
    assert problems({"WORKERS": "0"}) == [f"{PREFIX}WORKERS: '0': input should be greater than 0"]
    assert problems({"WORKERS": "9"}, {"workers": "0"}) == ["--workers: '0': input should be greater than 0"]


def test_a_long_time_out_needs_a_longer_settling_than_the_default() -> None:
    (told,) = problems({"REQUEST_TIMEOUT_SECONDS": "90"})
    assert told.startswith(f"{PREFIX}SETTLE_SECONDS: 60 is below REQUEST_TIMEOUT_SECONDS (90)")


def test_a_base_url_of_no_provider_is_refused() -> None:
    assert problems({}, {"base_urls": ["frendli=http://127.0.0.1:9001"]}) == [
        "--base-url: no provider is named 'frendli'; the nearest is friendli"
    ]


@pytest.mark.parametrize(
    ("variables", "flags"),
    [
        ({"BASE_URLS": "friendli=https://host"}, {}),
        ({"BASE_URLS": "[]"}, {}),
        ({}, {"base_urls": ["https://host"]}),
        ({}, {"namespaces": [""]}),
        ({"NAMESPACES": ","}, {}),
    ],
)
def test_malformed_lists_and_maps_are_refused(variables: dict[str, str], flags: dict[str, Any]) -> None:
    assert len(problems(variables, flags)) == 1


@pytest.mark.parametrize(
    "variables",
    [
        {"PROXY_URL": "socks5://user:hunter2@proxy"},
        {"PROXY_URL": "hunter2"},
        {"BASE_URLS": '{"friendli": "https://user:hunter2@host"}'},
        {"BASE_URLS": '{"friendli": "https://host?key=hunter2"}'},
    ],
)
def test_no_secret_is_in_a_mistake(variables: dict[str, str]) -> None:
    with pytest.raises(UnusableSettings) as refused:
        loaded(variables)
    assert "hunter2" not in str(refused.value) + repr(refused.value.problems)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_a_proxy_with_a_password_is_kept_and_hidden() -> None:
    settings = loaded({"PROXY_URL": "http://user:hunter2@proxy:3128"})
    assert settings.proxy_url is not None
    assert settings.proxy_url.get_secret_value() == "http://user:hunter2@proxy:3128"
    assert "hunter2" not in repr(settings)
