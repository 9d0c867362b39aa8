"""This host looks through itself when it is asked to: clock, certificate, who can read its files, whom it reaches."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from morgand import __version__
from morgand.base.clock import Clock
from morgand.base.errors import MorganError
from morgand.security import ca, trust
from morgand.state.findings import Examination, FindingKind

REACHED_S = 3.0  # until another host has answered
MOST = 1000  # files that are told, and mended, at once
PUBLIC = "models"  # what anybody may have


class Upkeep(Protocol):
    """What keeps the stores of documents equal, by the hour and on demand. Each raises NotHereNow."""

    async def sweep(self) -> None: ...

    async def compare(self) -> None: ...


class HostExaminer:
    """Implements ``ports.Examiner``. ``root`` is the data directory, ``alive`` asks a host whether it is there."""

    def __init__(
        self, root: Path, *, alive: Callable[[str, float], Awaitable[bool]], upkeep: Upkeep, clock: Clock
    ) -> None:
        self._root, self._alive, self._upkeep, self._clock = root, alive, upkeep, clock

    async def examine(self, hosts: Sequence[str]) -> Examination:
        """See the port."""
        answers = await asyncio.gather(*(self._alive(host, REACHED_S) for host in hosts))
        certificate = await asyncio.to_thread(self._certificate)
        return Examination(
            version=__version__,
            now=self._clock.now(),
            certificate_renews=ca.renew_at(certificate) if certificate else None,
            certificate_ends=certificate.not_after if certificate else None,
            unreachable=tuple(host for host, answered in zip(hosts, answers, strict=True) if not answered),
            exposed=tuple(str(path) for path in await asyncio.to_thread(exposed, self._root)),
        )

    async def mend(self, kind: FindingKind) -> None:
        """See the port."""
        match kind:
            case FindingKind.PERMISSIONS:
                await asyncio.to_thread(_close, self._root)
            case FindingKind.ORPHANS:
                await self._upkeep.sweep()
            case FindingKind.INDEX:
                await self._upkeep.compare()

    def _certificate(self) -> ca.CertFacts | None:
        """None on a lone host. One that cannot be read is told where it is used."""
        try:
            return ca.facts(trust.read(self._root / "cluster" / trust.CERT))
        except MorganError:
            return None


def exposed(root: Path) -> list[Path]:
    """Files of a data directory that any user of the machine can read, ``MOST`` at most."""
    found: list[Path] = []
    for path in _open_files(root):
        found.append(path)
        if len(found) == MOST:
            break
    return found


def _open_files(folder: Path) -> Iterator[Path]:
    """A folder that others cannot go through keeps all that lies in it. What is gone meanwhile is left out."""
    try:
        if not folder.stat().st_mode & stat.S_IXOTH:
            return
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if entry.name != PUBLIC:
                yield from _open_files(path)
        elif entry.is_file(follow_symlinks=False) and _shown(path):
            yield path


def _shown(path: Path) -> bool:
    """A program that another account is to run, as PostgreSQL's is, is no secret."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return bool(mode & stat.S_IROTH) and not mode & stat.S_IXOTH


def _close(root: Path) -> None:
    """Let nobody but their owner and its group read them. What is gone, or another's, is left alone."""
    for path in exposed(root):
        with contextlib.suppress(OSError):
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~stat.S_IRWXO)
