"""Whether the PostgreSQL that was found here can be run."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

from morgand.fingerprint.engines import numbers
from morgand.process import account
from morgand.state.hosts import Engine

log = logging.getLogger("morgand.fingerprint")

POSTGRES_MAJOR = 15  # the oldest that is run


def usable(postgres: Engine) -> Engine | None:
    """PostgreSQL is one engine with Patroni. If it cannot be used the log says why. Raises TimeoutError."""
    program = str(Path(postgres.path).resolve())  # the other programs lie beside the real one
    if numbers(Path(postgres.version))[:1] < [POSTGRES_MAJOR]:
        reason: str | None = f"PostgreSQL {postgres.version} is older than {POSTGRES_MAJOR}."
    elif sys.platform != "linux":
        reason = "PostgreSQL is run on Linux only: elsewhere nothing would end it with the daemon."
    else:
        reason = account.why_not(program)
    if reason is None:
        return replace(postgres, path=program)
    log.info("PostgreSQL is not used", extra={"reason": reason})
    return None
