"""What strangers and members get from the routes of joining, over real TLS."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
import pytest

from morgand.cluster import codec, keys
from morgand.cluster.store import Put
from morgand.membership import join_codes, registry
from morgand.membership import join_schema as wire
from morgand.security import ca, tokens, trust
from tests.fakes.sponsor import GOSSIP_KEY, ServedMember, member


@dataclass
class Visitor:
    """Sends JSON to the served member."""

    served: ServedMember
    session: aiohttp.ClientSession

    async def send(
        self, method: str, path: str, body: Any = None, tls: ssl.SSLContext | None = None
    ) -> tuple[int, dict[str, Any]]:
        async with self.session.request(
            method, f"https://{self.served.at}{path}", ssl=tls or trust.joiner_context(self.served.sponsor.ca_pem),
            server_hostname="peer.morgan", data=io.BytesIO(msgspec.json.encode(body)),
        ) as response:  # fmt: skip
            content = await response.read()
            return response.status, msgspec.json.decode(content) if content.startswith(b"{") else {"text": content}

    async def request(self, **host: Any) -> wire.JoinRequest:
        """A good request with a fresh invitation; ``host`` changes what the newcomer says of itself."""
        token, _ = await self.served.invite()
        parsed = tokens.read(token)
        assert isinstance(parsed, tokens.Token)
        newcomer = str(uuid4())
        values = {
            "id": newcomer, "machine": "m", "name": f"host-{newcomer}", "address": "127.0.62.2", "port": 7471,
            "version": "0", "protocol": wire.PROTOCOL, **host,
        }  # fmt: skip
        csr = ca.make_request(ca.make_key(), values["id"]).decode()
        now = self.served.clock.now().timestamp()
        return wire.JoinRequest(parsed.invitation, parsed.secret, csr, wire.JoinHost(**values), now)


@pytest.fixture
async def visitor(tmp_path: Path) -> AsyncIterator[Visitor]:
    async with member(tmp_path / "first", "127.0.62.1") as served, aiohttp.ClientSession() as session:
        yield Visitor(served, session)


async def untouched(visitor: Visitor) -> bool:
    return len(await registry.members(visitor.served.store)) == 1 and len(await visitor.served.invitations.open()) == 1


async def test_authority_is_public_and_nothing_else(visitor: Visitor) -> None:
    """A stranger gets the authority's certificate; without an invitation nothing more."""
    blind = trust.blind_context()
    status, told = await visitor.send("GET", wire.CA_PATH, tls=blind)
    assert (status, told["text"]) == (200, visitor.served.sponsor.ca_pem)
    for method, path in (("POST", wire.JOIN_PATH), ("POST", wire.CERTIFICATE_PATH), ("PUT", wire.CODE_PATH)):
        status, told = await visitor.send(method, path, {}, tls=blind)
        assert status in (400, 401)
        assert set(told) == {"error"}
    status, told = await visitor.send("POST", wire.CODE_PATH, tls=blind)
    assert (status, told["error"]["message"][:21]) == (401, "No invitation is open")


@pytest.mark.parametrize("protocol", [(0, 9), (2, 0), (1, 2), (1, 99)])
async def test_incompatible_version(visitor: Visitor, protocol: tuple[int, int]) -> None:
    """A version that does not fit is refused with which side to update; the invitation stays good."""
    status, told = await visitor.send("POST", wire.JOIN_PATH, await visitor.request(protocol=protocol))
    assert (status, told["error"]["code"]) == (409, "conflict")
    assert "do not understand each other" in told["error"]["message"]
    assert ("this host" if protocol < wire.PROTOCOL else "the cluster") in told["error"]["remedy"]
    assert await untouched(visitor)


async def test_neighbouring_minor_version_joins(visitor: Visitor) -> None:
    """Hosts are updated one by one."""
    status, told = await visitor.send("POST", wire.JOIN_PATH, await visitor.request(protocol=(1, 1)))
    assert (status, told["gossip_keys"]) == (200, [GOSSIP_KEY])


