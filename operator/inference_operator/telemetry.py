"""What the operator says while it runs: log lines that hold no secret.

Libraries log through the same handler but never below warning, since at their lower levels they print
whole bodies and headers. Every line passes `redact`, tracebacks included; those show source lines,
never the values of variables.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

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
        re.compile(r"(authorization['\"]?\s*[:=,]\s*(b?['\"])?)((basic|bearer)\s+)?[^\s'\"]+", re.IGNORECASE),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"\b(bearer)\s+[^\s'\"]+", re.IGNORECASE), rf"\1 {REDACTED}"),
    (re.compile(r"\b(flp|sk|hf)_[\w-]+"), REDACTED),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(\.[\w-]*)?"), REDACTED),  # JSON web tokens, as of service accounts
    (re.compile(r"(?<=://)[^/@\s]+(?=@)"), REDACTED),  # user and password in a URL
)
CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
"""All but tab and newline; a terminal would obey some of them."""

DEEPEST = 5
"""Levels of nested values that are logged as such."""


def configure(*, log_format: str, log_level: str, stream: TextIO | None = None) -> None:
    """Send all log lines of the process, those of libraries and crashes included, to one stream.

    Args:
        log_format: `json`, or `console` for people.
        log_level: `debug`, `info`, `warning` or `error`.
        stream: Where the lines go; standard output where not given.
    """
    stream = stream or sys.stdout
    before = _before_redaction(log_format)
    handler = _Lines(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[ProcessorFormatter.remove_processors_meta, redact, _renderer(log_format, stream)],
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


def _harmless(key: str, value: Any, depth: int) -> Any:
    if value is not None and SENSITIVE_KEY.search(key):
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


def _masked(text: str) -> str:
    for pattern, replacement in SENSITIVE_TEXT:
        text = pattern.sub(replacement, text)
    return text.translate(CONTROL_CHARACTERS)


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


def _renderer(log_format: str, stream: TextIO) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False)


class _Lines(logging.StreamHandler[TextIO]):
    """A stream of lines that keeps quiet about the content of a line that it cannot write."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """Name the failure only; the standard library would print the record as it is, secrets included."""
        failure = sys.exc_info()[0]
        sys.stderr.write(f"a log line of {record.name} was lost: {failure.__name__ if failure else 'unknown'}\n")


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger(__name__).critical("crashed", exc_info=(kind, error, trace))
