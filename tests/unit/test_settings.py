from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from inference_operator.settings import PREFIX, Settings, catalogue

NAMES_AND_DEFAULTS: dict[str, tuple[str, object]] = {
    "BASE_URLS": ("--base-url", {}),
    "NAMESPACES": ("--namespace", ()),
    "LABEL_SELECTOR": ("--label-selector", None),
    "POLL_SECONDS": ("--poll-seconds", 60),
    "TRANSITION_POLL_SECONDS": ("--transition-poll-seconds", 10),
    "SETTLE_SECONDS": ("--settle-seconds", 60),
    "REQUEST_TIMEOUT_SECONDS": ("--request-timeout-seconds", 30),
    "CALLS_PER_SECOND": ("--calls-per-second", 5),
    "CALLS_BURST": ("--calls-burst", 20),
    "WORKERS": ("--workers", 64),
    "CLAIM_SECONDS": ("--claim-seconds", 5),
    "DRIFT_SECONDS": ("--drift-seconds", 600),
    "DRIFT_COOLDOWN_SECONDS": ("--drift-cooldown-seconds", 600),
    "SECRET_GRACE_SECONDS": ("--secret-grace-seconds", 120),
    "SECRETS": ("--secrets", "watch"),
    "SCALE_INTERVAL_SECONDS": ("--scale-interval-seconds", 60),
    "MAX_ROLLOUTS": ("--max-rollouts", 25),
    "READ_ONLY": ("--read-only", False),
    "ADOPTION_POLICY": ("--adoption-policy", "Apply"),
    "CA_FILE": ("--ca-file", None),
    "PROXY_URL": ("--proxy-url", None),
    "LEASE_NAMESPACE": ("--lease-namespace", "default"),
    "LEADER_ELECTION": ("--leader-election/--no-leader-election", False),
    "HTTP_ADDRESS": ("--http-address", ("0.0.0.0", 8080)),
    "LOG_FORMAT": ("--log-format", "console"),
    "LOG_LEVEL": ("--log-level", "info"),
}
"""What charts, manifests and scripts of users rely on."""

POSITIVE = [
    "poll_seconds",
    "transition_poll_seconds",
    "settle_seconds",
    "request_timeout_seconds",
    "calls_per_second",
    "calls_burst",
    "workers",
    "claim_seconds",
    "drift_seconds",
    "drift_cooldown_seconds",
    "secret_grace_seconds",
    "scale_interval_seconds",
]


@pytest.mark.parametrize(("name", "flag", "default"), [(name, *rest) for name, rest in NAMES_AND_DEFAULTS.items()])
def test_names_and_defaults_stay_as_they_are(name: str, flag: str, default: object) -> None:
    shown = catalogue()[name.lower()]
    assert (shown.variable, shown.flag) == (PREFIX + name, flag)
    assert getattr(Settings(), name.lower()) == default


def test_there_is_no_other_setting_but_the_way_to_the_cluster() -> None:
    others = {name: shown.variable for name, shown in catalogue().items() if name.upper() not in NAMES_AND_DEFAULTS}
    assert others == {"kubeconfig": "KUBECONFIG", "context": ""}


def test_each_setting_tells_its_meaning_in_one_line() -> None:
    assert [
        name for name, shown in catalogue().items() if "\n" in shown.meaning or not shown.meaning.endswith(".")
    ] == []


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_numbers_are_positive_and_finite(name: str, value: float) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({name: value})
    assert [error["loc"] for error in refused.value.errors()] == [(name,)]


def test_durations_may_have_fractions_and_rollouts_no_limit() -> None:
    settings = Settings(poll_seconds=0.25, max_rollouts=0)
    assert (settings.poll_seconds, settings.max_rollouts) == (0.25, 0)


@pytest.mark.parametrize(("settle", "timeout", "accepted"), [(30, 30, True), (30.5, 30, True), (29.9, 30, False)])
def test_writes_settle_no_sooner_than_calls_time_out(*, settle: float, timeout: float, accepted: bool) -> None:
    if accepted:
        assert Settings(settle_seconds=settle, request_timeout_seconds=timeout).settle_seconds == settle
        return
    with pytest.raises(ValidationError, match=r"29.9 is below REQUEST_TIMEOUT_SECONDS \(30\)"):
        Settings(settle_seconds=settle, request_timeout_seconds=timeout)


def test_the_quiet_time_covers_claim_call_and_settling() -> None:
    assert Settings(claim_seconds=1, request_timeout_seconds=2, settle_seconds=4).quiet_seconds == 7


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.read_only = True  # type: ignore[misc] # what the test is about


def test_the_environment_of_the_process_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "POLL_SECONDS", "7")
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    assert Settings() == Settings(poll_seconds=60, kubeconfig=None)


def test_a_password_shows_nowhere() -> None:
    settings = Settings(proxy_url=SecretStr("http://user:hunter2@proxy:3128"))
    assert settings.proxy_url is not None
    assert settings.proxy_url.get_secret_value() == "http://user:hunter2@proxy:3128"
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
