"""Where PostgreSQL runs on this host, and the passwords of its roles: values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

POSTGRES_PORT, REST_PORT = 4, 5  # after a host's first port

SUPERUSER, REPLICATOR = "postgres", "replicator"
REWINDER = "rewinder"  # rewinds nothing: as it Patroni asks the primary's server whether this one has left its timeline
APPLICATION = "morgan"  # the role of Morgan itself, and the database it owns


@dataclass(frozen=True, slots=True)
class DbSite:
    """``folder`` is DATA_DIR/db; in ``credentials`` (DATA_DIR/cluster) is the host's certificate.

    Below ``folder``: ``patroni.yml``, ``pg_hba.conf``, ``postgres`` (what Patroni starts as the server), ``tls/`` the
    certificate as the server's account may read it, and ``server/``, which belongs to that account, with ``data/``.
    """

    host: str
    address: str
    port: int  # the host's first one
    folder: Path
    credentials: Path
    programs: Path  # the folder of ``postgres``, ``initdb`` and the like
    ram_mb: int
    priority: int = 1  # the highest one that follows the primary is synchronous

    @property
    def postgres_port(self) -> int:
        return self.port + POSTGRES_PORT

    @property
    def rest_port(self) -> int:
        return self.port + REST_PORT

    @property
    def rest_url(self) -> str:
        return rest_url(self.address, self.port)

    @property
    def config(self) -> Path:
        return self.folder / "patroni.yml"

    @property
    def access(self) -> Path:
        """The server's ``pg_hba.conf``."""
        return self.folder / "pg_hba.conf"

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def complete(self) -> Path:
        """Is there once this member has had a whole copy of the database, or made it."""
        return self.folder / "complete"

    @property
    def tls(self) -> Path:
        return self.folder / "tls"

    @property
    def server(self) -> Path:
        return self.folder / "server"

    @property
    def data(self) -> Path:
        return self.server / "data"


@dataclass(frozen=True, slots=True)
class Secrets:
    """The passwords of the database's roles: the same on every host, made once for a cluster."""

    superuser: str = field(repr=False)
    replication: str = field(repr=False)
    rewind: str = field(repr=False)
    application: str = field(repr=False)


def joined(address: str, port: int) -> str:
    """``address:port``, for IPv6 too."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def rest_url(address: str, port: int) -> str:
    """Where the Patroni of a host answers. ``port`` is the host's first one."""
    return f"https://{joined(address, port + REST_PORT)}"
