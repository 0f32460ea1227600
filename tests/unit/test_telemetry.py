from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from inference_operator import telemetry
from inference_operator.telemetry import PINNED_LOGGERS, REDACTED, configure, redact

TOKEN = "flp_Zq8xW3vT6yLm0PnRb5Kd"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"
OPAQUE = "q7Rk2-Vw9.Zt4_Xy"

TELLING_NAMES = [
    *("authorization", "Authorization", "Proxy-Authorization", "token", "access_token", "api_key", "api-key", "apiKey"),
    *("password", "passwd", "secret", "client_secret", "Cookie", "Set-Cookie", "credentials", "privateKey"),
]


class Lines(io.StringIO):
    """What was logged so far, by the thread that writes it."""

    def getvalue(self) -> str:
        logging.root.handlers[0].flush()
        return super().getvalue()


Configured = Callable[..., Lines]


def redacted(**event: Any) -> dict[str, Any]:
    return dict(redact(None, "info", event))


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configured]:
    """Configures logging into a buffer, and puts everything back afterwards."""
    names = [None, *PINNED_LOGGERS]
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = list(logging.root.handlers)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    structlog.contextvars.clear_contextvars()  # what tests leave that run passes in turns by hand

    def configure_into_buffer(*, log_format: str, log_level: str = "debug") -> Lines:
        stream = Lines()
        configure(log_format=log_format, log_level=log_level, stream=stream)
        return stream

    yield configure_into_buffer
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "text",
    [
        f"Bearer {OPAQUE}",
        f"the header bearer {OPAQUE} was refused",
        f"Illegal header value b'Bearer {OPAQUE}\\n'",
        f"authorization: {OPAQUE}",
        f"author\u0131zation: {OPAQUE}",
        f"Authorization: Basic {OPAQUE}",
        f"{{'Authorization': 'Bearer {OPAQUE}'}}",
        f"(b'authorization', b'{OPAQUE}')",
        f'{{"authorization":"{OPAQUE}"}}',
        f"https://user:{OPAQUE}@proxy:3128/path",
        f"proxy https://{OPAQUE}@proxy",
    ],
)
def test_secrets_are_masked_in_every_text(text: str) -> None:
    assert OPAQUE not in str(redacted(event=text, other=[text], nested={"text": text}, error=ValueError(text)))


@pytest.mark.parametrize("token", [TOKEN, "sk_live-123456", "hf_AbCdEf123", JWT])
@pytest.mark.parametrize("around", ["{}", "key={}", "'{}'", "({}),", "a\n{}\nb", "https://host/?key={}&x=1"])
def test_tokens_of_known_shape_are_masked_wherever_they_stand(token: str, around: str) -> None:
    assert token not in redacted(event=around.format(token))["event"]


@pytest.mark.parametrize("key", TELLING_NAMES)
def test_values_of_telling_names_are_dropped_at_any_depth(key: str) -> None:
    event = redacted(**{key: OPAQUE}, headers={key: OPAQUE, "accept": "*/*"}, calls=[{"headers": {key: [OPAQUE]}}])
    assert OPAQUE not in str(event)
    assert event[key] == REDACTED
    assert event["headers"]["accept"] == "*/*"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("secret_name", "friendli"),
        ("secrets", "watch"),
        ("max_token_count", 2560),
        ("token", None),
        ("url", "https://api.example.com/dedicated/beta/endpoint/ep-1"),
        ("email", "a@b.example"),
        ("model", "meta-llama/Llama-3.1-8B-Instruct"),
        ("flag", True),
        ("seconds", 1.5),
    ],
)
def test_the_harmless_stays(key: str, value: object) -> None:
    assert redacted(**{key: value}) == {key: value}


@given(
    before=st.text(alphabet="äöü .,'\"\n", max_size=20),
    token=st.text(alphabet="ABCDEFGHJKLMNPQRSTUVWXYZ23456789", min_size=8, max_size=64),
    after=st.text(alphabet="äöü .,'\"\n", max_size=20),
)
def test_no_surroundings_save_a_bearer_token_from_being_masked(before: str, token: str, after: str) -> None:
    assert token not in redacted(event=f"{before} Bearer {token}{after}")["event"]


