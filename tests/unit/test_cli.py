from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from inference_operator import __version__
from inference_operator.api.names import API_VERSION, CRD_NAME, KIND
from inference_operator.cli import app
from inference_operator.settings import PREFIX, Settings, UnusableSettings, catalogue

VALID: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": "llama-chat", "namespace": "team-a"},
    "spec": {
        "provider": "friendli",
        "endpointId": "ep-abc123",
        "credentialsSecretRef": {"name": "friendli"},
        "gpu": {"type": "H100", "count": 2},
        "friendli": {},
    },
}
SLOW = {"kopf", "kubernetes", "h11", "httpx", "aiohttp", "pydantic_settings"}
INVALID = {**VALID, "spec": {**VALID["spec"], "gpu": {"type": "H100"}}}


class Operator:
    """Stands where the operator would start, and remembers what it was told."""

    def __init__(self) -> None:
        self.code = 0
        self.settings: Settings | None = None
        self.refusal: UnusableSettings | None = None

    def run(self, settings: Settings) -> int:
        if self.refusal:
            raise self.refusal
        self.settings = settings
        return self.code


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Operator:
    standing_in = Operator()
    for name in [name for name in os.environ if name.startswith((PREFIX, "KUBE"))]:
        monkeypatch.delenv(name)
    module = ModuleType("inference_operator.app")
    vars(module)["run"] = standing_in.run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return standing_in


def invoke(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(app, arguments, input=text, env={"COLUMNS": "200", "TERM": "dumb"})


def settings_of(operator: Operator, *arguments: str) -> Settings:
    result = invoke("run", *arguments)
    assert result.exit_code == 0, result.output
    assert operator.settings is not None
    return operator.settings


def written(folder: Path, *documents: Any) -> str:
    file = folder / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return str(file)


def test_without_flags_the_defaults_hold(operator: Operator) -> None:
    assert settings_of(operator) == Settings()


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (
            ("--base-url", "friendli=http://127.0.0.1:9001", "--base-url", "novita=http://127.0.0.1:9002"),
            "base_urls",
            {"friendli": "http://127.0.0.1:9001", "novita": "http://127.0.0.1:9002"},
        ),
        (("--namespace", "team-a", "--namespace", "team-b"), "namespaces", ("team-a", "team-b")),
        (("--label-selector", "tier=gold"), "label_selector", "tier=gold"),
        (("--poll-seconds", "0.5"), "poll_seconds", 0.5),
        (("--transition-poll-seconds", "2"), "transition_poll_seconds", 2),
        (("--settle-seconds", "90"), "settle_seconds", 90),
        (("--request-timeout-seconds", "12"), "request_timeout_seconds", 12),
        (("--calls-per-second", "0.2"), "calls_per_second", 0.2),
        (("--calls-burst", "7"), "calls_burst", 7),
        (("--workers", "8"), "workers", 8),
        (("--claim-seconds", "3"), "claim_seconds", 3),
        (("--drift-seconds", "40"), "drift_seconds", 40),
        (("--drift-cooldown-seconds", "50"), "drift_cooldown_seconds", 50),
        (("--secret-grace-seconds", "6"), "secret_grace_seconds", 6),
        (("--secrets", "get"), "secrets", "get"),
        (("--scale-interval-seconds", "9"), "scale_interval_seconds", 9),
        (("--max-rollouts", "0"), "max_rollouts", 0),
        (("--read-only",), "read_only", True),
        (("--adoption-policy", "Match"), "adoption_policy", "Match"),
        (("--ca-file", __file__), "ca_file", Path(__file__)),
        (("--lease-namespace", "platform"), "lease_namespace", "platform"),
        (("--leader-election",), "leader_election", True),
        (("--no-leader-election",), "leader_election", False),
        (("--http-address", "127.0.0.1:0"), "http_address", ("127.0.0.1", 0)),
        (("--log-format", "json"), "log_format", "json"),
        (("--log-level", "debug"), "log_level", "debug"),
        (("--kubeconfig", "/a"), "kubeconfig", "/a"),
        (("--context", "kind-x"), "context", "kind-x"),
    ],
)
def test_each_flag_sets_its_setting(operator: Operator, arguments: tuple[str, ...], name: str, value: object) -> None:
    assert getattr(settings_of(operator, *arguments), name) == value


def test_the_proxy_is_set_by_flag_too(operator: Operator) -> None:
    proxy = settings_of(operator, "--proxy-url", "http://127.0.0.1:3128").proxy_url
    assert proxy is not None
    assert proxy.get_secret_value() == "http://127.0.0.1:3128"


def test_a_flag_wins_over_the_environment(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "POLL_SECONDS", "20")
    monkeypatch.setenv(PREFIX + "WORKERS", "3")
    monkeypatch.setenv(PREFIX + "LEADER_ELECTION", "true")
    settings = settings_of(operator, "--poll-seconds", "40", "--no-leader-election")
    assert (settings.poll_seconds, settings.workers, settings.leader_election) == (40, 3, False)


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_is_the_operators(operator: Operator, code: int) -> None:
    operator.code = code
    assert invoke("run").exit_code == code


