"""What stands in every line of a log: which upload, corporation and request it is about; as text, or as JSON."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

Style = Literal["text", "json"]

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_NOTHING: Mapping[str, str] = {}

_facts: ContextVar[Mapping[str, str]] = ContextVar("haulage_log_facts", default=_NOTHING)


@contextmanager
def about(**facts: object) -> Iterator[None]:
    """Have every line that is logged in the block, in this thread or task, carry these facts; None is left out."""
    known = {name: str(value) for name, value in facts.items() if value is not None}
    token = _facts.set({**_facts.get(), **known})
    try:
        yield
    finally:
        _facts.reset(token)


def note(**facts: object) -> None:
    """Have every further line of this task carry these facts too."""
    _facts.set({**_facts.get(), **{name: str(value) for name, value in facts.items()}})


def configure(style: Style, level: int) -> None:
    """Set up the log of a process that nobody else sets up; it goes to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_TEXT))
    logging.basicConfig(level=level, handlers=[handler])
    adorn(logging.getLogger(), style)


def adorn(logger: logging.Logger, style: Style) -> None:
    """Have a logger's handlers write the facts too, in the format they have or as JSON."""
    for handler in logger.handlers:
        if not isinstance(handler.formatter, Text | Json):
            handler.setFormatter(Json() if style == "json" else Text(handler.formatter))


class Text(logging.Formatter):
    """What another formatter writes, with the facts at the end of its first line."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        line, *rest = self._inner.format(record).split("\n", 1)
        facts = " ".join(f"{name}={value}" for name, value in _facts.get().items())
        return "\n".join([f"{line} [{facts}]" if facts else line, *rest])


class Json(logging.Formatter):
    """One object for each line: time (UTC), level, logger, process, message, the facts, and the traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        told |= _facts.get()
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)
