"""What the image promises, read from its Dockerfile, and that the program runs as the image runs it.

`test_node.py` builds it and looks at the running thing.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from inference_operator import __version__
from inference_operator.api.names import CRD_NAME
from rig import ROOT, Rig

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = dict(pin.split("==") for pin in PROJECT["tool"]["uv"]["constraint-dependencies"])
BUILD_LOCK = (ROOT / "requirements-build.lock").read_text(encoding="utf-8")
START_RATIO = 3.0
"""Processor time until it is at work, in that of an interpreter which imports the framework alone."""

Instruction = tuple[str, str]


def dockerfile() -> list[Instruction]:
    """The instructions in order, each with its arguments in one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


INSTRUCTIONS = dockerfile()
ARGUMENTS = dict(rest.partition("=")[::2] for name, rest in INSTRUCTIONS if name == "ARG")
LAST_STAGE = INSTRUCTIONS[max(at for at, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def only(name: str) -> str:
    """The arguments of the instruction that the last stage has once."""
    [found] = [rest for each, rest in LAST_STAGE if each == name]
    return found


def test_every_stage_is_on_the_base_that_is_asked_for() -> None:
    bases = [rest.partition(" AS ")[0] for name, rest in INSTRUCTIONS if name == "FROM"]
    assert bases == ["${PYTHON_IMAGE}", "dependencies", "${PYTHON_IMAGE}"]
    image, _, tag = ARGUMENTS["PYTHON_IMAGE"].partition(":")
    head = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()[1]
    assert image == "python"
    assert re.findall(r"--python-version=(\S+)", head + BUILD_LOCK) == [tag.partition("-")[0]] * 2
    assert not any("latest" in rest for _, rest in INSTRUCTIONS)


def test_nothing_is_installed_without_a_hash() -> None:
    commands = [part for name, rest in INSTRUCTIONS if name == "RUN" for part in rest.split("&&")]
    installing = [command for command in commands if re.search(r"pip (install|sync|download)", command)]
    assert len(installing) == 3
    assert [command.split()[-1] for command in installing if "--require-hashes" not in command] == ["dist/*"]
    assert "--no-deps" in installing[-1]


def test_what_builds_the_wheel_is_locked() -> None:
    locked = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", BUILD_LOCK, re.MULTILINE))
    packages = [entry for entry in re.split(r"\n(?=\S)", BUILD_LOCK) if not entry.startswith("#")]
    assert len(packages) == len(locked) > 0
    assert all("--hash=sha256:" in entry for entry in packages)
    assert "://" not in BUILD_LOCK
    assert PROJECT["build-system"]["requires"] == [f"hatchling=={locked['hatchling']}"]
    assert {name: PINS[name] for name in locked if name in PINS} == {
        name: version for name, version in locked.items() if name in PINS
    }


def test_dependencies_come_before_the_program() -> None:
    copied = [(at, rest) for at, (name, rest) in enumerate(LAST_STAGE) if name == "COPY"]
    assert [rest.split()[0] for _, rest in copied] == ["--from=dependencies", "--from=program"]
    stages = [rest.partition(" AS ")[2] for name, rest in INSTRUCTIONS if name == "FROM"]
    assert stages == ["dependencies", "program", ""]


def test_it_runs_as_a_numeric_user_in_an_isolated_interpreter() -> None:
    assert only("USER") == "65532:65532"
    assert only("ENTRYPOINT") == '["python", "-I", "-m", "inference_operator"]'
    assert only("CMD") == '["run"]'
    assert only("EXPOSE") == "8080"


def test_it_is_labelled() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', only("LABEL")))
    project = PROJECT["project"]
    assert labels == {
        "title": project["name"],
        "description": project["description"],
        "licenses": project["license"],
        "version": "${VERSION}",
        "revision": "${REVISION}",
        "created": "${CREATED}",
        "source": "${SOURCE}",
    }
    assert ARGUMENTS["VERSION"] == __version__
    after = [name for name, _ in LAST_STAGE[LAST_STAGE.index(("CMD", only("CMD"))) + 1 :]]
    assert after == ["ARG"] * 4 + ["LABEL"], "what changes with every build comes last"


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    copied = [rest.split()[:-1] for name, rest in INSTRUCTIONS if name == "COPY" and "--from" not in rest]
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(
        name for each in copied for name in each
    )
    assert lines[-1] == "**/__pycache__"


@pytest.fixture(scope="module")
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the program's files where a wheel puts them, beside the dependencies installed here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    source = ROOT / "operator" / "inference_operator"
    shutil.copytree(source, site / "inference_operator", ignore=shutil.ignore_patterns("__pycache__"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


def test_it_needs_neither_surroundings_nor_a_home(isolated: Path, tmp_path: Path) -> None:
    told = run(isolated, "-c", "import inference_operator; print(inference_operator.__file__)", folder=tmp_path)
    assert Path(told.strip()).is_relative_to(isolated.parents[1])
    assert "Run the operator" in run(isolated, "-m", "inference_operator", "run", "--help", folder=tmp_path)
    assert (
        yaml.safe_load(run(isolated, "-m", "inference_operator", "crds", folder=tmp_path))["metadata"]["name"]
        == CRD_NAME
    )


def run(python: Path, *arguments: str, folder: Path) -> str:
    environment: Mapping[str, str] = {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}  # which -I ignores
    done = subprocess.run(
        [python, "-I", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_starts_quickly(rig: Rig) -> None:
    told = subprocess.run(
        [sys.executable, "-I", "-c", "import kopf, time; print(time.process_time())"],
        check=True,
        capture_output=True,
        text=True,
    )
    rig.program = ("-I", "-m", "inference_operator")
    process = rig.start()
    taken, ratio = process.cpu_seconds, process.cpu_seconds / float(told.stdout)
    print(f"\nat work after {taken:.2f} s of CPU, {ratio:.2f} x kopf, with {process.resident_mib:.0f} MiB resident")
    assert ratio < START_RATIO
