"""What the README shows works: its resources are valid, its commands and flags exist, its links lead somewhere."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from inference_operator.cli import app
from inference_operator.providers.registry import DRIVERS
from inference_operator.settings import catalogue
from inference_operator.validate import validate_text

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CODE = [code for _, code in BLOCKS] + re.findall(r"`([^`\n]+)`", README)
REASONS = re.findall(
    r"`(\w+)`", "\n".join(line.split("|")[1] for line in README.splitlines() if line.startswith("| `"))
)
SETTINGS = {flag for shown in catalogue().values() for flag in str(shown.flag).split("/")}


@pytest.mark.parametrize("text", [code for language, code in BLOCKS if language == "yaml"])
def test_a_resource_is_valid(text: str) -> None:
    report = validate_text(text, file="README.md", drivers=DRIVERS)
    assert report.findings == ()
    assert report.resources == 1


def test_there_is_a_resource_for_each_provider() -> None:
    shown = [re.findall(r"provider: (\w+)", code) for language, code in BLOCKS if language == "yaml"]
    assert sorted(shown) == sorted([driver.name] for driver in DRIVERS)


def test_the_two_commands_come_first() -> None:
    assert BLOCKS[0] == ("console", "$ pip install uv && uv run inference-operator demo\n$ uv run pytest\n")


def test_every_command_exists_with_its_flags() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined] # a group, as the application has subcommands
    options = {name: {opt for each in command.params for opt in each.opts} for name, command in commands.items()}
    options["run"] = SETTINGS  # made of them once it is run
    named = [found for code in CODE for found in re.finditer(r"inference-operator (\w+)([^|\n`]*)", code)]
    assert {found[1] for found in named} == commands.keys()
    assert [found[0] for found in named if not flags(found[2]) <= options[found[1]]] == []


def test_every_flag_exists() -> None:
    theirs = {
        "--overwrite",
        "--for",
        "--server-side",
        "--from-file",
        "--set",
        "--create-namespace",
        "--reset-then-reuse-values",
    }
    named = {flag for code in CODE for flag in flags(code)}
    assert named - theirs <= SETTINGS | {"--exit"}
    assert theirs <= named


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    local = [link for link in links if not link.startswith("https://")]
    assert len(local) >= 5
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_every_reason_is_one_that_the_operator_gives_and_none_is_missing() -> None:
    package = ROOT / "operator" / "inference_operator"
    source = "".join(path.read_text(encoding="utf-8") for path in package.glob("core/*.py"))
    given = set(re.findall(r'Finding\(\w+, "(\w+)"', source)) | set(re.findall(r'Refuse\(\s*"(\w+)"', source))
    given |= set(re.findall(r'_(?:stalled|not_synced)\("(\w+)"', source))
    assert given
    assert given - {*REASONS} == set()
    assert [reason for reason in REASONS if f'"{reason}"' not in source] == []


def flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
