"""What the operator says while it runs: log lines that hold no secret.

Libraries log through the same handler but never below warning, since at their lower levels they print
whole bodies and headers. Every line passes `redact`, tracebacks included; those show source lines,
never the values of variables.

Nobody waits for whoever reads the lines: while that one stands still they are kept, as far as there is room, and
what comes on top is dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
PINNED_LOGGERS = ("aiohttp", "asyncio", "client", "httpcore", "httpx", "kopf", "kubernetes", "urllib3")
"""Loggers of libraries; `client` is what the Kubernetes client calls its own."""

SENSITIVE_KEY = re.compile(
    r"(authorization|token|api[-_]?key|private[-_]?key|passw(or)?d|secret|cookie|credentials?)$", re.IGNORECASE
)
SENSITIVE_TEXT = (
    (
        "authorization",
        re.compile(r"(authorization['\"]?\s*[:=,]\s*(b?['\"])?)((basic|bearer)\s+)?[^\s'\"]+", re.IGNORECASE),
        rf"\1{REDACTED}",
    ),
    ("bearer", re.compile(r"\b(bearer)\s+[^\s'\"]+", re.IGNORECASE), rf"\1 {REDACTED}"),
    ("_", re.compile(r"\b(flp|sk|hf)_[\w-]+"), REDACTED),
    ("eyj", re.compile(r"\beyJ[\w-]+\.[\w-]+(\.[\w-]*)?"), REDACTED),  # JSON web tokens, as of service accounts
    ("://", re.compile(r"(?<=://)[^/@\s]+(?=@)"), REDACTED),  # user and password in a URL
)
"""What no such text is without, in small letters; the text; and what it becomes."""

CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
"""All but tab and newline; a terminal would obey some of them."""

READING_ORDER = ("timestamp", "level", "event", "namespace", "name", "provider", "endpoint")

DEEPEST = 5
"""Levels of nested values that are logged as such."""

MAX_NAMES: Final = 1024
"""Names of values of which it is remembered whether they are telling."""

MAX_WAITING: Final = 4096
"""Lines that may wait to be written."""

FLUSH_SECONDS: Final = 1.0
"""How long lines that wait may hold up the end of the process."""


def configure(*, log_format: str, log_level: str, stream: TextIO | None = None) -> None:
    """Send all log lines of the process, those of libraries and crashes included, to one stream.

    Args:
        log_format: `json`, or `console` for people.
        log_level: `debug`, `info`, `warning` or `error`.
        stream: Where the lines go; standard output where not given, if the process has any.
    """
    stream = stream or sys.stdout
    before = _before_redaction(log_format)
    handler = LineHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                ProcessorFormatter.remove_processors_meta,
                redact,
                in_reading_order,
                *_rendering(log_format, stream),
            ],
        )
    )
    level = logging.getLevelNamesMapping()[log_level.upper()]
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in PINNED_LOGGERS:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *before, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    sys.excepthook = _log_crash


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The last step before a line is rendered: nothing that looks like a secret, nothing a terminal obeys."""
    return {key: _harmless(key, value, DEEPEST) for key, value in event.items()}


def in_reading_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """When, what, and of which resource come first; what else there is to say may be long."""
    return {**{key: event[key] for key in READING_ORDER if key in event}, **event}


def _harmless(key: str, value: Any, depth: int) -> Any:
    if value is not None and _is_telling(key):
        return REDACTED
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return _masked(value)
        case Mapping() if depth:
            return {_masked(str(name)): _harmless(str(name), inner, depth - 1) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [_harmless("", inner, depth - 1) for inner in value]
        case _:
            return _masked(repr(value))


@lru_cache(MAX_NAMES)
def _is_telling(key: str) -> bool:
    return SENSITIVE_KEY.search(key) is not None


def _masked(text: str) -> str:
    small = text.lower() if text.isascii() else None  # of other letters, some count as ASCII ones when case is ignored
    for mark, pattern, replacement in SENSITIVE_TEXT:
        if small is None or mark in small:
            text = pattern.sub(replacement, text)
    return text if type(text) is str and text.isprintable() else text.translate(CONTROL_CHARACTERS)


def _before_redaction(log_format: str) -> list[Processor]:
    machine = log_format == "json"
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper("iso" if machine else "%H:%M:%S", utc=machine),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]


def _rendering(log_format: str, stream: TextIO | None) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.JSONRenderer()]
    colors = stream is not None and stream.isatty()
    return [_short_logger, structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False)]


def _short_logger(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A line of a terminal is short, and that our own loggers are ours needs no telling."""
    if "logger" in event:
        event["logger"] = str(event["logger"]).removeprefix(f"{__package__}.")
    return event


class LineHandler(logging.Handler):
    """Hands lines to a thread that writes them, and keeps quiet about the content of a line that it cannot render."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._write = _writer(stream)
        self._waiting: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        self._dropped = 0  # by whoever logs
        self._unwritten = 0  # by the thread
        self._told = 0
        threading.Thread(target=self._run, name="log lines", daemon=True).start()

    @property
    def lost(self) -> int:
        """Lines that were not written and never will be."""
        return self._dropped + self._unwritten

    def emit(self, record: logging.LogRecord) -> None:
        """Render a line now, and let it be written soon."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - the standard library would print the record, secrets included
            line = self._notice(f"a log line of {record.name} was lost: {type(error).__name__}")
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until what waits is written, but not for long."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.001)

    def close(self) -> None:
        """Let the thread end after what waits."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        super().close()

    def _run(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                self._tell_loss()
                self._write(f"{line}\n")
            except Exception:  # noqa: BLE001 - closed, without a reader, out of memory: the next line may do better
                self._unwritten += 1
            finally:
                self._waiting.task_done()
        self._waiting.task_done()

    def _tell_loss(self) -> None:
        if lost := self.lost - self._told:
            self._write(f"{self._notice(f'{lost} log lines were lost')}\n")
            self._told += lost

    def _notice(self, text: str) -> str:
        return self.format(logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None))


def lost_lines() -> int:
    """How many lines of the process were lost."""
    return sum(handler.lost for handler in logging.root.handlers if isinstance(handler, LineHandler))


def _writer(stream: TextIO | None) -> Callable[[str], object]:
    """How to write to a stream from a thread; past Python's own buffer where there is a file behind it.

    The interpreter cannot end while a thread holds that buffer.
    """
    if stream is None:
        return len
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return stream.write

    def write(text: str) -> None:
        rest = text.encode("utf-8", "backslashreplace")
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger(__name__).critical("crashed", exc_info=(kind, error, trace))
