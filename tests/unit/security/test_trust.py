"""TLS between hosts, over real connections on the loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from morgand.base import files
from morgand.base.errors import ConfigError
from morgand.security import ca, trust
from morgand.security.ca import Authority, CertFacts

NOW = datetime.now(UTC)
OURS, THEIRS = ca.make_authority("ours", NOW), ca.make_authority("theirs", NOW)


def material(folder: Path, host: str, authority: Authority = OURS, now: datetime = NOW) -> Path:
    key = ca.make_key()
    cert = ca.sign(
        authority, ca.make_request(key, host), host_id=host, cluster_id="ours", addresses=["127.0.61.1"], now=now
    )
    trust.install(folder / host, ca_pem=authority.cert_pem, cert_pem=cert, key_pem=key)
    return folder / host


@asynccontextmanager
async def listening(context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[CertFacts | None]]]:
    """A listener that greets and remembers who came."""
    seen: list[CertFacts | None] = []

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(trust.peer_of(writer.get_extra_info("ssl_object")))
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.61.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


async def greeted(port: int, context: ssl.SSLContext, name: str) -> bool:
    """Whether the listener's greeting arrives."""
    try:
        reader, writer = await asyncio.open_connection("127.0.61.1", port, ssl=context, server_hostname=name)
        content = await reader.read()
        writer.close()
    except (ssl.SSLError, ConnectionError):
        return False
    return content == b"hello"


async def test_members_know_each_other(tmp_path: Path) -> None:
    """Both sides see this cluster's certificate, in TLS 1.3, and the listener sees whose."""
    context = trust.server_context(material(tmp_path, "a"), require_cert=True)
    async with listening(context) as (port, seen):
        assert await greeted(port, trust.client_context(material(tmp_path, "b")), "a.morgan")
        assert [one.host for one in seen if one] == ["b"]
        old = trust.client_context(tmp_path / "b")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert not await greeted(port, old, "a.morgan")


async def test_nobody_poses_as_another_host(tmp_path: Path) -> None:
    """A certificate of the cluster is not enough to be taken for another of its hosts."""
    async with listening(trust.server_context(material(tmp_path, "a"), require_cert=True)) as (port, seen):
        context = trust.client_context(material(tmp_path, "b"))
        assert not await greeted(port, context, "c.morgan")
        assert seen == []


async def test_strangers_are_shut_out(tmp_path: Path) -> None:
    """No certificate, another cluster's and an expired one open nothing; none at all is enough only where allowed."""
    folder = material(tmp_path, "a")
    other = trust.client_context(material(tmp_path / "other", "a", THEIRS))
    other.load_verify_locations(cadata=OURS.cert_pem.decode())
    expired = trust.client_context(material(tmp_path, "late", now=NOW - timedelta(days=40)))
    bare = trust.joiner_context(OURS.cert_pem)
    async with listening(trust.server_context(folder, require_cert=True)) as (port, seen):
        for context in (other, expired, bare):
            assert not await greeted(port, context, "a.morgan")
        assert seen == []
    async with listening(trust.server_context(folder, require_cert=False)) as (port, seen):
        assert not await greeted(port, other, "a.morgan")
        assert await greeted(port, bare, "a.morgan")
        assert seen == [None]


async def test_revocation_and_renewal_need_no_restart(tmp_path: Path) -> None:
    """A context in use heeds the new revocation list and shows the new certificate after ``reload``."""
    folder, other = material(tmp_path, "a"), material(tmp_path, "b")
    serial = ca.facts((other / trust.CERT).read_bytes()).serial
    context = trust.server_context(folder, require_cert=True)
    client = trust.client_context(other)
    async with listening(context) as (port, _):
        files.write_private(folder / trust.CRL, ca.revocation_list(OURS, [], NOW))
        trust.reload(context, folder)
        assert await greeted(port, client, "a.morgan")
        files.write_private(folder / trust.CRL, ca.revocation_list(OURS, [serial], NOW))
        trust.reload(context, folder)
        assert not await greeted(port, client, "a.morgan")
        material(tmp_path, "b")
        trust.reload(client, other)
        assert await greeted(port, client, "a.morgan")


def test_missing_and_damaged_files_say_what_to_do(tmp_path: Path) -> None:
    """The message names the folder and the way out."""
    folder = material(tmp_path, "a")
    (folder / trust.KEY).write_bytes(ca.make_key())  # of another certificate
    for broken in (tmp_path / "nothing", folder):
        with pytest.raises(ConfigError, match="morgand join"):
            trust.client_context(broken)


def test_failures_in_words() -> None:
    """Each way a connection fails has its sentence."""
    assert trust.explain(TimeoutError()) == "it does not answer"
    assert (
        trust.explain(ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 7471)")) == "nothing listens there"
    )
    assert trust.explain(OSError(113, "No route to host")) == "No route to host"
    revoked = ssl.SSLError(1, "[SSL: SSLV3_ALERT_CERTIFICATE_REVOKED] x")
    revoked.reason = "SSLV3_ALERT_CERTIFICATE_REVOKED"
    assert trust.explain(revoked) == "this host was removed from the cluster"
