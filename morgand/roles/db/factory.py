"""What of this host its database needs, whatever engine and part it has of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

from morgand.base.clock import Clock
from morgand.base.errors import EngineError
from morgand.cluster.etcd import Endpoint
from morgand.cluster.member_file import MemberFile
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore
from morgand.roles.base import RoleService
from morgand.roles.db import postgres
from morgand.roles.db import service as embedded
from morgand.roles.db.cluster import KnownCluster, address_of
from morgand.roles.db.copy import LocalCopy
from morgand.roles.db.life import DatabaseHost
from morgand.roles.db.patroni_keys import ENGINE, holders_in, secrets_in
from morgand.roles.db.relocation import Relocation
from morgand.roles.db.site import APPLICATION, POSTGRES_PORT, DbSite, joined
from morgand.security import trust
from morgand.state.hosts import Duty, PeerHealth, Profile
from morgand.storage.database import Database

FILE = "morgan.db"


def _priority(profile: Profile) -> int:
    """Whoever ranks first as the primary is to be synchronous: then it can take over in peace."""
    gigabytes = max(1, min(profile.ram_mb // 1024, 999))
    return gigabytes + 1000 * (not profile.gpus) + 2000 * (profile.duty is Duty.ALWAYS)


class DatabaseFactory:
    """``membership`` is None, and ``voters`` empty, while this host is alone; ``term`` is the directory's, ``sight``
    what the detector sees of a host, ``seen`` set when that is another than at the call.

    ``copy`` becomes what PostgreSQL on this host has, for reading only, whatever part this host has of it."""

    def __init__(
        self, me: str, data_dir: Path, database: Database, *, copy: Database,
        membership: Callable[[], MemberFile | None],
        voters: Callable[[], Sequence[Endpoint]], profile: Callable[[], Profile], term: Callable[[str], int | None],
        sight: Callable[[str], PeerHealth | None], seen: Callable[[], asyncio.Event],
        store: ClusterStore, mirror: Mirror,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._me, self._data_dir, self._database = me, data_dir, database
        self._membership, self._profile = membership, profile
        self._store, self._mirror, self._clock = store, mirror, clock
        self._known = KnownCluster(me, mirror, voters, term, sight, seen)
        self._copy = LocalCopy(copy, self._in_postgres, clock)
        self._mover = Relocation(
            me, database, data_dir / "db" / FILE, cluster=lambda: self._member().cluster, url=self._url, store=store,
            mirror=mirror, clock=clock,
        )  # fmt: skip
        self.run = self._mover.run  # a task of the daemon

    def service(self, engine: str, log_dir: Path) -> RoleService:
        """Perform the role here."""
        if engine != ENGINE:
            return embedded.service(self._database, self._clock, self._mover.settle)
        host = DatabaseHost(self.site, log_dir, self._clock)
        return postgres.service(self._known, host, self._database, copy=self._copy, store=self._store)

    def site(self) -> DbSite:
        """Where PostgreSQL runs here. Raises EngineError when it cannot."""
        member, profile = self._member(), self._profile()
        program = next((one.path for one in profile.engines if one.name == ENGINE), None)
        if program is None:
            raise EngineError("PostgreSQL is not on this host.", remedy="Install it: apt-get install postgresql.")
        return DbSite(
            host=self._me, address=member.address, port=member.port, folder=self._data_dir / "db",
            credentials=self._data_dir / "cluster", programs=Path(program).parent, ram_mb=profile.ram_mb,
            priority=_priority(profile),
        )  # fmt: skip

    def _in_postgres(self) -> bool:
        """Whether the database has moved there: until then PostgreSQL has a part of it at most."""
        db = holders_in(self._mirror.view)
        return bool(db) and all(one.engine == ENGINE for one in db)

    def _member(self) -> MemberFile:
        found = self._membership()
        if found is None:
            raise EngineError("PostgreSQL is for hosts of a cluster, and this one is alone.")
        return found

    def _url(self, host: str) -> str | None:
        """PostgreSQL on another host, as the application's own account sees it."""
        record, secrets = self._mirror.view.hosts.get(host), secrets_in(self._mirror)
        if record is None or secrets is None:
            return None
        address, port = address_of(record), record.peer.rpartition(":")[2]
        if not address:
            return None
        folder = self._data_dir / "cluster"
        tls = {"sslmode": "verify-ca", "sslrootcert": folder / trust.CA, "sslcert": folder / trust.CERT,
               "sslkey": folder / trust.KEY}  # fmt: skip
        where = joined(address, int(port) + POSTGRES_PORT)
        return f"postgresql://{APPLICATION}:{quote(secrets.application)}@{where}/{APPLICATION}?{urlencode(tls)}"
