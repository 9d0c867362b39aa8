"""Become another account that can reach certain folders although the way to them is closed to it. Root, on Linux.

``python passage.py USER GROUP GROUPS FOLDER... -- PROGRAM ARGUMENT...``: numbers of the account, its further groups
with commas. What root owns often lies behind a closed folder: a home, or a temporary folder. Nothing outside is opened
for the account: in a mount namespace of this process alone (mount_namespaces(7)) the closed folder is covered by an
empty one that may be passed, and the folders that are needed are mounted again at their own paths. What they hold has
the rights it had. Run by its path, and with the standard library only.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

CLONE_NEWNS = 0x0002_0000  # sched.h
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x8_0000  # sys/mount.h
REFUSED = 125  # the exit code when no way could be made; the program's own otherwise


def main() -> None:
    user, group, groups, *rest = sys.argv[1:]
    numbers = [int(one) for one in groups.split(",") if one]
    folders, argv = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    paths = [Path(one).absolute() for one in folders]
    needed = sorted({str(spelling) for one in paths for spelling in (one, one.resolve())})
    closed = first_closed(needed, int(user), {int(group), *numbers})
    try:
        if closed:
            _uncover(closed, needed)
    except OSError as err:
        sys.stderr.write(f"No way can be made through {', '.join(closed)}: {err.strerror} ({err.filename}).\n")
        sys.exit(REFUSED)
    os.setgroups(numbers)
    os.setgid(int(group))
    os.setuid(int(user))
    os.chdir("/")
    try:
        os.execvp(argv[0], argv)  # noqa: S606  what the daemon runs
    except OSError as err:
        sys.stderr.write(f"{argv[0]}: {err.strerror}\n")
        sys.exit(127)


def first_closed(folders: Sequence[str], user: int, groups: set[int]) -> list[str]:
    """The outermost closed folder on the way to each of ``folders``, which are absolute; not these themselves."""
    found: list[str] = []
    for folder in folders:
        for above in reversed(Path(folder).parents):
            if str(above) in found:
                break
            if not _passable(above.stat(), user, groups):
                found.append(str(above))
                break
    return sorted(set(found))


def _passable(found: os.stat_result, user: int, groups: set[int]) -> bool:
    """path_resolution(7); access control lists are left out, which costs a mount where one would help."""
    if found.st_uid == user:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid in groups:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _uncover(closed: Sequence[str], needed: Sequence[str]) -> None:
    """Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    _done(libc.unshare(CLONE_NEWNS), "a mount namespace")
    # what is unmounted outside goes here too: else nobody could take a disk out, or check it
    _done(libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None), "/")
    inside = [one for one in needed if any(Path(cover) in Path(one).parents for cover in closed)]
    held = {one: os.open(one, os.O_PATH | os.O_DIRECTORY) for one in inside}
    for cover in closed:
        _done(libc.mount(b"none", os.fsencode(cover), b"tmpfs", 0, b"mode=0755,size=1m"), cover)
    before = os.umask(0o022)
    for one, descriptor in held.items():  # sorted: what lies in another comes after it
        Path(one).mkdir(mode=0o755, parents=True, exist_ok=True)
        _done(libc.mount(f"/proc/self/fd/{descriptor}".encode(), os.fsencode(one), None, MS_BIND | MS_REC, None), one)
        os.close(descriptor)
    os.umask(before)


def _done(code: int, what: str) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


if __name__ == "__main__":
    main()
