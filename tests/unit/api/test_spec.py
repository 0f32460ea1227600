"""The spec as the operator reads it: what is absent has one meaning, in one place."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from crd_cases import SAMPLES
from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.providers.friendli.options import INSTANCE_OPTIONS
from inference_operator.providers.memory.options import MemoryOptions
from inference_operator.providers.registry import DRIVERS

SMALLEST = {"provider": "friendli", "credentialsSecretRef": {"name": "key"}}


def spec(**fields: Any) -> InferenceEndpointSpec:
    return InferenceEndpointSpec.model_validate({**SMALLEST, **fields})


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for info in model.model_fields.values():
        text = [info.annotation]
        while text:
            part: Any = text.pop()
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= models(part)
            text += getattr(part, "__args__", ())
    return found


def test_what_is_absent_has_its_documented_meaning() -> None:
    smallest = spec()
    assert smallest.credentials_secret_ref.effective_key == "token"
    assert smallest.effective_management_policy == "Manage"
    assert smallest.effective_suspend is False
    assert smallest.effective_drift_policy == "Report"
    assert smallest.effective_progress_deadline_seconds == 1800
    assert smallest.effective_adoption_policy("Match") == "Match"
    assert smallest.effective_deletion_policy == "Retain"


def test_what_is_written_wins() -> None:
    written = spec(
        credentialsSecretRef={"name": "key", "key": "other"},
        managementPolicy="Observe",
        suspend=True,
        driftPolicy="Correct",
        progressDeadlineSeconds=60,
        adoptionPolicy="Apply",
        deletionPolicy="Delete",
    )
    assert written.credentials_secret_ref.effective_key == "other"
    assert written.effective_management_policy == "Observe"
    assert written.effective_suspend is True
    assert written.effective_drift_policy == "Correct"
    assert written.effective_progress_deadline_seconds == 60
    assert written.effective_adoption_policy("Match") == "Apply"
    assert written.effective_deletion_policy == "Delete"


def test_nothing_has_a_value_that_nobody_wrote() -> None:
    roots: tuple[type[BaseModel], ...] = (InferenceEndpointSpec, MemoryOptions, *(driver.options for driver in DRIVERS))
    fields = [
        (model.__name__, name, info.default)
        for root in roots
        for model in models(root)
        for name, info in model.model_fields.items()
        if not info.is_required()
    ]
    assert len(fields) > 30
    assert [field for field in fields if field[2] is not None] == []


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_survives_the_round_trip(sample: Any) -> None:
    raw = yaml.safe_load(sample.read_text())["spec"]
    block = raw.pop(raw["provider"])
    options = next(driver.options for driver in DRIVERS if driver.name == raw["provider"])
    for model, written in ((InferenceEndpointSpec, raw), (options, block)):
        read = model.model_validate(written)
        assert read.model_dump(by_alias=True, exclude_none=True) == written


def test_a_field_of_a_newer_operator_is_passed_over() -> None:
    assert spec(invented="later") == spec()


def test_the_models_hold_what_the_schema_holds_even_if_an_older_one_let_it_pass() -> None:
    with pytest.raises(ValidationError, match="endpointId"):
        spec(endpointId="../other")


def test_a_shape_has_one_id_and_an_id_one_shape() -> None:
    assert len(INSTANCE_OPTIONS) == len(set(INSTANCE_OPTIONS.values())) == 20
    assert INSTANCE_OPTIONS["H100", 2] == "zfTutSiLn0Hq"
