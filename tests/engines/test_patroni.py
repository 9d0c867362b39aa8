"""PostgreSQL under the real Patroni, with the real etcd: members that are killed, frozen, and come back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pwd
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import psutil
import pytest
from sqlalchemy import text

from morgand.base import files
from morgand.base.errors import Conflict, MorganError, Unavailable
from morgand.cluster import keys
from morgand.process import supervisor
from morgand.process.account import why_not
from morgand.roles.db import succession
from morgand.roles.db.patroni_keys import Patroni
from morgand.roles.db.rest import Rest
from morgand.security import ca, trust
from morgand.state.roles import Assignment, RoleState
from tests.engines.patronis import PATIENCE_S, SECRETS, Member, Trio, processes_of, trio, until
from tests.fakes.postgres import binaries

FOUND = binaries()
MISSING = "no PostgreSQL server is installed (initdb is not found)"
REASON = MISSING if FOUND is None else why_not(str(FOUND / "postgres"))
pytestmark = [pytest.mark.engine, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
NETS = itertools.count(110 + os.getpid() % 100)
REFUSED = "pg_hba.conf rejects replication connection"
TAKEOVER_S = 10.0  # half a second on an idle machine; Patroni alone waits for 20
GOES_ON = "continue to run as a leader because failsafe mode is enabled"
STEPS_DOWN = "demoting self because DCS is not accessible"
STEPS_UP = "promoted self to leader"
HANDOVER_S = 15.0  # what was said in failsafe mode is believed for 20


class Writer:
    """Writes numbers one after another for as long as it can, and remembers those that were acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self._numbers = itertools.count()

    async def write(self, member: Member) -> None:
        while True:
            number = next(self._numbers)
            try:
                async with member.database.write() as session:
                    await session.execute(text("INSERT INTO probe VALUES (:number)"), {"number": number})
            except MorganError:
                return
            self.acknowledged.add(number)

    async def until_more(self, count: int) -> None:
        wanted = len(self.acknowledged) + count
        await until(lambda: len(self.acknowledged) >= wanted, f"{wanted} rows written")


async def stored(member: Member) -> set[int]:
    async with member.database.read() as session:
        return set((await session.execute(text("SELECT number FROM probe"))).scalars())


async def synchronous(town: Trio) -> Member:
    """The standby that has everything; Patroni finds it a few seconds after a change."""
    found = await town.standing(lambda seen: any(one.sync for one in seen.values()), "a synchronous standby")
    return town.members[next(one.host for one in found.values() if one.sync)]


async def view(town: Trio) -> Patroni:
    items, revision = await town.store.list(keys.PATRONI)
    return Patroni({item.key: item for item in items}, revision)


def assigned(primary: Member, standby: Member) -> list[Assignment]:
    parts = (("primary", primary), ("standby", standby))
    return [Assignment("db", part, one.site.host, "postgresql", 1, "test") for part, one in parts]


async def fence(town: Trio, dead: Member, heir: Member) -> None:
    """What the cluster's leader writes when it has given up the primary's host, and has the heir take over."""
    alive = frozenset({heir.site.host})
    passed = succession.takeover(await view(town), assigned(dead, heir), dead.site.host, alive)
    assert passed is not None
    forgotten = keys.PATRONI_MEMBERS + dead.site.host
    await town.store.txn(passed.compares, passed.puts, (*passed.deletes, forgotten))


async def goes_on_alone(town: Trio, primary: Member) -> bool:
    """Whether the others told the primary to, while etcd did not answer: where they are too slow it steps down."""

    def told() -> list[int]:
        log = primary.log(10**6)
        return [log.count(words) for words in (GOES_ON, STEPS_DOWN, STEPS_UP)]

    before, voter = told(), town.town.voters["h1"]
    voter.signal(signal.SIGSTOP)
    try:
        await until(lambda: told() != before, "on its own", primary.log)
    finally:
        voter.signal(signal.SIGCONT)
    if told()[0] > before[0]:
        return True
    await until(lambda: told()[2] > before[2], "the primary again", primary.log)
    await primary.serving()
    return False


