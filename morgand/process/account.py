"""The operating-system account that engines run as which refuse root, and whether it can run them.

PostgreSQL does not run as root: where the daemon does, it runs as ``postgres``. That account must be able to reach and
read the interpreter, Morgan and Patroni, so it is asked: a short child process tries. Closed folders on the way are no
hindrance (``passage``).
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

from morgand.base.errors import EngineError
from morgand.process import mount_namespace

NAME = "postgres"
ASK_DEADLINE_S = 20.0
PROGRAMS = ("postgres", "initdb", "pg_basebackup", "pg_controldata", "pg_isready")
READABLE = "Install Morgan where every account can read it, e.g. in /opt, with the system's Python."

# Each prints what cannot be done, and nothing when all can.
_IMPORT = """
try:
    import morgand.process.reaper, patroni.dcs.etcd3, psycopg
except ImportError as err:
    print(f"import {err.name or err}")
"""
_RUN = """
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


def why_not(program: str) -> str | None:
    """Why PostgreSQL (``program``: the path of ``postgres``) cannot be run here under Patroni; None when it can.

    Blocking: asks a child until it could be run once. Raises TimeoutError when the machine is too busy to say.
    """
    try:
        _check_program(program)
    except EngineError as err:
        return str(err)
    return None


def why_no_way(folder: Path) -> str | None:
    """Why PostgreSQL's account cannot get to a folder that exists; None when it can. Until it could once, a machine
    that is too busy to say counts as one that cannot. Blocking, as ``why_not``."""
    try:
        _check_way(folder)
    except (EngineError, TimeoutError) as err:
        return str(err)
    return None


@functools.lru_cache(maxsize=8)  # what is well stays well; what is not may be mended
def _check_program(program: str) -> None:
    account = engine_account()
    if lacks := _asked(account, _IMPORT, []):
        raise EngineError(
            f"The account {_name(account)}, which PostgreSQL would run as, cannot {lacks}.", remedy=READABLE
        )
    if lacks := _asked(account, _RUN, [str(Path(program).parent / one) for one in PROGRAMS]):
        raise EngineError(f"The account {_name(account)}, which PostgreSQL would run as, cannot run {lacks}.")


@functools.lru_cache(maxsize=8)
def _check_way(folder: Path) -> None:
    lacks = _asked(engine_account(), _RUN, [str(one) for one in reversed(folder.absolute().parents)], folder)
    if lacks:
        raise EngineError(
            f"PostgreSQL's account cannot pass through {lacks}: let it (chmod o+x), or set host.data_dir to a "
            "directory elsewhere, e.g. in /var/lib."
        )


def becoming(account: Account | None, *folders: Path) -> tuple[str, ...]:
    """What goes before a command that this account is to run, besides Python reaching these folders, which exist."""
    if account is None:
        return ()
    python = {sys.prefix, sys.base_prefix, str(Path(__file__).parent), *(one for one in sys.path if Path(one).is_dir())}
    groups = ",".join(str(one) for one in account.groups)
    return (
        sys.executable, "-I", "-S", mount_namespace.__file__, str(account.user), str(account.group), groups,
        *sorted({*python, *(str(one) for one in folders)}), "--",
    )  # fmt: skip


def inherited() -> dict[str, str]:
    """What of the daemon's environment an engine gets: PG* and PATRONI_* would change its settings."""
    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "TZ") if name in os.environ}


def _asked(account: Account | None, code: str, arguments: Sequence[str], *folders: Path) -> str:
    argv = [*becoming(account, *folders), sys.executable, "-c", code, *arguments]
    try:
        ended = subprocess.run(  # noqa: S603  our own interpreter and code
            argv, cwd="/", env=inherited(), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=ASK_DEADLINE_S, check=False,
        )  # fmt: skip
    except OSError as err:
        raise EngineError(f"{sys.executable} cannot be asked what it can run: {err}.") from err
    except subprocess.TimeoutExpired as err:
        raise TimeoutError(f"{sys.executable} did not say within {ASK_DEADLINE_S:g} s what it can run.") from err
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines()  # of ``passage``, or of a Python that cannot start
        return f"run {sys.executable}" + (f" ({lines[-1]})" if lines else "")
    return str(ended.stdout).strip()


def _name(account: Account | None) -> str:
    return account.name if account else "of morgand"
