"""The Kubernetes fault proxy does what its script says, and nothing where the script says nothing."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import pytest
import yaml

from faults.kubeproxy import KubeProxy
from faults.kubescript import KubeFault, WatchFault, target_of
from faults.kubewatch import Ending
from inference_operator.api.names import PLURAL
from rig import UNHURRIED, Rig, spec_of, wait_for

MERGE = {"Content-Type": "application/merge-patch+json"}
PATIENCE = 10.0


@pytest.fixture
def proxy(rig: Rig) -> Iterator[KubeProxy]:
    with KubeProxy(rig.plane) as made:
        yield made


@pytest.fixture
def client(proxy: KubeProxy) -> Iterator[httpx.Client]:
    """Somebody who goes through the proxy; the credential is the kubeconfig's."""
    config = yaml.safe_load(proxy.kubeconfig.read_text())
    token = config["users"][0]["user"]["token"]
    with httpx.Client(
        base_url=config["clusters"][0]["cluster"]["server"],
        headers={"Authorization": f"Bearer {token}"},
        timeout=PATIENCE,
        trust_env=False,
    ) as made:
        yield made


def path(rig: Rig, name: str = "") -> str:
    return f"/api/v1/namespaces/{rig.namespace}/configmaps" + (f"/{name}" if name else "")


def document(name: str, value: int = 0) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"value": str(value)}}


def write(rig: Rig, name: str, value: int) -> str:
    """Write directly, past the proxy; returns the revision."""
    answer = rig.api.patch(path(rig, name), headers=MERGE, json={"data": {"value": str(value)}})
    if answer.status_code == httpx.codes.NOT_FOUND:
        answer = rig.api.post(path(rig), json=document(name, value))
    return str(answer.raise_for_status().json()["metadata"]["resourceVersion"])


def value(rig: Rig, name: str) -> str | None:
    """What the API server holds."""
    answer = rig.api.get(path(rig, name))
    return str(answer.json()["data"]["value"]) if answer.is_success else None


@dataclass
class Watching:
    """A watch through the proxy, read in a thread of its own."""

    client: httpx.Client
    path: str
    events: queue.Queue[str] = field(default_factory=queue.Queue)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def next(self) -> str:
        return self.events.get(timeout=PATIENCE)

    def nothing_comes(self) -> bool:
        time.sleep(0.3)
        return self.events.empty()

    def _read(self) -> None:
        """Note `TYPE name value` of each event; how it ended comes last."""
        try:
            with self.client.stream("GET", self.path, params={"watch": "true"}) as response:
                for line in response.iter_lines():
                    self.events.put(_shown(line))
            self.events.put("ended")
        except httpx.TransportError as error:
            self.events.put(f"broken: {type(error).__name__}")


def _shown(line: str) -> str:
    try:
        event = json.loads(line)
    except ValueError:
        return "half a line"
    if event["type"] == "ERROR":
        return f"ERROR {event['object']['code']}"
    return f"{event['type']} {event['object']['metadata']['name']} {event['object']['data']['value']}"


@pytest.fixture
def watching(rig: Rig, proxy: KubeProxy, client: httpx.Client) -> Iterator[Watching]:
    """A watch that stands and has shown the one object there is."""
    rig.api.delete(path(rig, "kube-root-ca.crt"))
    write(rig, "a", 0)
    with Watching(client, path(rig)) as made:
        assert made.next() == "ADDED a 0"
        yield made
        proxy.clear_faults()
        proxy.cut_watches()


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        ("GET", "/api/v1/namespaces/n/secrets/s", ("get", "secrets", "", "n", "s")),
        ("GET", "/api/v1/namespaces/n/secrets?watch=true", ("watch", "secrets", "", "n", "")),
        ("GET", "/apis/g/v1/things?limit=500", ("list", "things", "", "", "")),
        ("POST", "/apis/g/v1/namespaces/n/things", ("create", "things", "", "n", "")),
        ("PATCH", "/apis/g/v1/namespaces/n/things/t/status", ("patch", "things", "status", "n", "t")),
        ("PUT", "/api/v1/namespaces/n", ("update", "namespaces", "", "", "n")),
        ("DELETE", "/apis/g/v1/namespaces/n/things", ("deletecollection", "things", "", "n", "")),
        ("GET", "/apis/g/v1", ("get", "", "", "", "")),
    ],
)
def test_requests_are_read_as_the_api_server_reads_them(method: str, url: str, expected: tuple[str, ...]) -> None:
    parsed = httpx.URL(url)
    assert tuple(target_of(method, parsed.path, dict(parsed.params))) == expected


