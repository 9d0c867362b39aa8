"""The move over TCP."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from morgand.base.errors import MorganError
from morgand.security import ca
from morgand.storage.database import Database
from morgand.storage.move.target import with_certificates
from tests.engines.moves import (
    CLOCK,
    arrived,
    move,
    nothing,
)
from tests.fakes.postgres import needed, server

pytestmark = [pytest.mark.engine, needed]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that the server's account may look into."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def certificates(folder: Path, address: str, authority: ca.Authority) -> dict[str, str]:
    """Of a host at this address, as files."""
    name, key = str(uuid4()), ca.make_key()
    request = ca.make_request(key, name)
    signed = ca.sign(
        authority, request, host_id=name, cluster_id="c", addresses=[address], now=CLOCK.now()
    )  # fmt: skip
    files = {"ca": authority.cert_pem, "certificate": signed, "key": key}
    for part, text in files.items():
        (folder / part).write_bytes(text)
        (folder / part).chmod(0o600 if part == "key" else 0o644)
        shutil.chown(folder / part, "nobody" if os.getuid() == 0 else None, os.getgid())
    return {part: str(folder / part) for part in files}


async def test_over_tcp_both_sides_prove_who_they_are(source: Database, shared: Path) -> None:
    """A server of another authority, or of another name, is told nothing, and it refuses who shows no certificate."""
    address = f"127.{os.getpid() >> 8 & 255}.{os.getpid() & 255}.1"  # a port of our own, on any busy machine
    authority, now = ca.make_authority("c", CLOCK.now()), CLOCK.now()
    other = shared / "other"
    other.mkdir(mode=0o755)
    ours, theirs = certificates(shared, address, authority), certificates(other, address, ca.make_authority("d", now))
    (shared / "hba").write_text("local all all trust\nhostssl all all 0.0.0.0/0 trust clientcert=verify-ca\n")
    unnamed = address[:-1] + "2"
    settings = [
        f"listen_addresses={address},{unnamed}",
        "ssl=on",
        f"hba_file={shared}/hba",
        f"ssl_ca_file={ours['ca']}",
    ]
    plain = f"postgresql+asyncpg://morgan@{address}:5432/postgres"
    with server("ssl=on", *settings, f"ssl_cert_file={ours['certificate']}", f"ssl_key_file={ours['key']}") as running:
        wrong = (
            with_certificates(plain, **{**ours, "ca": theirs["ca"]}),
            with_certificates(plain, **{**theirs, "ca": ours["ca"]}),
            with_certificates(plain.replace(address, unnamed), **ours),
            plain + "?sslmode=require",
        )
        for url in wrong:
            with pytest.raises(MorganError):
                await move(source, url).run(nothing)
        await arrived(running.url, (await move(source, with_certificates(plain, **ours)).run(nothing)).kept)
