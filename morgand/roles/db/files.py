"""The files of PostgreSQL on this host: folders, configuration, certificates, and whose they are. Blocking.

Where the daemon is root the server's account owns ``server/`` and the folder of the socket, and may read what else it
needs; what root writes lies where that account cannot put anything in its way.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from morgand.base import files
from morgand.base.datadir import MAX_SOCKET_PATH
from morgand.base.errors import ConfigError, EngineError
from morgand.process.account import Account
from morgand.roles.db import postmaster
from morgand.roles.db.site import DbSite
from morgand.security import trust

PASSABLE = 0o711  # to be passed through: what is inside is not listed, nor readable for it
OWN = 0o700


def prepare(site: DbSite, account: Account | None) -> None:
    """Folders, certificates and the program that Patroni starts. Raises EngineError, ConfigError."""
    with _translated(site):
        for folder in (site.folder, site.tls):
            folder.mkdir(mode=OWN, parents=True, exist_ok=True)
        if account is not None:
            for folder in (site.folder.parent, site.folder, site.tls):
                folder.chmod(PASSABLE)
        for folder in (site.server, socket_folder(site.folder)):
            _own(folder, account)
        if unfinished(site.data):
            shutil.rmtree(site.data)
        _write(site.postgres, _script(site).encode(), None, mode=0o755)
    install_credentials(site, account)


def install_credentials(site: DbSite, account: Account | None) -> bool:
    """Copy what has changed of the host's certificate, and say whether anything had. Raises EngineError."""
    changed = False
    with _translated(site):
        for name in trust.FILES:
            source, copy = site.credentials / name, site.tls / name
            if source.exists() and (content := source.read_bytes()) != (copy.read_bytes() if copy.exists() else None):
                _write(copy, content, account)
                changed = True
    return changed


def write_config(site: DbSite, account: Account | None, config: dict[str, Any]) -> None:
    """Raises EngineError."""
    with _translated(site):
        _write(site.config, msgspec.json.format(msgspec.json.encode(config)), account)  # JSON is YAML


def write_access(site: DbSite, account: Account | None, lines: Sequence[str]) -> None:
    """Who may connect, from the server's next start or reload on. Raises EngineError."""
    with _translated(site):
        _write(site.access, "".join(f"{line}\n" for line in lines).encode(), account)


def has_revocations(site: DbSite) -> bool:
    return (site.tls / trust.CRL).exists()


def socket_folder(folder: Path) -> Path:
    """Where the server's Unix socket is: inside, or under the system's temporary folder when the path is too long."""
    inside = folder / "run"
    if len(os.fsencode(inside)) + len("/.s.PGSQL.65535") <= MAX_SOCKET_PATH:
        return inside
    digest = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"morgand-db-{digest}"


def unfinished(data: Path) -> bool:
    """Whether this is a copy that was broken off: the control file comes last. Nothing can be made of it."""
    return data.is_dir() and any(data.iterdir()) and not (data / "global" / "pg_control").exists()


def in_doubt(site: DbSite) -> bool:
    """Whether there are data that were never known to be whole."""
    return site.data.is_dir() and not site.complete.exists()


def mark_complete(site: DbSite) -> None:
    """From now on the data here are kept whatever happens, and what was set aside is not. Raises StorageFull."""
    if not site.complete.exists():
        files.write_private(site.complete, b"")
        shutil.rmtree(_aside(site), ignore_errors=True)


def set_aside(site: DbSite) -> None:
    """Out of the way, for Patroni to begin anew; what was set aside before goes. Raises EngineError."""
    with _translated(site):
        shutil.rmtree(_aside(site), ignore_errors=True)
        site.data.rename(_aside(site))


def _aside(site: DbSite) -> Path:
    return site.data.with_name("data.unfinished")


def _own(folder: Path, account: Account | None) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=OWN)
    found = folder.lstat()
    user = account.user if account else os.getuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (user, os.getuid()):
        raise ConfigError(f"{folder} belongs to somebody else.", remedy="Remove it.")
    if account is not None and found.st_uid != user:
        os.chown(folder, account.user, account.group, follow_symlinks=False)
    folder.chmod(OWN)


def _script(site: DbSite) -> str:
    argv = [sys.executable, "-I", "-S", postmaster.__file__, str(site.programs / "postgres")]
    return f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n'


def _write(file: Path, content: bytes, account: Account | None, *, mode: int = 0o600) -> None:
    with files.replacing(file) as fresh:
        if account is not None:
            os.fchown(fresh.fileno(), account.user, account.group)
        os.fchmod(fresh.fileno(), mode)
        fresh.write(content)


@contextlib.contextmanager
def _translated(site: DbSite) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise EngineError(
            f"PostgreSQL cannot be set up in {site.folder}: {err.strerror} ({err.filename}).",
            remedy="Free space on its disk and make it writable for the user that runs morgand.",
        ) from err