def test_an_operator_that_takes_the_detour_works_and_every_write_of_it_is_seen(rig: Rig, proxy: KubeProxy) -> None:
    rig.start(kubeconfig=proxy.kubeconfig, **UNHURRIED)
    rig.apply("detour", spec_of("friendli", rig.endpoint("friendli"), 3))
    rig.wait("detour")
    rig.processes[-1].terminate()
    written = [call for call in proxy.calls() if call.writes and call.resource == PLURAL]
    assert [(call.verb, call.subresource, call.name) for call in written] == [("patch", "status", "detour")] * 2
    assert [call.committed for call in written] == [True, True]
    assert len(rig.operator_writes()) == 2
    assert "operation" in written[0].body[2]["value"]
    assert {call.verb for call in proxy.calls() if call.resource == "leases"} == {"get", "create", "patch"}
    assert [call.number for call in proxy.calls()] == list(range(1, len(proxy.calls()) + 1))


@pytest.mark.parametrize(
    ("fault", "committed"),
    [
        (KubeFault(delivery="reset"), True),
        (KubeFault(delivery="close"), True),
        (KubeFault(delivery="truncate", size=10), True),
        (KubeFault(commit="never", delivery="reset"), False),
        (KubeFault(commit="never", delivery="close"), False),
    ],
    ids=["reset after", "closed after", "truncated after", "reset before", "closed before"],
)
def test_an_answer_is_lost_with_or_without_what_was_asked_for(
    rig: Rig,
    proxy: KubeProxy,
    client: httpx.Client,
    fault: KubeFault,
    committed: bool,  # noqa: FBT001 - of the table
) -> None:
    identity = proxy.add_fault(fault)
    with pytest.raises(httpx.TransportError):
        client.post(path(rig), json=document("a"))
    assert (value(rig, "a") == "0") is committed
    assert [call.committed for call in proxy.calls()] == [committed]
    assert proxy.fault_hits() == {identity: 1}
    assert client.get("/version").is_success


def test_an_answer_that_stalls_outlasts_the_patience_of_whoever_asked(
    rig: Rig, proxy: KubeProxy, client: httpx.Client
) -> None:
    proxy.add_fault(KubeFault(verb="create", delivery="stall"))
    with pytest.raises(httpx.ReadTimeout):
        client.post(path(rig), json=document("a"), timeout=0.5)
    assert value(rig, "a") == "0"


