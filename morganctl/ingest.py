"""Uploading many files and following them until they are processed; survives a daemon that restarts meanwhile.

Small files travel together, since the daemon limits uploads per minute; four uploads are under way at most.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import aiohttp
import msgspec

from morganctl import pages
from morganctl.client import Client
from morganctl.errors import Away, Busy, CliError, Refused
from morganctl.files import Candidate, Fault, display_name, source_of, text_of, walk
from morganctl.identity import Machine
from morgand.api.schema import DocumentView, UploadReply, UploadResult

T = TypeVar("T")

UPLOADS = 4
BATCH_FILES = 100
WHOLE_BYTES = 1024 * 1024  # files up to this are read at once: ten thousand open files are too many
BATCH_BYTES = 8 * 1024 * 1024
AWAY_S = 60.0  # how long a daemon that went away is waited for
BUSY_S = 600.0  # how long a full queue or a rate limit is waited for
UPLOAD_BASE_S = 120.0
UPLOAD_BYTES_PER_S = 500_000  # slower than this and the deadline passes
POLL_FIRST_S = 0.2
POLL_LAST_S = 3.0
SWEEP_OVER = 20  # more unfinished documents than this are looked up by listing


class View(Protocol):
    """Shows how far it is."""

    def sending(self, name: str, size_bytes: int) -> Callable[[int], None]:
        """An upload begins; call the result with bytes sent, and with -1 at its end."""

    def counts(self, found: int, sent: int, processed: int) -> None: ...

    def message(self, text: str) -> None: ...


@dataclass
class Summary:
    """What came of it; also the JSON document."""

    documents: int = 0
    chunks: int = 0
    embeddings: int = 0
    unchanged: int = 0
    waiting: int = 0  # accepted, not processed yet (with --no-wait)
    skipped: dict[str, int] = field(default_factory=dict)
    failed: list[dict[str, str]] = field(default_factory=list)

    def fail(self, path: str, reason: str) -> None:
        self.failed.append({"file": text_of(path), "error": reason})

    def finished(self, path: str, document: DocumentView) -> None:
        """Count a document that reached its last state."""
        if document.state == "failed":
            self.fail(path, document.error or "could not be processed")
            return
        self.documents += 1
        self.chunks += document.chunks
        self.embeddings += document.embeddings


class CountingReader(io.BufferedReader):
    """A file that tells how much of it was read."""

    def __init__(self, path: str, tell: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path))
        self._notify = tell

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._notify(len(data))
        return data


class Ingest:
    """One run over some paths of this ``machine``. ``clock`` is monotonic seconds."""

    def __init__(
        self, client: Client, view: View, machine: Machine, *, wait: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._machine = machine
        self._client = client
        self._view = view
        self._wait = wait
        self._clock = clock
        self._found = 0
        self._sent = 0
        self._unfinished: dict[str, str] = {}  # document id -> path
        self._away_told = False
        self.summary = Summary()

    async def run(self, paths: Sequence[str]) -> Summary:
        """Upload everything, follow it to the end. Raises CliError when the daemon stays away."""
        await self._client.get("/health/live", msgspec.Raw)  # nothing is read or sent when nobody listens
        skipped: Counter[str] = Counter()
        queue: asyncio.Queue[list[Candidate] | None] = asyncio.Queue(UPLOADS * 2)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._produce(walk(paths, skipped), queue))
            for _ in range(UPLOADS):
                group.create_task(self._consume(queue))
        self.summary.skipped = dict(skipped)
        if self._wait:
            await self._follow()
        self.summary.waiting = len(self._unfinished)
        return self.summary

    async def _produce(self, found: Iterator[Candidate | Fault], queue: asyncio.Queue[list[Candidate] | None]) -> None:
        while (batch := await asyncio.to_thread(self._batch, found)) is not None:
            if batch:
                await queue.put(batch)
        for _ in range(UPLOADS):
            await queue.put(None)

    def _batch(self, found: Iterator[Candidate | Fault]) -> list[Candidate] | None:
        """The next files to send together; a big one goes alone. None: there are no more."""
        batch: list[Candidate] = []
        size = 0
        for item in found:
            self._found += 1
            if isinstance(item, Fault):
                self.summary.fail(item.path, item.reason)
                self._sent += 1
                continue
            batch.append(item)
            size += item.size_bytes
            if len(batch) == BATCH_FILES or size >= BATCH_BYTES:
                return batch
        return batch or None

    async def _consume(self, queue: asyncio.Queue[list[Candidate] | None]) -> None:
        while (batch := await queue.get()) is not None:
            await self._send(batch)

    async def _send(self, batch: list[Candidate]) -> None:
        """Send a batch. A request refused as a whole is split, so that one bad file costs only itself."""
        readable = [item for item in batch if await asyncio.to_thread(self._can_read, item)]
        if not readable:
            return
        more = f" and {len(readable) - 1} more" if len(readable) > 1 else ""
        size = sum(item.size_bytes for item in readable)
        tell = self._view.sending(f"{display_name(readable[0].path)}{more}", size)
        try:
            results = await self._patiently(lambda: self._upload(readable, size, tell))
        except (Refused, OSError) as err:
            if isinstance(err, Refused) and err.status in {401, 403}:
                raise
            if len(readable) > 1:
                for item in readable:
                    await self._send([item])
                return
            reason = err.message if isinstance(err, Refused) else f"cannot be read: {err.strerror}"
            self._settle(readable[0], UploadResult("", "refused"), reason)
            return
        finally:
            tell(-1)
        for item, result in zip(readable, results, strict=True):
            self._settle(item, result, result.error.message if result.error else "was refused")

    def _can_read(self, item: Candidate) -> bool:
        """Whether the file opens and gives its first byte; a fault is recorded otherwise."""
        try:
            with open(item.path, "rb", buffering=0) as file:  # noqa: PTH123  # the path may hold surrogates
                file.read(1)
        except OSError as err:
            self._settle(item, UploadResult("", "refused"), f"cannot be read: {err.strerror}")
            return False
        return True

    def _settle(self, item: Candidate, result: UploadResult, reason: str) -> None:
        self._sent += 1
        document = result.document
        if result.result == "refused" or document is None:
            self.summary.fail(item.path, reason)
        elif document.state in {"completed", "failed"}:
            self.summary.unchanged += result.result == "unchanged"
            self.summary.finished(item.path, document)
        else:
            self._unfinished[document.id] = item.path
        self._show()

    async def _upload(self, batch: list[Candidate], size: int, tell: Callable[[int], None]) -> list[UploadResult]:
        with ExitStack() as files:
            opened = [await asyncio.to_thread(_content, item, files, tell) for item in batch]

            def form() -> aiohttp.FormData:
                data = aiohttp.FormData(quote_fields=False)  # names as they are, in UTF-8, not as %41
                data.add_field("machine", self._machine.id)
                data.add_field("machine_name", self._machine.name)
                for item, file in zip(batch, opened, strict=True):
                    data.add_field("source", source_of(item.path))
                    data.add_field(
                        "file", file, filename=display_name(item.path), content_type="application/octet-stream"
                    )
                return data

            deadline_s = UPLOAD_BASE_S + size / UPLOAD_BYTES_PER_S
            reply = await self._client.upload("/v1/documents", form, UploadReply, deadline_s=deadline_s)
        if len(reply.results) != len(batch):
            raise CliError("The daemon answered for other files than were sent.", code="protocol")
        return reply.results

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """``ask`` until it works: a daemon gone is waited for, and one that is busy. Raises CliError in the end."""
        since = self._clock()
        while True:
            try:
                answer = await ask()
            except Away as err:
                if self._clock() - since > AWAY_S:
                    raise
                if not self._away_told:
                    self._view.message(f"{err.message} Waiting for it up to {AWAY_S:.0f} s.")
                    self._away_told = True
                await asyncio.sleep(1.0)
            except Busy as err:
                if self._clock() - since + err.retry_after_s > BUSY_S:
                    raise
                self._view.message(f"{err.message} Trying again in {err.retry_after_s:.0f} s.")
                await asyncio.sleep(max(err.retry_after_s, 0.2))
            else:
                if self._away_told:
                    self._view.message("morgand is back.")
                    self._away_told = False
                return answer

    async def _follow(self) -> None:
        """Poll until every document reached its last state."""
        pause_s = POLL_FIRST_S
        while self._unfinished:
            started = self._clock()
            before = len(self._unfinished)
            await self._patiently(self._sweep if before > SWEEP_OVER else self._poll)
            self._show()
            if not self._unfinished:
                return
            # A sweep over many pages must not keep the daemon from its work.
            pause_s = POLL_FIRST_S if len(self._unfinished) < before else min(pause_s * 1.5, POLL_LAST_S)
            await asyncio.sleep(min(max(pause_s, 5 * (self._clock() - started)), 10.0))

    async def _sweep(self) -> None:
        missing = set(self._unfinished)
        listing: AsyncIterator[DocumentView] = pages.documents(self._client)
        async for document in listing:
            if document.id in missing:
                missing.discard(document.id)
                self._update(document)
            if not missing:
                return
        # A list that moves while it is paged can hide a document; ask for a few of those directly.
        await self._poll(sorted(missing)[:SWEEP_OVER])

    async def _poll(self, ids: Sequence[str] | None = None) -> None:
        for document_id in list(self._unfinished) if ids is None else ids:
            try:
                self._update(await self._client.get(f"/v1/documents/{document_id}", DocumentView))
            except Refused as err:
                if err.status != 404:
                    raise
                self.summary.fail(self._unfinished.pop(document_id), "was deleted meanwhile")

    def _update(self, document: DocumentView) -> None:
        if document.state in {"completed", "failed"}:
            self.summary.finished(self._unfinished.pop(document.id), document)

    def _show(self) -> None:
        self._view.counts(self._found, self._sent, self._sent - len(self._unfinished))


def _content(item: Candidate, files: ExitStack, tell: Callable[[int], None]) -> bytes | CountingReader:
    """What to send: a small file's bytes, or a big file open for reading. Raises OSError."""
    if item.size_bytes > WHOLE_BYTES:
        return files.enter_context(CountingReader(item.path, tell))
    with open(item.path, "rb") as file:  # noqa: PTH123  # the path may hold surrogates
        return file.read()