@pytest.mark.parametrize("off_s", [-31, 31, 1e12, float("nan")])
async def test_clock(visitor: Visitor, off_s: float) -> None:
    """The member compares the clocks itself, whatever the joiner did."""
    asked = await visitor.request()
    late = msgspec.structs.replace(asked, clock=asked.clock + off_s)
    status, _ = await visitor.send("POST", wire.JOIN_PATH, late)
    assert status in (400, 409)
    assert await untouched(visitor)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "../../ca"), ("id", ""), ("name", ""), ("name", "a b"), ("name", "a/b"), ("name", "x" * 64),
        ("address", "a b"), ("address", ""), ("address", "host;rm"), ("port", 0), ("port", 65_533), ("protocol", [1]),
    ],
)  # fmt: skip
async def test_nonsense_about_the_host(visitor: Visitor, field: str, value: Any) -> None:
    """A newcomer cannot choose a name, an id or an address that means something else somewhere."""
    asked = msgspec.to_builtins(await visitor.request())
    asked["host"][field] = value
    status, told = await visitor.send("POST", wire.JOIN_PATH, asked)
    assert status == 400
    assert field in told["error"]["message"]
    assert await untouched(visitor)


async def test_request_made_for_another_host(visitor: Visitor) -> None:
    """A certificate is signed for the host that asks and for nobody else; the invitation stays good."""
    asked = await visitor.request()
    other = ca.make_request(ca.make_key(), visitor.served.host).decode()
    for csr in (other, "nonsense", "\u00e4"):
        status, _ = await visitor.send("POST", wire.JOIN_PATH, msgspec.structs.replace(asked, csr=csr))
        assert status == 400
    assert await untouched(visitor)


async def test_host_that_is_known_without_having_joined(visitor: Visitor) -> None:
    """An id that stands among the hosts but not among the members belongs to somebody else."""
    asked = await visitor.request()
    record = codec.HostRecord(asked.host.id, "elder", "10.0.0.1")
    await visitor.served.store.txn([], [Put(keys.host(record.id), codec.encode(record))])
    status, told = await visitor.send("POST", wire.JOIN_PATH, asked)
    assert (status, "that of elder" in told["error"]["message"]) == (409, True)


async def test_same_machine_joins_anew(visitor: Visitor) -> None:
    """A member that comes back with a new invitation is the same member; what it had before opens nothing more."""
    asked = await visitor.request()
    assert (await visitor.send("POST", wire.JOIN_PATH, asked))[0] == 200
    (first,) = [one for one in await registry.members(visitor.served.store) if one.id == asked.host.id]
    again = await visitor.request(id=asked.host.id, name=asked.host.name)
    assert (await visitor.send("POST", wire.JOIN_PATH, again))[0] == 200
    found = [one for one in await registry.members(visitor.served.store) if one.id == asked.host.id]
    assert [len(one.certificates) for one in found] == [1]
    assert await registry.revoked_serials(visitor.served.store) == [first.certificates[0].serial]


async def test_two_names_at_once(visitor: Visitor) -> None:
    """Of two hosts that claim one name at the same time one is refused."""
    asked = [await visitor.request(name="twin") for _ in range(2)]
    outcomes = await asyncio.gather(*(visitor.send("POST", wire.JOIN_PATH, one) for one in asked))
    assert sorted(status for status, _ in outcomes) == [200, 409]


async def test_exchanges_are_bounded(visitor: Visitor) -> None:
    """One address can hold few exchanges open, and an exchange is judged once."""
    await visitor.served.invite()
    outcomes = [await visitor.send("POST", wire.CODE_PATH) for _ in range(join_codes.MAX_OPEN_FROM_ONE + 1)]
    assert [status for status, _ in outcomes] == [200] * join_codes.MAX_OPEN_FROM_ONE + [503]
    exchange = outcomes[0][1]["exchange"]
    nonsense = wire.CodeAnswers(exchange, [wire.CodeAnswer(b"", b"")])
    status, told = await visitor.send("PUT", wire.CODE_PATH, nonsense)
    assert (status, "2 tries left" in told["error"]["remedy"]) == (401, True)
    status, told = await visitor.send("PUT", wire.CODE_PATH, nonsense)
    assert (status, told["error"]["message"]) == (401, "The exchange is over.")
    assert (await visitor.send("POST", wire.CODE_PATH))[0] == 200
    status, _ = await visitor.send("PUT", wire.CODE_PATH, wire.CodeAnswers(outcomes[1][1]["exchange"], []))
    assert status == 400


