"""The way of a document from accepted to found, as a table, and the line of those that are on it (pure).

Law: a document is in one place at a time. From each place it goes forward, back to waiting because something is away
that is not its fault, or out: done, failed or gone. A pair that the table does not know is a defect and raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import StrEnum

from morgand.base.errors import MorganError, NotHereNow
from morgand.state.assistant import Document

ATTEMPTS = 10  # of a document for which something is not there, before others go on without it
LATER_S = 60.0  # until such a document is tried again
READ_TOGETHER, READ_BYTES = 8, 64 * 1024  # documents in one call of the reader


class DocumentPlace(StrEnum):
    """Where a document is. The last three are out of the line."""

    WAITING = "waiting"  # its original and its row are there
    ASIDE = "aside"  # what it needs was away too often: others go on, and it is tried again later
    READING = "reading"  # its row says that it is being processed
    EMBEDDING = "embedding"
    INDEXING = "indexing"
    STORING = "storing"  # the index has it: whoever is told that it is completed finds it
    DONE = "done"  # its row says that it is completed
    FAILED = "failed"  # its row says so, and why
    GONE = "gone"  # deleted, or overtaken by a newer version of the same source


class DocumentEvent(StrEnum):
    """What happened to it."""

    STARTED = "started"
    READ = "read"
    EMBEDDED = "embedded"  # or it goes on without: embeddings are filled in later
    INDEXED = "indexed"  # or it goes on without: the index is compared with the library later
    STORED = "stored"
    AWAY = "away"  # what it needs is not there; counted
    GIVEN_WAY = "given way"  # once more, and others are not to wait for it
    AGAIN = "again"  # it has stood aside for long enough
    LATER = "later"  # nobody's documents can be processed now; not counted
    REFUSED = "refused"  # for good
    LOST = "lost"  # it is not in the library any more


IN_WORK = (DocumentPlace.READING, DocumentPlace.EMBEDDING, DocumentPlace.INDEXING, DocumentPlace.STORING)
OUT = frozenset({DocumentPlace.DONE, DocumentPlace.FAILED, DocumentPlace.GONE})

TABLE: dict[tuple[DocumentPlace, DocumentEvent], DocumentPlace] = {
    (DocumentPlace.WAITING, DocumentEvent.STARTED): DocumentPlace.READING,
    (DocumentPlace.READING, DocumentEvent.READ): DocumentPlace.EMBEDDING,
    (DocumentPlace.EMBEDDING, DocumentEvent.EMBEDDED): DocumentPlace.INDEXING,
    (DocumentPlace.INDEXING, DocumentEvent.INDEXED): DocumentPlace.STORING,
    (DocumentPlace.STORING, DocumentEvent.STORED): DocumentPlace.DONE,
    **{(place, DocumentEvent.AWAY): DocumentPlace.WAITING for place in IN_WORK},
    **{(place, DocumentEvent.GIVEN_WAY): DocumentPlace.ASIDE for place in IN_WORK},
    (DocumentPlace.ASIDE, DocumentEvent.AGAIN): DocumentPlace.WAITING,
    **{(place, DocumentEvent.LATER): DocumentPlace.WAITING for place in IN_WORK},
    **{(place, DocumentEvent.REFUSED): DocumentPlace.FAILED for place in IN_WORK},
    **{(place, DocumentEvent.LOST): DocumentPlace.GONE for place in IN_WORK},
}


def judge(err: MorganError, tries: int) -> DocumentEvent:
    """What a failure means for a document that failed ``tries`` times before. What is not here now fails nothing."""
    if not isinstance(err, NotHereNow):
        return DocumentEvent.REFUSED
    return DocumentEvent.AWAY if tries + 1 < ATTEMPTS else DocumentEvent.GIVEN_WAY


class DocumentLine:
    """Documents that are accepted and not finished, each once. What is started first is finished first."""

    def __init__(self) -> None:
        self._places: dict[str, DocumentPlace] = {}
        self._waiting: deque[str] = deque()
        self._tries: dict[str, int] = {}
        self._due_s: dict[str, float] = {}  # of those that stand aside

    def __len__(self) -> int:
        return len(self._places)

    @property
    def waiting(self) -> int:
        """How many could be started now."""
        return len(self._waiting)

    def add(self, documents: Iterable[str]) -> list[str]:
        """Those of the documents that were not on their way yet; they come after all that wait."""
        new = [one for one in dict.fromkeys(documents) if one not in self._places]
        self._places.update(dict.fromkeys(new, DocumentPlace.WAITING))
        self._waiting.extend(new)
        return new

    def take(self, limit: int) -> list[str]:
        """The next ones, which are started with that."""
        taken = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        self.step(taken, DocumentEvent.STARTED)
        return taken

    def step(self, documents: Sequence[str], event: DocumentEvent) -> None:
        """The same happened to all of these. Those that have to wait again come first, in this order."""
        for one in documents:
            self._places[one] = TABLE[self._places[one], event]
            if event is DocumentEvent.AWAY:
                self._tries[one] = self.tries(one) + 1
        again = [one for one in documents if self._places[one] is DocumentPlace.WAITING]
        self._waiting.extendleft(reversed(again))
        for one in documents:
            if self._places[one] in OUT:
                del self._places[one]
                self._tries.pop(one, None)

    def set_aside(self, document: str, until_s: float) -> None:
        """Others go on without it until then."""
        self.step([document], DocumentEvent.GIVEN_WAY)
        self._due_s[document] = until_s

    def due(self, now_s: float) -> list[str]:
        """Those that have stood aside for long enough: they wait again."""
        found = [one for one, until_s in self._due_s.items() if until_s <= now_s]
        for one in found:
            del self._due_s[one]
        self.step(found, DocumentEvent.AGAIN)
        return found

    def tries(self, document: str) -> int:
        """How often something that it needs was away."""
        return self._tries.get(document, 0)

    def under_way(self) -> frozenset[str]:
        return frozenset(self._places)

    def clear(self) -> None:
        """Forget all of them: they are in the library, and another host may process them by now."""
        self._places.clear()
        self._waiting.clear()
        self._tries.clear()
        self._due_s.clear()


def together(documents: Sequence[Document]) -> list[list[Document]]:
    """In their order, those that are read in one call: small ones, for which a call costs as much as reading them."""
    calls: list[list[Document]] = []
    room = 0
    for one in documents:
        if not calls or one.size_bytes > room or len(calls[-1]) == READ_TOGETHER:
            calls.append([])
            room = READ_BYTES
        calls[-1].append(one)
        room -= one.size_bytes
    return calls
