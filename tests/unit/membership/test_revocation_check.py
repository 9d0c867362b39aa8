"""A host that was given up learns it from any member, and only from what the authority has signed. Real TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from morgand.base.errors import Fenced
from morgand.config import load
from morgand.membership.join import join
from morgand.membership.revocation_check import RevocationCheck
from morgand.roles.catalog import NAMES
from morgand.security import ca, trust
from tests.fakes.sponsor import ServedMember, member
from tests.fakes.storage import HandClock


class Turns(HandClock):
    """``RevocationCheck`` looks this often."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = count

    async def sleep(self, seconds: float) -> None:
        self.left -= 1
        if not self.left:
            raise asyncio.CancelledError


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedMember]:
    async with member(tmp_path / "first", "127.0.64.1") as one:
        yield one


@pytest.fixture
async def folder(served: ServedMember, tmp_path: Path) -> Path:
    """A second member's key material."""
    settings = [f"host.data_dir={tmp_path / 'second'}", "host.name=second", "host.address=127.0.64.2"]
    token, _ = await served.invite()
    await join(load(None, {}, settings, roles=NAMES), served.at, token, say=str)
    return tmp_path / "second" / "cluster"


def serial(folder: Path) -> str:
    return ca.facts((folder / trust.CERT).read_bytes()).serial


async def looked(folder: Path, *peers: str, turns: int = 1) -> None:
    with pytest.raises(asyncio.CancelledError):
        await RevocationCheck(folder, lambda: peers, Turns(turns)).run()


async def test_a_member_goes_on(served: ServedMember, folder: Path) -> None:
    """Also while nobody answers, and when others were removed."""
    served.sponsor.removed = ["ab12"]
    await looked(folder, served.at, "127.0.64.77:1", turns=2)
    await looked(folder)


async def test_whoever_was_removed_is_told_so(served: ServedMember, folder: Path) -> None:
    """Although the member would not talk to it: its list is there for anybody."""
    served.sponsor.removed = ["ab12", serial(folder)]
    with pytest.raises(Fenced, match=rf"removed from its cluster, {served.at} says.*morgand join"):
        await RevocationCheck(folder, lambda: ["127.0.64.77:1", served.at], Turns(1)).run()