async def relieve(town: Trio, primary: Member, standby: Member) -> None:
    """What it writes when the primary's host leaves; a moment before that etcd did not answer, and the primary told the
    others that it goes on without, which they believe for 20 seconds."""
    armed = succession.rearm(await view(town), away=False)
    assert armed is not None, "off since the takeover"
    await town.store.txn(armed[0], [armed[1]])
    while not await goes_on_alone(town, primary):
        pass
    await synchronous(town)
    asked = succession.relieve(await view(town), assigned(primary, standby), frozenset({primary.site.host}))
    assert asked is not None
    await town.store.txn(*asked)


async def test_a_dead_primary_is_followed_with_all_that_it_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three members are made of nothing; the synchronous standby takes over within seconds; the dead one returns as a
    standby by itself; a standby that is given up is not waited for; and in peace the primary is handed on."""
    monkeypatch.setattr(supervisor, "HEALTH_MISSES", 10**6)  # a voter that is to stand still is not started anew
    async with trio(next(NETS)) as town:
        first, *others = (town.member(name) for name in ("h1", "h2", "h3"))
        first.epoch = 1
        first.start()
        await first.serving()
        for one in others:
            one.start()
        await asyncio.gather(*(one.ready() for one in others))
        async with first.database.change_schema() as connection:
            await connection.execute(text("CREATE TABLE probe (number integer PRIMARY KEY)"))
        second = await synchronous(town)

        writer = Writer()
        writing = asyncio.create_task(writer.write(first))
        await writer.until_more(50)
        first.power_cut()
        cut = time.monotonic()
        first.epoch, second.epoch = None, 2
        await fence(town, first, second)
        await second.serving()
        assert time.monotonic() - cut < TAKEOVER_S
        await writing
        assert writer.acknowledged <= await stored(second)

        await town.standing(lambda seen: "h1" in seen and seen["h1"].state == "streaming", "h1 back as a standby")
        await first.ready()
        with pytest.raises(Unavailable):
            await stored(first)

        await given_up_in_time(town, second, await synchronous(town))
        third = await synchronous(town)
        await relieve(town, second, third)
        second.epoch, third.epoch = None, 3
        told = time.monotonic()
        await third.serving()
        assert time.monotonic() - told < HANDOVER_S
        assert await synchronous(town) is not third
        writing = asyncio.create_task(writer.write(third))
        await writer.until_more(20)
        await third.stop()
        await writing
        assert processes_of(third.site.folder) == []
        fourth = await handed_on(town, third)
        fourth.epoch = 4
        await fourth.serving()
        assert writer.acknowledged <= await stored(fourth)
        await of_a_newer_version(town, fourth, await synchronous(town))
        # which holds its loop for a second
        assert not any("Reloading PostgreSQL configuration" in one.log(10**6) for one in town.members.values())


async def of_a_newer_version(town: Trio, primary: Member, standby: Member) -> None:
    """Whoever cannot use the database any more says why, and passes it on to a standby."""
    async with primary.database.write() as session:
        await session.execute(text("INSERT INTO alembic_version VALUES ('post_9999')"))
    await primary.rest.switchover(primary.site.host, standby.site.host)
    primary.epoch, standby.epoch = None, 5
    await until(lambda: standby.state is RoleState.FAILED, "refused", standby.log)
    assert "newer version of Morgan" in standby.reasons[-1]
    await town.standing(
        lambda seen: any(one.primary and one.host != standby.site.host for one in seen.values()), "passed on"
    )


async def given_up_in_time(town: Trio, primary: Member, standby: Member) -> None:
    """Else the server sends to a frozen standby, and commits wait for it, until its own timeout of three seconds.
    Awake again it gets nothing until it is welcome."""
    with standing_still(standby):
        primary.fenced = {standby.site.host: ""}  # the others have the same address here
        async with asyncio.timeout(PATIENCE_S):
            while await senders(primary) > 1:
                await asyncio.sleep(0.1)
        assert "replication timeout" not in primary.log(10**6)
        await town.standing(
            lambda seen: any(one.sync and one.host != standby.site.host for one in seen.values()), "another synchronous"
        )
        primary.fenced = {standby.site.host: standby.site.address}
        await until(lambda: "reject" in primary.site.access.read_text(), "told to refuse it", primary.log)
    await until(lambda: REFUSED in primary.log(), "refused", primary.log)
    async with asyncio.timeout(PATIENCE_S):
        while primary.log().count(REFUSED) < 4:
            assert await senders(primary) == 1
            await asyncio.sleep(0.02)
    primary.fenced = {}
    async with asyncio.timeout(PATIENCE_S):
        while await senders(primary) < 2:
            await asyncio.sleep(0.1)


@contextlib.contextmanager
def standing_still(member: Member) -> Iterator[None]:
    held = member.processes()
    try:
        for process in held:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in held:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


async def senders(primary: Member) -> int:
    async with primary.database.read() as session:
        return int((await session.execute(text("SELECT count(*) FROM pg_stat_replication"))).scalar_one())


async def handed_on(town: Trio, old: Member) -> Member:
    """Who is the primary after a planned stop."""
    found = await town.standing(
        lambda seen: any(one.primary and one.host != old.site.host for one in seen.values()), "handed on"
    )
    return town.members[next(one.host for one in found.values() if one.primary)]


@pytest.mark.slow
async def test_one_member_keeps_its_secrets_and_follows_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it makes the database it makes it anew; passwords are in no argument and no log; nobody without a
    certificate gets in; renewed certificates are used; a Patroni that stands still is ended with its server; a changed
    host starts it anew."""
    async with trio(next(NETS)) as town:
        one = town.member("h1")
        one.epoch = 1
        one.start()
        await until((one.site.data / "PG_VERSION").exists, "begun")
        begun = (one.site.data / "PG_VERSION").stat().st_ino
        one.power_cut()
        await one.serving()
        assert (one.site.data / "PG_VERSION").stat().st_ino != begun
        said = " ".join(argument for process in one.processes() for argument in process.cmdline()) + one.log()
        assert not any(secret in said for secret in passwords())
        assert one.site.config.stat().st_mode & 0o777 == 0o600
        assert {process.username() for process in one.processes()} == {owner(one.site.data)}

        assert "certificate" in await refused(one, None)
        assert "certificate" in await refused(one, ssl_without_certificate(one.site.credentials))
        await entered(one, trust.client_context(one.site.credentials))
        with pytest.raises(Unavailable):
            await Rest(one.site.rest_url, "h1", ssl_without_certificate(one.site.credentials)).status()
        with pytest.raises(Unavailable, match="another host answers"):
            await Rest(one.site.rest_url, "h2", trust.client_context(one.site.credentials)).status()
        with pytest.raises(Conflict, match=r"Patroni at .* refuses"):
            await one.rest.switchover("h1", "h2")
        status = await one.rest.status()
        assert (status.primary, status.running, status.streaming) == (True, True, False)

        await renewed(town, one)
        monkeypatch.setattr(supervisor, "HEALTH_EVERY_S", 0.2)  # less than the 17 s that it takes else
        monkeypatch.setattr(supervisor, "STOP_GRACE_S", 0.5)
        before = postmaster(one)
        next(process for process in one.processes() if process.cmdline()[1:3] == ["-m", "patroni"]).suspend()
        await until(lambda: not before.is_running(), "the server ended with its Patroni", one.log)
        await until(lambda: one.state is not RoleState.READY, "its end told")
        assert any("stopped answering" in reason for reason in one.reasons)
        await one.serving()

        one.site = replace(one.site, ram_mb=4096)
        await until(lambda: "shared_buffers = '128MB'" in settings(one), "the new site in use", one.log)
        await one.ready()


