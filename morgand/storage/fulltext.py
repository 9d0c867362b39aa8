"""Full-text search in the database itself: the leg that needs neither embedder nor index.

SQLite: one FTS5 table per level, so that each level's statistics are its own. The tables are contentless (the text
lies in ``document_chunks`` only); Python fills and empties them in the transaction that does the same to the chunks.
PostgreSQL: an expression index; there is nothing to fill.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from morgand.state.assistant import Level
from morgand.storage.models import ChunkRow

MAX_TERMS = 64
MAX_QUERY_CHARS = 20_000
WORD = re.compile(r"\w+")
# words in almost every passage: they rank nothing and make every row a match
COMMON = """
a an and are as at be but by can do does for from had has have how i if in into is it its me my no not of on or our so
such than that the their then there these they this to was we were what when where which who why will with you your
"""
STOP_WORDS = frozenset(COMMON.split())

_MATCH_SQLITE = {
    level: text(
        # fewer rows are joined when the best are picked first; every row in the full-text table has a live chunk
        f"SELECT c.id AS id, -f.rank AS score FROM (SELECT rowid, rank FROM chunk_fts_{level} "  # noqa: S608 - a name of ours
        f"WHERE chunk_fts_{level} MATCH :query ORDER BY rank LIMIT :limit) f "
        "JOIN document_chunks c ON c.fulltext_row = f.rowid ORDER BY f.rank, f.rowid"
    )
    for level in Level
}
_MATCH_POSTGRES = text(
    "SELECT c.id AS id, ts_rank(to_tsvector('english'::regconfig, c.text), q, 1) AS score "
    "FROM document_chunks c, to_tsquery('english'::regconfig, :query) q "
    "WHERE c.level = :level AND to_tsvector('english'::regconfig, c.text) @@ q ORDER BY score DESC, c.id LIMIT :limit"
)


def terms(query: str) -> list[str]:
    """The distinct words of any text, in order, at most ``MAX_TERMS``; stop words only if there is nothing else."""
    words = WORD.findall(unicodedata.normalize("NFKC", query[:MAX_QUERY_CHARS]).lower())
    distinct = list(dict.fromkeys(word for word in words if word.strip("_")))
    telling = [word for word in distinct if word not in STOP_WORDS]
    return (telling or distinct)[:MAX_TERMS]


def sqlite_query(words: Iterable[str]) -> str:
    """Words have no quotes in them, so quoting makes every operator of FTS5 a plain word."""
    return " OR ".join(f'"{word}"' for word in words)


def postgres_query(words: Iterable[str]) -> str:
    return " | ".join(f"'{word}'" for word in words)


async def search(
    session: AsyncSession, query: str, level: Level, *, limit: int, sqlite: bool
) -> list[tuple[str, float]]:
    """Chunk ids and scores, best first; higher is better."""
    words = terms(query)
    if not words or limit < 1:
        return []
    if sqlite:
        found = await session.execute(_MATCH_SQLITE[level], {"query": sqlite_query(words), "limit": limit})
    else:
        values = {"query": postgres_query(words), "level": level.value, "limit": limit}
        found = await session.execute(_MATCH_POSTGRES, values)
    return [(str(UUID(str(row.id))), float(row.score)) for row in found]


async def next_row(session: AsyncSession) -> int:
    """The first free row number; SQLite has one writer, so nobody else takes it."""
    return int(await session.scalar(select(func.coalesce(func.max(ChunkRow.fulltext_row), 0))) or 0) + 1


async def fill(session: AsyncSession, rows: Iterable[dict[str, Any]]) -> None:
    """Add chunk rows (column values, text as stored) to the tables of their levels."""
    for level, entries in _by_level((row["level"], row["fulltext_row"], row["text"]) for row in rows).items():
        await session.execute(text(f"INSERT INTO chunk_fts_{level}(rowid, text) VALUES (:row, :text)"), entries)  # noqa: S608 - a name of ours


async def empty(session: AsyncSession, document: UUID) -> None:
    """Take a document's chunks out. A contentless table has to be told the text that it forgets."""
    chunks = await session.execute(
        select(ChunkRow.level, ChunkRow.fulltext_row, ChunkRow.text).where(ChunkRow.document_id == document)
    )
    for level, entries in _by_level((row.level, row.fulltext_row, row.text) for row in chunks).items():
        forget = f"INSERT INTO chunk_fts_{level}(chunk_fts_{level}, rowid, text) VALUES ('delete', :row, :text)"  # noqa: S608 - a name of ours
        await session.execute(text(forget), entries)


async def compact(session: AsyncSession) -> None:
    """Merge the tables, so that words of deleted text are gone from the file too."""
    for level in Level:
        await session.execute(text(f"INSERT INTO chunk_fts_{level}(chunk_fts_{level}) VALUES ('optimize')"))  # noqa: S608 - a name of ours


def _by_level(rows: Iterable[tuple[str, int | None, str]]) -> dict[Level, list[dict[str, Any]]]:
    entries: dict[Level, list[dict[str, Any]]] = defaultdict(list)
    for level, row, content in rows:
        entries[Level(level)].append({"row": row, "text": content})
    return entries
