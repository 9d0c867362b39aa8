"""Whom to ask, and what becomes of a call when the first one cannot answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from morgand.base import staleness
from morgand.base.clock import SystemClock
from morgand.base.errors import EngineError, Fenced, InvalidInput, Overloaded, Unavailable
from morgand.peers.client import NotReached, PeerClient
from morgand.peers.route import Holder, PortRoute, candidates, routed
from morgand.peers.wire import Signature
from morgand.roles.catalog import BY_NAME
from morgand.state.ports import Chat, ChatDelta, ChatMessage, ChatOptions, Embedder, History, Library


def holder(host: str, part: str = "main", *, ready: bool = True, epoch: int = 1) -> Holder:
    return Holder(host, part, epoch, ready)


MAIN, STANDBY, REPLICA = holder("a"), holder("b", "standby"), holder("c", "replica")


@pytest.mark.parametrize(
    ("role", "holders", "busy", "suspects", "expected"),
    [
        ("embedder", [STANDBY, MAIN], {}, (), ["a", "b"]),  # the main one first
        ("embedder", [MAIN, holder("me", "standby")], {}, (), ["me", "a"]),  # what is here costs no network
        ("embedder", [MAIN, STANDBY], {}, ("a",), ["b", "a"]),  # who failed a moment ago comes last
        ("embedder", [holder("a", ready=False), STANDBY], {}, (), ["b"]),
        ("llm", [MAIN, REPLICA], {"a": 2}, (), ["c", "a"]),  # the idle one first
        ("llm", [REPLICA, MAIN], {}, (), ["a", "c"]),
        ("llm", [REPLICA, holder("me", "replica")], {"me": 1}, (), ["c", "me"]),
        ("vectors", [MAIN, STANDBY], {}, (), ["a"]),  # a standby may be behind
        ("db", [holder("b", "standby")], {}, (), []),
    ],
)
def test_candidates(
    role: str, holders: list[Holder], busy: dict[str, int], suspects: Sequence[str], expected: list[str]
) -> None:
    """Ready ones, in the order they are asked."""
    spec = BY_NAME[role]
    found = candidates(
        holders, "me", single_writer=spec.single_writer, spread=spec.spread, busy=busy, suspects=frozenset(suspects)
    )
    assert [one.host for one in found] == expected


@dataclass
class Hosts:
    """A directory whose content tests change."""

    found: list[Holder]
    me: str = "me"
    alone: bool = False
    cut_off: bool = False
    event: asyncio.Event = field(default_factory=asyncio.Event)
    terms: list[int | None] = field(default_factory=list)  # answers to ``term``, in turn; then 0

    def term(self, role: str) -> int | None:
        return self.terms.pop(0) if self.terms else 0

    def holders(self, role: str) -> Sequence[Holder]:
        return self.found

    def next(self) -> asyncio.Event:
        return self.event

    def become(self, *found: Holder) -> None:
        self.found, told, self.event = list(found), self.event, asyncio.Event()
        told.set()


class Wires:
    """Answers of hosts: a value, or an error to raise; in turn when it is a list."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def suspect(self, host: str) -> bool:
        return False

    async def call(self, host: str, port: str, signature: Signature, arguments: bytes, *, epoch: int) -> Any:
        self.asked.append(host)
        answer = self.answers[host].pop(0) if isinstance(self.answers[host], list) else self.answers[host]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def stream(
        self, host: str, port: str, signature: Signature, arguments: bytes, *, epoch: int
    ) -> AsyncIterator[Any]:
        self.asked.append(host)
        for item in self.answers[host]:
            if isinstance(item, Exception):
                raise item
            yield item


class Here:
    async def embed_query(self, text: str) -> bytes:
        return b"here"


def port(protocol: type, hosts: Hosts, wires: Wires, patience_s: float = 0.3) -> Any:
    client = cast("PeerClient", wires)
    return routed(
        protocol,
        PortRoute("role", "role", hosts, lambda: client, SystemClock(), patience_s, single_writer=False),
        Here(),
    )


async def test_the_engine_here_is_asked_directly() -> None:
    wires = Wires()
    assert await port(Embedder, Hosts([holder("me")]), wires).embed_query("a") == b"here"
    assert wires.asked == []


async def test_a_lone_host_asks_its_engine_whatever_is_said_of_it() -> None:
    """The engine's own error says best what is wrong."""
    assert await port(Embedder, Hosts([], alone=True), Wires()).embed_query("a") == b"here"


async def test_a_host_that_is_cut_off_waits_for_no_role_where_it_may_say_so() -> None:
    """Nothing that moves meanwhile would be heard of. Whoever cannot say that an answer lacks something waits."""
    asked = port(Embedder, Hosts([holder("a")], cut_off=True), Wires(a=[Unavailable("Gone."), b"there"]))
    with staleness.reading(), pytest.raises(Unavailable, match="Gone"):
        await asked.embed_query("a")
    assert await asked.embed_query("a") == b"there"


async def test_what_a_host_did_after_it_was_cut_off_is_not_acknowledged() -> None:
    """Neither before nor after, nor when it lost the role and got it back: whoever holds it by now is asked."""
    for terms in ([None], [5, None], [5, 0], [5, 6]):
        wires = Wires(a=b"there")
        hosts = Hosts([holder("me"), holder("a", "standby")], terms=list(terms))
        assert await port(Embedder, hosts, wires).embed_query("a") == b"there"
    assert await port(Embedder, Hosts([holder("me")], terms=[5, 5]), Wires()).embed_query("a") == b"here"