def passwords() -> tuple[str, ...]:
    return (SECRETS.superuser, SECRETS.replication, SECRETS.rewind, SECRETS.application)


def owner(path: Path) -> str:
    return pwd.getpwuid(path.stat().st_uid).pw_name


def settings(member: Member) -> str:
    return (member.site.data / "postgresql.conf").read_text()


def postmaster(member: Member) -> psutil.Process:
    return psutil.Process(int((member.site.data / "postmaster.pid").read_text().splitlines()[0]))


def ssl_without_certificate(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / trust.CA))


async def entered(member: Member, tls: ssl.SSLContext | None) -> str:
    """The certificate's serial number that the server shows to one who may come in."""
    connection: Any = await asyncpg.connect(
        host=member.site.address, port=member.site.postgres_port, user="morgan", database="morgan",
        password=SECRETS.application, ssl=tls or False, timeout=5,
    )  # fmt: skip
    try:
        shown = connection._transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return ca.facts(shown).serial
    finally:
        await connection.close()


async def refused(member: Member, tls: ssl.SSLContext | None) -> str:
    with pytest.raises((asyncpg.PostgresError, OSError)) as caught:
        await entered(member, tls)
    return str(caught.value).replace("no encryption", "no certificate")


async def renewed(town: Trio, member: Member) -> None:
    """The host gets another certificate, and then the server and Patroni show it."""
    folder = member.site.credentials
    request = ca.make_request((folder / trust.KEY).read_bytes(), "h1")
    made = ca.sign(
        town.town.authority, request, host_id="h1", cluster_id="test-cluster", addresses=["127.0.0.1"],
        now=datetime.now(UTC),
    )  # fmt: skip
    files.write_private(folder / trust.CERT, made)
    serial = ca.facts(made).serial
    async with asyncio.timeout(PATIENCE_S):
        while await entered(member, trust.client_context(folder)) != serial:
            await asyncio.sleep(0.2)
        while await shown_by_rest(member) != serial:
            await asyncio.sleep(0.2)


