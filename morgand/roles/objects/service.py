"""Perform the objects role here: a content-addressed folder in the data directory."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from morgand.base.clock import Clock
from morgand.base.errors import StorageFull
from morgand.roles.base import EmbeddedService, RoleService
from morgand.roles.objects.store import FolderObjects


def service(store: FolderObjects, folder: Path, clock: Clock) -> RoleService:
    """Ready while ``folder``, where ``store`` keeps its objects, takes a write."""

    async def check() -> None:
        await asyncio.to_thread(_probe, folder)

    return EmbeddedService(store.clear_leftovers, check, _nothing, clock)


async def _nothing() -> None:
    """A folder needs no closing."""


def _probe(folder: Path) -> None:
    try:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".probe-")
        os.close(descriptor)
        Path(name).unlink()
    except OSError as err:
        remedy = "Free some space, or make it writable."
        raise StorageFull(f"{folder} cannot be written: {err.strerror}.", remedy=remedy) from err
