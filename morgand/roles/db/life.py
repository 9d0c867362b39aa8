"""What one life of Patroni on this host is made of, and how the role is that it performs."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from morgand.base.clock import Clock
from morgand.process.account import Account
from morgand.process.supervisor import Report
from morgand.roles.db import files
from morgand.roles.db.patroni import patroni_config
from morgand.roles.db.promotion import RoleCondition
from morgand.roles.db.rest import Rest
from morgand.roles.db.site import DbSite, Secrets
from morgand.state.roles import RoleState

FILLING: RoleCondition = (RoleState.STARTING, "The database moves here.")


@dataclass(frozen=True, slots=True)
class DatabaseHost:
    """This host, as PostgreSQL is run on it. ``site`` may change: then the server is started anew; it raises
    EngineError where there can be none."""

    site: Callable[[], DbSite]
    log_dir: Path
    clock: Clock


@dataclass(frozen=True, slots=True)
class PatroniSetup:
    """As long as it does not change one life of Patroni goes on."""

    site: DbSite
    secrets: Secrets
    account: Account | None
    etcd_port: int
    tls: ssl.SSLContext

    @property
    def sockets(self) -> Path:
        return files.socket_folder(self.site.folder)

    @property
    def rest(self) -> Rest:
        return Rest(self.site.rest_url, self.site.host, self.tls)

    def write_config(self) -> None:
        """Blocking. Raises EngineError."""
        config = patroni_config(
            self.site, self.secrets, etcd_port=self.etcd_port, sockets=self.sockets,
            revocations=files.has_revocations(self.site),
        )  # fmt: skip
        files.write_config(self.site, self.account, config)


class RoleReport:
    """Says how the role is, once each time that it changes. While the database is still in a file (not ``whole``)
    nobody is ready who could not serve, however well its server is."""

    def __init__(self, report: Report, whole: Callable[[], bool]) -> None:
        self._report, self._whole = report, whole
        self._told: RoleCondition | None = None
        self.server: RoleCondition | None = None  # how the server here is
        self.trouble: RoleCondition | None = None  # why Patroni does not run

    @property
    def server_ready(self) -> bool:
        return self.server is not None and self.server[0] is RoleState.READY

    def say(self, state: RoleState, reason: str | None) -> None:
        self.server = (state, reason)
        told = FILLING if state is RoleState.READY and not self._whole() else self.server
        if told != self._told:
            self._told = told
            self._report(*told)

    def of_patroni(self, state: RoleState, reason: str | None) -> None:
        """The supervisor's report of its process."""
        self.trouble = (state, reason) if reason else None
        if reason:
            self.say(state, reason)
