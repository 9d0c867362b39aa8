"""Whether two PostgreSQL servers are ever primaries at once: every server is asked itself, past the daemon.

A server that is cut off is out of recovery for a moment longer than its daemon admits anybody; that alone does no
harm. What must never be is that it acknowledges a commit that was begun on an older timeline after a newer one had
acknowledged one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import asyncpg

from tests.lab.hosts import LabHost

EVERY_S = 1.0
COMMIT_S = 2.0  # a commit that waits longer is not acknowledged; the next second brings another
RUN_S = 4.0  # two samples that are no further apart are of one time out of recovery
FAULTS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
TIMELINE = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
COMMIT = "SELECT pg_logical_emit_message(true, 'lab', '')"  # it leaves a commit in the log and nothing else


@dataclass(frozen=True)
class Sample:
    """A server that was out of recovery at ``at``: its timeline, and when a commit was acknowledged (None: never)."""

    host: str
    timeline: int
    at: float
    acknowledged: float | None


def rivals(samples: Iterable[Sample]) -> list[str]:
    """Acknowledgements that two primaries gave side by side."""
    good = [one for one in samples if one.acknowledged is not None]
    holders: dict[int, set[str]] = {}
    first: dict[int, float] = {}  # when a timeline acknowledged for the first time
    for one in good:
        assert one.acknowledged is not None
        holders.setdefault(one.timeline, set()).add(one.host)
        first[one.timeline] = min(first.get(one.timeline, one.acknowledged), one.acknowledged)
    shared = [f"timeline {line} on {', '.join(sorted(who))}" for line, who in holders.items() if len(who) > 1]
    late = {
        f"{one.host} acknowledged in timeline {one.timeline} what was begun after timeline {line} had"
        for one in good
        for line, since in first.items()
        if line > one.timeline and since < one.at
    }
    return shared + sorted(late)


def together(samples: Sequence[Sample]) -> list[float]:
    """For how long two servers were out of recovery at once, seconds, each time."""
    runs: list[tuple[float, float, str]] = []
    for host in {one.host for one in samples}:
        moments = sorted(one.at for one in samples if one.host == host)
        begins = [moments[0], *(after for before, after in itertools.pairwise(moments) if after - before > RUN_S)]
        ends = [*(before for before, after in itertools.pairwise(moments) if after - before > RUN_S), moments[-1]]
        runs += [(begin, end, host) for begin, end in zip(begins, ends, strict=True)]
    return [
        min(one[1], other[1]) - max(one[0], other[0])
        for one, other in itertools.combinations(runs, 2)
        if one[2] != other[2] and min(one[1], other[1]) >= max(one[0], other[0])
    ]


class Servers:
    """Asks the server of every host once a second, in a thread, until stopped."""

    def __init__(self, hosts: Sequence[LabHost]) -> None:
        self._hosts = hosts
        self._stop = threading.Event()
        self.whole = False  # whether every server was asked until the end
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="servers")
        self.samples: list[Sample] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[Sample]:
        self._stop.set()
        self._thread.join(timeout=30)
        return self.samples

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for host in self._hosts:
                group.create_task(self._follow(host))
        self.whole = True

    async def _follow(self, host: LabHost) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(*FAULTS):
                await self._ask(host)
            await asyncio.sleep(EVERY_S)

    async def _ask(self, host: LabHost) -> None:
        """Over one connection for as long as it lasts. Raises when the server is not there, or no more."""
        file = host.data_dir / "db" / "patroni.yml"
        settings = json.loads(file.read_text())["postgresql"]
        account = settings["authentication"]["superuser"]
        connection = await asyncpg.connect(
            host=settings["parameters"]["unix_socket_directories"], port=int(settings["listen"].rpartition(":")[2]),
            user=account["username"], password=account["password"], database="postgres", timeout=COMMIT_S,
            command_timeout=COMMIT_S,
        )  # fmt: skip
        try:
            while not self._stop.is_set():
                if not await connection.fetchval("SELECT pg_is_in_recovery()"):
                    await self._commit(host.name, connection)
                await asyncio.sleep(EVERY_S)
        finally:
            connection.terminate()

    async def _commit(self, host: str, connection: asyncpg.Connection) -> None:
        timeline, at = int(await connection.fetchval(TIMELINE), 16), time.monotonic()
        try:
            await connection.execute(COMMIT)
        except BaseException:
            self.samples.append(Sample(host, timeline, at, None))
            raise
        self.samples.append(Sample(host, timeline, at, time.monotonic()))
