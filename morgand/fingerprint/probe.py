"""Running a system's own tools to learn a fact: with a deadline, and quietly absent where the tool is."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

DEADLINE_S = 3.0


def output(argv: Sequence[str]) -> str | None:
    """What the program prints, or None when it is missing, fails or takes too long."""
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
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout or ended.stderr if ended.returncode == 0 else None


def output_json(argv: Sequence[str]) -> Any:
    """The same as JSON, or None."""
    text = output(argv)
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError:
        return None
