"""What a voter's etcd had, read without its cluster: for the case that most of the voters are gone for good.

A copy of its data is started as a cluster of one that nobody can reach but this host's own certificate, read, and
thrown away. So what etcd 3.4 gets wrong about such a cluster (learners stay in it) touches nothing that lasts. Writes
of the last heartbeat (0.1 s) may be missing: etcd drops what this voter did not yet know to be settled.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from morgand.base.errors import Unavailable
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_process import VoterPlace, etcd_config, write_config
from morgand.cluster.etcd_store import EtcdStore
from morgand.cluster.store import Item
from morgand.cluster.switch import EVERYTHING, MOVED
from morgand.security import trust

LOOPBACK = "127.0.0.1"
START_S, END_S, PAUSE_S = 30.0, 10.0, 0.2


async def salvage(voter: VoterPlace, tls: ssl.SSLContext, program: Sequence[str]) -> list[Item] | None:
    """Everything that was known to the etcd of ``voter``, which must not be running; None where it was never in use.

    Raises Unavailable when its data cannot be read.
    """
    if not (voter.data / "member").exists():
        return None
    scratch = voter.folder / "salvage"
    try:
        place = await asyncio.to_thread(_copied, voter, scratch)
        async with _running(place, program):
            return await _everything(place, tls)
    except OSError as err:
        raise Unavailable(
            f"The data of etcd cannot be copied: {err.strerror}.", remedy="Free some disk space."
        ) from err
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


def _copied(voter: VoterPlace, scratch: Path) -> VoterPlace:
    """A place of its own for the copy, and everything in it."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    place = VoterPlace(voter.host_id, LOOPBACK, _free_ports(), voter.cluster_id, scratch)
    shutil.copytree(voter.data, place.data)
    for name in trust.FILES:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(voter.folder / name, scratch / name)
    config = etcd_config(place, {voter.host_id: place.peer_url}, existing=False)
    write_config(scratch / "etcd.json", {**config, "force-new-cluster": True})
    return place


@contextlib.asynccontextmanager
async def _running(place: VoterPlace, program: Sequence[str]) -> AsyncIterator[None]:
    with (place.folder / "etcd.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *program, "--config-file", str(place.folder / "etcd.json"), stdin=asyncio.subprocess.DEVNULL,
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # its data is a copy
        async with asyncio.timeout(END_S):
            await process.wait()


async def _everything(place: VoterPlace, tls: ssl.SSLContext) -> list[Item] | None:
    store = EtcdStore(EtcdClient(lambda: [Endpoint(place.client_url, place.host_id)], tls, name=place.host_id))
    try:
        async with asyncio.timeout(START_S):
            while True:
                with contextlib.suppress(Unavailable):
                    moved = await store.get(MOVED)
                    return (await store.list(EVERYTHING))[0] if moved is not None else None
                await asyncio.sleep(PAUSE_S)
    except TimeoutError as err:
        raise Unavailable("The data of etcd on this host cannot be read.") from err
    finally:
        await store.close()


def _free_ports() -> int:
    """A first port so that those of etcd's clients and peers are free now."""
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            first = int(probe.getsockname()[1])
        with contextlib.suppress(OSError), socket.socket() as clients, socket.socket() as peers:
            clients.bind((LOOPBACK, first + 2))
            peers.bind((LOOPBACK, first + 3))
            return first
