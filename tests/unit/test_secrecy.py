from __future__ import annotations

import base64
import json
import urllib.parse
from pathlib import Path

import pytest

from secrecy import CORE, WINDOW, files_that_show, forms, shows

TOKEN = f"flp_{CORE}-t-1234"
SHOWN = {
    "plain": TOKEN,
    "eight characters": f"… {CORE[11 : 11 + WINDOW]} …",
    "in a header": f"Illegal header value b'Bearer {TOKEN}\\n'",
    "percent-encoded": urllib.parse.quote(f"?{TOKEN}/"),
    "JSON": json.dumps({"token": TOKEN}),
    "hexadecimal": f"a{TOKEN}".encode().hex(),
    "HEXADECIMAL": TOKEN.encode().hex().upper(),
    **{
        f"base64, shifted by {shift}": base64.b64encode(f"{'x' * shift}{TOKEN}".encode()).decode() for shift in range(3)
    },
    "base64 for URLs": base64.urlsafe_b64encode(TOKEN.encode()).decode(),
}


@pytest.mark.parametrize("text", SHOWN.values(), ids=list(SHOWN))
def test_a_token_is_found_in_every_form(text: str) -> None:
    assert shows(text)


@pytest.mark.parametrize(
    "text", ["", "flp_", CORE[: WINDOW - 1], CORE[::-1], base64.b64encode(b"flp_something").decode()]
)
def test_what_is_no_token_is_not_taken_for_one(text: str) -> None:
    assert not shows(text)


def test_no_form_is_so_short_that_chance_could_make_it() -> None:
    assert min(map(len, forms())) >= WINDOW


def test_files_are_searched_to_the_last_folder(tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    leak, kept = tmp_path / "deep" / "deeper" / "a.log", tmp_path / "deep" / "kept"
    leak.write_bytes(b"\xff" + TOKEN.encode())
    kept.write_text(TOKEN)
    assert files_that_show(tmp_path) == [leak, kept]
    assert files_that_show(tmp_path, apart=[kept]) == [leak]
    leak.unlink()
    kept.unlink()
