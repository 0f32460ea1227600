"""The image and the chart on a real node, and what a node does to a pod: replaced, deleted, killed, out of memory.

`uv run pytest -n0 -s -m nightly tests/e2e/test_node.py`, as root on Debian. Takes ten minutes on a fresh machine, where
Kubernetes is built first, and three on a prepared one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.chart import helm
from e2e.node.cluster import PROGRAMS, Cluster
from e2e.node.images import BASE
from e2e.node.packages import install
from e2e.node.site import HOME, IMAGE, REVISION, SECOND, TEAM, Pod, Site, site
from e2e.node.workspace import InUseError
from inference_operator import __version__
from planes import build_programs
from rig import ROOT, wait_for
from secrecy import shows

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]

PROVIDERS = ("friendli", "novita")
START_CPU_SECONDS = 3.0
MIB = 1 << 20
DOCUMENTED = {
    reason
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
    for reason in re.findall(r"`(\w+)`", line.split("|")[1])
}
"""What the README says of a resource: conditions and reasons."""


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Iterator[Site]:
    install()
    build_programs(request.config, [*PROGRAMS, "helm"])
    with site() as made:
        yield made


@pytest.fixture
def home(node: Site) -> Site:
    """The operator, installed by its chart, two replicas ready and one of them working."""
    node.install()
    node.ready()
    node.leader()
    return node


def test_a_second_node_is_refused(node: Site) -> None:
    with pytest.raises(InUseError), Cluster(Path("unused")):
        pass
    assert node.cluster.get("nodes")["items"]


def test_the_image_says_what_it_is(node: Site) -> None:
    image, base = (node.sizes[name] / MIB for name in (IMAGE, BASE))
    print(f"\nimage: {image:.0f} MiB unpacked, of which the base {base:.0f} MiB")
    config = node.description["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["python", "-I", "-m", "inference_operator"]
    assert config["Cmd"] == ["run"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == "inference-operator"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == __version__
    assert labels["revision"] == REVISION
    assert {"description", "created", "source"} <= labels.keys()


def test_the_chart_installs_where_pods_are_restricted(home: Site) -> None:
    leader = home.leader()
    for pod in home.ready():
        process = Path("/proc") / str(home.cluster.process(pod.container["containerID"]))
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65532"}
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert writable(process) == {"/etc/hosts", "/dev/termination-log"}, "these two are kubelet's"
        assert pod.container["restartCount"] == 0
        cpu, resident = cpu_seconds(process), int(status["VmRSS"].split()[0]) / 1024
        role = "leader" if pod.name == leader.name else "standby"
        print(f"\n{role}: {cpu:.2f} s of CPU since its start, {resident:.0f} MiB resident")
        assert cpu < START_CPU_SECONDS


def test_what_is_applied_reaches_the_providers_once(home: Site) -> None:
    managed = home.manage(*PROVIDERS)
    home.change(SECOND, *managed)
    for each in managed:
        found = home.settled(each)
        assert found["status"]["endpointId"] == each.endpoint_id
        assert home.updates(each) == [True, True]
        events = home.cluster.get("events", f"--namespace={TEAM}", f"--field-selector=involvedObject.name={each.name}")[
            "items"
        ]
        reasons = {event["reason"] for event in events}
        assert "Applied" in reasons
        assert reasons <= DOCUMENTED
        assert {event["type"] for event in events} == {"Normal"}
        assert not shows(json.dumps([found, events]))


def test_probes_lease_and_logs_are_as_documented(home: Site, tmp_path: Path) -> None:
    home.manage("friendli")
    leader, pods = home.leader(), home.ready()
    for pod in pods:
        log = home.log(pod)
        (tmp_path / f"{pod.name}.log").write_text(log)
        lines = [json.loads(line) for line in log.splitlines()]
        assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)
        assert {"serving", "starting"} <= {line["event"] for line in lines}
        assert [line for line in lines if line["level"] in {"warning", "error"}] == []
        assert pod.ask("/healthz").text == "alive\n"
        assert pod.ask("/readyz").text == ("working\n" if pod.name == leader.name else "standing by\n")
        assert "inference_operator_passes_total" in pod.ask("/metrics").text
    assert home.lease()["holderIdentity"].startswith(f"{leader.name}-")


def test_the_test_of_the_chart_passes(home: Site) -> None:
    said = home.test()
    assert "Phase:          Succeeded" in said
    assert "/metrics has" in said


def test_a_rolling_update_makes_one_version_per_change(home: Site) -> None:
    managed = home.manage(*PROVIDERS * 4)
    before = {pod.uid for pod in home.ready()}
    arguments, values = home.upgrade(), home.values(podAnnotations={"round": str(time.time())})
    upgrade = threading.Thread(
        target=lambda: helm(*arguments, values=values, kubeconfig=home.cluster.kubeconfig), name="helm upgrade"
    )
    upgrade.start()
    edited_meanwhile = 0
    for each in managed:
        edited_meanwhile += upgrade.is_alive()
        home.change(SECOND, each)
        time.sleep(0.5)
    upgrade.join()
    after = home.ready()
    assert before.isdisjoint(pod.uid for pod in after)
    assert edited_meanwhile > 1
    for each in managed:
        home.settled(each)
        assert home.updates(each) == [True, True]


@pytest.mark.parametrize("how", ["deleted at once", "killed", "out of memory"])
def test_a_lost_leader_makes_one_version_per_change(home: Site, how: str, tmp_path: Path) -> None:
    answered, lost = home.manage(*PROVIDERS), home.manage(*PROVIDERS)
    leader, holder = home.leader(), home.lease()["holderIdentity"]
    process = Path("/proc") / str(home.cluster.process(leader.container["containerID"]))
    with ExitStack() as stack:
        for each in lost:
            stack.enter_context(home.unanswered(each))
        lose(home, leader, how)
        lost_at = time.monotonic()
        wait_for(lambda: not process.exists(), what="the leader's process to end")
        home.change(SECOND, *answered)
    home.leader(other_than=holder)
    print(f"\n{how}: succeeded after {time.monotonic() - lost_at:.0f} s")
    for each in [*answered, *lost]:
        home.settled(each)
        assert home.updates(each) == [True, True]
    pods = home.ready()
    if how == "deleted at once":
        assert leader.uid not in {pod.uid for pod in pods}
        return
    again = next(pod for pod in pods if pod.uid == leader.uid)
    (tmp_path / "previous.log").write_text(home.log(again, previous=True))
    ended = again.container["lastState"]["terminated"]
    assert again.container["restartCount"] == leader.container["restartCount"] + 1
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled" if how == "out of memory" else "Error")


def test_an_uninstall_leaves_resources_and_endpoints_alone(home: Site) -> None:
    managed = home.manage(*PROVIDERS)
    kept = {each: home.settled(each)["metadata"]["uid"] for each in managed}
    began = time.monotonic()
    home.uninstall()
    print(f"\nuninstalled, and the pods ended, after {time.monotonic() - began:.0f} s")
    assert "inferenceendpoints" in home.cluster.kubectl("get", "customresourcedefinitions", "--output=name")
    for each, uid in kept.items():
        assert home.resource(each)["metadata"]["uid"] == uid
        assert home.updates(each) == [True]
    # Nobody is left to take a finalizer off, and nothing waits for that.
    home.cluster.kubectl("delete", "inferenceendpoints", "--all", f"--namespace={TEAM}", "--timeout=60s")
    assert all(home.updates(each) == [True] for each in managed)


def lose(home: Site, leader: Pod, how: str) -> None:
    match how:
        case "deleted at once":
            home.cluster.kubectl("delete", "pod", leader.name, f"--namespace={HOME}", "--grace-period=0", "--force")
        case "killed":
            os.kill(home.cluster.process(leader.container["containerID"]), signal.SIGKILL)
        case "out of memory":
            home.cluster.starve(leader.container["containerID"])
        case _:
            raise AssertionError(how)


def writable(process: Path) -> set[str]:
    """Where on a disk a process could write: its mounts that are neither read-only nor the kernel's own."""
    kernels = {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "tmpfs"}
    mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    return {f[4] for f in mounts if f[f.index("-") + 1] not in kernels and "ro" not in f[5].split(",")}


def cpu_seconds(process: Path) -> float:
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
