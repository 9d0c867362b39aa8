"""The cluster's truth in the real etcd: one voter, three voters, and what happens when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from morgand.base.clock import SystemClock
from morgand.base.errors import MorganError, StoreConflict, Unavailable
from morgand.cluster import codec, election, keys
from morgand.cluster.etcd import EtcdClient
from morgand.cluster.etcd_process import EtcdProcess
from morgand.cluster.etcd_store import EtcdStore
from morgand.cluster.etcd_succession import Succession
from morgand.cluster.local import LocalStore
from morgand.cluster.local_etcd import LocalEtcd
from morgand.cluster.mirror import Mirror
from morgand.cluster.pace import SHORTEST_S
from morgand.cluster.store import ClusterStore, Compare, Put, QuietSince, Unchanged
from morgand.cluster.switch import MOVED, SwitchStore
from morgand.cluster.voters import VoterCandidate, VoterRecord, VoterState
from morgand.leader.voters import VoterKeeper
from morgand.security import ca
from morgand.state.hosts import Host, HostState, Network
from tests.engines.voters import Town, Voter, answering, keep, running
from tests.fakes.clusters import EMBEDDED, profile
from tests.fakes.sights import Eyes
from tests.unit.cluster.conformance import CASES, Case

pytestmark = pytest.mark.engine
NETS = itertools.count(10 + os.getpid() % 100)
PATIENCE_S = 60.0


@contextlib.asynccontextmanager
async def founded(folder: Path) -> AsyncIterator[tuple[Town, Voter]]:
    """A cluster with one voter, running."""
    town = Town(folder, next(NETS))
    first = town.host(1)
    first.process.prepare({"h1": first.place.peer_url}, existing=False)
    client = town.client()
    try:
        async with running([first]):
            await answering(client, [first])
            yield town, first
    finally:
        await town.close()


@contextlib.asynccontextmanager
async def three(folder: Path) -> AsyncIterator[Town]:
    """A cluster with three voters, running."""
    async with supervised(folder) as (town, _):
        yield town


@contextlib.asynccontextmanager
async def supervised(folder: Path) -> AsyncIterator[tuple[Town, list[asyncio.Task[None]]]]:
    """A cluster with three voters, and what keeps each of them running."""
    town = Town(folder, next(NETS))
    voters = [town.host(number) for number in (1, 2, 3)]
    initial = {voter.place.host_id: voter.place.peer_url for voter in voters}
    for voter in voters:
        voter.process.prepare(initial, existing=False)
    client = town.client()
    try:
        async with running(voters) as kept:
            await answering(client, voters)
            yield town, kept
    finally:
        await town.close()


async def leader_of(town: Town) -> Voter:
    client = town.client()
    members = {one.id: one.name for one in await client.members()}
    return town.voters[members[await led(client, town.voters.values())]]


async def led(client: EtcdClient, voters: Collection[Voter], former: int = 0) -> int:
    """The member that all of these follow, when it is not the former one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(MorganError):
                leaders = {(await client.status(voter.endpoint)).leader for voter in voters}
                if len(leaders) == 1 and not leaders & {0, former}:
                    return leaders.pop()
            await asyncio.sleep(0.01)


async def test_etcd_does_what_every_store_does(tmp_path: Path) -> None:
    async with founded(tmp_path) as (town, _):
        for number, case in enumerate(CASES):
            store = town.store()
            await conforms(case, store, f"/case{number}/")
            await store.close()


async def conforms(case: Case, store: ClusterStore, at: str) -> None:
    try:
        await case(store, at)
    except Exception as err:
        raise AssertionError(case.__name__) from err


async def test_who_has_no_certificate_of_the_cluster_gets_nothing(tmp_path: Path) -> None:
    """Neither on the port for clients nor on that for peers: not with a revoked one, nor with a foreign one."""
    async with founded(tmp_path) as (town, first):
        second = town.host(2)
        good = town.tls(second.place.folder)
        assert await reached(first, first.place.client_url, good) == 200
        serial = ca.facts((second.place.folder / "cert.pem").read_bytes()).serial
        town.revoke(first.place.folder, [serial])
        assert await reached(first, first.place.client_url, good) is None
        assert await reached(first, first.place.peer_url, good) is None
        (tmp_path / "other").mkdir()
        other = Town(tmp_path / "other", town.net)
        foreign = other.tls(other.host(3).place.folder)
        foreign.load_verify_locations(first.place.folder / "ca.pem")
        for url in (first.place.client_url, first.place.peer_url):
            assert await reached(first, url, foreign) is None
        assert oct((first.place.folder / "etcd.json").stat().st_mode)[-3:] == "600"


