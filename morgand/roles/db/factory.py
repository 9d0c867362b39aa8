"""What of this host its database needs, whatever engine and part it has of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, urlencode

from morgand.base.clock import Clock
from morgand.base.errors import EngineError
from morgand.cluster import keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.etcd import Endpoint
from morgand.cluster.member_file import MemberFile
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore
from morgand.roles.base import RoleService
from morgand.roles.db import postgres
from morgand.roles.db import service as embedded
from morgand.roles.db.copy import LocalCopy
from morgand.roles.db.patroni_keys import ENGINE, PRIMARY, holders_in, patroni_in, secrets_in
from morgand.roles.db.relocation import Relocation
from morgand.roles.db.site import APPLICATION, POSTGRES_PORT, DbSite, Secrets, joined
from morgand.security import trust
from morgand.state.hosts import Duty, HostState, PeerHealth, Profile
from morgand.state.schema_version import agreed_post
from morgand.storage.database import Database

FILE = "morgan.db"


def _priority(profile: Profile) -> int:
    """Whoever ranks first as the primary is to be synchronous: then it can take over in peace."""
    gigabytes = max(1, min(profile.ram_mb // 1024, 999))
    return gigabytes + 1000 * (not profile.gpus) + 2000 * (profile.duty is Duty.ALWAYS)


def _address(record: HostRecord) -> str:
    """The IP address by which others reach it; empty when that is not known."""
    with contextlib.suppress(ValueError):
        return str(ip_address(record.peer.rpartition(":")[0].strip("[]")))
    return ""


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
        self._membership, self._voters, self._profile, self._term = membership, voters, profile, term
        self._peer_health, self._seen, self._store, self._mirror, self._clock = sight, seen, store, mirror, clock
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
        return postgres.service(
            self.site, self.secrets, self.voters, self.epoch, self._database, copy=self._copy,
            fenced=self.fenced, quiet=self.quiet, seen=self._seen, leads=self.leads, changed=self._mirror.next,
            agreed_post=self.agreed_post, store=self._store, log_dir=log_dir, clock=self._clock,
        )  # fmt: skip

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

    def voters(self) -> list[Endpoint]:
        """Whom Patroni here is to ask, the best first: the etcd of this host, which fails when this host does; last
        that of the primary's, which fails just when everybody else has to decide."""
        primary = {one.host for one in holders_in(self._mirror.view) if one.part == PRIMARY}
        return sorted(self._voters(), key=lambda one: (one.host_id != self._me, one.host_id in primary))

    async def secrets(self) -> Secrets:
        """Waits until a leader has made them."""
        while True:
            changed = self._mirror.next()
            found = secrets_in(self._mirror)
            if found is not None:
                return found
            await changed.wait()

    def epoch(self) -> int | None:
        """That of this host's assignment as the primary; None while it has none, or may not act by it."""
        mine = any(
            one.host == self._me and one.part == PRIMARY and one.engine == ENGINE
            for one in holders_in(self._mirror.view)
        )
        return self._term("db") if mine else None

    def _in_postgres(self) -> bool:
        """Whether the database has moved there: until then PostgreSQL has a part of it at most."""
        db = holders_in(self._mirror.view)
        return bool(db) and all(one.engine == ENGINE for one in db)

    def fenced(self) -> dict[str, str]:
        """Hosts that were given up, each with its IP address; empty where another host has the same."""
        hosts = self._hosts()
        lost = {one.id: _address(one) for one in hosts if one.state is HostState.FENCED}
        kept = {_address(one) for one in hosts if one.id not in lost}
        return {host: "" if address in kept else address for host, address in lost.items()}

    def leads(self) -> bool:
        """Whether Patroni has chosen this host."""
        return patroni_in(self._mirror).leader == self._me

    def quiet(self) -> frozenset[str]:
        """Hosts that may be gone."""
        return frozenset(one for one in self._members() if (sight := self._peer_health(one)) and sight.quiet)

    def agreed_post(self) -> int:
        """The last migration that every member knows, of those that take something away."""
        return agreed_post(self._members(), {one.id: one.schema for one in self._hosts()})

    def _hosts(self) -> Collection[HostRecord]:
        return self._mirror.view.hosts.values()

    def _members(self) -> list[str]:
        return [item.key.removeprefix(keys.MEMBERS) for item in self._mirror.list(keys.MEMBERS)]

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
        address, port = _address(record), record.peer.rpartition(":")[2]
        if not address:
            return None
        folder = self._data_dir / "cluster"
        tls = {"sslmode": "verify-ca", "sslrootcert": folder / trust.CA, "sslcert": folder / trust.CERT,
               "sslkey": folder / trust.KEY}  # fmt: skip
        where = joined(address, int(port) + POSTGRES_PORT)
        return f"postgresql://{APPLICATION}:{quote(secrets.application)}@{where}/{APPLICATION}?{urlencode(tls)}"
