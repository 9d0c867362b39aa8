"""What PostgreSQL on this host needs every few seconds, away from the path on which it becomes the primary."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from morgand.base.clock import Clock
from morgand.base.disk import DiskLevel
from morgand.base.errors import MorganError, StoreConflict, Unavailable
from morgand.cluster.store import ClusterStore
from morgand.fingerprint.disk import probe
from morgand.fingerprint.health import judged
from morgand.roles.db import bootstrap, files
from morgand.roles.db.life import DatabaseHost, PatroniSetup, RoleReport
from morgand.roles.db.patroni import standings
from morgand.roles.db.patroni_keys import Patroni, needed, patroni_now
from morgand.roles.db.refetch import CopyReading, doubtful, is_refused, refetch
from morgand.roles.db.rest import Rest
from morgand.roles.db.site import DbSite
from morgand.roles.db.watch import ServerWatch
from morgand.security import trust

log = logging.getLogger("morgand.roles.db.upkeep")

UPKEEP_EVERY_S = 4.0


class DatabaseUpkeep:
    """For one life of Patroni: hands certificates on that were renewed, lets the database be begun anew where that was
    broken off, and fetches a new copy where the old one leads nowhere."""

    def __init__(
        self, host: DatabaseHost, setup: PatroniSetup, watch: ServerWatch, report: RoleReport, store: ClusterStore
    ) -> None:
        self._host, self._setup, self._watch, self._report, self._store = host, setup, watch, report, store
        self._clock: Clock = host.clock
        self._claim: int | None = None  # to make the database, which was found abandoned
        self._stuck_since: float | None = None
        self._reloaded = True  # Patroni, since the certificates changed

    async def run(self) -> None:
        """Until the site has changed."""
        while self._host.site() == self._setup.site:
            await self._clock.sleep(UPKEEP_EVERY_S)
            self._claim = await self._release()
            self._stuck_since = await self._renew_copy()
            try:
                await self._renew_certificates()
            except MorganError as err:
                log.warning("certificates of the database not renewed", extra={"reason": str(err)})

    async def _release(self) -> int | None:
        """Give up a claim to make the database that was found abandoned twice; returns the one found now."""
        if self._report.server_ready:
            return None
        with contextlib.suppress(StoreConflict, Unavailable):
            patroni = await patroni_now(self._store)
            found = bootstrap.abandoned(patroni)
            if found is not None and found == self._claim:
                compares, key = bootstrap.release(patroni, found)
                await self._store.txn(compares, [], [key])
                log.warning("database begun anew", extra={"abandoned": found})
            return found
        return None

    async def _renew_copy(self) -> float | None:
        """Returns since when the copy does not follow."""
        behind_s, since = self._watch.behind_s, self._stuck_since
        if not doubtful(behind_s, ready=self._report.server_ready):
            return None
        try:
            seen = await self._read_copy(behind_s)
            since, goes = refetch(seen, since)
            if not goes:
                return since
            stuck_s = round(max(behind_s, seen.now - (since or seen.now)))
            log.warning("copy of the database fetched anew", extra={"stuck_s": stuck_s})
            await self._setup.rest.reinitialize()
        except MorganError as err:
            log.debug("copy of the database not judged", extra={"reason": str(err)})
            return since
        return None

    async def _read_copy(self, behind_s: float) -> CopyReading:
        """Raises Unavailable."""
        now, site = self._clock.monotonic(), self._setup.site
        patroni, status = await patroni_now(self._store), await self._setup.rest.status()
        counted_on = patroni.leader is None or site.host in needed(patroni)
        if counted_on or status.making:
            return CopyReading(behind_s, counted_on, status.making, sick=False, led=None, now=now)
        sick = await asyncio.to_thread(_sick, site)
        led = await self._led(patroni) if is_refused(behind_s) and not sick else None
        return CopyReading(behind_s, counted_on, status.making, sick, led, now)

    async def _led(self, patroni: Patroni) -> bool | None:
        primary = next((one for one in standings(patroni) if one.primary and one.rest_url), None)
        if primary is None:
            return False
        try:
            return await Rest(primary.rest_url, primary.host, self._setup.tls).leads()
        except Unavailable as err:
            log.debug("copy of the database not judged", extra={"reason": str(err)})
            return None

    async def _renew_certificates(self) -> None:
        """Raises MorganError."""
        setup = self._setup
        if await asyncio.to_thread(files.install_credentials, setup.site, setup.account):
            await asyncio.to_thread(setup.write_config)
            trust.reload(setup.tls, setup.site.credentials)
            self._reloaded = False
        if not self._reloaded:
            await setup.rest.reload()
            self._reloaded = True


def _sick(site: DbSite) -> bool:
    """Whether the disk is no place for a new copy now. Blocking."""
    return judged(DiskLevel.WELL, [probe(site.folder)]).sick