async def reached(voter: Voter, url: str, tls: object) -> int | None:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(f"{url}/version", ssl=tls, server_hostname=f"{voter.place.host_id}.morgan") as response,  # type: ignore[arg-type]
        ):
            return response.status
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None


async def test_a_voter_that_poses_as_another_is_not_believed(tmp_path: Path) -> None:
    async with founded(tmp_path) as (town, first):
        second = town.host(2)
        impostor = replace(first.endpoint, host_id="h2")
        client = town.client("h2")
        with pytest.raises(Unavailable, match="h2 cannot be reached"):
            await client.status(impostor)
        assert second.states == []


async def test_a_watch_begins_anew_after_a_compaction(tmp_path: Path) -> None:
    async with founded(tmp_path) as (town, _):
        store = town.store()
        for number in range(5):
            revision = await store.txn([], [Put("/a", str(number).encode()), Put(f"/b{number}", b"1")])
        await store._client.call("kv/compaction", {"revision": str(revision), "physical": True}, dict)
        changes = await asyncio.wait_for(anext(store.watch("/a", 0)), PATIENCE_S)
        assert (changes.revision, changes.resync) == (revision, True)
        assert [(one.key, one.item and one.item.value) for one in changes.changes] == [("/a", b"4")]


async def test_a_big_plan_is_one_transaction(tmp_path: Path) -> None:
    async with founded(tmp_path) as (town, _):
        store = town.store()
        puts = [Put(f"/assignments/{number}", b"x" * 300) for number in range(3000)]
        assert len((await store.list("/assignments/"))[0]) == 0
        await written(store, puts, [QuietSince("/assignments/", 0)])
        assert len((await store.list("/assignments/"))[0]) == 3000


async def test_nothing_can_be_read_or_written_without_a_majority(
    tmp_path: Path, patience: Callable[[float], None]
) -> None:
    """It says so after the client's patience, and names the voters; when they are back, everything goes on."""
    patience(3.0)
    async with three(tmp_path) as town:
        store = town.store()
        revision = await store.txn([], [Put("/a", b"1")])
        watch = asyncio.ensure_future(anext(store.watch("/a", revision)))
        for name in ("h2", "h3"):
            town.voters[name].signal(signal.SIGSTOP)
        for attempt in (store.get("/a"), store.txn([], [Put("/a", b"2")]), watch):
            with pytest.raises(Unavailable, match=r"h1|followed"):
                await asyncio.wait_for(attempt, PATIENCE_S)
        for name in ("h2", "h3"):
            town.voters[name].signal(signal.SIGCONT)
        await written(store, [Put("/probe", b"1")])


async def test_writes_go_on_when_the_leader_dies(tmp_path: Path) -> None:
    """Not one that was acknowledged is lost, none is applied twice, and nobody hears of a conflict there was not."""
    async with three(tmp_path) as town:
        store = town.store()
        counter = Counter(store)
        counting = asyncio.create_task(counter.run())
        await counter.more(10)
        leader = await leader_of(town)
        leader.signal(signal.SIGKILL)
        await counter.more(20)
        counter.stop = True
        await counting
        item = await store.get("/count")
        assert item is not None
        assert counter.acknowledged <= int(item.value) <= counter.acknowledged + counter.unknown


class Counter:
    """Adds one by compare-and-swap, again and again: a false conflict or a second application would show."""

    def __init__(self, store: ClusterStore) -> None:
        self._store = store
        self.acknowledged = self.unknown = 0
        self.stop = False

    async def run(self) -> None:
        value, revision = 0, 0
        while not self.stop:
            try:
                revision = await self._store.txn(
                    [Unchanged("/count", revision)], [Put("/count", str(value + 1).encode())]
                )
            except Unavailable:
                self.unknown += 1
                with contextlib.suppress(Unavailable):
                    item = await self._store.get("/count")
                    value, revision = (int(item.value), item.mod_revision) if item else (0, 0)
            else:
                value += 1
                self.acknowledged += 1
            await asyncio.sleep(0.02)

    async def more(self, count: int) -> None:
        """Until so many more are acknowledged than now."""
        wanted = self.acknowledged + count
        async with asyncio.timeout(PATIENCE_S):
            while self.acknowledged < wanted:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("which", ["leader", "follower"])
