"""Hosts of two versions call each other: neither breaks by what only the other one knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, cast

import msgspec
import pytest

from morgand.base.clock import SystemClock
from morgand.base.errors import InvalidInput, MorganError, NotFound, Unavailable
from morgand.peers import wire
from morgand.peers.client import NotReached, PeerClient
from morgand.peers.route import Holder, PortRoute, routed
from morgand.peers.wire import Signature
from morgand.state import ports
from morgand.state.ports import LATER, History
from tests.unit.peers.test_route import Hosts

# what version 0.1 sends and takes, in this order: it is there for good, and always sent
FIRST = """
Chat: info(), stream(messages options), count_tokens(texts)
Embedder: model(), embed_query(text), embed_passages(texts)
Reranker: model(), scores(query texts budget_s)
Vectors: upsert(points), delete_documents(documents), search(text embedding limit), counts()
Objects: put_file(path), delete(key), keys()
History: turn(turn_id), store_message(turn_id conversation text tokens user created)
History: store_answer(turn_id text tokens citations notices), messages(conversation after limit)
History: since_summary(conversation limit), conversation(conversation), conversations(limit offset)
History: latest_conversation(user), set_summary(conversation summary through), delete_conversation(conversation)
History: add_feedback(conversation message rating comment kind)
Library: document(document), documents(state limit offset), states(), add_many(documents), start(documents)
Library: set_state(document state error), complete_many(completions), delete(document), chunks(document)
Library: chunks_by_id(ids), fine_of(medium), live(), set_embeddings(embeddings), without_embeddings(limit)
Library: keyword_search(text level limit), object_used(key), object_keys(documents)
"""


class Older(Protocol):
    async def add_feedback(
        self, conversation: str, message: str | None, *, rating: int | None, comment: str | None, kind: str
    ) -> str: ...


class Newer(Protocol):
    async def add_feedback(
        self, conversation: str, message: str | None, *, rating: int | None, comment: str | None, kind: str,
        feedback_id: Annotated[str | None, LATER] = None, mood: Annotated[str, LATER] = "calm",
    ) -> str: ...  # fmt: skip


OLDER, NEWER = (wire.signature_of(one, "add_feedback") for one in (Older, Newer))
SAID: dict[str, Any] = {"conversation": "v", "message": None, "rating": 1, "comment": None, "kind": "rating"}


def first() -> list[tuple[str, str, list[str]]]:
    return [
        (port, method, words.split())
        for port, methods in re.findall(r"(\w+): (.+)", FIRST)
        for method, words in re.findall(r"(\w+)\((.*?)\)", methods)
    ]


@pytest.mark.parametrize(("port", "method", "words"), first(), ids=lambda one: "" if isinstance(one, list) else one)
def test_every_method_takes_what_it_first_took(port: str, method: str, words: list[str]) -> None:
    """What was added to it comes last, is marked as added and can be done without."""
    signature = wire.signature_of(getattr(ports, port), method)
    names = [name for name, _ in signature.parameters]
    assert names[: len(words)] == words
    assert set(names[len(words) :]) == signature.later
    assert all(signature.call.parameters[name].default is not signature.call.empty for name in signature.later)


@pytest.mark.parametrize(
    ("sender", "more", "receiver", "expected"),
    [
        (OLDER, {}, NEWER, {"feedback_id": None, "mood": "calm"}),
        (NEWER, {}, OLDER, {}),  # defaults are not sent
        (NEWER, {"feedback_id": "f"}, NEWER, {"feedback_id": "f", "mood": "calm"}),
        (NEWER, {"mood": "glad"}, NEWER, {"feedback_id": None, "mood": "glad"}),
    ],
)
def test_a_call_between_versions_is_read(
    sender: Signature, more: dict[str, Any], receiver: Signature, expected: dict[str, Any]
) -> None:
    assert wire.unpack_arguments(receiver, wire.pack_arguments(sender, (), SAID | more)) == SAID | expected


def test_what_an_older_host_does_not_know_is_refused() -> None:
    """It must not think that it did what it was asked; the same call as it knows it is there to be made."""
    with pytest.raises(InvalidInput, match="takes 5 arguments, not 6"):
        wire.unpack_arguments(OLDER, wire.pack_arguments(NEWER, (), SAID | {"feedback_id": "f"}))
    before = wire.as_before(NEWER, ("v", None), {"rating": 1, "comment": None, "kind": "rating", "feedback_id": "f"})
    assert before == SAID
    assert wire.as_before(NEWER, (), SAID) is None


def test_too_few_arguments_are_refused() -> None:
    """Only what was added later may be missing, whatever has a default."""
    with pytest.raises(InvalidInput, match="takes 6 arguments, not 4"):
        wire.unpack_arguments(wire.signature_of(History, "add_feedback"), msgspec.msgpack.encode(["v", None, 1, None]))
    with pytest.raises(InvalidInput, match="takes 3 arguments, not 1"):
        wire.unpack_arguments(wire.signature_of(History, "messages"), msgspec.msgpack.encode(["v"]))


@dataclass(frozen=True)
class Told:
    text: str


@dataclass(frozen=True)
class ToldMore:
    text: str
    mood: str = "calm"


def test_a_value_between_versions_is_read() -> None:
    """A field that was added has its default, one that is not known is left out."""
    assert msgspec.msgpack.decode(wire.pack(Told("a")), type=ToldMore) == ToldMore("a")
    assert msgspec.msgpack.decode(wire.pack(ToldMore("a", "glad")), type=Told) == Told("a")


class Versions:
    """Hosts that know so many arguments; ``fails``: what becomes of a call that they do know."""

    def __init__(self, *, fails: MorganError | None = None, **known: int) -> None:
        self.known, self.fails = known, fails
        self.asked: list[tuple[str, int]] = []

    def suspect(self, host: str) -> bool:
        return False

    async def call(self, host: str, port: str, signature: Signature, arguments: bytes, *, epoch: int) -> Any:
        count = len(msgspec.msgpack.decode(arguments))
        self.asked.append((host, count))
        if count > self.known[host]:
            raise InvalidInput(f"{signature.method} takes {self.known[host]} arguments, not {count}.")
        if self.fails is not None:
            raise self.fails
        return host


def history(hosts: Versions, *names: str) -> History:
    client = cast("PeerClient", hosts)
    holders = Hosts([Holder(name, "primary", 1, ready=True) for name in names])
    route = PortRoute("role", "role", holders, lambda: client, SystemClock(), 0.3, single_writer=False)
    return routed(History, route, cast("History", None))  # type: ignore[type-abstract]


async def test_an_older_host_is_asked_as_it_knows_it() -> None:
    hosts = Versions(a=5)
    assert await history(hosts, "a").add_feedback(**SAID, feedback_id="f") == "a"
    assert hosts.asked == [("a", 6), ("a", 5)]


async def test_what_is_wrong_in_itself_is_refused_all_the_same() -> None:
    with pytest.raises(NotFound):
        await history(Versions(a=6, fails=NotFound()), "a").add_feedback(**SAID, feedback_id="f")
    with pytest.raises(InvalidInput):
        await history(Versions(a=4), "a").add_feedback(**SAID, feedback_id="f")


async def test_feedback_is_repeated_only_where_its_id_is_known() -> None:
    """An older host may have stored it under an id of its own, and would store a second one."""
    hosts = Versions(a=6, b=6, fails=Unavailable("the answer was lost"))
    with pytest.raises(Unavailable):
        await history(hosts, "a", "b").add_feedback(**SAID, feedback_id="f")
    assert hosts.asked[:2] == [("a", 6), ("b", 6)]
    hosts = Versions(a=5, b=5, fails=Unavailable("the answer was lost"))
    with pytest.raises(Unavailable):
        await history(hosts, "a", "b").add_feedback(**SAID, feedback_id="f")
    assert hosts.asked == [("a", 6), ("a", 5)]
    hosts = Versions(a=5, b=5, fails=NotReached("no route"))
    with pytest.raises(NotReached):
        await history(hosts, "a", "b").add_feedback(**SAID, feedback_id="f")
    assert hosts.asked[:4] == [("a", 6), ("a", 5), ("b", 6), ("b", 5)]