@pytest.mark.parametrize("status", [409, 410, 422, 429, 500, 503])
def test_a_refusal_looks_like_one_of_the_api_server(
    rig: Rig, proxy: KubeProxy, client: httpx.Client, status: int
) -> None:
    proxy.add_fault(KubeFault(verb="create", commit="never", status=status, retry_after="7"))
    answer = client.post(path(rig), json=document("a"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
    assert (answer.json()["kind"], answer.json()["code"]) == ("Status", status)
    assert value(rig, "a") is None
    assert client.post(path(rig), json=document("a")).is_success


def test_a_fault_hits_what_it_names_after_skipping_and_as_often_as_it_says(
    rig: Rig, proxy: KubeProxy, client: httpx.Client
) -> None:
    fault = KubeFault(resource="configmaps", name="a|b", body='"2"', skip=1, count=2, status=500)
    proxy.add_fault(fault)
    statuses = []
    for name, number in [("a", 2), ("c", 2), ("a", 1), ("a", 2), ("b", 2), ("b", 2)]:
        write(rig, name, 0)
        answer = client.patch(path(rig, name), headers=MERGE, json={"data": {"value": str(number)}})
        statuses.append(answer.status_code)
    assert statuses == [200, 200, 200, 500, 500, 200]


@pytest.mark.parametrize("place", ["gate_before", "gate_after"])
@pytest.mark.parametrize("lands", [True, False], ids=["lands", "never lands"])
def test_a_request_is_held_at_a_gate_and_outlives_its_sender(
    rig: Rig,
    proxy: KubeProxy,
    client: httpx.Client,
    place: str,
    lands: bool,  # noqa: FBT001 - both sides of the table
) -> None:
    fate = {} if lands else {"commit": "never", "delivery": "reset"}
    proxy.add_fault(KubeFault(verb="create", **{place: "gate"}, **fate))  # type: ignore[arg-type] # texts of the table
    with pytest.raises(httpx.ReadTimeout):
        client.post(path(rig), json=document("a"), timeout=0.3)
    assert proxy.wait_for_gate("gate") == [1]
    assert (value(rig, "a") is not None) is (lands and place == "gate_after")
    assert proxy.release_gate("gate") == 1
    wait_for(lambda: (value(rig, "a") is not None) is lands, what="the fate of the request")


def test_delays_are_kept_on_both_sides_of_the_commit(rig: Rig, proxy: KubeProxy, client: httpx.Client) -> None:
    proxy.add_fault(KubeFault(verb="create", delay_before=0.2, delay_after=0.2))
    began = time.monotonic()
    assert client.post(path(rig), json=document("a")).is_success
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize(
    ("ending", "shown"),
    [("reset", "broken: ReadError"), ("midline", "broken: RemoteProtocolError"), ("end", "ended")],
)
def test_a_watch_is_cut(proxy: KubeProxy, watching: Watching, ending: Ending, shown: str) -> None:
    assert proxy.open_watches("configmaps") == proxy.cut_watches("configmaps", ending=ending) == 1
    assert watching.next() == shown
    wait_for(lambda: proxy.open_watches() == 0, what="the watch to be closed")


def test_a_frozen_watch_stays_open_and_tells_everything_when_it_thaws(
    rig: Rig, proxy: KubeProxy, watching: Watching
) -> None:
    proxy.freeze_watches()
    write(rig, "a", 1)
    write(rig, "b", 2)
    assert watching.nothing_comes()
    proxy.thaw_watches()
    assert [watching.next(), watching.next()] == ["MODIFIED a 1", "ADDED b 2"]


def test_chosen_events_are_swallowed(rig: Rig, proxy: KubeProxy, watching: Watching) -> None:
    proxy.add_fault(WatchFault(type="MODIFIED", name="a", count=2))
    proxy.add_fault(WatchFault(type="DELETED"))
    for number in (1, 2, 3):
        write(rig, "a", number)
    rig.api.delete(path(rig, "a"))
    write(rig, "b", 4)
    assert [watching.next(), watching.next()] == ["MODIFIED a 3", "ADDED b 4"]


def test_an_event_is_cut_in_half(rig: Rig, proxy: KubeProxy, watching: Watching) -> None:
    proxy.add_fault(WatchFault(type="MODIFIED", trick="cut"))
    write(rig, "a", 1)
    assert watching.next() == "broken: RemoteProtocolError"


@pytest.mark.parametrize("status", [410, 500])
def test_a_watch_ends_with_an_error(rig: Rig, proxy: KubeProxy, watching: Watching, status: int) -> None:
    proxy.add_fault(WatchFault(type="MODIFIED", trick="error", status=status))
    write(rig, "a", 1)
    assert [watching.next(), watching.next()] == [f"ERROR {status}", "ended"]


def test_an_error_comes_on_open_watches(proxy: KubeProxy, watching: Watching) -> None:
    proxy.fail_watches(status=410)
    assert [watching.next(), watching.next()] == ["ERROR 410", "ended"]


def test_the_past_is_shown_until_it_catches_up(
    rig: Rig, proxy: KubeProxy, client: httpx.Client, watching: Watching
) -> None:
    revision = write(rig, "a", 1)
    assert watching.next() == "MODIFIED a 1"
    proxy.rewind("configmaps", int(revision))
    write(rig, "a", 2)
    write(rig, "b", 3)
    listed = client.get(path(rig)).json()
    assert [item["data"]["value"] for item in listed["items"]] == ["1"]
    assert listed["metadata"]["resourceVersion"] == revision
    single = client.get(path(rig, "a")).json()
    assert (single["kind"], single["data"], single["metadata"]["resourceVersion"]) == (
        "ConfigMap",
        {"value": "1"},
        revision,
    )
    assert client.get(path(rig, "b")).status_code == httpx.codes.NOT_FOUND
    assert watching.nothing_comes()
    proxy.catch_up("configmaps")
    assert [watching.next(), watching.next()] == ["MODIFIED a 2", "ADDED b 3"]
    assert client.get(path(rig, "b")).is_success


def test_everything_is_refused_until_the_connection_is_mended(
    rig: Rig, proxy: KubeProxy, client: httpx.Client, watching: Watching
) -> None:
    proxy.cut()
    assert watching.next().startswith("broken")
    for _ in range(3):
        with pytest.raises(httpx.TransportError):
            client.get("/version")
    assert rig.api.get("/version").is_success
    proxy.mend()
    assert client.get("/version").is_success
