"""Real etcd voters, each at a loopback address of its own, with certificates of one cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from morgand.base.clock import SystemClock
from morgand.base.errors import MorganError
from morgand.cluster.etcd import Endpoint, EtcdClient
from morgand.cluster.etcd_process import EtcdProcess, Probe, Report, VoterPlace
from morgand.cluster.etcd_store import EtcdStore
from morgand.process.supervisor import Child, ChildSpec
from morgand.security import ca
from morgand.state.roles import RoleState

CLUSTER = "test-cluster"
STARTED_S = 120.0


async def keep(name: str, argv: tuple[str, ...], probe: Probe, report: Report) -> None:
    spec = ChildSpec(
        name, (sys.executable, "-m", "morgand.process.die_with_parent", *argv), {}, Path(argv[-1]).parent / "etcd.log"
    )
    await Child(spec, probe, SystemClock()).run(report)


@dataclass
class Voter:
    place: VoterPlace
    process: EtcdProcess
    states: list[RoleState] = field(default_factory=list)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.place.client_url, self.place.host_id)

    def report(self, state: RoleState, _reason: str | None) -> None:
        self.states.append(state)

    def pid(self) -> int:
        """Of the etcd that runs with this voter's configuration."""
        wanted = str(self.place.folder / "etcd.json").encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                argv = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                if wanted in argv and (entry / "exe").resolve().name == "etcd":
                    return int(entry.name)
        raise AssertionError(f"{self.place.host_id} runs no etcd")

    def signal(self, what: signal.Signals) -> None:
        os.kill(self.pid(), what)


class Town:
    """A cluster's authority, and hosts h1, h2 ... of it at 127.0.NET.1, 127.0.NET.2 ..."""

    def __init__(self, folder: Path, net: int) -> None:
        self.folder, self.net = folder, net
        self.port = free_ports(f"127.0.{net}.1")
        self.authority = ca.make_authority(CLUSTER, datetime.now(UTC))
        self.voters: dict[str, Voter] = {}
        self._clients: list[EtcdClient] = []

    def host(self, number: int, *, peer: bool = True) -> Voter:
        """``peer``: whether its certificate is one of a host."""
        name, address = f"h{number}", f"127.0.{self.net}.{number}"
        place = VoterPlace(name, address, self.port, CLUSTER, self.folder / name)
        place.folder.mkdir(mode=0o700)
        key = ca.make_key()
        # the address in it is not the host's: etcd must not depend on it
        cert = ca.sign(
            self.authority, ca.make_request(key, name), host_id=name, cluster_id=CLUSTER,
            addresses=["192.0.2.1"], now=datetime.now(UTC),
        )  # fmt: skip
        files = {"ca.pem": self.authority.cert_pem, "key.pem": key, "cert.pem": cert}
        for file, content in files.items():
            (place.folder / file).write_bytes(content)
        self.revoke(place.folder)
        self.voters[name] = Voter(place, EtcdProcess(place, keep, self.tls(place.folder)))
        return self.voters[name]

    def revoke(self, folder: Path, serials: Sequence[str] = ()) -> None:
        (folder / "crl.pem").write_bytes(ca.revocation_list(self.authority, serials, datetime.now(UTC)))

    def tls(self, folder: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        return context

    def client(self, host: str = "h1", endpoints: Sequence[str] | None = None) -> EtcdClient:
        def found() -> list[Endpoint]:
            return [self.voters[name].endpoint for name in (self.voters if endpoints is None else endpoints)]

        self._clients.append(EtcdClient(found, self.tls(self.voters[host].place.folder), name=host))
        return self._clients[-1]

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    def store(self, host: str = "h1", endpoints: Sequence[str] | None = None) -> EtcdStore:
        return EtcdStore(self.client(host, endpoints))


@contextlib.asynccontextmanager
async def running(voters: Sequence[Voter]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """The etcd of each, supervised, until the end of the block."""
    tasks = [asyncio.create_task(voter.process.run(voter.report)) for voter in voters]
    try:
        yield tasks
    finally:
        for voter in voters:
            with contextlib.suppress(AssertionError):
                voter.signal(signal.SIGCONT)
                voter.signal(signal.SIGKILL)  # data of tests: no need to wait for a graceful end
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answering(client: EtcdClient, voters: Sequence[Voter]) -> None:
    """Wait until each of the voters takes part."""
    async with asyncio.timeout(STARTED_S):
        for voter in voters:
            while True:
                with contextlib.suppress(MorganError):
                    if (await client.status(voter.endpoint)).leader:
                        break
                await asyncio.sleep(0.05)


def free_ports(address: str) -> int:
    """The first of four ports that are free at the address."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return min(int(probe.getsockname()[1]), 60_000)
