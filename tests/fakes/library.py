"""A library in memory: what ingestion asks of ``ports.Library``, without a thread and with a pause in every call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from morgand.base.errors import NotFound, Unavailable
from morgand.state.assistant import Document, DocumentState, StoredChunk
from morgand.state.ports import DocumentResult


class MemoryLibrary:
    """Documents in the order in which they were added; a later one of an identity replaces the earlier ones."""

    def __init__(self) -> None:
        self.rows: dict[str, Document] = {}
        self.stored: dict[str, list[StoredChunk]] = {}
        self.deleted: dict[str, str] = {}  # object keys
        self.away = False

    async def document(self, document: str) -> Document:
        await self._here()
        if document not in self.rows:
            raise NotFound(f"There is no document '{document}'.")
        return self.rows[document]

    async def documents(
        self, *, state: DocumentState | None = None, limit: int = 1000, offset: int = 0, earlier: bool = False
    ) -> list[Document]:
        await self._here()
        found = [one for one in self.rows.values() if state is None or one.state is state]
        return found[offset : offset + limit]

    async def add_many(self, documents: Sequence[Document]) -> list[tuple[Document, bool]]:
        await self._here()
        self.rows.update({one.id: one for one in documents})
        return [(one, True) for one in documents]

    async def start(self, documents: Sequence[str]) -> list[Document]:
        await self._here()
        there = [one for one in documents if one in self.rows]
        for one in there:
            self.rows[one] = replace(self.rows[one], state=DocumentState.PROCESSING, error=None)
        return [self.rows[one] for one in there]

    async def set_state(self, document: str, state: DocumentState, error: str | None = None) -> None:
        self.rows[document] = replace(await self.document(document), state=state, error=error)

    async def complete_many(self, completions: Sequence[DocumentResult]) -> dict[str, list[str]]:
        await self._here()
        replaced: dict[str, list[str]] = {}
        for one in completions:
            if one.document not in self.rows:
                continue
            order = list(self.rows)
            ours = self.rows[one.document]
            older = [
                id_
                for id_, row in self.rows.items()
                if row.identity == ours.identity and order.index(id_) < order.index(one.document)
            ]
            for id_ in older:
                self._bury(id_)
            self.stored[one.document] = list(one.chunks)
            self.rows[one.document] = replace(ours, state=DocumentState.COMPLETED, chunks=len(one.chunks))
            replaced[one.document] = older
        return replaced

    async def delete(self, document: str) -> Document:
        found = await self.document(document)
        self._bury(document)
        return found

    async def chunks(self, document: str) -> list[StoredChunk]:
        await self.document(document)
        return list(self.stored.get(document, ()))

    async def live(self) -> dict[str, int]:
        await self._here()
        return {id_: row.chunks for id_, row in self.rows.items() if row.state is DocumentState.COMPLETED}

    async def set_embeddings(self, embeddings: dict[str, bytes]) -> None:
        await self._here()
        for document, chunks in self.stored.items():
            self.stored[document] = [
                replace(one, embedding=embeddings[one.id]) if one.id in embeddings else one for one in chunks
            ]

    async def without_embeddings(self, limit: int) -> list[StoredChunk]:
        await self._here()
        return [one for chunks in self.stored.values() for one in chunks if one.embedding is None][:limit]

    async def object_used(self, key: str) -> bool:
        await self._here()
        return any(row.object_key == key for row in self.rows.values())

    async def retire(self, *, keep: int, days: int, limit: int) -> int:
        await self._here()
        return 0

    async def object_keys(self, documents: Sequence[str], *, earlier: bool = False) -> dict[str, str]:
        await self._here()
        known = {**self.deleted, **{id_: row.object_key for id_, row in self.rows.items()}}
        return {one: known[one] for one in documents if one in known}

    def _bury(self, document: str) -> None:
        self.deleted[document] = self.rows.pop(document).object_key
        self.stored.pop(document, None)

    async def _here(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("There is no database.")
