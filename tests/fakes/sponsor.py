"""A member of a cluster that lets others in: real TLS, routes and local store, the rest made up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from aiohttp import web

from morgand.base import files
from morgand.base.clock import SystemClock
from morgand.cluster.local import LocalStore
from morgand.membership import registry
from morgand.membership.invitations import Invitations
from morgand.membership.join_server import JoinServer
from morgand.membership.registry import Issued, RegisteredMember
from morgand.security import ca, tokens, trust
from morgand.security.ca import Authority

GOSSIP_KEY = "c2VjcmV0IGdvc3NpcCBrZXkgb2YgMzIgYnl0ZXMhIQ=="


class ShiftedClock(SystemClock):
    """The machine's clock, as wrong as a test wants it."""

    def __init__(self, off: timedelta = timedelta()) -> None:
        self.off = off

    def now(self) -> datetime:
        return datetime.now(UTC) + self.off


@dataclass
class FakeSponsor:
    """Implements ``api.join.Sponsor``."""

    made: Authority
    cluster_id: str
    cluster_name: str = "home"
    known: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)  # serials of certificates

    @property
    def ca_pem(self) -> bytes:
        return self.made.cert_pem

    async def authority(self) -> Authority:
        return self.made

    async def revoked(self) -> bytes:
        return ca.revocation_list(self.made, self.removed, datetime.now(UTC))

    def gossip_keys(self) -> list[str]:
        return [GOSSIP_KEY]

    def peers(self) -> list[str]:
        return self.known

    def etcd(self) -> list[str]:
        return ["https://127.0.60.1:7473"]


@dataclass
class ServedMember:
    """``host``: its id; ``folder``: its key material."""

    sponsor: FakeSponsor
    store: LocalStore
    clock: ShiftedClock
    invitations: Invitations
    host: str
    folder: Path
    address: str
    port: int = 0

    @property
    def at(self) -> str:
        return f"{self.address}:{self.port}"

    async def invite(self) -> tuple[str, str]:
        """A token and a code."""
        made, secret, code = await self.invitations.make()
        return tokens.write(tokens.Token(ca.digest(self.sponsor.ca_pem), made.id, secret)), code


@asynccontextmanager
async def member(folder: Path, address: str = "127.0.60.1", name: str = "first") -> AsyncIterator[ServedMember]:
    """A founder that serves the routes of joining on a free port."""
    clock, cluster, host = ShiftedClock(), str(uuid4()), str(uuid4())
    authority = ca.make_authority(cluster, clock.now())
    store = await LocalStore.open(folder)
    key = ca.make_key()
    certificate = ca.sign(
        authority, ca.make_request(key, host), host_id=host, cluster_id=cluster, addresses=[address], now=clock.now()
    )
    trust.install(folder, ca_pem=authority.cert_pem, cert_pem=certificate, key_pem=key)
    files.write_private(folder / trust.CRL, ca.revocation_list(authority, [], clock.now()))
    facts = ca.facts(certificate)
    issued = (Issued(facts.serial, facts.not_after),)
    await registry.enrol(store, RegisteredMember(host, name, "machine of the founder", clock.now(), issued))
    served = ServedMember(
        FakeSponsor(authority, cluster), store, clock, Invitations(store, clock), host, folder, address
    )  # fmt: skip
    async with serving(served):
        yield served
    await store.close()


@asynccontextmanager
async def serving(served: ServedMember) -> AsyncIterator[None]:
    """Serve with the key material that is in the folder now."""
    app = web.Application()
    app.add_routes(JoinServer(served.sponsor, served.store, served.clock).routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = trust.server_context(served.folder, require_cert=False)
    await web.TCPSite(runner, served.address, 0, ssl_context=context).start()
    served.port = runner.addresses[0][1]
    served.sponsor.known = [served.at]
    try:
        yield
    finally:
        await runner.cleanup()
