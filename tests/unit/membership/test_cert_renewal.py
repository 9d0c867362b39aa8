"""A member keeps its certificate fresh, over real TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from morgand.base import files
from morgand.base.errors import MorganError
from morgand.config import load
from morgand.membership.cert_renewal import CertificateRenewal
from morgand.membership.join import join
from morgand.roles.catalog import NAMES
from morgand.security import ca, trust
from tests.fakes.sponsor import ServedMember, member


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedMember]:
    async with member(tmp_path / "first", "127.0.63.1") as one:
        yield one


async def second(served: ServedMember, tmp_path: Path) -> Path:
    """A second member's key material."""
    settings = [f"host.data_dir={tmp_path / 'second'}", "host.name=second", "host.address=127.0.63.2"]
    token, _ = await served.invite()
    await join(load(None, {}, settings, roles=NAMES), served.at, token, say=str)
    return tmp_path / "second" / "cluster"


def renewal(folder: Path, served: ServedMember, told: list[str], address: str = "127.0.63.2") -> CertificateRenewal:
    return CertificateRenewal(
        folder, address=lambda: address, peers=lambda: ["127.0.63.77:1", served.at], clock=served.clock,
        renewed=lambda: told.append("renewed"),
    )  # fmt: skip


async def test_renews_at_two_thirds(served: ServedMember, tmp_path: Path) -> None:
    """Nothing on the first day; a new certificate for the same key after twenty, whichever member answers."""
    folder, told = await second(served, tmp_path), list[str]()
    assert not await renewal(folder, served, told).step()
    key = (folder / trust.KEY).read_bytes()
    host = ca.facts((folder / trust.CERT).read_bytes()).host
    aged = ca.sign(
        served.sponsor.made, ca.make_request(key, host), host_id=host, cluster_id=served.sponsor.cluster_id,
        addresses=["127.0.63.2"], now=served.clock.now() - timedelta(days=20, hours=1),
    )  # fmt: skip
    files.write_private(folder / trust.CERT, aged)
    assert await renewal(folder, served, told).step()
    facts = ca.facts((folder / trust.CERT).read_bytes())
    assert facts.not_after > served.clock.now() + timedelta(days=29)
    assert told == ["renewed"]
    assert (folder / trust.KEY).read_bytes() == key
    trust.client_context(folder)


async def test_renews_when_the_address_changes(served: ServedMember, tmp_path: Path) -> None:
    """The new address is in the new certificate, and those who hold contexts are told."""
    folder, told = await second(served, tmp_path), list[str]()
    assert await renewal(folder, served, told, "127.0.63.9").step()
    facts = ca.facts((folder / trust.CERT).read_bytes())
    assert facts.addresses == ("127.0.63.9", "127.0.0.1")
    assert told == ["renewed"]
    trust.client_context(folder)
    assert not await renewal(folder, served, told, "127.0.63.9").step()


async def test_says_why_it_cannot(served: ServedMember, tmp_path: Path) -> None:
    """No member, and no member that answers, are errors in words; the old certificate stays."""
    folder = await second(served, tmp_path)
    before = (folder / trust.CERT).read_bytes()
    for peers in ([], ["127.0.63.77:1"]):
        nobody = CertificateRenewal(
            folder, address=lambda: "127.0.63.9", peers=iter([peers]).__next__, clock=served.clock, renewed=lambda: None
        )  # fmt: skip
        with pytest.raises(MorganError, match="No "):
            await nobody.step()
    assert (folder / trust.CERT).read_bytes() == before
    (folder / trust.CERT).unlink()
    with pytest.raises(MorganError, match="cannot be used"):
        await renewal(folder, served, []).step()
