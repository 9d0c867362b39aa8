"""etcd on a voter: its configuration, and its process.

Members of etcd know each other by the name ``peer.morgan`` in their certificates, not by addresses: an address that
changes breaks nothing. Certificates and the list of revoked ones are read anew at every handshake.
Source: etcd 3.4, embed/config.go and pkg/transport/listener.go (``TLSInfo`` has no flags for some of its fields; a
configuration file reaches them).
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from morgand.base import files
from morgand.base.errors import MorganError, StorageFull
from morgand.cluster.voters import CLIENT_PORT, PEER_PORT
from morgand.state.roles import RoleState

CONFIG, MEMBER, DATA = "etcd.json", "etcd.member", "etcd"
PEER_NAME = "peer.morgan"
HEARTBEAT_MS, ELECTION_MS = 100, 1000
MAX_TXN_OPS = 8192  # a plan for 1,000 hosts is one transaction
MAX_REQUEST_BYTES = 4 * 2**20
QUOTA_BYTES = 2 * 2**30
PROBE_DEADLINE_S = 1.0
ALIVE_S = 5.0  # to end it costs more than to wait where the processors are busy: the others elect by themselves
NO_HEADERS: Mapping[str, str] = {}

Probe = Callable[[], Awaitable[bool]]
Report = Callable[[RoleState, str | None], None]
Keep = Callable[[str, tuple[str, ...], Probe, Report], Awaitable[None]]  # run a program until cancelled


@dataclass(frozen=True, slots=True)
class VoterPlace:
    """Where a voter runs. ``folder`` (DATA_DIR/cluster) holds ca.pem, cert.pem, key.pem, crl.pem, and etcd's data."""

    host_id: str
    address: str
    port: int  # the host's first one
    cluster_id: str
    folder: Path

    @property
    def client_url(self) -> str:
        return f"https://{self.address}:{self.port + CLIENT_PORT}"

    @property
    def peer_url(self) -> str:
        return f"https://{self.address}:{self.port + PEER_PORT}"

    @property
    def data(self) -> Path:
        return self.folder / DATA


def etcd_config(place: VoterPlace, initial: Mapping[str, str], *, existing: bool) -> dict[str, Any]:
    """etcd's configuration file as a value. ``initial``: member name to peer URL, of all members including this one."""
    security = {
        "cert-file": str(place.folder / "cert.pem"), "key-file": str(place.folder / "key.pem"),
        "trusted-ca-file": str(place.folder / "ca.pem"), "client-cert-auth": True,
    }  # fmt: skip
    revoked = {"CRLFile": str(place.folder / "crl.pem")}
    return {
        "name": place.host_id,
        "data-dir": str(place.data),
        "listen-client-urls": place.client_url,
        "advertise-client-urls": place.client_url,
        "listen-peer-urls": place.peer_url,
        "initial-advertise-peer-urls": place.peer_url,
        "initial-cluster": ",".join(f"{name}={url}" for name, url in sorted(initial.items())),
        "initial-cluster-state": "existing" if existing else "new",
        "initial-cluster-token": place.cluster_id,
        "strict-reconfig-check": True,
        "pre-vote": True,
        "heartbeat-interval": HEARTBEAT_MS,
        "election-timeout": ELECTION_MS,
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "max-txn-ops": MAX_TXN_OPS,
        "max-request-bytes": MAX_REQUEST_BYTES,
        "quota-backend-bytes": QUOTA_BYTES,
        "enable-grpc-gateway": True,  # on by default as a flag, off in a file
        "client-transport-security": security,
        "peer-transport-security": security,
        "ClientTLSInfo": revoked,
        "PeerTLSInfo": {
            **revoked, "AllowedHostname": PEER_NAME, "ServerName": PEER_NAME, "SkipClientSANVerify": True,
        },
        "logger": "zap",
        "log-outputs": ["stderr"],
        "log-level": "warn",
    }  # fmt: skip


