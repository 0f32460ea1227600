"""What the demonstration shows of resources and calls, and what it expects of its own samples."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from inference_operator.playground import scenario
from inference_operator.playground.cluster import collection_path
from inference_operator.playground.emulators.ledger import Entry
from inference_operator.playground.screen import LineScreen
from inference_operator.playground.view import Picture, Row, calls_table, resources_table, row, sentence
from inference_operator.providers.registry import DRIVERS
from inference_operator.validate import validate_files

SAMPLES = sorted(Path(scenario.__file__).with_name("samples").glob("*.yaml"))


def resource(generation: int = 2, **status: Any) -> dict[str, Any]:
    metadata = {"name": "chat", "generation": generation, "resourceVersion": "7"}
    return {"metadata": metadata, "spec": {"provider": "friendli"}, "status": status}


def condition(kind: str, status: str, reason: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": f"{reason}, in words"}


def converged(**change: Any) -> dict[str, Any]:
    conditions = [condition("Synced", "True", "Applied"), condition("Ready", "True", "Serving")]
    return resource(**{"observedGeneration": 2, "conditions": conditions, "currReplicaCnt": 1, **change})


def write(**change: Any) -> Entry:
    known: dict[str, Any] = {"seq": 1, "at": 12.0, "provider": "friendli", "method": "PUT", "path": "/e/ep-1?a=b"}
    return Entry(**{**known, "mutates": True, "endpoint_id": "ep-1", "status": 200, "version": 3, **change})


def shown(renderable: RenderableType, width: int = 120) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return [line.rstrip() for line in capture.get().splitlines()]


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fresh_resource_is_shown_with_dashes_and_has_not_converged() -> None:
    fresh = row({key: value for key, value in resource().items() if key != "status"})
    assert fresh == Row("chat", "friendli", "-", "-/-", "-", "-", "-", "", "", current=False, resource_version="7")
    assert not fresh.converged


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"generation": 3}, False),
        ({"conditions": [condition("Synced", "True", "Applied"), condition("Ready", "Unknown", "Updating")]}, False),
        ({"conditions": [condition("Synced", "False", "Drifted"), condition("Ready", "True", "Serving")]}, False),
        ({"conditions": [condition("Synced", "True", "Applied")]}, False),
    ],
)
def test_converged_means_the_newest_generation_synced_and_ready(change: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - both sides of the table
    assert row(converged(**change)).converged is expected


def test_reasons_and_the_first_message_that_matters_are_kept() -> None:
    both = [condition("Synced", "False", "Waiting"), condition("Ready", "False", "NotSynced")]
    seen = row(converged(conditions=both))
    assert (seen.reason, seen.message) == ("Waiting, NotSynced", "Waiting, in words")
    once = [condition("Synced", "False", "InvalidSpec"), condition("Ready", "False", "InvalidSpec")]
    assert row(converged(conditions=once)).reason == "InvalidSpec"


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_resources_fits_a_small_terminal() -> None:
    seen = converged(state="Running", desiredReplicaCnt=2, version=4)
    header, line = shown(resources_table([row(seen)]), width=90)
    assert header.split() == ["Name", "Provider", "State", "Replicas", "Version", "Synced", "Ready", "Reason"]
    assert line.split() == ["chat", "friendli", "Running", "1/2", "4", "True", "True", "Applied,", "Serving"]


def test_writes_stay_and_a_few_reads_follow() -> None:
    writes = [write(seq=number, version=number) for number in range(1, 10)]
    reads = [write(seq=number, method="GET", mutates=False, version=None) for number in range(10, 15)]
    title, _, *lines = shown(calls_table(Picture((), writes, reads, 77), limit=6, width=120, since=2.0))
    assert title == "Provider calls: 9 writes, 77 reads"
    assert [line.split()[-1] for line in lines] == ["6", "7", "8", "9", "200", "200"]
    assert lines[0].split() == ["10.0", "s", "friendli", "PUT", "/e/ep-1", "ep-1", "200", "6"]


@pytest.mark.parametrize("limit", [1, 2])
def test_where_there_is_room_for_few_calls_they_are_writes(limit: int) -> None:
    reads = [write(method="GET", mutates=False)]
    _, _, *lines = shown(calls_table(Picture((), [write(), write()], reads, 1), limit=limit, width=120, since=0.0))
    assert len(lines) == limit
    assert all("PUT" in line for line in lines)


def test_on_a_narrow_terminal_the_path_gives_way() -> None:
    long = write(path="/gpu-instance/openapi/v1/endpoint/update", endpoint_id="sls-embeddings")
    *_, line = shown(calls_table(Picture((), [long]), limit=5, width=80, since=0.0), width=80)
    assert "…" in line
    assert line.split()[-3:] == ["sls-embeddings", "200", "3"]


def test_lines_tell_each_write_once_it_is_answered() -> None:
    console = Console(width=40, color_system=None)
    lines = LineScreen(console, 0.0)
    with console.capture() as capture:
        lines.show(Picture(writes=[write(status=None)]))
        lines.show(Picture(writes=[write(), write(seq=2, version=None, status=429)]))
        lines.show(Picture(writes=[write()]))
    first, second = capture.get().splitlines()
    assert first == " 12.0 s    friendli PUT /e/ep-1?a=b (ep-1): 200, version 3" == f" 12.0 s    {sentence(write())}"
    assert second.endswith("(ep-1): 429")


# ── the samples ───────────────────────────────────────────────────────────────────────────────────────


def test_every_sample_is_valid_and_played() -> None:
    assert validate_files(SAMPLES, DRIVERS).findings == ()
    assert sorted(part.sample for part in scenario.PARTS) == [path.stem for path in SAMPLES]


def test_every_provider_has_several_shapes_and_every_endpoint_one_owner() -> None:
    providers = [part.manifest["spec"]["provider"] for part in scenario.PARTS]
    assert all(providers.count(driver.name) >= 3 for driver in DRIVERS)
    assert len({part.endpoint_id for part in scenario.PARTS}) == len(scenario.PARTS)


def test_the_edit_changes_what_is_said_and_keeps_the_rest() -> None:
    before = next(part for part in scenario.PARTS if part.sample == scenario.EDITED).manifest["spec"]
    after = scenario.edited_manifest()["spec"]
    assert after["scaling"] == before["scaling"] | {"maxReplicas": 6}
    assert after["versionComment"] != before["versionComment"]
    assert after | {"scaling": before["scaling"], "versionComment": before["versionComment"]} == before
    assert scenario.EDIT_IN_WORDS.startswith(f"maxReplicas from {before['scaling']['maxReplicas']} to 6")


def test_one_edit_is_one_more_write() -> None:
    before, after = (scenario.expected_writes(edited=edited) for edited in (False, True))
    assert [name for name in before if before[name] != after[name]] == ["ep-chat"]
    assert sum(after.values()) == sum(before.values()) + 1


def test_objects_are_found_by_group_and_namespace() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "a"}}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {}}
    assert collection_path(secret) == "/api/v1/namespaces/a/secrets"
    assert collection_path(role) == "/apis/rbac.authorization.k8s.io/v1/clusterroles"