def test_unusable_settings_are_all_told_and_nothing_starts(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "POL_SECONDS", "20")
    monkeypatch.setenv(PREFIX + "PROXY_URL", "socks5://user:hunter2@proxy")
    result = invoke("run", "--workers", "none", "--base-url", "friendli=http://api.example.com")
    assert (result.exit_code, result.stdout, operator.settings) == (2, "", None)
    assert result.stderr.splitlines()[0] == "Unusable settings:"
    assert [line.split(":")[0].strip() for line in result.stderr.splitlines()[1:]] == [
        f"{PREFIX}POL_SECONDS",
        "--base-url friendli",
        f"{PREFIX}PROXY_URL",
        "--workers",
    ]
    assert "hunter2" not in result.output


def test_what_only_the_start_can_find_is_told_alike(operator: Operator) -> None:
    operator.refusal = UnusableSettings(["HTTP_ADDRESS: in use [red]"])
    result = invoke("run")
    assert (result.exit_code, result.stderr) == (2, "Unusable settings:\n  HTTP_ADDRESS: in use [red]\n")


@pytest.mark.parametrize(
    "arguments", [["run", "--pol-seconds", "3"], ["run", "--secrets", "list"], ["run", "x"], ["start"], ["validate"]]
)
def test_wrong_usage_ends_with_two(operator: Operator, arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, operator.settings) == (2, None)


def test_the_help_of_run_shows_each_flag_with_its_default_and_meaning() -> None:
    text = " ".join(invoke("run", "--help").stdout.replace("│", " ").split())
    for shown in catalogue().values():
        for flag in str(shown.flag).split("/"):
            assert f"{flag} " in text
        assert f"{shown.meaning.replace('`', '')} [default: {shown.default}]" in text


@pytest.mark.parametrize("command", ["run", "demo", "crds", "validate"])
def test_exit_codes_are_part_of_the_help(command: str) -> None:
    assert "Exit codes: 0 " in invoke(command, "-h").stdout


def test_the_version_is_printed() -> None:
    assert invoke("--version").stdout == f"inference-operator {__version__}\n"


@pytest.mark.parametrize("arguments", ["--help", "--version", "demo --help", "crds --help", "validate --help"])
def test_help_waits_for_no_framework(arguments: str) -> None:
    program = (
        "import sys; from inference_operator.cli import app\n"
        f"try: app({arguments.split()!r})\n"
        f"finally: print({SLOW!r} & sys.modules.keys(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


def test_the_module_is_the_console_script() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inference_operator", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"inference-operator {__version__}\n"


@pytest.mark.parametrize(("arguments", "exits"), [((), False), (("--exit",), True)])
def test_the_demo_gives_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, *, arguments: tuple[str, ...], exits: bool
) -> None:
    module = ModuleType("inference_operator.playground.demo")
    vars(module)["run"] = lambda *, exit_when_done: 1 if exit_when_done == exits else 3
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert invoke("demo", *arguments).exit_code == 1


def test_the_definition_is_printed_written_and_compared(tmp_path: Path) -> None:
    printed = invoke("crds")
    folder = tmp_path / "crds"
    file = folder / f"{CRD_NAME}.yaml"
    assert (printed.exit_code, yaml.safe_load(printed.stdout)["metadata"]["name"]) == (0, CRD_NAME)

    missing = invoke("crds", "--check", "--output", str(folder))
    assert missing.exit_code == 1
    assert str(file) in missing.stderr

    assert invoke("crds", "--output", str(folder)).exit_code == 0
    assert file.read_text() == printed.stdout
    fresh = invoke("crds", "--check", "--output", str(folder))
    assert (fresh.exit_code, fresh.output) == (0, "")

    file.write_text(printed.stdout.replace("Namespaced", "Cluster"))
    stale = invoke("crds", "--check", "--output", str(folder))
    assert stale.exit_code == 1
    assert [line for line in stale.stdout.splitlines() if line.startswith(("+ ", "- "))] == [
        "-  scope: Cluster",
        "+  scope: Namespaced",
    ]


def test_valid_manifests_end_with_zero(tmp_path: Path) -> None:
    result = invoke("validate", written(tmp_path, VALID))
    assert (result.exit_code, result.stdout) == (0, "1 resource judged: valid\n")


def test_findings_end_with_one_and_tell_file_and_line(tmp_path: Path) -> None:
    file = written(tmp_path, VALID, INVALID)
    result = invoke("validate", file)
    *findings, verdict = result.stdout.splitlines()
    assert (result.exit_code, verdict) == (1, "2 resources judged: not valid")
    assert findings
    assert all(line.startswith(f"{file}:") and ": error: " in line for line in findings)


def test_manifests_are_read_from_standard_input() -> None:
    program = [sys.executable, "-m", "inference_operator", "validate", "-", "-o", "json"]
    done = subprocess.run(program, input=yaml.safe_dump(INVALID), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["resources"] == 1


def test_scripts_read_findings_as_json_or_yaml(tmp_path: Path) -> None:
    file = written(tmp_path, INVALID)
    as_json, as_yaml = invoke("validate", file, "-o", "json"), invoke("validate", file, "-o", "yaml")
    report = json.loads(as_json.stdout)
    assert (as_json.exit_code, as_yaml.exit_code) == (1, 1)
    assert report == yaml.safe_load(as_yaml.stdout)
    assert (report["ok"], report["resources"]) == (False, 1)
    assert {*report["findings"][0]} == {"file", "line", "path", "message", "severity"}
    assert report["findings"][0]["severity"] == "error"
