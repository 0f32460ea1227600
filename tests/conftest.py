"""What happens once per test run, before pytest-xdist starts its workers."""

from pathlib import Path

import pytest
from hypothesis import settings

from planes import build_programs

TESTS = Path(__file__).parent

settings.register_profile("patient", deadline=None)  # a busy machine is no finding
settings.load_profile("patient")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Build the control plane's programs if a chosen folder uses them; workers would wait without a word."""
    chosen = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    using = [file.parent for file in TESTS.glob("*/conftest.py") if "planes" in file.read_text(encoding="utf-8")]
    if any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in chosen for folder in using):
        build_programs(config)
