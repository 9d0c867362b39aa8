"""A joiner's talk with a member: find one, know its cluster, prove the invitation, ask to be let in.

Until the cluster's authority is known nothing that is heard is believed and nothing secret is said: its certificate is
fetched from anybody and compared with the token's digest, or comes sealed out of the exchange over the spoken code.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from morgand.api.schema import ErrorReply
from morgand.base.clock import Clock
from morgand.base.errors import ConfigError, InvalidInput, MorganError, Unauthorized, Unavailable
from morgand.config import parse_listen
from morgand.membership import join_schema as wire
from morgand.membership.join_server import same_time
from morgand.security import ca, invitations, pake, trust
from morgand.security.tokens import Code

T = TypeVar("T")

CONNECT_S, DEADLINE_S = 5.0, 30.0
REPLY_BYTES = 256 * 1024
TOLD_CHARS = 500  # of what a stranger says, at most this much reaches the terminal


@dataclass(frozen=True, slots=True)
class JoinTarget:
    """Where a member may be; ``port`` is that of its API for hosts."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody who answered, and the certificate it calls its authority's: not believed yet."""

    target: JoinTarget
    ca_pem: bytes

    @property
    def digest(self) -> str:
        return ca.digest(self.ca_pem)


def parse_target(text: str, port: int) -> JoinTarget:
    """``HOST``, ``HOST:PORT``, ``[V6]:PORT`` or a bare IPv6 address. Raises InvalidInput."""
    bare = text.strip().strip("[]")
    if bare and (":" not in text or (text.count(":") > 1 and "]:" not in text)):
        return JoinTarget(bare, port)
    try:
        parsed = parse_listen(text.strip())
    except ConfigError:
        parsed = None
    if parsed is None:
        raise InvalidInput(f"'{text}' is no address.", remedy="Write it as 192.168.1.10 or 192.168.1.10:7471.")
    return JoinTarget(*parsed)


class JoinClient:
    """Speaks to members; an asynchronous context manager."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S, sock_connect=CONNECT_S)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def contacts(self, targets: Sequence[JoinTarget]) -> list[Contact]:
        """Those that answer, in the order given. Raises Unavailable when none does, Conflict for a clock far off."""
        found = await asyncio.gather(*(self._contact(one) for one in targets), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, MorganError):
                raise one
        answered = [one for one in found if isinstance(one, Contact)]
        refusals = [one for one in found if isinstance(one, MorganError)]
        if not answered and refusals:
            raise refusals[0]
        return answered

    async def prove(self, contact: Contact, code: Code) -> wire.Grant:
        """The authority and a secret, for who knows the code. Raises Unauthorized, Unavailable."""
        blind = trust.blind_context()
        offered = await self._ask("POST", contact.target, wire.CODE_PATH, wire.CodeOffers, tls=blind)
        replies = await asyncio.to_thread(_replies, code, offered.offers)
        answers = wire.CodeAnswers(
            offered.exchange, [wire.CodeAnswer(one.message, one.confirmation) for one in replies]
        )  # fmt: skip
        reply = await self._ask("PUT", contact.target, wire.CODE_PATH, wire.CodeReply, tls=blind, body=answers)
        if not 0 <= reply.offer < len(replies):
            raise Unavailable(f"{contact.target} answers nonsense.")
        return msgspec.json.decode(pake.unseal(replies[reply.offer].key, reply.sealed), type=wire.Grant)

    async def join(self, target: JoinTarget, ca_pem: bytes, request: wire.JoinRequest) -> wire.JoinReply:
        """The request goes only to a member of the cluster with this authority. Raises what the member refuses."""
        tls = trust.joiner_context(ca_pem)
        return await self._ask("POST", target, wire.JOIN_PATH, wire.JoinReply, tls=tls, body=request)

    async def renew(self, target: JoinTarget, folder: Path, request: wire.CertificateRequest) -> bytes:
        """A member's next certificate, PEM, from any member. Raises MorganError with what it says."""
        tls = await asyncio.to_thread(trust.client_context, folder)
        reply = await self._ask("POST", target, wire.CERTIFICATE_PATH, wire.CertificateReply, tls=tls, body=request)
        return reply.certificate.encode("ascii")

    async def revocations(self, target: JoinTarget, ca_pem: bytes) -> bytes:
        """The list of revoked certificates as a member has it, PEM. Raises MorganError."""
        return (await self._fetch("GET", target, wire.REVOKED_PATH, tls=trust.joiner_context(ca_pem)))[0]

    async def still_member(self, target: JoinTarget, folder: Path) -> bool:
        """Whether the member, which answers strangers, answers this host with the certificate it has, too."""
        try:
            tls = await asyncio.to_thread(trust.client_context, folder)
            await self._fetch("GET", target, wire.CA_PATH, tls=tls)
        except NoConnection:
            return False  # removed, or away until its certificate ran out
        except ConfigError:
            return False  # its files are damaged: it can only join anew
        return True

    async def _contact(self, target: JoinTarget) -> Contact:
        content, date = await self._fetch("GET", target, wire.CA_PATH, tls=trust.blind_context())
        if date is not None:  # in whole seconds. With a clock far off no certificate would be valid: say why first
            same_time(self._clock.now().timestamp(), parsedate_to_datetime(date), unsure_s=1.0)
        try:
            return Contact(target, ca.only(content))
        except InvalidInput as err:
            raise Unavailable(f"{target} is no host of a Morgan cluster.") from err

    async def _ask(
        self, method: str, target: JoinTarget, path: str, kind: type[T], *, tls: ssl.SSLContext,
        body: msgspec.Struct | None = None,
    ) -> T:  # fmt: skip
        content, _ = await self._fetch(method, target, path, tls=tls, body=body)
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as err:
            raise Unavailable(f"{target} answers nonsense: is it a Morgan host?") from err

    async def _fetch(
        self, method: str, target: JoinTarget, path: str, *, tls: ssl.SSLContext, body: msgspec.Struct | None = None
    ) -> tuple[bytes, str | None]:
        """The body and the Date of an answer. Raises NoConnection, or MorganError (it said no)."""
        assert self._session is not None
        sent: dict[str, Any] = {} if body is None else {"data": msgspec.json.encode(body)}
        try:
            async with self._session.request(
                method, f"https://{target}{path}", ssl=tls, server_hostname=ca.PEER_NAME, allow_redirects=False, **sent
            ) as response:
                content = await _bounded(response.content, target)
                if response.status != 200:
                    raise _refused(content, target, response.status)
                return content, response.headers.get("Date")
        except (aiohttp.ClientError, OSError, TimeoutError) as err:
            raise NoConnection(target, err) from err


