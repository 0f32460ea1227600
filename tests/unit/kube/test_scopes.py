from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_operator.kube.scopes import lease_name


def test_everything_in_scope_has_the_plain_name() -> None:
    assert lease_name([], None) == lease_name((), "") == lease_name((), " ") == "inference-operator"


def test_a_name_stays_what_it_is_from_release_to_release() -> None:
    assert lease_name([], "shard=1") == "inference-operator-44510556"
    assert lease_name(["team-a"], None) == "inference-operator-610ee4c7"


SELECTORS = [
    ["shard=1", "shard==1", " shard = 1 ", "shard=1,", "shard=1,shard=1"],
    ["shard!=1", "shard != 1"],
    ["!shard", " ! shard"],
    ["shard", " shard "],
    ["shard in (1,2)", "shard  in(2, 1)", "shard in ( 1 , 2 )"],
    ["shard notin (1,2)", "shard notin (2,1)"],
    ["tier=gpu,shard in (1,2)", "shard in (2,1), tier==gpu"],
    ["tier=gpu,shard in (1)", "shard in (1),tier=gpu"],
]
"""Each line: spellings of one selector."""


@pytest.mark.parametrize("spellings", SELECTORS, ids=lambda spellings: spellings[0])
def test_spellings_of_one_selector_share_a_lease(spellings: list[str]) -> None:
    assert len({lease_name([], spelling) for spelling in spellings}) == 1


def test_different_scopes_never_wait_for_each_other() -> None:
    scopes = [((), spellings[0]) for spellings in SELECTORS]
    scopes += [((), None), (("a",), None), (("b",), None), (("a", "b"), None), (("a",), "shard=1")]  # type: ignore[list-item] # of several lengths
    assert len({lease_name(*scope) for scope in scopes}) == len(scopes)


@given(st.lists(st.sampled_from(["a", "b", "team-1", "x-y"]), min_size=1))
def test_namespaces_count_as_a_set(namespaces: list[str]) -> None:
    name = lease_name(namespaces, None)
    assert lease_name(sorted(set(namespaces), reverse=True), None) == name
    assert re.fullmatch(r"inference-operator-[0-9a-f]{8}", name)
