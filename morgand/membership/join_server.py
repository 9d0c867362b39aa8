"""How a member lets another machine in: routes of the API for hosts that need no client certificate, and renewal.

An invitation is only spent in the transaction that writes the new member, so a refusal for any other reason leaves it
good; and nothing is handed out before that transaction holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from aiohttp import web

from morgand import __version__
from morgand.api import schema
from morgand.api.body import read_struct
from morgand.api.routes import json
from morgand.base.clock import Clock
from morgand.base.errors import Conflict, MorganError, Overloaded, StoreConflict, Unauthorized, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.store import ClusterStore, Compare, Put, QuietSince, Unchanged
from morgand.cluster.view import View
from morgand.membership import join_schema as wire
from morgand.membership import registry
from morgand.membership.invitations import Invitations
from morgand.membership.join_codes import Codes
from morgand.membership.registry import Issued, RegisteredMember
from morgand.security import ca, invitations, trust
from morgand.security.ca import Authority, CertFacts

log = logging.getLogger("morgand.join")

Handler = Callable[[web.Request], Awaitable[web.Response]]
ATTEMPTS = 10  # at one admission, when other members are written meanwhile
MAX_BUSY = 8  # strangers' requests worked on at once
BODY_MB = 1
DEADLINE_S = 20.0  # for one request, its body included


class MaterialSource(Protocol):
    """What the member knows that a newcomer needs. ``authority`` may raise Unavailable."""

    @property
    def cluster_id(self) -> str: ...

    @property
    def cluster_name(self) -> str: ...

    @property
    def ca_pem(self) -> bytes: ...

    async def authority(self) -> Authority: ...

    async def revoked(self) -> bytes:
        """The authority's list of revoked certificates, PEM."""
        ...

    def gossip_keys(self) -> Sequence[str]: ...

    def peers(self) -> Sequence[str]: ...

    def etcd(self) -> Sequence[str]: ...


class JoinServer:
    """Handlers; ``routes`` go into the application on the port for hosts (TLS, client certificate optional)."""

    def __init__(self, sponsor: MaterialSource, store: ClusterStore, clock: Clock) -> None:
        self._sponsor, self._store, self._clock = sponsor, store, clock
        self._invitations = Invitations(store, clock)
        self._codes = Codes(self._invitations, clock, sponsor)
        self._busy = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(wire.CA_PATH, self._open(self._ca)),
            web.get(wire.REVOKED_PATH, self._open(self._revoked)),
            web.post(wire.JOIN_PATH, self._open(self._join)),
            web.post(wire.CODE_PATH, self._open(self._offer)),
            web.put(wire.CODE_PATH, self._open(self._answer)),
            web.post(wire.CERTIFICATE_PATH, _told(self._certificate)),
        ]

    async def _ca(self, _: web.Request) -> web.Response:
        return web.Response(body=self._sponsor.ca_pem, content_type="application/x-pem-file")

    async def _revoked(self, _: web.Request) -> web.Response:
        """For a host that was removed while it was off: nobody talks to it any more, but this anybody may know."""
        return web.Response(body=await self._sponsor.revoked(), content_type="application/x-pem-file")

    async def _join(self, request: web.Request) -> web.Response:
        asked = await read_struct(request, wire.JoinRequest, body_mb=BODY_MB)
        authority = await self._sponsor.authority()
        for _ in range(ATTEMPTS):
            invitation, unused = await self._invitations.check(asked.invitation, asked.secret)
            compatible(asked.host)
            same_time(asked.clock, self._clock.now())
            newcomer, before, unchanged = await self._newcomer(asked.host)
            certificate, member = self._certified(authority, asked.csr, newcomer, asked.host.address)
            puts = [
                Put(keys.invitation(invitation.id), codec.encode(invitations.used(invitation, member.id))),
                Put(keys.member(member.id), codec.encode(member)),
                *(registry.revocations(before) if before else ()),
            ]
            crl = ca.revocation_list(authority, await registry.revoked_serials(self._store), self._clock.now())
            try:
                await self._store.txn([unused, *unchanged], puts)
            except StoreConflict:
                continue
            log.info("host joined", extra={"host_id": member.id, "host": member.name, "invitation": invitation.id})
            return json(self._welcome(authority, certificate, crl))
        raise StoreConflict("Too many hosts join at once.", remedy="Try again.")

    async def _newcomer(self, host: wire.JoinHost) -> tuple[RegisteredMember, RegisteredMember | None, list[Compare]]:
        """The member to be, what it was before, and what must still hold when it is written. Raises Conflict."""
        listed, revision = await self._store.list(keys.MEMBERS)
        every = [codec.decode(RegisteredMember, item.value, key=item.key) for item in listed]
        hosts = list(View(*await self._store.list(keys.HOSTS)).hosts.values())
        before = next((one for one in every if one.id == host.id), None)
        newcomer = RegisteredMember(host.id, host.name, host.machine, self._clock.now())
        found = registry.objection(newcomer, every, hosts)
        if found is not None:
            raise Conflict(found.reason, remedy=found.remedy)
        item = next((one for one in listed if one.key == keys.member(host.id)), None)
        unchanged: list[Compare] = [
            QuietSince(keys.MEMBERS, revision),  # no name is given twice
            Unchanged(keys.member(host.id), item.mod_revision if item else 0),
        ]
        return newcomer, before, unchanged

    def _certified(
        self, authority: Authority, csr: str, member: RegisteredMember, address: str
    ) -> tuple[bytes, RegisteredMember]:
        now = self._clock.now()
        certificate = ca.sign(
            authority, csr.encode("ascii", "replace"), host_id=member.id, cluster_id=self._sponsor.cluster_id,
            addresses=(address,), now=now,
        )  # fmt: skip
        found = ca.facts(certificate)
        return certificate, registry.certified(member, Issued(found.serial, found.not_after), now)

    def _welcome(self, authority: Authority, certificate: bytes, crl: bytes) -> wire.JoinReply:
        sponsor = self._sponsor
        return wire.JoinReply(
            certificate.decode("ascii"), authority.cert_pem.decode("ascii"), crl.decode("ascii"),
            tuple(sponsor.gossip_keys()), sponsor.cluster_id, sponsor.cluster_name, tuple(sponsor.peers()),
            tuple(sponsor.etcd()),
        )  # fmt: skip

    async def _offer(self, request: web.Request) -> web.Response:
        return json(await self._codes.offer(request.remote or ""))

    async def _answer(self, request: web.Request) -> web.Response:
        return json(await self._codes.answer(await read_struct(request, wire.CodeAnswers, body_mb=BODY_MB)))

    async def _certificate(self, request: web.Request) -> web.Response:
        """A member's next certificate, for the same key or another, and the address it has now."""
        peer = await self._member(request)
        asked = await read_struct(request, wire.CertificateRequest, body_mb=BODY_MB)
        authority = await self._sponsor.authority()
        key = keys.member(peer.host)
        for _ in range(ATTEMPTS):
            item = await self._store.get(key)
            if item is None:
                raise _stranger()
            member = codec.decode(RegisteredMember, item.value, key=key)
            certificate, member = self._certified(authority, asked.csr, member, asked.address)
            try:
                await self._store.txn([Unchanged(key, item.mod_revision)], [Put(key, codec.encode(member))])
            except StoreConflict:
                continue
            log.info("certificate renewed", extra={"host_id": peer.host})
            return json(wire.CertificateReply(certificate.decode("ascii")))
        raise StoreConflict("The member's record changed too often meanwhile.", remedy="Try again.")

    async def _member(self, request: web.Request) -> CertFacts:
        """Who asks. Raises Unauthorized for a stranger and for a host that was removed."""
        ssl_object = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
        peer = trust.peer_of(ssl_object)
        if peer is None or peer.cluster != self._sponsor.cluster_id:
            raise Unauthorized("A certificate of this cluster is needed.", remedy="Join it: `morgand join`.")
        if await self._store.get(keys.revoked(peer.serial)) is not None:
            raise _stranger()
        return peer

    def _open(self, handler: Handler) -> Handler:
        """Bounds how many strangers keep this host busy."""

        async def bounded(request: web.Request) -> web.Response:
            if self._busy >= MAX_BUSY:
                raise Overloaded("Too many hosts ask at once.", retry_after_s=1.0)
            self._busy += 1
            try:
                return await handler(request)
            finally:
                self._busy -= 1

        return _told(bounded)