async def test_a_frozen_voter_delays_reads_and_writes_little(tmp_path: Path, which: str) -> None:
    """Beside the election that a leader's loss costs. A watch that was on it goes on at another without a gap."""
    async with three(tmp_path) as town:
        leader = await leader_of(town)
        frozen = leader if which == "leader" else next(one for one in town.voters.values() if one is not leader)
        survivors = [one for one in town.voters.values() if one is not frozen]
        store = town.store("h1", [one.place.host_id for one in (frozen, *survivors)])
        revision = await store.txn([], [Put("/seen/0", b"1")])
        heard: list[str] = []
        watching = asyncio.create_task(listen(store, revision, heard))
        usual = await timed(store, 10)
        lost = next(one.id for one in await town.client().members() if one.name == frozen.place.host_id)
        frozen.signal(signal.SIGSTOP)
        electing = asyncio.create_task(led_without(town, lost, survivors))
        for number in range(1, 30):
            await written(store, [Put(f"/seen/{number}", b"1")], [Unchanged(f"/seen/{number}", 0)])
            assert await store.get(f"/seen/{number}") is not None
            await asyncio.sleep(0.05)
        await electing
        without = await timed(store, 10)
        async with asyncio.timeout(PATIENCE_S):
            while len(heard) < 29:
                await asyncio.sleep(0.05)
        watching.cancel()
        assert heard == [f"/seen/{number}" for number in range(1, 30)]
        assert without < max(SHORTEST_S, 4 * usual)  # else each of them waited for the voter that is frozen


async def timed(store: ClusterStore, count: int) -> float:
    """What a write and a read take, seconds: the middle of ``count``."""
    took = []
    for _ in range(count):
        begun = time.monotonic()
        await store.txn([], [Put("/timed", b"1")])
        await store.get("/timed")
        took.append(time.monotonic() - begun)
    return statistics.median(took)


async def led_without(town: Town, lost: int, survivors: list[Voter]) -> None:
    """When one of the survivors knew a leader that is not the lost member: at once, or after an election or two."""
    client = town.client()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for one in survivors:
                with contextlib.suppress(MorganError):
                    if (await client.status(one.endpoint)).leader not in (0, lost):
                        return
            await asyncio.sleep(0.02)


async def written(store: ClusterStore, puts: Sequence[Put], once: Sequence[Compare] = ()) -> None:
    """However often the voters have to choose; a slow store is given more time at each call."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(Unavailable):
                with contextlib.suppress(StoreConflict):
                    await store.txn(once, puts)
                return


async def listen(store: ClusterStore, revision: int, heard: list[str]) -> None:
    async for changes in store.watch("/seen/", revision):
        assert not changes.resync
        heard += [one.key for one in changes.changes]


async def test_a_transaction_whose_answer_is_lost_is_applied_once(tmp_path: Path) -> None:
    """Sent again with the same marker it finds its own decision, and a copy that comes too late does nothing."""
    async with founded(tmp_path) as (town, _):
        store = town.store()
        await store.txn([], [Put("/a", b"1")])
        answers = []

        class Twice(type(store._client)):  # type: ignore[misc]  # the client with a network that delivers everything twice
            async def call(self, path, body, kind):  # type: ignore[no-untyped-def]
                if path == "kv/txn":
                    answers.append(await super().call(path, body, kind))
                return await super().call(path, body, kind)

        twice = EtcdStore(
            Twice(lambda: [town.voters["h1"].endpoint], town.tls(town.voters["h1"].place.folder), name="x")
        )
        item = await twice.get("/a")
        assert item is not None
        revision = await twice.txn([Unchanged("/a", item.mod_revision)], [Put("/a", b"2")])
        assert (await twice.get("/a")) == replace(item, value=b"2", mod_revision=revision)
        with pytest.raises(StoreConflict):
            await twice.txn([Unchanged("/a", item.mod_revision)], [Put("/a", b"3")])
        assert len(answers) == 2
        await twice.close()


async def test_a_lone_hosts_store_moves_into_etcd(tmp_path: Path) -> None:
    """Its watchers hear everything anew, and its leader's next write is refused: it has to win again."""
    async with founded(tmp_path) as (town, _):
        (tmp_path / "local").mkdir()
        local = await LocalStore.open(tmp_path / "local")
        store = SwitchStore(local)
        await store.txn([], [Put(f"/hosts/{number:03}", b"x" * 2000) for number in range(500)])
        held = await election.campaign(store, "h1")
        watch = store.watch("/hosts/", held.revision)
        heard = asyncio.ensure_future(anext(watch))
        target = town.store()
        await store.move(target)
        assert not store.alone
        changes = await asyncio.wait_for(heard, PATIENCE_S)
        assert (changes.resync, len(changes.changes)) == (True, 500)
        with pytest.raises(StoreConflict):
            await store.txn([held.fence()], [Put("/late", b"1")])
        again = await election.campaign(store, "h1")
        assert (again.epoch, again.revision > held.revision) == (held.epoch + 1, True)
        await store.txn([again.fence()], [Put("/hosts/new", b"1")])
        changes = await asyncio.wait_for(anext(watch), PATIENCE_S)
        assert [one.key for one in changes.changes] == ["/hosts/new"]
        assert await target.get(MOVED) is not None


