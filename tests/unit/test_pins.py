"""Everyone gets the versions that were tested: by `uv run` from pyproject.toml, in the image from requirements.lock."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = dict(pin.split("==") for pin in PROJECT["tool"]["uv"]["constraint-dependencies"])
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
LOCKED = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", LOCK, re.MULTILINE))


def test_everything_that_is_installed_is_pinned() -> None:
    found = {normal(each.name): each.version for each in importlib.metadata.distributions()}
    del found[PROJECT["project"]["name"]]
    assert found.items() <= PINS.items()


def test_the_lock_holds_the_pinned_versions_of_all_dependencies() -> None:
    assert LOCKED.items() <= PINS.items()
    assert {normal(name) for name in PROJECT["project"]["dependencies"]} <= LOCKED.keys()


def test_every_locked_version_has_hashes_and_no_address() -> None:
    packages = [entry for entry in re.split(r"\n(?=\S)", LOCK) if not entry.startswith("#")]
    assert len(packages) == len(LOCKED) > 0
    assert all("--hash=sha256:" in entry for entry in packages)
    assert "://" not in LOCK


def normal(name: str) -> str:
    """The form of a name in which all spellings of it are the same."""
    return re.sub(r"[-_.]+", "-", name).lower()