def _told(handler: Handler) -> Handler:
    """Bounds the time, and answers an error in the API's shape."""

    async def told(request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await handler(request)
        except MorganError as err:
            return _refusal(err, request)
        except TimeoutError:
            return _refusal(Unavailable(f"This took longer than {DEADLINE_S:.0f} s."), request)

    return told


def compatible(host: wire.JoinHost) -> None:
    """Raises Conflict when the newcomer speaks another version of what hosts say to each other."""
    major, minor = host.protocol
    if major != wire.PROTOCOL[0] or abs(minor - wire.PROTOCOL[1]) > 1:
        older = "this host" if tuple(host.protocol) < wire.PROTOCOL else "the cluster"
        raise Conflict(
            f"This host runs Morgan {host.version}, the cluster {__version__}: they do not understand each other.",
            remedy=f"Update {older} first.",
        )


def same_time(theirs: float, now: datetime, *, unsure_s: float = 0.0) -> None:
    """Raises Conflict when the clocks are more than 30 s apart, and by more than what is not known of ``now``."""
    off_s = theirs - now.timestamp()
    if not abs(off_s) <= wire.CLOCK_S + unsure_s:  # NaN is refused too
        way = "ahead of" if off_s > 0 else "behind"
        raise Conflict(
            f"The clock of this host is {abs(off_s):.0f} s {way} the cluster's; {wire.CLOCK_S:.0f} s are allowed.",
            remedy="Set it right (`timedatectl set-ntp true`) and join again.",
        )


def _stranger() -> Unauthorized:
    return Unauthorized("This host was removed from the cluster.", remedy="Join it again: `morgand join`.")


def _refusal(err: MorganError, request: web.Request) -> web.Response:
    log.warning("refused", extra={"route": request.path, "from": request.remote, "reason": err.message})
    return json(schema.ErrorReply(schema.ErrorBody(err.code, err.message, err.remedy)), status=err.status)
