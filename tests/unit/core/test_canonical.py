from __future__ import annotations

import math

import pytest

from inference_operator.core.model import canonical_json


def test_a_value_has_one_text() -> None:
    assert canonical_json({"b": [1, None], "a": "größe"}) == '{"a":"größe","b":[1,null]}'


def test_what_is_no_json_has_none() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(math.nan)
