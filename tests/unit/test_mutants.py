"""The catalogue of seeded bugs fits the product as it is; `tests/faults/seed_bugs.py` shows that tests find them."""

import ast
from pathlib import Path

import pytest

from faults.seed_bugs import ROOT, Mutant, catalogue

MUTANTS = catalogue()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_in_exactly_one_place_and_is_still_a_program(mutant: Mutant) -> None:
    source = (ROOT / "operator" / "inference_operator" / mutant.file).read_text(encoding="utf-8")
    changed = mutant.applied(source)
    assert changed != source
    ast.parse(changed)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_should_find_a_mutant_exist(mutant: Mutant) -> None:
    assert mutant.tests
    for argument in mutant.tests:
        path, _, name = argument.partition("::")
        assert (ROOT / path).exists()
        assert not name or f"def {name.partition('[')[0]}(" in Path(ROOT / path).read_text(encoding="utf-8")


def test_there_are_as_many_mutants_as_promised_and_each_has_a_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 45