class NoConnection(Unavailable):
    """No connection to a member, or one it broke off: with TLS 1.3 that is how a certificate is refused."""

    def __init__(self, target: JoinTarget, err: Exception) -> None:
        super().__init__(
            f"No connection to {target}: {trust.explain(_os_error(err))}.",
            remedy="Check the address (`morganctl cluster invite` prints it) and that morgand runs there.",
        )


def _replies(code: Code, offers: Sequence[wire.CodeOffer]) -> list[pake.PakeReply]:
    """Raises Unauthorized for offers that are none."""
    try:
        return [pake.reply(invitations.stretch(code.text, one.salt), one.message) for one in offers]
    except (InvalidInput, ValueError) as err:
        raise Unauthorized("The other side does not speak SPAKE2.", remedy="Check the address.") from err


async def _bounded(content: aiohttp.StreamReader, target: JoinTarget) -> bytes:
    found = bytearray()
    async for piece in content.iter_any():
        found += piece
        if len(found) > REPLY_BYTES:
            raise Unavailable(f"{target} answers too much: is it a Morgan host?")
    return bytes(found)


def _refused(content: bytes, target: JoinTarget, status: int) -> MorganError:
    """What the member said, made safe for a terminal."""
    try:
        told = msgspec.json.decode(content, type=ErrorReply).error
    except msgspec.MsgspecError:
        return Unavailable(f"{target} answers with status {status}: is it a Morgan host?")
    return MorganError(_printable(told.message), remedy=_printable(told.remedy) if told.remedy else None)


def _printable(text: str) -> str:
    return "".join(one for one in text[:TOLD_CHARS] if one.isprintable())


def _os_error(err: BaseException) -> OSError:
    """The system's or OpenSSL's error inside one of aiohttp's."""
    if isinstance(err, aiohttp.ClientConnectorCertificateError):
        found: BaseException = err.certificate_error
    elif isinstance(err, aiohttp.ClientConnectorError):
        found = err.os_error
    else:
        found = err.__cause__ or err
    return found if isinstance(found, OSError) else OSError(str(found) or "the connection broke")
