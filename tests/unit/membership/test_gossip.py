"""Whom a member looks for in the gossip, how it is found, and how those that were removed are forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from morgand.base.aio import ended
from morgand.gossip.discovery import advertised
from morgand.membership.gossip import GossipPublisher, seeds
from tests.fakes.storage import HandClock


def test_others_gossip_beside_their_own_apis() -> None:
    """The ports of each host are its own; where the configuration names none they are as here."""
    peers = ["192.0.2.1:7471", "192.0.2.2:8471", "[2001:db8::3]:9471"]
    found = seeds("192.0.2.1:7471", peers, ["192.0.2.4", "192.0.2.5:9000", "192.0.2.2:8471", "host:port"], 7471)
    assert found == ["192.0.2.2:8472", "[2001:db8::3]:9472", "192.0.2.4:7472", "192.0.2.5:9001"]


def test_two_hosts_of_one_address_find_each_other() -> None:
    assert seeds("127.0.0.1:7471", ["127.0.0.1:8471"], [], 7471) == ["127.0.0.1:8472"]


@pytest.mark.parametrize(
    ("host", "address"),
    [("x" * 80, "127.0.0.1"), ("h" * 300, "127.0.0.1"), ("a", "192.0.2.99"), ("a", "2001:db8::99")],
)
async def test_a_host_that_cannot_be_announced_goes_on(host: str, address: str) -> None:
    """Whatever the multicast library says to its name or its interface."""
    async with advertised("c", "name" * 100, host, address, 7471):
        pass


async def test_who_was_removed_is_forgotten_by_a_task_that_ends_with_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for it; here gossip does not run, which is told."""
    me = SimpleNamespace(host="a", address="127.0.0.1", port=7471, api="127.0.0.1:7471", peers=())
    context = SimpleNamespace(folder=tmp_path, run=tmp_path, logs=tmp_path, name="a")
    publisher = GossipPublisher(lambda: cast("Any", me), cast("Any", context), cast("Any", None), HandClock())
    forgetting = asyncio.create_task(publisher.forget_removed())
    publisher.forget("b")
    publisher.forget("c")
    async with asyncio.timeout(20):
        while [one.__dict__.get("removed") for one in caplog.records] != ["b", "c"]:
            await asyncio.sleep(0.01)
    await ended(forgetting)
    assert forgetting.cancelled()
