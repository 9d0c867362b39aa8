"""Reads from a copy of the database: only reads, only where the answer can say so, and only after the primary."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from morgand.base import staleness
from morgand.base.clock import SystemClock
from morgand.base.errors import NotFound, Overloaded, Unavailable
from morgand.peers.client import NotReached, PeerClient
from morgand.peers.copies import READS, Copies, with_copies
from morgand.peers.route import Holder, PortRoute
from morgand.state.ports import History, Library
from tests.unit.peers.test_route import Hosts, Wires

ATLAS = Holder("atlas", "primary", 3, ready=True)
STANDBY = Holder("me", "standby", 3, ready=True)
OTHER = Holder("bolt", "replica", 3, ready=True)
SILENT = NotReached("Host atlas cannot be reached.")


@dataclass
class Copy:
    """The copy on this host."""

    asked: list[str] = field(default_factory=list)
    error: Exception | None = None

    async def conversations(self, *, limit: int = 100, offset: int = 0) -> list[str]:
        self.asked.append("conversations")
        if self.error is not None:
            raise self.error
        return ["copied"]


class Live(Wires):
    """Whoever was asked is suspect."""

    def suspect(self, host: str) -> bool:
        return host in self.asked


def port(wires: Wires, place: Hosts, copy: Copy, *, readable: bool = True, patience_s: float = 0.2) -> Any:
    route = PortRoute(
        "db", "history", place, lambda: cast("PeerClient", wires), SystemClock(), patience_s, single_writer=True
    )
    copies = Copies("history-copy", copy, lambda: readable, place)
    protocol: Any = History
    return with_copies(protocol, route, Copy(), copies)


def holders(*found: Holder, cut_off: bool = False) -> Hosts:
    return Hosts(list(found), cut_off=cut_off)


async def test_a_primary_that_answers_is_the_one_that_is_asked() -> None:
    copy = Copy()
    with staleness.reading() as reading:
        assert await port(Live(atlas="live"), holders(ATLAS, STANDBY), copy).conversations() == "live"
    assert not reading.stale
    assert not copy.asked


async def test_without_a_primary_the_copy_here_answers_and_it_is_noted() -> None:
    """Also the rest of that answer comes from there: it is of one piece, and waits once."""
    wires, copy = Live(atlas=SILENT), Copy()
    history = port(wires, holders(ATLAS, STANDBY), copy)
    with staleness.reading() as reading:
        assert await history.conversations() == ["copied"]
        assert reading.stale
        asked = len(wires.asked)
        assert await history.conversations() == ["copied"]
    assert len(wires.asked) == asked


async def test_a_host_that_is_cut_off_does_not_ask_a_primary_again_that_failed_a_moment_ago() -> None:
    wires, copy = Live(atlas=SILENT), Copy()
    history = port(wires, holders(ATLAS, STANDBY, cut_off=True), copy)
    for _ in range(2):
        with staleness.reading():
            assert await history.conversations() == ["copied"]
    assert wires.asked == ["atlas"]


async def test_another_hosts_copy_is_asked_where_there_is_none_here() -> None:
    wires = Live(atlas=SILENT, bolt="theirs")
    with staleness.reading() as reading:
        found = await port(wires, holders(ATLAS, OTHER, cut_off=True), Copy(), readable=False).conversations()
    assert found == "theirs"
    assert reading.stale


async def test_who_cannot_say_that_an_answer_is_stale_is_given_none() -> None:
    copy = Copy()
    with pytest.raises(Unavailable):
        await port(Live(atlas=SILENT), holders(ATLAS, STANDBY, cut_off=True), copy).conversations()
    assert not copy.asked


async def test_a_write_never_goes_to_a_copy() -> None:
    wires = Live(atlas=SILENT, me=SILENT)
    with staleness.reading() as reading, pytest.raises(Unavailable):
        await port(wires, holders(ATLAS, OTHER, cut_off=True), Copy()).set_summary("c", "s", "t")
    assert not reading.stale
    assert set(wires.asked) == {"atlas"}


@pytest.mark.parametrize("said", [Overloaded("Busy."), NotFound("There is no such conversation.")])
async def test_what_the_primary_itself_refuses_is_refused(said: Exception) -> None:
    copy = Copy()
    with staleness.reading(), pytest.raises(type(said)):
        await port(Live(atlas=said), holders(ATLAS, STANDBY), copy).conversations()
    assert not copy.asked


async def test_without_any_copy_a_host_that_is_cut_off_says_so_at_once() -> None:
    with staleness.reading(), pytest.raises(Unavailable, match="atlas cannot be reached"):
        await port(Live(atlas=SILENT), holders(ATLAS, cut_off=True), Copy(), readable=False).conversations()


async def test_without_any_copy_a_primary_that_is_moving_is_waited_for() -> None:
    moving = Live(atlas=[*[SILENT] * 8, "live"])
    copy = Copy(error=Unavailable("It is about to be promoted."))
    with staleness.reading() as reading:
        assert await port(moving, holders(ATLAS, STANDBY), copy, patience_s=20.0).conversations() == "live"
    assert not reading.stale


@pytest.mark.parametrize("protocol", [History, Library])
def test_every_method_that_is_read_from_a_copy_exists(protocol: type) -> None:
    known = {name for name, _ in inspect.getmembers(protocol, inspect.isfunction)}
    assert READS[protocol] <= known
