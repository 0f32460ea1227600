"""Programs come from KUBEBUILDER_ASSETS, else from the cache, else from one build, whoever else asks meanwhile."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from inference_operator.playground.binaries import PROGRAMS, cache_folder, ensure, locate
from inference_operator.playground.progress import Phase, Progress, on_terminal
from inference_operator.playground.toolchain import BuildError, ToolchainError, find_go

MODULE = PROGRAMS["etcd"].module
ETCD, APISERVER = PROGRAMS["etcd"].package, PROGRAMS["kube-apiserver"].package

# A `go` that says what the real one says, and does what a file next to it tells it to.
FAKE_GO = """#!/bin/sh
here=$(dirname "$0")
echo "$1" >> "$here/calls"
case $1 in
env)
    cat "$here/version" ;;
list)
    echo "go: downloading example.test/library v1.0.0" >&2
    printf '%s\\n' example.test/library PACKAGES ;;
build)
    . "$here/before_build"
    while [ $# -gt 2 ]; do shift; done
    [ -e "$here/library_compiled" ] || echo example.test/library >&2
    touch "$here/library_compiled"
    echo "$2" >&2
    echo "#!$2" > "$1"
    chmod +x "$1" ;;
esac
""".replace("PACKAGES", f"{ETCD} {APISERVER}")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty cache folder of the control plane's programs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return cache_folder(MODULE)


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a scripted Go toolchain that is first in PATH."""
    folder = tmp_path / "go"
    folder.mkdir()
    executable(folder / "go", FAKE_GO)
    (folder / "version").write_text("go1.26.8")
    (folder / "before_build").touch()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that KUBEBUILDER_ASSETS names."""
    folder = tmp_path / "assets"
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(folder))
    return folder


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def refuse(step: Progress) -> None:
    pytest.fail(f"nothing should be built, but: {step}")


def test_assets_come_before_the_cache(assets: Path, cache: Path) -> None:
    ours, theirs = executable(cache / "etcd"), executable(assets / "etcd")
    assert ensure(["etcd"], progress=refuse) == {"etcd": theirs}
    assert ours != theirs


def test_what_the_assets_lack_comes_from_the_cache(assets: Path, cache: Path) -> None:
    theirs, ours = executable(assets / "etcd"), executable(cache / "kubectl")
    assert ensure(["etcd", "kubectl"], progress=refuse) == {"etcd": theirs, "kubectl": ours}


def test_a_file_that_cannot_be_executed_is_no_program(assets: Path, cache: Path) -> None:
    executable(assets / "etcd").chmod(0o644)
    (cache / "etcd").mkdir(parents=True)
    assert locate("etcd") is None


def test_what_is_nowhere_is_built_into_the_cache(go: Path, cache: Path) -> None:
    steps: list[Progress] = []
    assert ensure(["etcd", "kube-apiserver"], progress=steps.append) == {
        "etcd": cache / "etcd",
        "kube-apiserver": cache / "kube-apiserver",
    }
    assert (cache / "kube-apiserver").read_text() == f"#!{APISERVER}\n"
    assert steps == [
        Progress(Phase.DOWNLOADING, "etcd, kube-apiserver"),
        Progress(Phase.DOWNLOADING, "etcd, kube-apiserver", item="example.test/library v1.0.0", done=1),
        Progress(Phase.COMPILING, "etcd", total=3),
        Progress(Phase.COMPILING, "etcd", item="example.test/library", done=1, total=3),
        Progress(Phase.LINKING, "etcd", item=ETCD, done=2, total=3),
        Progress(Phase.COMPILING, "kube-apiserver", done=2, total=3),
        Progress(Phase.LINKING, "kube-apiserver", item=APISERVER, done=3, total=3),
    ]
    assert calls(go) == ["env", "list", "build", "build"]
    assert sorted(path.name for path in cache.iterdir()) == [".lock", "etcd", "kube-apiserver"]


def test_only_what_is_missing_is_built(go: Path, cache: Path) -> None:
    executable(cache / "etcd", "already there")
    ensure(["etcd", "kube-apiserver"], progress=lambda _: None)
    assert (cache / "etcd").read_text() == "already there"
    assert calls(go).count("build") == 1
    ensure(["etcd", "kube-apiserver"], progress=refuse)


def test_progress_is_shown_on_standard_error(go: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ensure(["etcd"])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["Downloading the sources of etcd", "Compiling etcd", "Linking etcd"]
    assert calls(go).count("build") == 1


def test_two_at_once_build_once(go: Path, cache: Path) -> None:
    steps: list[Progress] = []
    (go / "before_build").write_text("sleep 0.5")
    with ThreadPoolExecutor() as pool:
        outcomes = [pool.submit(ensure, ["etcd"], progress=steps.append) for _ in range(3)]
    assert [outcome.result() for outcome in outcomes] == [{"etcd": cache / "etcd"}] * 3
    assert calls(go).count("build") == 1
    assert [step.phase for step in steps].count(Phase.WAITING) == 2


def test_a_failed_build_says_what_the_compiler_said_and_leaves_nothing(go: Path, cache: Path) -> None:
    (go / "before_build").write_text("echo 'main.go:7: undefined: x' >&2; exit 3")
    with pytest.raises(BuildError, match=r"`go build` failed with exit code 3:\nmain\.go:7: undefined: x"):
        ensure(["etcd"], progress=lambda _: None)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_a_killed_build_lets_go_and_the_next_one_succeeds(go: Path, cache: Path) -> None:
    (go / "before_build").write_text('echo $$ > "$here/pid"; exec sleep 60')
    command = "from inference_operator.playground.binaries import ensure; ensure(['etcd'])"
    with subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.DEVNULL) as victim:
        wait_for(lambda: (go / "pid").exists() and (go / "pid").read_text().endswith("\n"))
        victim.send_signal(signal.SIGKILL)
    assert list(cache.glob(".building-*"))
    (go / "before_build").write_text("")
    assert ensure(["etcd"], progress=lambda _: None) == {"etcd": cache / "etcd"}
    assert not list(cache.glob(".building-*"))


def test_an_unknown_program_is_refused() -> None:
    with pytest.raises(ValueError, match="no such program: kubeadm"):
        ensure(["etcd", "kubeadm"], progress=refuse)


def test_an_old_go_in_path_is_passed_over_for_the_installed_package(go: Path) -> None:
    assert find_go((1, 26, 0)) == go / "go"
    (go / "version").write_text("go1.25.9")
    assert find_go((1, 26, 0)) == Path(sys.executable).with_name("go")


def test_without_a_new_enough_go_the_message_says_what_to_do(go: Path) -> None:
    with pytest.raises(ToolchainError, match=rf"Go 9\.0\.0 or newer .*{go / 'go'} is 1\.26\.8; .*KUBEBUILDER_ASSETS"):
        find_go((9, 0, 0))


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "own/main.go"])
def test_another_pin_or_source_means_another_cache_folder(tmp_path: Path, file: str) -> None:
    shutil.copytree(MODULE.folder, tmp_path / "controlplane")
    assert cache_folder(replace(MODULE, folder=tmp_path / "controlplane")) == cache_folder(MODULE)
    (tmp_path / "controlplane" / file).parent.mkdir(exist_ok=True)
    with (tmp_path / "controlplane" / file).open("a") as pins:
        pins.write("\n")
    assert cache_folder(replace(MODULE, folder=tmp_path / "controlplane")) != cache_folder(MODULE)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_module_pins_every_program_of_others_or_holds_it(name: str) -> None:
    module, package = PROGRAMS[name].module, PROGRAMS[name].package
    pins = (module.folder / "go.mod").read_text()
    assert re.search(rf"^(tool )?\t?{re.escape(package)}$", pins, re.MULTILINE) or (module.folder / package).is_dir()


def test_the_control_plane_is_of_one_kubernetes_release() -> None:
    pins = (MODULE.folder / "go.mod").read_text()
    staging = MODULE.version.replace("v1.", "v0.")
    replaced = re.findall(r"^replace (k8s\.io/\S+) => (\S+) (\S+)$", pins, re.MULTILINE)
    assert len(replaced) == 33
    assert all(old == new and version == staging for old, new, version in replaced)


def test_programs_report_the_release_they_are_built_from() -> None:
    assert f"version.gitVersion={MODULE.version} " in MODULE.flags[1]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with on_terminal() as report:
        report(Progress(Phase.COMPILING, "etcd", item="example.test/library", done=3, total=12))
    shown = capsys.readouterr().err
    assert "Compiling etcd" in shown
    assert "3/12" in shown


def calls(go: Path) -> list[str]:
    """The Go commands that were run."""
    return (go / "calls").read_text().split()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