async def test_voters_come_and_go_with_the_hosts(tmp_path: Path) -> None:
    """Two hosts keep one voter, three get three at once: then any of them can die. When one leaves, one is enough."""
    async with founded(tmp_path) as (town, first):
        candidates = [candidate(town, first)]
        store = town.store(endpoints=["h1"])
        held = await election.campaign(store, "h1")
        client = town.client(endpoints=["h1"])
        keeper = VoterKeeper(store, client, SystemClock(), lambda: tuple(candidates), steady_s=6.0)
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(keeper.run(held))
            seats = []
            for number in (2, 3):
                voter = town.host(number)
                candidates.append(candidate(town, voter))
                own = town.store(voter.place.host_id, ["h1"])
                seat = LocalEtcd(own, own._client, voter.process, SystemClock(), voter.report)
                seats.append(group.create_task(seat.run()))
                if number == 2:
                    await asyncio.sleep(3)
                    assert list(await states(store)) == ["h1"]
            begun, reached = time.monotonic(), dict[int, float]()
            async with asyncio.timeout(PATIENCE_S):
                while len(reached) < 3:
                    voting = sum(state is VoterState.VOTER for state in (await states(store)).values())
                    reached.setdefault(voting, time.monotonic() - begun)
                    await asyncio.sleep(0.05)
            assert reached[3] - reached[2] < reached[2] / 2, (
                "it waits for the third at two as long as for the second at one"
            )
            first.signal(signal.SIGKILL)
            await written(town.store(), [Put("/probe", b"1")])
            leaving = candidates[2]
            candidates[2] = replace(leaving, host=replace(leaving.host, draining=True))
            async with asyncio.timeout(PATIENCE_S):
                while await states(store) != {"h1": VoterState.VOTER}:
                    await asyncio.sleep(0.1)
                while any(town.voters[name].process.prepared for name in ("h2", "h3")):
                    await asyncio.sleep(0.1)
            await store.txn([held.fence()], [Put("/still", b"here")])
            for task in (keeping, *seats):
                task.cancel()
        assert not (town.voters["h3"].place.data).exists()


async def test_a_dead_voter_is_replaced(tmp_path: Path) -> None:
    """Writes go on all the time, and then without another of the first three."""
    async with supervised(tmp_path) as (town, kept):
        candidates = {name: candidate(town, voter) for name, voter in town.voters.items()}
        store, client = town.store(endpoints=["h1", "h2"]), town.client(endpoints=["h1", "h2"])
        held = await election.campaign(store, "h1")
        keeper = VoterKeeper(
            store, client, SystemClock(), lambda: tuple(candidates.values()), steady_s=1.0, dead_s=2.0
        )  # fmt: skip
        counter = Counter(store)
        async with asyncio.TaskGroup() as group:
            counting = group.create_task(counter.run())
            keeping = group.create_task(keeper.run(held))
            await until(store, "h1", "h2", "h3")
            fourth = town.host(4)
            own = town.store("h4", ["h1", "h2"])
            seat = group.create_task(LocalEtcd(own, own._client, fourth.process, SystemClock(), fourth.report).run())
            candidates["h4"] = candidate(town, fourth)
            dies(town.voters["h3"], kept[2])
            candidates["h3"] = away(candidates["h3"], HostState.FENCED)
            await until(store, "h1", "h2", "h4")
            dies(town.voters["h2"], kept[1])
            await counter.more(50)
            counter.stop = True
            await counting
            item = await store.get("/count")
            keeping.cancel()
            seat.cancel()
        assert item is not None
        assert counter.acknowledged <= int(item.value) <= counter.acknowledged + counter.unknown


def dies(voter: Voter, kept: asyncio.Task[None]) -> None:
    """For good: nothing starts it again."""
    voter.signal(signal.SIGKILL)
    kept.cancel()


async def until(store: ClusterStore, *hosts: str) -> None:
    """Wait until these vote, and nobody else."""
    async with asyncio.timeout(PATIENCE_S):
        while await states(store) != dict.fromkeys(hosts, VoterState.VOTER):
            await asyncio.sleep(0.1)


