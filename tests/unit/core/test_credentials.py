"""What may be a provider key."""

from __future__ import annotations

import pytest

from inference_operator.core.credentials import MAX_TOKEN, credentials_from
from inference_operator.errors import CredentialsRejected


@pytest.mark.parametrize(
    "secret", [b"flp_x", b" flp_x\n", b"\t\r\nflp_x  ", b"!~", b"x" * MAX_TOKEN, b"bearer", b"Bearer_x"]
)
def test_white_space_around_a_key_does_not_matter(secret: bytes) -> None:
    assert credentials_from(secret).token.get_secret_value() == secret.decode().strip()


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        (b"", "the value is empty"),
        (b" \n", "the value is empty"),
        (b"x" * (MAX_TOKEN + 1), f"the value is longer than {MAX_TOKEN} characters"),
        (b"Bearer flp_x", 'the value begins with "Bearer"'),
        (b"bearer\tflp_x", 'the value begins with "Bearer"'),
        (b"Authorization: Bearer flp_x", 'the value begins with "Bearer"'),
        (b"authorization :bearer flp_x", 'the value begins with "Bearer"'),
        (b"flp x", "the value holds white space"),
        (b"flp\nx", "the value holds white space"),
        (b"flp\x00x", "the value holds white space"),
        ("flp_ü".encode(), "the value holds white space"),
        (b"flp\x7f", "the value holds white space"),
    ],
)
def test_what_cannot_be_a_key_is_refused_in_words_without_it(secret: bytes, told: str) -> None:
    with pytest.raises(CredentialsRejected) as refused:
        credentials_from(secret)
    assert refused.value.message.startswith(told)
    assert "flp" not in refused.value.message