PIECES = [
    *("Authorization", "AUTHORIZATION", "author\u0131zation", "Bearer", "bearer", "basic ", "Ba\u017fic ", "b'", "'"),
    *("flp_", "sk_", "hf_", "HF_", "eyJhbGci", "EYJhbGci", "://", "user:", "@", ".", ":", "=", '"', " ", "\n"),
    *("Zq8xW3vT", "é", "\x1b", "\x9b", "\u200b", "\ud800", REDACTED),
]
"""What texts with secrets are made of; where case is ignored, two of the letters beyond ASCII are an i and an s."""


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text())
def test_a_text_that_is_not_looked_through_would_have_come_out_the_same(text: str) -> None:
    expected = text
    for _, pattern, replacement in telemetry.SENSITIVE_TEXT:
        expected = pattern.sub(replacement, expected)
    assert redacted(event=text)["event"] == expected.translate(telemetry.CONTROL_CHARACTERS)


def test_a_text_that_is_more_than_a_text_is_logged_as_one() -> None:
    class Chatty(str):
        __slots__ = ()

        def __repr__(self) -> str:
            return f"Bearer {OPAQUE}"

    assert type(redacted(event=Chatty("two words"))["event"]) is str


def test_what_is_deep_or_not_a_plain_value_is_masked_as_text() -> None:
    deep: dict[str, Any] = {"text": f"Bearer {OPAQUE}"}
    for _ in range(50):
        deep = {"inner": deep}
    assert OPAQUE not in str(redacted(deep=deep, data=f"Bearer {OPAQUE}".encode(), kinds={1, 2}))


def test_a_cycle_is_no_trap() -> None:
    cycle: dict[str, Any] = {"text": f"Bearer {OPAQUE}"}
    cycle["self"] = cycle
    assert OPAQUE not in str(redacted(cycle=cycle))


def test_a_terminal_is_not_told_to_do_anything() -> None:
    assert redacted(event="\x1b[2J\x07\x9b31m")["event"] == "\\x1b[2J\\x07\\x9b31m"
    assert redacted(event="two\n\tlines")["event"] == "two\n\tlines"


def crash() -> None:
    password = OPAQUE
    raise ValueError(f"refused: Bearer {password}")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_line_of_anybody_holds_a_secret(configured: Configured, log_format: str) -> None:
    stream = configured(log_format=log_format)
    structlog.get_logger("ours").info("called", headers={"Authorization": f"Bearer {OPAQUE}"})
    logging.getLogger("theirs").warning("sent %s", f"Bearer {OPAQUE}")
    try:
        crash()
    except ValueError as error:
        structlog.get_logger("ours").exception("failed")
        logging.getLogger("theirs").exception("failed")
        sys.excepthook(ValueError, error, error.__traceback__)
    lines = stream.getvalue()
    assert OPAQUE not in lines
    assert lines.count("ValueError: refused: Bearer [redacted]") == 3
    assert lines.count("in crash") == 3


def test_json_lines_tell_who_when_and_how_bad(configured: Configured) -> None:
    stream = configured(log_format="json")
    structlog.get_logger("ours").warning("drifted", fields=["gpu"], seconds=1.5)
    logging.getLogger("theirs").error("broken")
    ours, theirs = (json.loads(line) for line in stream.getvalue().splitlines())
    assert ours["timestamp"].endswith("Z")
    del ours["timestamp"], theirs["timestamp"]
    assert ours == {"event": "drifted", "fields": ["gpu"], "seconds": 1.5, "level": "warning", "logger": "ours"}
    assert theirs == {"event": "broken", "level": "error", "logger": "theirs"}


@pytest.mark.parametrize(
    "library", ["kopf.objects", "httpx", "httpcore.connection", "aiohttp.access", "kubernetes.client.rest"]
)
def test_libraries_never_log_below_warning(configured: Configured, library: str) -> None:
    stream = configured(log_format="json", log_level="debug")
    logging.getLogger(library).debug("a whole body")
    logging.getLogger(library).info("a whole body")
    logging.getLogger(library).warning("a hint")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["a hint"]


