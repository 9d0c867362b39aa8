"""The operating-system account that engines run as which refuse root, and whether it can run them.

PostgreSQL does not run as root: where the daemon does, it runs as ``postgres``. That account must be able to read the
interpreter, Morgan and Patroni, so it is asked: a short child process tries.
"""

from __future__ import annotations

import functools
import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morgand.errors import EngineError

NAME = "postgres"
ASK_DEADLINE_S = 20.0
PROGRAMS = ("postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata", "pg_isready")
READABLE = "Install Morgan where every account can read it, e.g. in /opt, with the system's Python."

# Each prints what cannot be done, and nothing when all can.
_IMPORT = """
try:
    import morgand.guardian, patroni.dcs.etcd3, psycopg
except ImportError as err:
    print(f"import {err.name or err}")
"""
_ENTER = """
import os, sys
print(next((path for path in sys.argv[1:] if not os.access(path, os.X_OK)), ""))
"""


@dataclass(frozen=True, slots=True)
class Account:
    """An account, by its numbers. ``groups``: the further ones it is in."""

    name: str
    user: int
    group: int
    groups: tuple[int, ...] = ()


def engine_account(name: str = NAME) -> Account | None:
    """The account engines run as; None is the daemon's own. Raises EngineError when there is none they may use."""
    if os.getuid() != 0:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError as err:
        raise EngineError(
            f"PostgreSQL does not run as root, and there is no account {name}.",
            remedy="Install it: apt-get install postgresql; or run morgand as an ordinary user.",
        ) from err
    groups = tuple(os.getgrouplist(found.pw_name, found.pw_gid))
    return Account(found.pw_name, found.pw_uid, found.pw_gid, groups)


@functools.lru_cache(maxsize=8)
def why_not(program: str) -> str | None:
    """Why PostgreSQL (``program``: the path of ``postgres``) cannot be run here under Patroni; None when it can.

    Blocking: asks a child once for each program.
    """
    try:
        account = engine_account()
        if lacks := _asked(account, _IMPORT, []):
            return f"The account {_name(account)}, which PostgreSQL would run as, cannot {lacks}. {READABLE}"
        lacks = _asked(account, _ENTER, [str(Path(program).parent / one) for one in PROGRAMS])
    except EngineError as err:
        return str(err)
    return f"The account {_name(account)}, which PostgreSQL would run as, cannot run {lacks}." if lacks else None


@functools.lru_cache(maxsize=8)
def why_no_way(folder: Path) -> str | None:
    """Why PostgreSQL's account cannot get to a folder; None when it can. Blocking: asks a child once for each."""
    try:
        ensure_way(engine_account(), folder)
    except EngineError as err:
        return str(err)
    return None


def ensure_way(account: Account | None, folder: Path) -> None:
    """Blocking. Raises EngineError when the account cannot reach the folder."""
    folder = folder.absolute()
    lacks = _asked(account, _ENTER, [str(one) for one in (*reversed(folder.parents), folder)])
    if lacks:
        raise EngineError(
            f"The account {_name(account)}, which PostgreSQL runs as, cannot enter {lacks}.",
            remedy="Let it pass (chmod o+x), or set host.data_dir to a directory elsewhere, e.g. in /var/lib.",
        )


def identity(account: Account | None) -> dict[str, Any]:
    """How ``subprocess`` is told to become this account."""
    if account is None:
        return {}
    return {"user": account.user, "group": account.group, "extra_groups": account.groups}


def inherited() -> dict[str, str]:
    """What of the daemon's environment an engine gets: PG* and PATRONI_* would change its settings."""
    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "TZ") if name in os.environ}


def _asked(account: Account | None, code: str, arguments: Sequence[str]) -> str:
    try:
        ended = subprocess.run(  # noqa: S603  our own interpreter and code
            [sys.executable, "-c", code, *arguments], **identity(account), cwd="/", env=inherited(),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=ASK_DEADLINE_S,
            check=False,
        )  # fmt: skip
    except PermissionError:
        return f"run {sys.executable}"
    except (OSError, subprocess.TimeoutExpired) as err:
        raise EngineError(f"{sys.executable} cannot be asked what it can run: {err}.") from err
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines()
        return f"run {sys.executable}" + (f" ({lines[-1]})" if lines else "")
    return str(ended.stdout).strip()


def _name(account: Account | None) -> str:
    return account.name if account else "of morgand"
