"""etcd as the simulation has it: one history of transactions, and who can reach it when.

It takes transactions while the voter that leads it can exchange packets with a majority of the voters, and the host
that asks with a voter that can exchange packets with that one. Without its leader it takes none for ``ELECTION_S``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from morgand.base.errors import MorganError, StoreConflict, Unavailable
from morgand.cluster.etcd import PATIENCE_S
from morgand.cluster.store import Change, Changes, Compare, Item, Put, QuietSince, Unchanged
from morgand.detector.suspicion import majority

Items = list[Item]  # the classes have a method of that name

ELECTION_S = 1.3
AGAIN_S = 0.1  # a request that reaches no voter is sent again
CUT_S = 1.0  # a watch that could not be followed for so long ends


class Truth:
    """What all transactions together made, after the rules of ``LocalStore``."""

    def __init__(self) -> None:
        self.revision = 0
        self.items: dict[str, Item] = {}
        self.history: list[Changes] = []  # the one at index N has revision N + 1

    def under(self, prefix: str) -> Items:
        return [self.items[key] for key in sorted(self.items) if key.startswith(prefix)]

    def txn(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str]) -> Changes | None:
        """None when it changes nothing. Raises StoreConflict."""
        for compare in compares:
            self._hold(compare)
        revision = self.revision + 1
        changes = [Change(key, None) for key in deletes if self.items.pop(key, None) is not None]
        for put in puts:
            old = self.items.get(put.key)
            item = Item(put.key, put.value, old.create_revision if old else revision, revision)
            self.items[put.key] = item
            changes.append(Change(put.key, item))
        if not changes:
            return None
        self.revision = revision
        self.history.append(Changes(revision, tuple(changes)))
        return self.history[-1]

    def since(self, prefix: str, revision: int) -> Changes | None:
        """What a watcher that has seen ``revision`` has not heard yet."""
        past = self.history[revision:]
        found = tuple(change for one in past for change in one.changes if change.key.startswith(prefix))
        return Changes(self.revision, found) if found else None

    def _hold(self, compare: Compare) -> None:
        if isinstance(compare, Unchanged):
            item = self.items.get(compare.key)
            if (item.mod_revision if item else 0) != compare.mod_revision:
                raise StoreConflict(f"{compare.key} changed since it was read.")
            return
        assert isinstance(compare, QuietSince)
        if any(one.mod_revision > compare.revision for one in self.under(compare.prefix)):
            raise StoreConflict(f"Something under {compare.prefix} changed since {compare.revision}.")


class Voting:
    """Which voter leads etcd.

    ``linked``: whether packets get from the first host to the second and back, and the second one takes them.
    """

    def __init__(self, voters: Sequence[str], linked: Callable[[str, str], bool]) -> None:
        self.voters, self.leader = tuple(voters), voters[0]
        self._linked = linked
        self._lost_at: float | None = None

    def reachable(self, host: str, now: float) -> bool:
        self.review(now)
        if self._lost_at is not None:
            return False
        return any(self._linked(host, one) and self._linked(one, self.leader) for one in self.voters)

    def review(self, now: float) -> None:
        """To be called whenever the network or a host changes."""
        if self._leads(self.leader):
            self._lost_at = None
        elif self._lost_at is None:
            self._lost_at = now
        elif now - self._lost_at >= ELECTION_S:
            successor = next((one for one in self.voters if self._leads(one)), None)
            if successor is not None:
                self.leader, self._lost_at = successor, None

    def _leads(self, voter: str) -> bool:
        return self._linked(voter, voter) and sum(self._linked(voter, one) for one in self.voters) >= majority(
            len(self.voters)
        )


class Surroundings(Protocol):
    """What a client of the store needs of the world."""

    @property
    def truth(self) -> Truth: ...

    @property
    def now(self) -> float: ...

    def reachable(self, host: str) -> bool: ...

    def runs(self, host: str) -> bool: ...

    def after(self, delay_s: float, do: Callable[..., None], *args: Any) -> None: ...

    def way_s(self) -> float:
        """How long a request or an answer takes now."""
        ...

    def commit(
        self, host: str, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str]
    ) -> int: ...  # fmt: skip


class StoreClient:
    """Implements ``ClusterStore`` for one run of one host. ``told`` gives an answer to the host, when it can take one.

    What is asked, decided and heard lies apart in time; an answer may get lost after the deed.
    """

    alone = False

    def __init__(self, host: str, world: Surroundings, told: Callable[[Callable[[], None]], None]) -> None:
        self._host, self._world, self._told = host, world, told
        self._watches: list[Watch] = []

    async def get(self, key: str) -> Item | None:
        found: Item | None = await self._ask(lambda: self._world.truth.items.get(key))
        return found

    async def list(self, prefix: str) -> tuple[Items, int]:
        found: tuple[Items, int] = await self._ask(
            lambda: (self._world.truth.under(prefix), self._world.truth.revision)
        )  # fmt: skip
        return found

    async def txn(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str] = ()) -> int:
        revision: int = await self._ask(lambda: self._world.commit(self._host, compares, puts, deletes))
        return revision

    def watch(self, prefix: str, from_revision: int) -> Watch:
        found = Watch(self._host, prefix, from_revision, self._world, self._told)
        self._watches.append(found)
        return found

    def stir(self) -> None:
        """Something was committed: whoever watches hears of it after a while."""
        self._watches = [one for one in self._watches if one.stir()]

    async def close(self) -> None:
        self._watches.clear()

    async def _ask(self, do: Callable[[], Any]) -> Any:
        world = self._world
        answer = asyncio.get_running_loop().create_future()
        world.after(world.way_s(), self._arrive, answer, do, world.now + PATIENCE_S)
        world.after(PATIENCE_S, self._settle, answer, None, Unavailable("The store did not answer."))
        return await answer

    def _arrive(self, answer: asyncio.Future[Any], do: Callable[[], Any], until: float) -> None:
        world = self._world
        if not world.reachable(self._host):
            if world.now < until and world.runs(self._host):
                world.after(AGAIN_S, self._arrive, answer, do, until)
            return
        found, error = None, None
        try:
            found = do()
        except MorganError as err:
            error = err
        world.after(world.way_s(), self._answer, answer, found, error)

    def _answer(self, answer: asyncio.Future[Any], found: Any, error: MorganError | None) -> None:
        if self._world.reachable(self._host):
            self._settle(answer, found, error)

    def _settle(self, answer: asyncio.Future[Any], found: Any, error: MorganError | None) -> None:
        if not answer.done():
            self._told(lambda: _settled(answer, found, error))


class Watch:
    """An asynchronous iterator over what happens under a prefix."""

    def __init__(
        self, host: str, prefix: str, seen: int, world: Surroundings, told: Callable[[Callable[[], None]], None]
    ) -> None:
        self._host, self._prefix, self._seen = host, prefix, seen
        self._world, self._told = world, told
        self._news: deque[Changes | Unavailable] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._under_way = False
        self._cut_at: float | None = None

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Changes:
        if not self._news:
            self._waiting = asyncio.get_running_loop().create_future()
            self.stir()
            await self._waiting
        found = self._news.popleft()
        if isinstance(found, Unavailable):
            raise found
        return found

    def stir(self) -> bool:
        """Look soon whether there is news; False when nobody watches any more."""
        if self._waiting is not None and self._waiting.cancelled():
            return False
        if not self._under_way and self._world.truth.revision > self._seen:
            self._under_way = True
            self._world.after(self._world.way_s(), self._poll)
        return True

    def _poll(self) -> None:
        self._under_way = False
        world = self._world
        if world.reachable(self._host):
            self._cut_at = None
            news, self._seen = world.truth.since(self._prefix, self._seen), world.truth.revision
            if news is not None:
                self._told(lambda: self._hear(news))
            return
        self._cut_at = self._cut_at or world.now
        if world.now - self._cut_at > CUT_S:
            self._told(lambda: self._hear(Unavailable("The store cannot be followed.")))
        else:
            self._under_way = True
            world.after(AGAIN_S, self._poll)

    def _hear(self, news: Changes | Unavailable) -> None:
        self._news.append(news)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _settled(answer: asyncio.Future[Any], found: Any, error: MorganError | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(found)
    else:
        answer.set_exception(error)
