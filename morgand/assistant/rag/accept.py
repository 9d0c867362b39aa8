"""The way into the library: originals and rows of several files at once, durable before anybody is told."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from morgand.base.clock import Clock
from morgand.base.errors import MorganError, NotHereNow, Overloaded, TooLarge, Unreadable
from morgand.config import Config
from morgand.state.assistant import Document, DocumentState
from morgand.state.ports import Library, Objects, Upload

Taken = tuple[Document, bool] | MorganError


class Acceptor:
    """Stores originals, makes their rows, and acknowledges what nobody's removal can take away (see ``removal``)."""

    def __init__(self, library: Library, objects: Objects, settings: Callable[[], Config], clock: Clock) -> None:
        self._library = library
        self._objects = objects
        self._settings = settings
        self._clock = clock

    async def take(self, uploads: Sequence[Upload]) -> list[Taken]:
        """For each in this order: its document and whether it is new, or why it was refused. The files are gone then.

        Unchanged content of the same source is the document already there.
        Refusals: Unreadable (empty), TooLarge, Overloaded (too many wait), StorageFull, NotHereNow.
        """
        try:
            sizes = await asyncio.to_thread(lambda: [_measure(one.path) for one in uploads])
            waiting = await self._waiting()
            placed = await asyncio.gather(*map(self._place, uploads, sizes, range(waiting, waiting + len(uploads))))
            taken = iter(await self._add([one for one in placed if isinstance(one, Document)]))
            return await self._kept(uploads, [next(taken) if isinstance(one, Document) else one for one in placed])
        except MorganError as err:  # of all of them alike
            return [err] * len(uploads)
        finally:
            await asyncio.shield(asyncio.to_thread(_unlink, uploads))

    async def _waiting(self) -> int:
        """Documents that are not processed yet, whoever accepted them."""
        states = await self._library.states()
        return states[DocumentState.PENDING.value] + states[DocumentState.PROCESSING.value]

    async def _place(self, upload: Upload, measured: tuple[int, str], waiting: int) -> Document | MorganError:
        """Store one original, if it may come in."""
        size, digest = measured
        try:
            self._check(upload.name, size, waiting)
            return self._new_document(upload, size, digest, await self._objects.put_file(upload.path))
        except MorganError as err:
            return err

    async def _add(self, documents: list[Document]) -> list[Taken]:
        """All in one transaction; when that is refused each for itself, so that none stands in for another."""
        try:
            return list(await self._library.add_many(documents)) if documents else []
        except MorganError as err:
            if isinstance(err, NotHereNow) or len(documents) == 1:
                return [err] * len(documents)
            return [(await self._add([one]))[0] for one in documents]

    async def _kept(self, uploads: Sequence[Upload], taken: Sequence[Taken]) -> list[Taken]:
        """With their rows there no removal finds any more that nobody needs them. One that was quicker is undone."""
        keys = {one[0].object_key for one in taken if not isinstance(one, MorganError)}
        missing = set(await self._objects.keep(sorted(keys))) if keys else set()
        result = list(taken)
        for place, one in enumerate(taken):
            if not isinstance(one, MorganError) and one[0].object_key in missing:
                try:
                    await self._objects.put_file(uploads[place].path)
                except MorganError as err:
                    result[place] = err
        return result

    def _check(self, name: str, size: int, waiting: int) -> None:
        limits = self._settings().limits
        if size == 0:
            raise Unreadable(f"{name!r} is empty.", remedy="Give a file that has content.")
        if size > limits.document_mb * 1024 * 1024:
            raise TooLarge(
                f"{name!r} has {size / 1048576:.0f} MiB; the limit is {limits.document_mb} MiB.",
                remedy="Split it, or raise limits.document_mb.",
            )
        if waiting >= limits.ingest_queue:
            raise Overloaded(f"{waiting} documents wait already.", retry_after_s=30.0)

    def _new_document(self, upload: Upload, size: int, digest: str, key: str) -> Document:
        now = self._clock.now()
        return Document(
            id=str(uuid4()),
            name=upload.name,
            source=upload.source,
            mime=mimetypes.guess_type(upload.name)[0] or "application/octet-stream",
            size_bytes=size,
            sha256=digest,
            object_key=key,
            state=DocumentState.PENDING,
            created=now,
            updated=now,
            machine=upload.machine,
            machine_name=upload.machine_name,
        )


def _measure(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _unlink(uploads: Sequence[Upload]) -> None:
    for one in uploads:
        one.path.unlink(missing_ok=True)