async def shown_by_rest(member: Member) -> str:
    tls = trust.client_context(member.site.credentials)
    try:
        _, writer = await asyncio.open_connection(
            member.site.address, member.site.rest_port, ssl=tls, server_hostname="h1.morgan"
        )
    except OSError:  # it listens anew
        return ""
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return ca.facts(shown).serial


async def test_no_postgresql_outlives_the_daemon() -> None:
    """SIGKILL of the guardian's whole group, which leaves the server to the kernel, and then of the daemon itself."""
    async with trio(next(NETS)) as town:
        site = town.member("h1").site
        argv = [msgspec.json.encode(value, enc_hook=str).decode() for value in (site, town.town.voters["h1"].endpoint)]
        daemon = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.patronis", *argv], stdout=subprocess.PIPE, text=True
        )
        try:
            assert daemon.stdout is not None
            assert await asyncio.to_thread(daemon.stdout.readline) == "ready\n"
            before = postmaster(town.members["h1"])
            guardian = next(one for one in processes_of(site.folder) if "morgand.process.reaper" in one.cmdline())
            os.killpg(guardian.pid, 9)
            await until(lambda: not before.is_running(), "the server ended")
            await until(lambda: started_anew(town.members["h1"], before), "started again over the old one's files")
        finally:
            daemon.kill()
            daemon.wait()
            assert daemon.stdout is not None
            daemon.stdout.close()
        await until(lambda: processes_of(site.folder) == [], "nothing left of it")


def started_anew(member: Member, before: psutil.Process) -> bool:
    try:
        found = postmaster(member)
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
        return False
    return found.pid != before.pid and "ready" in (member.site.data / "postmaster.pid").read_text()
