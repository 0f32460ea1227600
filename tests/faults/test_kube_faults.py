"""Whatever the API server does and says: one version for each change, and nothing is sent on what is not stored."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from faults.kubeproxy import KubeProxy
from faults.kubescript import KubeFault, WatchFault
from faults.vitals import (
    PATIENCE_SECONDS,
    Managed,
    apply,
    await_all,
    intents_before,
    once_each,
    outcomes,
    placed,
    program,
)
from inference_operator.api.names import PLURAL
from inference_operator.playground.emulators.faults import Fault
from rig import QUICK, UNHURRIED, Process, Rig, wait_for
from tally import Meter

pytestmark = pytest.mark.faults

STEADY: dict[str, Any] = {**UNHURRIED, "max-rollouts": 0}
REST = 1.5
"""Seconds of watching that nothing more is sent."""


@pytest.fixture
def proxy(rig: Rig) -> Iterator[KubeProxy]:
    with KubeProxy(rig.plane) as made:
        yield made


def settled(rig: Rig, proxy: KubeProxy, count: int = 4, **flags: Any) -> tuple[Process, list[Managed]]:
    """An operator behind the proxy, and resources that are in sync after one update each."""
    process = rig.start(kubeconfig=proxy.kubeconfig, **(STEADY | flags))
    fleet = placed(rig, count)
    apply(rig, fleet, 2)
    await_all(rig, fleet)
    return process, fleet


def assert_changes_reach_everybody(rig: Rig, fleet: list[Managed], number: int, times: int) -> None:
    """One more change is one more update each, and no more follow."""
    apply(rig, fleet, number)
    await_all(rig, fleet)
    time.sleep(REST)
    assert outcomes(rig, fleet) == once_each(fleet, times)


def gated(each: Managed) -> Fault:
    """Its update is held between the commit and the answer."""
    return Fault(operation="update", endpoint_id=each.endpoint_id, gate_after="committed")


def restarted(rig: Rig, process: Process, proxy: KubeProxy) -> Process:
    """What a kubelet does with a process that has ended by itself."""
    wait_for(lambda: process.popen.poll() is not None, what="the end of the process", seconds=15)
    assert process.popen.returncode == 1
    return rig.start(kubeconfig=proxy.kubeconfig, **STEADY)


# ── Watches ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.covers("D15")
@pytest.mark.parametrize("resource", [PLURAL, "secrets"])
def test_a_watch_error_that_is_not_410_ends_the_process_and_the_next_one_changes_nothing(
    rig: Rig, proxy: KubeProxy, resource: str
) -> None:
    process, fleet = settled(rig, proxy)
    proxy.fail_watches(resource, status=500)
    restarted(rig, process, proxy)
    time.sleep(REST)
    assert outcomes(rig, fleet) == once_each(fleet)
    assert_changes_reach_everybody(rig, fleet, 3, times=2)


@pytest.mark.covers("D5")
def test_410_in_the_stream_means_a_new_list_and_no_update(rig: Rig, proxy: KubeProxy) -> None:
    process, fleet = settled(rig, proxy)
    proxy.add_fault(WatchFault(resource=PLURAL, type="DELETED", name=fleet[0].name))
    rig.delete(fleet[0].name)
    wait_for(lambda: all(proxy.fault_hits().values()), what="the deletion to be kept back")
    lists = count_lists(proxy)
    proxy.fail_watches(status=410)
    wait_for(lambda: count_lists(proxy) > lists, what="a new list")
    assert_changes_reach_everybody(rig, fleet[1:], 3, times=2)
    assert process.popen.poll() is None


def count_lists(proxy: KubeProxy) -> int:
    """Lists that were answered."""
    lists = (call for call in proxy.calls() if call.verb == "list" and call.resource == PLURAL)
    return sum(call.status == HTTPStatus.OK for call in lists)


@pytest.mark.covers("D5")
def test_410_as_a_status_means_a_new_list_and_no_update(rig: Rig, proxy: KubeProxy) -> None:
    process, fleet = settled(rig, proxy)
    for verb in ("list", "watch"):
        for resource in (PLURAL, "secrets"):
            proxy.add_fault(KubeFault(verb=verb, resource=resource, status=410, commit="never"))
        proxy.fail_watches(status=410)
        wait_for(lambda: all(proxy.fault_hits().values()), what="the answers 410")
        wait_for(lambda: proxy.open_watches() == 2, what="the watches to stand again")
    assert_changes_reach_everybody(rig, fleet, 3, times=2)
    assert process.popen.poll() is None


@pytest.mark.covers("D3")
@pytest.mark.parametrize("ending", ["reset", "midline", "end"])
def test_a_cut_watch_misses_nothing(rig: Rig, proxy: KubeProxy, ending: Any) -> None:
    process, fleet = settled(rig, proxy)
    for number in (3, 4):
        wait_for(lambda: proxy.open_watches() == 2, what="the watches to stand")
        assert proxy.cut_watches(ending=ending) == 2
        apply(rig, fleet, number)
        await_all(rig, fleet)
    wait_for(lambda: proxy.open_watches() == 2, what="the watches to stand")
    proxy.add_fault(WatchFault(resource=PLURAL, trick="cut"))  # the event itself is cut in half
    assert_changes_reach_everybody(rig, fleet, 5, times=4)
    assert all(proxy.fault_hits().values())
    assert process.popen.poll() is None


@pytest.mark.covers("D4")
def test_a_watch_that_has_fallen_silent_is_opened_anew(rig: Rig, proxy: KubeProxy) -> None:
    """The limit is 70 s, since the API server sends a bookmark every minute; here it is shorter."""
    rig.program = program("from inference_operator.kube import framework", "framework.INACTIVITY_SECONDS = 4.0")
    process, fleet = settled(rig, proxy)
    proxy.freeze_watches()
    assert_changes_reach_everybody(rig, fleet, 3, times=2)
    assert process.popen.poll() is None


RESYNC = program("from inference_operator.kube import operator", "operator.RESYNC_SECONDS = 2.0")
"""The store is compared with a list more often than every ten minutes."""


@pytest.mark.covers("D7")
def test_events_that_never_come_are_made_up_for_by_the_final_state(rig: Rig, proxy: KubeProxy) -> None:
    rig.program = RESYNC
    _, fleet = settled(rig, proxy)
    edited, reverted, recreated, deleted = fleet
    proxy.add_fault(WatchFault(resource=PLURAL, count=None))
    before = rig.get(recreated.name)["metadata"]["uid"]
    rig.apply(edited.name, edited.spec(3))
    rig.apply(reverted.name, reverted.spec(3))
    rig.apply(reverted.name, reverted.spec(2))
    rig.delete(recreated.name)
    rig.apply(recreated.name, recreated.spec(2))
    rig.delete(deleted.name)
    rig.wait(edited.name)
    rig.wait(recreated.name, reason="Matched")
    rig.wait(reverted.name)
    resource = rig.get(recreated.name)
    assert resource["metadata"]["uid"] != before
    assert resource["status"]["applied"]["uid"] == resource["metadata"]["uid"]
    time.sleep(REST)
    assert outcomes(rig, fleet) == {**once_each(fleet), edited.name: [True, True]}


@pytest.mark.covers("D6")
@pytest.mark.parametrize("after", ["a restart", "a broken watch"])
def test_no_older_spec_is_acted_on_after_a_newer_one(rig: Rig, proxy: KubeProxy, after: str) -> None:
    process, fleet = settled(rig, proxy)
    past = max(int(resource["metadata"]["resourceVersion"]) for resource in rig.list())
    apply(rig, fleet, 3)
    await_all(rig, fleet)
    newest = rig.get(fleet[0].name)["status"]
    proxy.rewind(PLURAL, past)
    if after == "a restart":
        process.kill()
        lists = count_lists(proxy)
        rig.start(kubeconfig=proxy.kubeconfig, wait=False, **STEADY)
    else:
        lists = count_lists(proxy)
        proxy.fail_watches(status=410)
    wait_for(lambda: count_lists(proxy) > lists, what="a list of the past")
    listed = time.monotonic()
    wait_for(
        lambda: all(last_read(rig, each) > listed for each in fleet),
        what="everybody to be looked at",
        seconds=PATIENCE_SECONDS,
    )
    time.sleep(float(QUICK["poll-seconds"]) * 4)
    assert outcomes(rig, fleet) == once_each(fleet, 2)
    assert rig.get(fleet[0].name)["status"]["applied"] == newest["applied"]
    proxy.catch_up(PLURAL)
    assert_changes_reach_everybody(rig, fleet, 4, times=3)
    assert [most_replicas(rig, each) for each in fleet] == [4] * len(fleet)


def last_read(rig: Rig, each: Managed) -> float:
    return max(entry.at for entry in rig.emulators.reads(each.endpoint_id))


def most_replicas(rig: Rig, each: Managed) -> int:
    """What the provider keeps of the field by which one spec differs from the next."""
    kept = rig.emulators.get_endpoint(each.provider, each.endpoint_id)["config"]
    return int(kept["autoscaling_max"] if each.provider == "friendli" else kept["workerConfig"]["maxNum"])


# ── Writes of the status ──────────────────────────────────────────────────────────────────────────────

INTENT = KubeFault(verb="patch", resource=PLURAL, subresource="status", body='"operation":')
RESULT = KubeFault(verb="patch", resource=PLURAL, subresource="status", body=r'"path": ?"/status"')


@pytest.mark.covers("D8")
@pytest.mark.parametrize("status", [409, 422])
def test_a_storm_of_conflicts_sends_nothing_until_an_intent_is_stored(rig: Rig, proxy: KubeProxy, status: int) -> None:
    _, fleet = settled(rig, proxy)
    proxy.add_fault(replace(INTENT, status=status, commit="never", count=None))
    apply(rig, fleet, 3)
    wait_for(lambda: sum(proxy.fault_hits().values()) >= 3 * len(fleet), what="a storm of conflicts")
    assert outcomes(rig, fleet) == once_each(fleet)
    proxy.clear_faults()
    await_all(rig, fleet)
    time.sleep(REST)
    assert outcomes(rig, fleet) == once_each(fleet, 2)


@pytest.mark.covers("D8")
def test_somebody_who_never_stops_writing_costs_no_second_update(rig: Rig, proxy: KubeProxy) -> None:
    _, fleet = settled(rig, proxy)
    over = threading.Event()

    def scribble() -> None:
        number = 0
        while not over.wait(0.02):
            number += 1
            for each in fleet:
                rig.merge(each.name, {"metadata": {"annotations": {"scribble": str(number)}}})

    writer = threading.Thread(target=scribble, daemon=True)
    writer.start()
    try:
        for number in (3, 4):
            for each in fleet:
                rig.apply(each.name, each.spec(number), {"scribble": "applied"})
            await_all(rig, fleet)
    finally:
        over.set()
        writer.join()
    assert any(call.served == 409 for call in proxy.calls())
    assert outcomes(rig, fleet) == once_each(fleet, 3)


@pytest.mark.covers("D9")
@pytest.mark.parametrize("delivery", ["reset", "stall", "truncate"])
@pytest.mark.parametrize("write", ["intent", "result"])
def test_a_status_that_is_stored_without_an_answer_costs_no_second_update(
    rig: Rig, proxy: KubeProxy, write: str, delivery: Any
) -> None:
    _, fleet = settled(rig, proxy)
    lost = replace(INTENT if write == "intent" else RESULT, delivery=delivery, size=10)
    for each in fleet:
        proxy.add_fault(replace(lost, name=each.name, skip=0 if write == "intent" else 1))
    apply(rig, fleet, 3)
    wait_for(lambda: all(proxy.fault_hits().values()), what="the losses")
    await_all(rig, fleet)
    time.sleep(REST)
    assert outcomes(rig, fleet) == once_each(fleet, 2)
    if write == "intent":
        for each in fleet:
            last = rig.mutations(each.endpoint_id)[-1]
            stored = intents_before(proxy, each.name, last.at)
            assert len(stored) >= 1 + 1 + 1  # that of the first change, the one whose answer was lost, and a new one


@pytest.mark.covers("D10")
def test_429_from_the_api_server_is_obeyed(rig: Rig, proxy: KubeProxy) -> None:
    silence = 3
    process, fleet = settled(rig, proxy)
    for verb in ("patch", "list", "watch"):
        fault = KubeFault(verb=verb, resource=PLURAL, status=429, commit="never", retry_after=str(silence))
        proxy.add_fault(replace(fault, count=1))
    proxy.fail_watches(PLURAL, status=410)
    apply(rig, fleet, 3)
    wait_for(lambda: all(proxy.fault_hits().values()), what="every refusal", seconds=60)
    await_all(rig, fleet)
    time.sleep(REST)
    assert outcomes(rig, fleet) == once_each(fleet, 2)
    calls = [call for call in proxy.calls() if call.resource == PLURAL]
    for refused in (call for call in calls if call.status == 429):
        assert refused.answered_at is not None
        same = [call for call in calls if call.verb == refused.verb and call.at > refused.answered_at + 0.5]
        early = [call for call in same if call.at < refused.answered_at + silence - 0.2]
        assert [call.path for call in early if refused.verb == "patch" or call.path == refused.path] == []
    assert process.popen.poll() is None


@pytest.mark.covers("D14")
def test_slow_admission_that_outlasts_the_claim_sends_nothing_on_that_intent(rig: Rig, proxy: KubeProxy) -> None:
    _, fleet = settled(rig, proxy, **{"claim-seconds": 1})
    for each in fleet:
        proxy.add_fault(replace(INTENT, name=each.name, delay_before=2.0, count=None))
    apply(rig, fleet, 3)
    # Who comes a second time has had the first answer, and has let it go.
    wait_for(lambda: min(proxy.fault_hits().values()) > 1, what="a second intent of each")
    assert outcomes(rig, fleet) == once_each(fleet)
    proxy.clear_faults()
    await_all(rig, fleet)
    time.sleep(REST)
    assert outcomes(rig, fleet) == once_each(fleet, 2)


# ── Refused credentials ───────────────────────────────────────────────────────────────────────────────


@contextmanager
def token_file(proxy: KubeProxy, folder: Path) -> Iterator[tuple[Path, Path]]:
    """A kubeconfig that takes the credential from a file, as of a service account; both."""
    document = yaml.safe_load(proxy.kubeconfig.read_text())
    token = folder / "token"
    token.write_text(document["users"][0]["user"]["token"])
    document["users"][0]["user"] = {"tokenFile": str(token)}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    yield path, token


@pytest.mark.covers("D11")
def test_a_rotated_token_is_read_as_soon_as_the_old_one_is_refused(rig: Rig, proxy: KubeProxy, tmp_path: Path) -> None:
    with token_file(proxy, tmp_path) as (kubeconfig, token):
        valid = token.read_text()
        token.write_text("flp_revoked")
        process = rig.start(kubeconfig=kubeconfig, wait=False, **STEADY)
        wait_for(lambda: any(call.served == 401 for call in proxy.calls()), what="a refused credential")
        token.write_text(valid)
        began = time.monotonic()
        wait_for(lambda: rig.is_working(process), what="the operator to work", log=process.log)
        print(f"the new token was used within {time.monotonic() - began:.1f} s")
        fleet = placed(rig, 4)
        apply(rig, fleet, 2)
        await_all(rig, fleet)
        proxy.add_fault(KubeFault(resource=PLURAL, status=401, commit="never", count=3))
        proxy.add_fault(KubeFault(resource="secrets", status=401, commit="never", count=2))
        proxy.cut_watches()
        assert_changes_reach_everybody(rig, fleet, 3, times=2)
        assert process.popen.poll() is None


@pytest.mark.covers("D11", "F9")
def test_a_secret_that_may_not_be_read_stops_only_who_needs_it(rig: Rig, proxy: KubeProxy) -> None:
    process, fleet = settled(rig, proxy)
    rig.secret("hidden", token=rig.token)
    proxy.add_fault(KubeFault(verb="get", resource="secrets", name="hidden", status=403, commit="never", count=None))
    hidden = placed(rig, 2, "hidden-")
    for each in hidden:
        rig.apply(each.name, each.spec(2, credentialsSecretRef={"name": "hidden"}))
    wait_for(lambda: all("403" in told(rig, each.name) for each in hidden), what="the reason to be told")
    assert_changes_reach_everybody(rig, fleet, 3, times=2)
    assert {name: len(sent) for name, sent in outcomes(rig, hidden).items()} == {each.name: 0 for each in hidden}
    proxy.clear_faults()
    await_all(rig, hidden)
    assert outcomes(rig, hidden) == once_each(hidden)
    assert process.popen.poll() is None


def told(rig: Rig, name: str) -> str:
    resource = rig.get(name)
    return " ".join(str(found["message"]) for found in resource.get("status", {}).get("conditions", []))


@pytest.mark.covers("D11")
def test_secrets_that_may_not_be_watched_for_a_while_are_watched_again(rig: Rig, proxy: KubeProxy) -> None:
    process, fleet = settled(rig, proxy)
    for verb in ("list", "watch"):
        proxy.add_fault(KubeFault(verb=verb, resource="secrets", status=403, commit="never", count=3))
    meter = Meter(rig, [each.endpoint_id for each in fleet])
    proxy.fail_watches("secrets", status=410)
    wait_for(lambda: set(proxy.fault_hits().values()) == {3}, what="every refusal")
    wait_for(lambda: proxy.open_watches("secrets") == 1, what="the watch to stand again")
    assert meter.spent().mutations == 0
    assert_changes_reach_everybody(rig, fleet, 3, times=2)
    assert process.popen.poll() is None


# ── The whole connection ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.covers("D1")
@pytest.mark.parametrize("seconds", [1, 10])
def test_an_api_server_that_is_gone_while_an_update_is_under_way_costs_no_second_one(
    rig: Rig, proxy: KubeProxy, seconds: int
) -> None:
    process, fleet = settled(rig, proxy)
    for each in fleet:
        rig.emulators.add_fault(gated(each))
    apply(rig, fleet, 3)
    rig.emulators.wait_for_gate("committed", requests=len(fleet))
    proxy.cut()
    rig.emulators.release_gate("committed")
    time.sleep(seconds)
    proxy.mend()
    await_all(rig, fleet)
    assert_changes_reach_everybody(rig, fleet, 4, times=3)
    assert process.popen.poll() is None