@pytest.mark.parametrize("error", [Unavailable("gone"), EngineError("broken"), Fenced("old epoch")])
async def test_the_next_candidate_is_asked_when_one_fails(error: Exception) -> None:
    wires = Wires(a=error, b=b"there")
    assert await port(Embedder, Hosts([MAIN, STANDBY]), wires).embed_query("a") == b"there"
    assert wires.asked == ["a", "b"]


async def test_what_would_fail_everywhere_is_not_repeated() -> None:
    wires = Wires(a=InvalidInput("too long"), b=b"there")
    with pytest.raises(InvalidInput):
        await port(Embedder, Hosts([MAIN, STANDBY]), wires).embed_query("a")
    assert wires.asked == ["a"]


async def test_a_role_that_is_moving_is_waited_for() -> None:
    hosts, wires = Hosts([]), Wires(b=b"there")
    asking = asyncio.ensure_future(port(Embedder, hosts, wires, patience_s=30).embed_query("a"))
    await asyncio.sleep(0.05)
    hosts.become(holder("b"))
    assert await asyncio.wait_for(asking, 30) == b"there"


async def test_patience_ends_with_the_last_reason() -> None:
    with pytest.raises(Unavailable, match="No host performs role"):
        await port(Embedder, Hosts([]), Wires()).embed_query("a")
    with pytest.raises(EngineError, match="broken"):
        await port(Embedder, Hosts([MAIN]), Wires(a=EngineError("broken"))).embed_query("a")


@pytest.mark.parametrize("error", [Unavailable("the answer was lost"), EngineError("it broke")])
@pytest.mark.parametrize(
    ("protocol", "method", "arguments"),
    [
        (History, "add_feedback", {"conversation": "v", "message": None, "rating": 1, "comment": None, "kind": "x"}),
        (History, "delete_conversation", {"conversation": "v"}),
        (Library, "delete", {"document": "d"}),
    ],
)
async def test_what_is_not_the_same_when_done_twice_is_done_once(
    protocol: type, method: str, arguments: dict[str, Any], error: Exception
) -> None:
    wires = Wires(a=error, b=None)
    with pytest.raises(Unavailable):
        await getattr(port(protocol, Hosts([MAIN, STANDBY]), wires), method)(**arguments)
    assert wires.asked == ["a"]


@pytest.mark.parametrize("error", [NotReached("no route"), Fenced("old epoch"), Overloaded("full")])
async def test_what_was_not_done_at_all_is_done_elsewhere(error: Exception) -> None:
    wires = Wires(a=error, b=None)
    await port(History, Hosts([MAIN, STANDBY]), wires).delete_conversation("v")
    assert wires.asked == ["a", "b"]


async def test_queues_that_are_all_full_are_not_asked_again() -> None:
    """The person is told at once; asking on and on would only lengthen the queues."""
    wires = Wires(a=Overloaded("full"), b=Overloaded("full as well"))
    asking = port(Embedder, Hosts([MAIN, STANDBY]), wires, patience_s=30).embed_query("a")
    with pytest.raises(Overloaded, match="full as well"):
        await asyncio.wait_for(asking, 15)
    assert wires.asked == ["a", "b"]


async def test_a_holder_that_keeps_failing_is_asked_less_and_less() -> None:
    """Two seconds of patience are four more attempts, not eight."""
    wires = Wires(a=EngineError("broken"))
    with pytest.raises(EngineError):
        await port(Embedder, Hosts([MAIN]), wires, patience_s=2.0).embed_query("a")
    assert len(wires.asked) <= 5


MESSAGES, OPTIONS = [ChatMessage("user", "Hi")], ChatOptions()


async def test_a_stream_is_begun_anew_only_while_nothing_was_given_out() -> None:
    wires = Wires(a=[Unavailable("gone")], b=[ChatDelta("x"), ChatDelta("", "stop")])
    stream = port(Chat, Hosts([MAIN, STANDBY]), wires).stream(MESSAGES, OPTIONS)
    assert [item.text async for item in stream] == ["x", ""]
    wires = Wires(a=[ChatDelta("x"), Unavailable("gone")], b=[ChatDelta("y")])
    stream = port(Chat, Hosts([MAIN, STANDBY]), wires).stream(MESSAGES, OPTIONS)
    assert (await anext(stream)).text == "x"
    with pytest.raises(Unavailable):
        await anext(stream)
    assert wires.asked == ["a"]


async def test_calls_spread_over_those_that_are_idle() -> None:
    """While one holder streams the next stream goes to the other."""
    llm = [holder("a"), holder("b", "replica")]
    wires = Wires(a=[ChatDelta("x"), ChatDelta("y")], b=[ChatDelta("z")])
    client = cast("PeerClient", wires)
    route = PortRoute("llm", "llm", Hosts(llm), lambda: client, SystemClock(), 0.3, single_writer=False, spread=True)
    chat = routed(Chat, route, cast("Chat", Here()))  # type: ignore[type-abstract]
    first = chat.stream(MESSAGES, OPTIONS)
    assert (await anext(first)).text == "x"
    assert [item.text async for item in chat.stream(MESSAGES, OPTIONS)] == ["z"]
    assert [item.text async for item in first] == ["y"]