async def test_offers_name_no_invitation(visitor: Visitor) -> None:
    """What a stranger is offered cannot be used to lock a token."""
    await visitor.served.invite()
    _, told = await visitor.send("POST", wire.CODE_PATH)
    assert set(told) == {"exchange", "offers"}
    assert set(told["offers"][0]) == {"salt", "message"}


async def joined(visitor: Visitor, folder: Path) -> tuple[str, bytes]:
    """A member's id and key; its material is in the folder."""
    asked = await visitor.request()
    key = ca.make_key()
    csr = ca.make_request(key, asked.host.id).decode()
    _, told = await visitor.send("POST", wire.JOIN_PATH, msgspec.structs.replace(asked, csr=csr))
    trust.install(folder, ca_pem=told["ca"].encode(), cert_pem=told["certificate"].encode(), key_pem=key)
    return asked.host.id, key


async def test_renewal(visitor: Visitor, tmp_path: Path) -> None:
    """A member gets its next certificate for its own id and the address it has now, and both can be revoked."""
    host, key = await joined(visitor, tmp_path / "second")
    tls = trust.client_context(tmp_path / "second")
    csr = ca.make_request(key, host).decode()
    asked = wire.CertificateRequest(csr, "127.0.62.99")
    status, told = await visitor.send("POST", wire.CERTIFICATE_PATH, asked, tls)
    assert status == 200
    facts = ca.facts(told["certificate"].encode())
    assert facts.host == host
    found = next(one for one in await registry.members(visitor.served.store) if one.id == host)
    assert facts.serial in [one.serial for one in found.certificates]
    other = ca.make_request(key, visitor.served.host).decode()
    status, told = await visitor.send("POST", wire.CERTIFICATE_PATH, msgspec.structs.replace(asked, csr=other), tls)
    assert status == 400
    assert len(await registry.expel(visitor.served.store, host, "6b")) == 2
    status, told = await visitor.send("POST", wire.CERTIFICATE_PATH, asked, tls)
    assert (status, told["error"]["message"]) == (401, "This host was removed from the cluster.")


async def test_expired_certificates_are_forgotten(visitor: Visitor, tmp_path: Path) -> None:
    """A member's record does not grow over the years."""
    host, key = await joined(visitor, tmp_path / "second")
    old = next(one for one in await registry.members(visitor.served.store) if one.id == host)
    gone = tuple(replace(one, expires=visitor.served.clock.now() - timedelta(days=1)) for one in old.certificates)
    await registry.enrol(visitor.served.store, replace(old, certificates=gone))
    asked = wire.CertificateRequest(ca.make_request(key, host).decode(), "127.0.62.2")
    tls = trust.client_context(tmp_path / "second")
    assert (await visitor.send("POST", wire.CERTIFICATE_PATH, asked, tls))[0] == 200
    found = next(one for one in await registry.members(visitor.served.store) if one.id == host)
    assert len(found.certificates) == 1


async def test_certificate_of_another_cluster(visitor: Visitor, tmp_path: Path) -> None:
    """It opens no route at all, not even those a stranger may use."""
    now = visitor.served.clock.now()
    foreign = ca.make_authority("other", now)
    key = ca.make_key()
    cert = ca.sign(foreign, ca.make_request(key, "x"), host_id="x", cluster_id="other", addresses=(), now=now)
    trust.install(tmp_path / "x", ca_pem=visitor.served.sponsor.ca_pem, cert_pem=cert, key_pem=key)
    with pytest.raises(aiohttp.ClientError):
        await visitor.send("GET", wire.CA_PATH, tls=trust.client_context(tmp_path / "x"))


async def test_bodies_are_bounded(visitor: Visitor) -> None:
    """A stranger cannot fill the memory."""
    status, _ = await visitor.send("POST", wire.JOIN_PATH, {"csr": "x" * (2 * 1024 * 1024)})
    assert status == 413
