"""From a question to passages, with parts missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from morgand.assistant.rag import retrieve
from morgand.assistant.rag.points import index_points
from morgand.assistant.rag.retrieve import Retriever
from morgand.base.errors import EngineError
from morgand.storage.database import Database, sqlite_url
from morgand.storage.library import SqlLibrary
from morgand.storage.migrate import upgrade
from tests.fakes.assistant import HashEmbedder, WordReranker
from tests.fakes.storage import HandClock, added, completed, extracted, new_document, tree
from tests.fakes.vectors import WordVectors

BOILER = ["the boiler pressure is 1.5 bar", "bleed every radiator in autumn", "call the plumber about leaks"]
LEASE = ["the rent is due on the third", "pets need consent of the owner"]


class Away:
    """An embedder and reranker that nobody serves."""

    async def model(self) -> str:
        raise EngineError

    async def embed_query(self, text: str) -> bytes:
        raise EngineError

    async def embed_passages(self, texts: Sequence[str]) -> list[bytes]:
        raise EngineError

    async def scores(self, query: str, texts: Sequence[str], *, budget_s: float) -> list[float | None]:
        raise EngineError


@dataclass
class House:
    library: SqlLibrary
    vectors: WordVectors = field(default_factory=WordVectors)
    documents: dict[str, str] = field(default_factory=dict)

    async def store(self, name: str, texts: Sequence[str]) -> None:
        row, _ = await added(self.library, new_document(source=f"/docs/{name}", content=name))
        chunks = tree(row.id, texts, embedding=None)
        await completed(self.library, row.id, extracted(name), chunks)
        await self.vectors.upsert(index_points(chunks))
        self.documents[name] = row.id


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    database = Database(sqlite_url(tmp_path / "morgan.sqlite"))
    await database.open()
    await upgrade(database)
    house = House(SqlLibrary(database, HandClock()))
    await house.store("boiler", BOILER)
    await house.store("lease", LEASE)
    yield house
    await database.close()


async def test_everything_there(house: House) -> None:
    """The passage with the answer is first, with title, place and the sentence to quote, and nothing is noticed."""
    retriever = Retriever(house.vectors, HashEmbedder(), WordReranker(), house.library)
    found = await retriever.search("boiler pressure", 2)
    first = found.passages[0]
    assert (first.title, first.text, first.place, first.quote) == ("boiler", BOILER[0], "page 1", BOILER[0])
    assert found.notices == ()


@pytest.mark.parametrize("absent", [None, Away()])
async def test_no_reranker(house: House, absent: Away | None) -> None:
    """Without a reranker the retrieval order stands, and the person is told."""
    found = await Retriever(house.vectors, HashEmbedder(), absent, house.library).search("boiler pressure", 2)
    assert found.passages[0].text == BOILER[0]
    assert found.notices == (retrieve.NOTICE_UNRANKED,)


@pytest.mark.parametrize("absent", [None, Away()])
async def test_no_embedder(house: House, absent: Away | None) -> None:
    """Without an embedder keywords find the passage, and the person is told."""
    found = await Retriever(house.vectors, absent, WordReranker(), house.library).search("rent due", 2)
    assert found.passages[0].text == LEASE[0]
    assert found.notices == (retrieve.NOTICE_KEYWORDS,)


async def test_no_index(house: House) -> None:
    """Without an index the database's full text is searched, and the person is told."""
    house.vectors.away = True
    found = await Retriever(house.vectors, Away(), WordReranker(), house.library).search("rent due", 2)
    assert (found.passages[0].text, found.passages[0].quote) == (LEASE[0], LEASE[0])
    assert found.notices == (retrieve.NOTICE_FULL_TEXT,)
    nobody = await Retriever(None, None, None, house.library).search("rent due", 2, rerank=False)
    assert nobody.passages[0].text == LEASE[0]


async def test_equal_texts_once(house: House) -> None:
    """The same text in two documents is one passage."""
    await house.store("copy of the lease", LEASE)
    retriever = Retriever(house.vectors, HashEmbedder(), WordReranker(), house.library)
    found = await retriever.search("rent due", 10)
    texts = [one.text for one in found.passages]
    assert len(texts) == len(set(texts))


async def test_variety(house: House) -> None:
    """At most three passages come from one coarse chunk."""
    await house.store("long", [f"the garden hose number {number}" for number in range(9)])
    found = await Retriever(house.vectors, HashEmbedder(), WordReranker(), house.library).search("garden hose", 20)
    assert sum(one.title == "long" for one in found.passages) == retrieve.PER_COARSE


async def test_deleted_meanwhile(house: House) -> None:
    """A document that is gone from the library is not shown, although the index still holds it."""
    await house.library.delete(house.documents["boiler"])
    found = await Retriever(house.vectors, HashEmbedder(), WordReranker(), house.library).search("boiler pressure", 5)
    assert all(one.title != "boiler" for one in found.passages)


async def test_scores_fall(house: House) -> None:
    """Scores never rise along the list, reranked or not, so that sorting by them changes nothing."""
    found = await Retriever(house.vectors, HashEmbedder(), WordReranker(), house.library).search("the rent", 10)
    scores = [one.score for one in found.passages]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


async def test_nothing_to_find(house: House) -> None:
    """A question without words finds what it finds and fails never."""
    for text in ("", "   ", "???", '"AND" NEAR(', "x" * 100_000):
        found = await Retriever(house.vectors, HashEmbedder(), WordReranker(), house.library).search(text, 3)
        assert len(found.passages) <= 3
        assert found.notices == ()
        bare = await Retriever(None, None, None, house.library).search(text, 3)
        assert bare.passages == ()
        assert bare.notices


async def test_copies_of_a_document_take_nobodys_place_and_one_of_them_is_cited(house: House) -> None:
    """However many there are: as many passages as were asked for, all of them of one copy."""
    texts = [f"the garden hose number {number} is green" for number in range(retrieve.PER_COARSE)]
    for number in range(12):
        await house.store(f"hose {number}", texts)
    await house.store("shed", ["the garden shed is locked", "the hose hangs in the garden"])
    for rerank in (False, True):
        retriever = Retriever(house.vectors, HashEmbedder(), WordReranker(), house.library)
        found = await retriever.search("garden hose green", 5, rerank=rerank)
        assert len(found.passages) == 5
        assert len({one.document for one in found.passages if one.title.startswith("hose")}) == 1
