"""The command line's own log, rotated, in the user's state directory: one line a command, and what nobody expected."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType

from morganctl.discover import state_dir

LOG_BYTES = 1_000_000
LOG_FILES = 3


def log_path() -> Path:
    return state_dir() / "morganctl.log"


def private_dir(path: Path) -> None:
    """Make a directory only the user can enter. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def command(name: str, exit_code: int, seconds: float) -> None:
    """Log that a command ran; its arguments are private and stay out."""
    _write(logging.INFO, f"command={name} exit={exit_code} seconds={seconds:.2f}", None)


def crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> bool:
    """Log an unexpected error with its traceback; False when the log cannot be written."""
    return _write(logging.ERROR, "unexpected error", (kind, error, trace))


def _write(
    level: int, message: str, trace: tuple[type[BaseException], BaseException, TracebackType | None] | None
) -> bool:
    from logging.handlers import RotatingFileHandler

    try:
        private_dir(state_dir())
        handler = RotatingFileHandler(log_path(), maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    except OSError:
        return False  # a read-only home must not stop a command
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    entry = logging.LogRecord("morganctl", level, "", 0, message, None, trace)
    handler.handle(entry)
    handler.close()
    return True
