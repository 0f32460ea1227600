import base64
import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_operator.errors import CredentialsRejected, InvalidSpec, NotFound, Throttled, Unavailable
from inference_operator.providers.answers import MAX_TEXT, Redaction, decode, refusal, retry_after, words

TOKEN = "flp_Zq8xW3vT6yLm0PnRb5Kd"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
QUIET = Redaction("another-key-altogether")

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANY_JSON)
def test_whatever_is_json_decodes_to_itself(document: object) -> None:
    assert decode(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")) == document


@given(st.binary(max_size=256))
def test_any_bytes_decode_to_a_value_that_can_be_encoded_again_or_to_none(content: bytes) -> None:
    value = decode(content)
    assert json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode()) == value


@pytest.mark.covers("B8")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"a": 1',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": 1' + b"0" * 400 + b"}",
        b'{"a": 1' + b"0" * 100_000 + b"}",
        b'{"a": 1, "a": 2}',
        b'[{"b": {"a": 1, "a": 1}}]',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a": "\xff\xfe"}',
        b'{"a": "\\ud800"}',
        b'{"\\uDfff": 1}',
        '{"a": 1}'.encode("utf-16"),
        b"<html>sign in</html>",
        b"[" + b"{}," * 200_000 + b"{}]",
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_cannot_be_relied_on_decodes_to_none(content: bytes) -> None:
    assert decode(content) is None


@pytest.mark.parametrize(
    ("content", "document"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b' \r\n{"a": 9223372036854775807} ', {"a": 2**63 - 1}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
        (b'{"a": "\\\\udead"}', {"a": "\\udead"}),
        (b'{"a": 0.' + b"1" * 10_000 + b"}", {"a": 0.1111111111111111}),
    ],
)
def test_what_is_only_unusual_decodes(content: bytes, document: object) -> None:
    assert decode(content) == document


@pytest.mark.covers("C1")
@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], 0),
        (["7"], 7),
        (["0.25"], 0.25),
        (["2."], 2),
        ([" 3 "], 3),
        (["3", "5"], 5),
        (["-5"], 0),
        (["1000000000"], 3600),
        (["9" * 5000], 3600),
        (["inf"], 0),
        (["nan"], 0),
        (["1e3"], 0),
        (["soon"], 0),
        ([""], 0),
        (["٣"], 0),
        (["Sun, 01 Mar 2026 12:00:30 GMT"], 30),
        (["Sun, 01 Mar 2026 11:00:00 GMT"], 0),
        (["Sun, 01 Mar 2099 12:00:00 GMT"], 3600),
        (["Sun, 01 Mar 2026 12:00:30"], 0),
        (["Sun, 99 Mar 2026 12:00:30 GMT"], 0),
    ],
)
def test_retry_after_is_at_most_an_hour_and_never_negative(values: list[str], seconds: float) -> None:
    assert retry_after(values, NOW) == seconds


@pytest.mark.covers("C1")
@given(st.lists(st.text()))
def test_retry_after_understands_or_ignores_everything(values: list[str]) -> None:
    assert 0 <= retry_after(values, NOW) <= 3600


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"detail": "not now"}, "not now"),
        ({"detail": [{"loc": ["body", "hfModelRepo"], "msg": "field required"}]}, "hfModelRepo: field required"),
        (
            {"detail": [{"loc": ["body", "a", 0], "msg": "x"}, {"loc": ["query", "b"], "msg": "y"}, "nonsense"]},
            "a.0: x; query.b: y",
        ),
        ({"detail": [{"msg": "alone"}]}, "alone"),
        ({"detail": [], "message": "second"}, "second"),
        ({"detail": {"message": "deep"}, "reason": "LAST"}, "LAST"),
        ({"error": {"message": "inner"}}, "inner"),
        ({"error": "plain"}, "plain"),
        ({"message": 7}, ""),
        (["message"], ""),
        (None, ""),
        ({"message": "two\nlines\t\x1b[31mred\x00\u202e"}, "two lines [31mred"),
    ],
)
def test_the_providers_words_are_one_printable_line(document: object, said: str) -> None:
    assert words(document, QUIET) == said


@given(ANY_JSON)
def test_any_error_body_gives_at_most_one_short_printable_line(document: object) -> None:
    said = words({"detail": document, "message": document, "error": document}, QUIET)
    assert len(said) <= MAX_TEXT
    assert said.isprintable()


def test_long_words_are_cut_with_a_mark() -> None:
    said = words({"message": "word " * 1000}, QUIET)
    assert len(said) == MAX_TEXT
    assert said.endswith("…")


RAW = TOKEN.encode()
ECHOES = {
    "as it is": TOKEN,
    "in a header": f"Authorization: Bearer {TOKEN}",
    "its first eight characters": TOKEN[:8],
    "its last eight characters": TOKEN[-8:],
    "eight from its middle": TOKEN[7:15],
    "upper case": TOKEN.upper(),
    "spread over lines": "\n".join(TOKEN),
    "with invisible characters": "\u200b".join(TOKEN),
    "percent-encoded": quote(TOKEN.replace("_", "/"), safe=""),
    "hexadecimal": RAW.hex(),
    "hexadecimal in capitals": RAW.hex().upper(),
    **{f"base64 after {n} bytes": base64.b64encode(b"x" * n + RAW + b"yz").decode() for n in range(4)},
    "the beginning of its base64": base64.b64encode(RAW).decode()[:8],
    "base64 for URLs": base64.urlsafe_b64encode(b"Bearer " + RAW).decode(),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_words_that_give_the_key_away_are_dropped(echo: str) -> None:
    redaction = Redaction(TOKEN.replace("_", "/") if "%2F" in echo else TOKEN)
    assert words({"message": f"you sent {echo}, sorry"}, redaction) == ""


@given(st.text("abcdefghijklmnop+/=%", min_size=1, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_no_key_is_ever_quoted(token: str, before: str, after: str) -> None:
    assert token not in words({"detail": before + token + after}, Redaction(token))


def test_ordinary_words_are_kept() -> None:
    assert words({"message": "hfModelRepo is not accessible"}, Redaction(TOKEN)) == "hfModelRepo is not accessible"


@pytest.mark.parametrize(
    ("status", "write", "read"),
    [
        (400, InvalidSpec, InvalidSpec),
        (401, CredentialsRejected, CredentialsRejected),
        (403, CredentialsRejected, CredentialsRejected),
        (404, NotFound, NotFound),
        (422, InvalidSpec, InvalidSpec),
        (429, Throttled, Throttled),
        *((status, InvalidSpec, Unavailable) for status in (402, 405, 409, 410, 418, 421, 425, 431, 451, 499)),
    ],
)
def test_a_refusal_means_what_the_table_says(status: int, write: type[Exception], read: type[Exception]) -> None:
    for error, writing in ((write, True), (read, False)):
        refused = refusal("friendli update", status, "because", write=writing)
        assert type(refused) is error
        assert refused.message.startswith(f"friendli update: HTTP {status}: because")
        assert getattr(refused, "maybe_busy", False) == (writing and status in {400, 409})


def test_not_found_says_that_the_key_may_be_the_reason() -> None:
    assert "or this key cannot see it" in refusal("friendli get_spec", 404, "", write=False).message
