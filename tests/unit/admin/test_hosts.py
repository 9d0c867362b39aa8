"""Who may be removed, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from morgand.admin.hosts import THERE, HostAdmin
from morgand.admin.status import StatusObserver
from morgand.base.clock import SystemClock
from morgand.base.errors import Conflict, NotFound
from morgand.cluster import codec, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Put
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.state.hosts import HostState
from morgand.state.roles import Assignment


@dataclass
class House:
    """Hosts a (this one) and b in a store, and what became of b."""

    store: LocalStore
    mirror: Mirror
    revoked: list[str] = field(default_factory=list)

    vote_s: float = 5.0

    @property
    def members(self) -> HostAdmin:
        nobody = cast("StatusObserver", None)  # asked only for what ``drain`` shows
        return HostAdmin(
            store=self.store, mirror=self.mirror, observer=nobody, me="a", invite=_never, revoke=self._revoke,
            vote_s=self.vote_s,
        )  # fmt: skip

    async def put(self, *puts: Put, deletes: tuple[str, ...] = ()) -> None:
        await self.mirror.until(await self.store.txn([], puts, deletes))

    def record(self, host: str) -> HostRecord:
        item = self.mirror.get(keys.host(host))
        assert item is not None
        return codec.decode(HostRecord, item.value, key=item.key)

    async def _revoke(self, host: str) -> None:
        assert self.mirror.get(keys.voter(host)) is None or self.record(host).state not in THERE
        self.revoked.append(host)


async def _never() -> Any:
    raise AssertionError


@asynccontextmanager
async def house(folder: Path, **b: Any) -> AsyncIterator[House]:
    store = await LocalStore.open(folder)
    mirror = Mirror(store, SystemClock())
    records = [HostRecord("a", "attic", "192.0.2.1"), HostRecord("b", "barn", "192.0.2.2", **b)]
    await store.txn([], [Put(keys.host(one.id), codec.encode(one)) for one in records])
    running = asyncio.create_task(mirror.run())
    await mirror.load()
    try:
        yield House(store, mirror)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def holding(role: str) -> Put:
    return Put(keys.assignment(role, "primary", "b"), codec.encode(Assignment(role, "primary", "b", "sqlite", 3, "x")))


def voting() -> Put:
    return Put(keys.voter("b"), codec.encode(VoterRecord("b", "p", "c", VoterState.VOTER, "1")))


async def test_a_host_that_is_there_is_drained_first(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        with pytest.raises(Conflict, match="hosts drain barn"):
            await home.members.remove("barn", force=False)
        with pytest.raises(Conflict, match="cannot remove itself"):
            await home.members.remove("attic", force=True)
        with pytest.raises(NotFound, match="attic, barn"):
            await home.members.remove("shed", force=True)
        assert home.revoked == []


@pytest.mark.parametrize(
    ("b", "words"),
    [
        ({"draining": True}, "barn still holds db.*roles explain.*--force"),
        ({"state": HostState.SUSPECT, "draining": True}, "barn still holds db"),
        ({"state": HostState.SUSPECT}, "hosts drain barn"),
        ({"state": HostState.FENCED}, "is fenced.*would be lost.*Switch it on.*--force"),
        ({"state": HostState.LEFT}, "is left.*would be lost"),
    ],
)
async def test_what_only_one_host_has_stored_is_given_up_on_purpose_only(
    tmp_path: Path, b: dict[str, Any], words: str
) -> None:
    """The refusal says what to do; forced, the host and everything it held is gone."""
    async with house(tmp_path, **b) as home:
        await home.put(holding("db"))
        with pytest.raises(Conflict, match=words):
            await home.members.remove("barn", force=False)
        assert home.revoked == []
        assert await home.members.remove("barn", force=True) == "b"
        assert home.revoked == ["b"]
        assert [item.key for item in home.mirror.list("/")] == [keys.host("a")]


async def test_a_voter_is_only_refused_by_the_others_when_they_do_without_it(tmp_path: Path) -> None:
    """Of two voters neither can do anything alone: the one that goes has to be no voter any more. Forced, too."""
    async with house(tmp_path) as home:
        await home.put(voting())
        removing = asyncio.create_task(home.members.remove("barn", force=True))
        await _until(lambda: home.record("b").draining)  # which is how the leader knows
        await asyncio.sleep(0.05)
        assert not removing.done()
        await home.put(deletes=(keys.voter("b"),))
        assert await asyncio.wait_for(removing, 30) == "b"


async def test_a_voter_that_cannot_be_done_without_stays(tmp_path: Path) -> None:
    async with house(tmp_path, draining=True) as home:
        home.vote_s = 0.05
        await home.put(voting())
        with pytest.raises(Conflict, match=r"barn still votes.*Switch on the voters"):
            await home.members.remove("barn", force=False)
        assert home.revoked == []


async def test_a_dead_voter_is_not_waited_for(tmp_path: Path) -> None:
    """Nothing is lost by refusing it, and the leader takes its vote away when its record is gone."""
    async with house(tmp_path, state=HostState.FENCED) as home:
        await home.put(voting())
        assert await asyncio.wait_for(home.members.remove("barn", force=False), 30) == "b"
        assert home.revoked == ["b"]


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)
