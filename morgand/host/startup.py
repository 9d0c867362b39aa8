"""What `morgand start` tells of a daemon that begins: what is ready, what still loads, what has failed."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from morgand.api.schema import HealthReply

ASK_S = 5.0
LOOK_EVERY_S = 0.1
LOADING_S = 60.0  # a large model takes longer: then it is said to load, and whoever started it is let go

Roles = Mapping[str, str]  # of this host, with their states


def health(path: Path) -> HealthReply | None:
    """What the daemon behind the socket says of itself; None while it does not."""
    connection = http.client.HTTPConnection("localhost", timeout=ASK_S)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(ASK_S)
        connection.sock.connect(str(path))
        connection.request("GET", "/health/ready")
        return msgspec.json.decode(connection.getresponse().read(), type=HealthReply)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return None
    finally:
        connection.close()


def answers(found: HealthReply | None) -> bool:
    """Whether questions are answered, with whatever is ready."""
    return found is not None and found.status != "starting"


def until_loaded(look: Callable[[], Roles], progress: Callable[[str], None], within_s: float = LOADING_S) -> Roles:
    """Wait until nothing loads any more, but not for longer than ``within_s``. Says so whenever something is done."""
    deadline, told = time.monotonic() + within_s, ""
    while _in(roles := look(), "starting") and time.monotonic() < deadline:
        line = f"Loading {_in(roles, 'starting')} ..."
        if line != told:
            progress(line)
            told = line
        time.sleep(LOOK_EVERY_S)
    return roles


def summary(roles: Roles) -> list[str]:
    """How this host's roles stand, in sentences."""
    ready, loading, failed = (_in(roles, state) for state in ("ready", "starting", "failed"))
    lines = [f"Ready: {ready}."] if ready else []
    if loading:
        lines.append(f"Still loading: {loading}. Until then questions are answered without; see `morganctl status`.")
    if failed:
        lines.append(f"Failed: {failed}. `morganctl status` says why.")
    return lines


def _in(roles: Roles, state: str) -> str:
    return ", ".join(sorted(role for role, one in roles.items() if one == state))
