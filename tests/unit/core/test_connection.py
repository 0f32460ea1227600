"""What applications are told about an endpoint, by value."""

from __future__ import annotations

from typing import Any

import pytest

from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.connection import ConnectionMap, connection_map
from inference_operator.core.findings import Finding, Findings, of_unbound
from inference_operator.core.model import Observed, Snapshot, State
from inference_operator.errors import InvalidSpec, Unavailable

URL = "https://sdxl.example"
SYNCED = Finding("True", "Applied", "in sync")
SERVING = Finding("True", "Serving", "serves")
ROLLING = Finding("True", "Updating", "rolls")


def wanted(target: dict[str, Any] | None, url: str | None = None) -> ConnectionMap | None:
    spec = {"provider": "novita", "endpointId": "ep-1", "credentialsSecretRef": {"name": "key"}}
    spec |= {"writeConnectionTo": target} if target else {}
    return connection_map(
        InferenceEndpointSpec.model_validate(spec), Observed(Snapshot({}), State.RUNNING, "", url=url)
    )


@pytest.mark.parametrize(
    ("target", "url", "expected"),
    [
        (None, URL, None),
        ({"configMapName": "c"}, None, {"provider": "novita", "endpointId": "ep-1"}),
        ({"configMapName": "c"}, URL, {"provider": "novita", "endpointId": "ep-1", "url": URL}),
        ({"configMapName": "c", "keys": {}}, URL, {"provider": "novita", "endpointId": "ep-1", "url": URL}),
        (
            {"configMapName": "c", "keys": {"endpointId": "MODEL_ID", "url": "BASE_URL"}},
            URL,
            {"provider": "novita", "MODEL_ID": "ep-1", "BASE_URL": URL},
        ),
    ],
)
def test_the_config_map_holds_provider_id_and_the_url_that_was_seen(
    target: dict[str, Any] | None, url: str | None, expected: dict[str, str] | None
) -> None:
    found = wanted(target, url)
    assert (found and dict(found.data)) == expected
    assert found is None or found.name == "c"


def test_a_config_map_of_somebody_else_is_for_a_human_to_see_to() -> None:
    found = of_unbound(Findings(SYNCED, SERVING, ROLLING, handled=True), InvalidSpec("not ours"))
    message = "spec.writeConnectionTo: not ours"
    assert found.synced == SYNCED
    assert found.ready == Finding("False", "ConnectionNotWritten", message)
    assert found.stalled == Finding("True", "ConnectionNotWritten", message)
    assert found.reconciling is None
    assert found.handled


def test_one_that_cannot_be_written_now_is_tried_again() -> None:
    message = "spec.writeConnectionTo: away"
    found = of_unbound(Findings(SYNCED, SERVING), Unavailable("away"))
    assert found == Findings(
        SYNCED, Finding("False", "ConnectionNotWritten", message), reconciling=Finding("True", "Retrying", message)
    )
    rolling = of_unbound(Findings(SYNCED, SERVING, ROLLING), Unavailable("away"))
    assert rolling.reconciling == ROLLING


@pytest.mark.parametrize("error", [InvalidSpec("not ours"), Unavailable("away")])
def test_what_stalls_the_resource_already_is_said_first(error: InvalidSpec | Unavailable) -> None:
    stalled = Findings(SYNCED, SERVING, stalled=Finding("True", "ProviderFailed", "E1"))
    assert of_unbound(stalled, error) == stalled