async def test_etcd_is_not_led_by_the_wrong_host(tmp_path: Path) -> None:
    """Neither by the one that leads the cluster nor by one that says goodbye; every write gets through."""
    async with three(tmp_path) as town:
        candidates = {name: candidate(town, voter) for name, voter in town.voters.items()}
        wrong = (await leader_of(town)).place.host_id
        store = town.store(endpoints=list(town.voters))
        held = await election.campaign(store, wrong)
        client = town.client(endpoints=list(town.voters))
        keeper = VoterKeeper(store, client, SystemClock(), lambda: tuple(candidates.values()), steady_s=1.0)
        counter = Counter(store)
        async with asyncio.TaskGroup() as group:
            counting = group.create_task(counter.run())
            keeping = group.create_task(keeper.run(held))
            second = await led_by_another(town, wrong)
            candidates[second] = away(candidates[second], HostState.LEFT)
            third = await led_by_another(town, second)
            assert {wrong, second, third} == {"h1", "h2", "h3"}
            counter.stop = True
            await counting
            keeping.cancel()
        assert counter.unknown == 0


async def led_by_another(town: Town, host: str) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while (found := (await leader_of(town)).place.host_id) == host:
            await asyncio.sleep(0.2)
    return found


def away(one: VoterCandidate, state: HostState) -> VoterCandidate:
    return replace(one, host=replace(one.host, state=state))


@pytest.mark.parametrize("frozen", [False, True], ids=["heard", "frozen"])
async def test_another_voter_leads_when_the_leaders_host_is_given_up(tmp_path: Path, *, frozen: bool) -> None:
    """At once, also while it is still heard: by itself etcd takes 1.3 s, or as long as its leader speaks."""
    watching: list[asyncio.Task[None]] = []
    async with three(tmp_path) as town, asyncio.TaskGroup() as group:
        lost = await leader_of(town)
        others = [voter for voter in town.voters.values() if voter is not lost]
        client = town.client(endpoints=[voter.place.host_id for voter in others])
        store, clock, eyes = EtcdStore(client), SystemClock(), Eyes()
        former = await led(client, others)
        names = {member.id: member.name for member in await client.members()}
        for member in await client.members():
            place = town.voters[member.name].place
            record = VoterRecord(
                member.name, place.peer_url, place.client_url, VoterState.VOTER, f"{member.id:x}"
            )  # fmt: skip
            await store.txn([], [Put(keys.voter(record.host), codec.encode(record))])
        mirror = Mirror(store, clock)
        await mirror.load()
        for voter in others:
            succession = Succession(
                voter.process, client, mirror, clock, sight=eyes.sight, changed=lambda: eyes.changed,
                leased=lambda: True,
            )  # fmt: skip
            watching.append(group.create_task(succession.run()))
        if frozen:
            lost.signal(signal.SIGSTOP)
        begun = time.monotonic()
        await eyes.see(lost.place.host_id)
        second = await led(client, others, former)  # by itself never while it is heard
        ours_s = time.monotonic() - begun
        await written(store, [Put("/decided", b"1")])
        for task in watching:
            task.cancel()
        if frozen:
            lost.signal(signal.SIGCONT)
            assert await led(client, town.voters.values()) == second
            begun = time.monotonic()
            town.voters[names[second]].signal(signal.SIGSTOP)
            await led(town.client(), [one for name, one in town.voters.items() if name != names[second]], second)
            assert ours_s < time.monotonic() - begun  # than what etcd takes by itself


async def test_a_voter_whose_address_changes_is_the_same_voter(tmp_path: Path) -> None:
    """Its certificate needs no new name, and what is stored stays."""
    async with founded(tmp_path) as (town, first):
        await town.store().txn([], [Put("/a", b"1")])
        member = (await town.client().members())[0].id
    moved = replace(first.place, address=f"127.0.{town.net}.77")
    voter = town.voters["h1"] = Voter(moved, EtcdProcess(moved, keep, town.tls(moved.folder)))
    client = town.client()
    async with running([voter]):
        await answering(client, [voter])
        await client.readdress(member, moved.peer_url)
        found = (await client.members())[0]
        assert (found.id, found.peer_urls, found.client_urls) == (member, (moved.peer_url,), (moved.client_url,))
        item = await town.store().get("/a")
        assert item is not None
        assert item.value == b"1"
    await town.close()


def candidate(town: Town, voter: Voter) -> VoterCandidate:
    place = voter.place
    found = replace(profile(engines=(*EMBEDDED, "etcd")), network=Network("lo", place.address, wired=True))
    return VoterCandidate(Host(place.host_id, place.host_id, place.address, found), town.port)


async def states(store: ClusterStore) -> dict[str, VoterState]:
    try:
        items, _ = await store.list(keys.VOTERS)
    except MorganError:
        return {}
    records = [codec.decode(VoterRecord, item.value, key=item.key) for item in items]
    return {record.host: record.state for record in records}
