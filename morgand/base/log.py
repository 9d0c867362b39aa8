"""Logging: one line per event, fields by ``extra``; for people on a terminal, JSON otherwise.

Callers pass fields, never formatted text: ``log.info("turn", extra={"turn": id, "ms": 12})``.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def setup(level: str, fmt: str, host: str, stream: TextIO = sys.stderr) -> None:
    """Send every record to ``stream``. ``fmt``: auto, human or json."""
    human = fmt == "human" or (fmt == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HumanFormatter() if human else JsonFormatter(host))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("aiosqlite", "asyncio", "sqlalchemy", "alembic"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def name_hosts(names: Callable[[], Mapping[str, str]]) -> None:
    """From now on the log calls hosts by these names (id to name) where people read it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, HumanFormatter):
            handler.formatter.names = names


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What the caller passed as ``extra``."""
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """``{"time", "level", "service", "host", "event", ...fields}`` on one line."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": record.name,
            "host": self._host,
            "event": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class HumanFormatter(logging.Formatter):
    """``12:00:01 info  planner  planned  added=3 cause=plan-42``. Hosts are called by their names."""

    names: Callable[[], Mapping[str, str]] = dict  # ids of hosts to what people call them

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        name = record.name.removeprefix("morgand.")
        told = " ".join(f"{key}={value}" for key, value in fields_of(record).items())
        for host, known in self.names().items():
            told = told.replace(host, known)
        line = f"{clock} {record.levelname.lower():<7} {name:<10} {record.getMessage()}  {told}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