def test_libraries_are_no_louder_than_we_are(configured: Configured) -> None:
    stream = configured(log_format="json", log_level="error")
    logging.getLogger("kopf").warning("a hint")
    structlog.get_logger("ours").warning("a hint")
    assert stream.getvalue() == ""


def test_lines_of_a_pass_name_its_resource_whoever_writes_them(configured: Configured) -> None:
    stream = configured(log_format="json")
    named = {"namespace": "team-a", "name": "llama", "provider": "friendli", "endpoint": "ep-1"}
    with structlog.contextvars.bound_contextvars(**named):
        structlog.get_logger("ours").info("inside")
        logging.getLogger("theirs").info("inside")
    structlog.get_logger("ours").info("outside")
    *inside, outside = (json.loads(line) for line in stream.getvalue().splitlines())
    assert all(named.items() <= line.items() for line in inside)
    assert len(inside) == 2
    assert not named.keys() & outside.keys()


def test_a_line_that_cannot_be_written_is_named_without_its_content(
    configured: Configured, capsys: pytest.CaptureFixture[str]
) -> None:
    class Unprintable:
        def __repr__(self) -> str:
            raise ValueError(f"Bearer {OPAQUE}")

    stream = configured(log_format="json")
    structlog.get_logger("ours").info("called", who=Unprintable())
    assert json.loads(stream.getvalue())["event"] == "a log line of ours was lost: ValueError"
    assert capsys.readouterr() == ("", "")


class Stuck(io.StringIO):
    """A stream whose reader stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.flows = threading.Event()

    def write(self, text: str, /) -> int:
        self.flows.wait()
        return super().write(text)


@pytest.mark.covers("H3")
def test_whoever_logs_waits_for_nobody_and_lines_that_find_no_room_are_counted(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "MAX_WAITING", 3)
    configured(log_format="json")
    stream = Stuck()
    configure(log_format="json", log_level="info", stream=stream)
    log = structlog.get_logger("ours")
    log.info("held", number=0)
    while logging.root.handlers[0]._waiting.qsize():  # type: ignore[attr-defined] # of our own handler
        time.sleep(0.001)
    for number in range(1, 10):
        log.info("held", number=number)
    assert telemetry.lost_lines() == 6
    stream.flows.set()
    logging.root.handlers[0].flush()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("number", line["event"]) for line in told] == [0, "6 log lines were lost", 1, 2, 3]


def test_lines_into_a_closed_stream_are_lost_and_nothing_else(configured: Configured) -> None:
    stream = configured(log_format="console")
    stream.close()
    structlog.get_logger("ours").info("called")
    logging.root.handlers[0].flush()
    assert telemetry.lost_lines() == 1


def test_an_interrupt_is_not_a_crash(configured: Configured) -> None:
    stream = configured(log_format="json")
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert stream.getvalue() == ""


def test_a_json_line_begins_with_when_what_and_of_which_resource(configured: Configured) -> None:
    stream = configured(log_format="json")
    with structlog.contextvars.bound_contextvars(provider="friendli", endpoint="ep-1", name="chat", namespace="team-a"):
        structlog.get_logger("inference_operator.reconcile").warning("not known", error="a long text", kind="Ambiguous")
    line = json.loads(stream.getvalue())
    first = ["timestamp", "level", "event", "namespace", "name", "provider", "endpoint"]
    assert list(line) == [*first, "error", "kind", "logger"]
    assert line["logger"] == "inference_operator.reconcile"


def test_a_line_of_a_terminal_names_the_resource_before_what_may_be_long(configured: Configured) -> None:
    stream = configured(log_format="console")
    with structlog.contextvars.bound_contextvars(provider="friendli", name="chat", namespace="team-a"):
        structlog.get_logger("inference_operator.reconcile.send").warning("not known", error="a long text")
    clock, rest = stream.getvalue().split(" ", 1)
    assert re.fullmatch(r"\d\d:\d\d:\d\d", clock)
    assert re.sub(" +", " ", rest) == (
        "[warning ] not known [reconcile.send] namespace=team-a name=chat provider=friendli error='a long text'\n"
    )
