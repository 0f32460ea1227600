"""A provider is a folder and a line in the registry: everything else follows from the tuple of drivers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from inference_operator.api.names import API_VERSION, KIND
from inference_operator.core.port import Driver
from inference_operator.crdgen.resource import custom_resource_definition
from inference_operator.metrics import Metrics
from inference_operator.providers import memory
from inference_operator.providers.registry import DRIVERS
from inference_operator.validate import validate_files
from provider_subjects import MEMORY_SPEC, SUBJECTS, WHOLE_LOOK

WITH_MEMORY: tuple[Driver, ...] = (*DRIVERS, memory.DRIVER)


def test_every_registered_provider_is_in_the_contract_suite() -> None:
    assert {driver.name for driver in WITH_MEMORY} == SUBJECTS.keys()


def test_names_are_unique_and_fit_a_field() -> None:
    names = [driver.name for driver in WITH_MEMORY]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.islower() for name in names)


@pytest.mark.parametrize(("drivers", "known"), [(DRIVERS, False), (WITH_MEMORY, True)])
def test_the_custom_resource_follows_the_drivers(
    drivers: tuple[Driver, ...],
    known: bool,  # noqa: FBT001 - both sides of the table
) -> None:
    version = custom_resource_definition(drivers)["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert ("memory" in spec["provider"]["enum"]) is known
    assert ("memory" in spec) is known


@pytest.mark.parametrize(("drivers", "known"), [(DRIVERS, False), (WITH_MEMORY, True)])
def test_validation_follows_the_drivers(
    tmp_path: Path,
    drivers: tuple[Driver, ...],
    known: bool,  # noqa: FBT001 - both sides of the table
) -> None:
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "a"}, "spec": MEMORY_SPEC}
    file = tmp_path / "memory.yaml"
    file.write_text(yaml.safe_dump(manifest))
    assert validate_files([file], drivers).ok is known


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
async def test_metrics_are_labelled_with_the_name_of_the_driver(driver: Driver) -> None:
    metrics = Metrics()
    async with SUBJECTS[driver.name]() as subject:
        await subject.connection.observe(subject.ref, WHOLE_LOOK)
        await subject.update()
        assert {outcome for _, _, outcome in subject.calls.seen} == {"ok"}
        for provider, operation, outcome in subject.calls.seen:
            metrics.call(provider=provider, operation=operation, outcome=outcome, seconds=0.0, waited=0)
    samples = [line for line in metrics.render().decode().splitlines() if "provider_calls_total{" in line]
    assert samples
    assert all(f'provider="{driver.name}"' in sample for sample in samples)
