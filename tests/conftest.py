"""What happens once per test run: programs are built before it, and its output is searched for tokens after it."""

from pathlib import Path

import pytest
from hypothesis import settings

from planes import CLIENTS, PROGRAMS, build_programs
from secrecy import files_that_show, shows

TESTS = Path(__file__).parent

settings.register_profile("patient", deadline=None)  # a busy machine is no finding
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run take its share of the generated plans."""
    parser.addoption("--eighth", type=int, choices=range(8), help="run only every eighth of the tests marked `plan`")


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Use three workers for the faults on any machine: their tests wait for most of the time."""
    return 3 if "faults" in config.option.markexpr.replace("not faults", "").split() else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the plans that are not in the chosen eighth."""
    eighth = config.getoption("--eighth")
    if eighth is None:
        return
    plans = [item for item in items if item.get_closest_marker("plan")]
    left_out = {id(item) for number, item in enumerate(plans) if number % 8 != eighth}
    config.hook.pytest_deselected(items=[item for item in items if id(item) in left_out])
    items[:] = [item for item in items if id(item) not in left_out]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Build the control plane's programs if a chosen folder uses them; workers would wait without a word."""
    chosen = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    for names, word in ((PROGRAMS, "control_plane"), (CLIENTS, "tools")):
        using = [file.parent for file in TESTS.glob("*/conftest.py") if word in file.read_text(encoding="utf-8")]
        if any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in chosen for folder in using):
            build_programs(config, names)


def pytest_configure(config: pytest.Config) -> None:
    """Search where the results of all workers come together."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Sweep(config))


class Sweep:
    """Fails a run whose tests let a token show in a report or in any file that they left behind."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._places: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Search what a test printed and logged."""
        if shows(f"{report.longreprtext}{report.caplog}{report.capstdout}{report.capstderr}"):
            self._places.append(f"the output of {report.nodeid}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Search the files."""
        folder: Path = self._config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined] # no other way to it
        self._places += [str(path.relative_to(folder)) for path in files_that_show(folder)]
        if self._places:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the places."""
        if self._places:
            terminalreporter.section("tokens shown", red=True)
            terminalreporter.write_line("\n".join(sorted(set(self._places))))
