"""Running a system's own tools to learn a fact: with a deadline, and quietly absent where the tool is."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

DEADLINE_S = 3.0


def ask(argv: Sequence[str]) -> str | None:
    """What the program prints, or None when it is missing or fails. Raises TimeoutError: a busy machine, as a rule."""
    program = shutil.which(argv[0])
    if program is None:
        return None
    try:
        ended = subprocess.run(  # noqa: S603  a fixed program with fixed arguments
            [program, *argv[1:]],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            errors="replace",
            stdin=subprocess.DEVNULL,
        )
    except OSError:
        return None
    except subprocess.TimeoutExpired as err:
        raise TimeoutError(f"{program} did not answer within {DEADLINE_S:g} s.") from err
    return ended.stdout or ended.stderr if ended.returncode == 0 else None


def output(argv: Sequence[str]) -> str | None:
    """The same; None also when it takes too long."""
    try:
        return ask(argv)
    except TimeoutError:
        return None


def output_json(argv: Sequence[str]) -> Any:
    """What it prints as JSON, or None. Raises TimeoutError."""
    text = ask(argv)
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError:
        return None