class EtcdProcess:
    """etcd on this host. ``keep`` runs a program, supervised; ``program`` is how etcd is called."""

    def __init__(
        self, place: VoterPlace, keep: Keep, tls: ssl.SSLContext, *, program: tuple[str, ...] = ("etcd",)
    ) -> None:
        self.place = place
        self._keep, self._tls, self._program = keep, tls, program
        self._config, self._member = place.folder / CONFIG, place.folder / MEMBER

    @property
    def prepared(self) -> bool:
        """Whether this host is to run etcd: known without asking anybody, so that all voters can start at once."""
        return self._config.exists()

    @property
    def member(self) -> str:
        """The member of etcd that the data here belong to; empty when that was never written down."""
        try:
            return self._member.read_text()
        except FileNotFoundError:
            return ""

    def prepare(self, initial: Mapping[str, str], *, existing: bool, member: str = "", token: str = "") -> None:
        """Write the configuration; what an earlier member left here goes. Blocking. Raises StorageFull, MorganError.

        ``token`` sets a new etcd apart from any other of the same hosts: without it, from none that there was before.
        """
        try:
            self.wipe()
            self.place.data.mkdir(mode=0o700)
            files.write_whole(self._member, member.encode())
            config = etcd_config(self.place, initial, existing=existing)
            write_config(self._config, config | ({"initial-cluster-token": token} if token else {}))
        except OSError as err:
            raise _translated(err, self.place.folder) from err

    def wipe(self) -> None:
        """A removed member's data must never be used again. Blocking."""
        wipe(self.place.folder)

    async def run(self, report: Report) -> None:
        """Run etcd until cancelled, at the address this host has now. Raises StorageFull."""
        await asyncio.to_thread(self._renew)
        await self._keep("etcd", (*self._program, "--config-file", str(self._config)), self.alive, report)

    def _renew(self) -> None:
        """What was true when the member began stays; etcd reads it only while it has no data."""
        try:
            begun = msgspec.json.decode(self._config.read_bytes(), type=dict[str, Any])
            config = {**begun, **etcd_config(self.place, {}, existing=True)}
            for name in ("initial-cluster", "initial-cluster-state", "initial-cluster-token"):
                config[name] = begun[name]
            if config != begun:  # a full disk is no reason not to start
                write_config(self._config, config)
        except OSError as err:
            raise _translated(err, self.place.folder) from err

    async def alive(self) -> bool:
        """Whether the process answers. Not whether it has a quorum: restarting it would not bring one."""
        return await self.ask_peer("GET", "/version", within_s=ALIVE_S) == 200

    async def ask_peer(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = NO_HEADERS,
        *,
        within_s: float = PROBE_DEADLINE_S,
    ) -> int | None:
        """The HTTP status that the port for etcd's other members answers; None when it does not, or too late."""
        try:
            async with (
                asyncio.timeout(within_s),
                aiohttp.ClientSession() as session,
                session.request(
                    method, f"{self.place.peer_url}{path}", data=body or None, headers=headers, ssl=self._tls,
                    server_hostname=f"{self.place.host_id}.morgan",
                ) as response,
            ):  # fmt: skip
                return response.status
        except (TimeoutError, aiohttp.ClientError, OSError):
            return None


def wipe(folder: Path) -> None:
    """Forget the member of etcd that ran here. Blocking."""
    (folder / CONFIG).unlink(missing_ok=True)
    (folder / MEMBER).unlink(missing_ok=True)
    shutil.rmtree(folder / DATA, ignore_errors=True)


def write_config(file: Path, config: Mapping[str, Any]) -> None:
    """As JSON, which is YAML. Blocking. Raises OSError."""
    files.write_whole(file, msgspec.json.format(msgspec.json.encode(config)))


def _translated(err: OSError, folder: Path) -> MorganError:
    return StorageFull(
        f"etcd cannot be set up in {folder}: {err.strerror}.", remedy="Free space on its disk and make it writable."
    )
