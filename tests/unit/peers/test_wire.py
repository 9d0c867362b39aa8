"""Calls of ports as bytes and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from morgand.base.errors import EngineError, InvalidInput
from morgand.peers import wire
from morgand.state.assistant import (
    Chunk,
    Citation,
    Conversation,
    Document,
    DocumentState,
    Level,
    Message,
    Speaker,
    StoredChunk,
    Turn,
)
from morgand.state.ports import (
    Chat,
    ChatDelta,
    ChatMessage,
    ChatOptions,
    DocumentResult,
    Embedder,
    History,
    Library,
    Reranker,
    SearchLegs,
    VectorHit,
    VectorPoint,
    Vectors,
)

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
CHUNK = Chunk(Level.FINE, 0, None, "The pressure is 1.3 bar.", 8, "page 1")
STORED = StoredChunk("c1", "d1", CHUNK, None, b"\x00\x01\x02\x03")
DOCUMENT = Document("d1", "a.txt", "/a.txt", "text/plain", 3, "f" * 64, "ab", DocumentState.PENDING, NOW, NOW)
MESSAGE = Message("m1", "v1", Speaker.USER, "Hello", 1, NOW, (Citation(1, "d1", "A", "page 1", "1.3 bar", "c1"),))
CONVERSATION = Conversation("v1", "Hello", NOW, NOW, 1, None, "A summary.", "m1")

CALLS: list[tuple[type, str, dict[str, Any], Any]] = [
    (Chat, "stream", {"messages": [ChatMessage("user", "Hi")], "options": ChatOptions(stop=("x",))}, ChatDelta("a")),
    (Chat, "count_tokens", {"texts": ["a", ""]}, [1, 0]),
    (Embedder, "embed_query", {"text": "a"}, b"\x00\xff"),
    (Embedder, "embed_passages", {"texts": ["a"]}, [b"\x00\xff"]),
    (Reranker, "scores", {"query": "q", "texts": ["a", "b"], "budget_s": 0.5}, [1.5, None]),
    (Vectors, "upsert", {"points": [VectorPoint("c", "d", Level.FINE, "x", None, "text", None)]}, None),
    (Vectors, "search", {"text": "a", "embedding": b"\x01", "limit": 5},
     SearchLegs({Level.FINE: [VectorHit("c", "d", Level.FINE, "x", "y", 0.5)]}, {Level.COARSE: []})),
    (Vectors, "counts", {}, {"d": 4}),
    (History, "store_message",
     {"turn_id": "t", "conversation": "v", "text": "é\x00", "tokens": 1, "user": None, "created": NOW},
     Turn("t", "v1", MESSAGE, None)),
    (History, "messages", {"conversation": "v", "after": None, "limit": 10}, [MESSAGE]),
    (History, "since_summary", {"conversation": "v", "limit": 10}, (CONVERSATION, [MESSAGE])),
    (Library, "add_many", {"documents": [DOCUMENT]}, [(DOCUMENT, True)]),
    (Library, "complete_many", {"completions": [DocumentResult("d", "T", "text/plain", (STORED,))]}, {"d": ["d0"]}),
    (Library, "keyword_search", {"text": "a", "level": Level.MEDIUM, "limit": 3}, [("c1", 0.5)]),
    (Library, "chunks_by_id", {"ids": ["c1"]}, {"c1": STORED}),
    (Library, "set_embeddings", {"embeddings": {"c1": b"\x00"}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "method", "arguments", "result"), CALLS, ids=[call[1] for call in CALLS])
def test_a_call_and_its_result_come_back_as_they_were(
    protocol: type, method: str, arguments: dict[str, Any], result: Any
) -> None:
    signature = wire.signature_of(protocol, method)
    assert wire.unpack_arguments(signature, wire.pack_arguments(signature, (), arguments)) == arguments
    assert wire.unpack(signature, wire.pack(result)) == result


@pytest.mark.parametrize("protocol", [Chat, Embedder, Reranker, Vectors, History, Library])
def test_every_method_of_a_port_has_a_signature(protocol: type) -> None:
    """No parameter or result is of a kind that cannot travel."""
    for name in (name for name in vars(protocol) if not name.startswith("_")):
        signature = wire.signature_of(protocol, name)
        with pytest.raises(InvalidInput):
            wire.unpack_arguments(signature, b"\xc1")


def test_positional_arguments_and_defaults_are_filled_in() -> None:
    signature = wire.signature_of(History, "messages")
    packed = wire.pack_arguments(signature, ("v",), {})
    assert wire.unpack_arguments(signature, packed) == {"conversation": "v", "after": None, "limit": 1000}


@pytest.mark.parametrize("method", ["nothing", "__init__", "_private", ""])
def test_what_is_no_method_is_refused(method: str) -> None:
    with pytest.raises(InvalidInput, match="has no method"):
        wire.signature_of(History, method)


@pytest.mark.parametrize("body", [b"", b"\x90", b"\x91\x01", b"\x93\x01\x02\x03", b"\xa1a"])
def test_arguments_of_another_kind_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        wire.unpack_arguments(wire.signature_of(Embedder, "embed_query"), body)


def test_a_frame_says_how_long_it_is_and_of_what_kind() -> None:
    framed = wire.frame(wire.ITEM, b"abc")
    assert wire.head(framed[: wire.HEAD_BYTES]) == (3, wire.ITEM)
    assert framed[wire.HEAD_BYTES :] == b"abc"


@pytest.mark.parametrize("text", ["\ud800", "ab\udfff"])
def test_half_a_character_is_refused_before_it_is_sent(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be sent to another host"):
        wire.pack_arguments(wire.signature_of(Embedder, "embed_query"), (text,), {})


def test_a_result_of_another_version_is_a_failure_of_the_other_side() -> None:
    """So that another holder is asked, and nobody is told that their question was wrong."""
    with pytest.raises(EngineError, match="cannot be read"):
        wire.unpack(wire.signature_of(Embedder, "embed_query"), b"\x01")
