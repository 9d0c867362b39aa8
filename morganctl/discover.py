"""Where the daemon is and with which key: from options and environment, without touching the network."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from morganctl.errors import UsageFault


@dataclass(frozen=True, slots=True)
class Target:
    """``socket`` is set for the local daemon; otherwise ``url`` is where requests go."""

    url: str
    socket: Path | None
    key: str | None

    @property
    def shown(self) -> str:
        """The place in words, for messages."""
        return str(self.socket) if self.socket else self.url


def data_dir(option: str | None, environment: Mapping[str, str]) -> Path:
    """The daemon's data directory: the option, else ``MORGAN_HOST__DATA_DIR``, else the user's."""
    named = option or environment.get("MORGAN_HOST__DATA_DIR") or platformdirs.user_data_dir("morgan", appauthor=False)
    return Path(named).expanduser()


def target(url: str | None, directory: str | None, key: str | None, environment: Mapping[str, str]) -> Target:
    """Raises UsageFault for both targets at once or a URL that is none."""
    if url is None:
        return Target("http://localhost", data_dir(directory, environment) / "morgand.sock", key)
    if directory is not None:
        raise UsageFault("--url and --data-dir exclude each other.", remedy="Name one of them.")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageFault(f"'{url}' is not a URL.", remedy="Write it as http://HOST:PORT.")
    return Target(url.rstrip("/"), None, key)


def read_key(key_file: str | None, environment: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The API key (file before ``MORGAN_API_KEY``) and a warning, or None for either. Raises UsageFault."""
    if key_file is None:
        key = environment.get("MORGAN_API_KEY", "").strip()
        return (_checked(key, "MORGAN_API_KEY") if key else None), None
    path = Path(key_file).expanduser()
    try:
        mode = path.stat().st_mode
        key = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError as err:
        raise UsageFault(f"{path} does not hold an API key.", remedy="Make one with `morganctl keys create`.") from err
    except OSError as err:
        raise UsageFault(f"The key file {path} cannot be read: {err.strerror}.", remedy="Check its path.") from err
    warning = None
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
        warning = f"Others can read the key file {path}; run `chmod 600 {path}`."
    return _checked(key, str(path)), warning


def _checked(key: str, where: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageFault(f"{where} does not hold an API key.", remedy="Make one with `morganctl keys create`.")
    return key


def state_dir() -> Path:
    """Where the command line keeps its chat history and its log."""
    return Path(platformdirs.user_state_dir("morgan", appauthor=False))
