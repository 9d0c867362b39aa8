"""PostgreSQL under Patroni without Morgan, as an administrator sets it up who reads the manual: three hosts, each with
a voter of etcd and a member, in network namespaces of their own.

``ttl``, ``loop_wait`` and ``retry_timeout`` are the least that Patroni 4.1 accepts; everything else that decides how
long a failover takes is Patroni's, etcd's or PostgreSQL's default. No TLS: that costs nothing here.
Source: Patroni's docs/{yaml_configuration,dynamic_configuration_settings,replication_modes}.rst.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from morgand.process import account
from tests.fakes.postgres import binaries
from tests.lab.guardian import strike
from tests.lab.inside import inside
from tests.lab.net import NETWORK, Net, usable

HOSTS = ("one", "two", "three")
CLIENT = "client"
PASSWORD = "stock"
ASK_S = 2.0
LIMIT_S = 120.0
STOP_S = 15.0
POLL_S = 0.1
MEMBERS = ["leader", "replica", "sync_standby"]

Shown = list[dict[str, Any]]
T = TypeVar("T")


def why_not() -> str | None:
    """Why no such cluster can be made here, or None."""
    programs = binaries()
    if programs is None:
        return "PostgreSQL is not installed"
    if shutil.which("etcd") is None:
        return "etcd is not installed"
    return usable() or account.why_not(str(programs / "postgres"))


def etcd_arguments(name: str, addresses: Mapping[str, str], folder: Path) -> list[str]:
    """A voter as etcd's manual has it; heartbeats and elections are the defaults."""
    peers = ",".join(f"{one}=http://{address}:2380" for one, address in addresses.items())
    own = {
        "name": name, "data-dir": folder / "etcd", "initial-cluster": peers, "initial-cluster-token": "stock",
        "listen-peer-urls": f"http://{addresses[name]}:2380",
        "initial-advertise-peer-urls": f"http://{addresses[name]}:2380",
        "listen-client-urls": f"http://{addresses[name]}:2379",
        "advertise-client-urls": f"http://{addresses[name]}:2379",
    }  # fmt: skip
    return ["etcd", *(f"--{option}={value}" for option, value in own.items())]


def patroni_config(name: str, addresses: Mapping[str, str], folder: Path, programs: Path) -> dict[str, Any]:
    """Everything Patroni is told."""
    own = addresses[name]
    users = {"superuser": "postgres", "replication": "replicator", "rewind": "rewinder"}
    return {
        "scope": "stock",
        "name": name,
        "restapi": {"listen": f"{own}:8008", "connect_address": f"{own}:8008"},
        "etcd3": {"hosts": [f"{address}:2379" for address in addresses.values()]},
        "bootstrap": {"dcs": shared_settings(), "initdb": [{"encoding": "UTF8"}, "data-checksums"]},
        "postgresql": {
            "listen": f"{own}:5432",
            "connect_address": f"{own}:5432",
            "data_dir": str(folder / "data"),
            "bin_dir": str(programs),
            "pgpass": str(folder / "pgpass"),
            "use_unix_socket": True,
            "authentication": {use: {"username": user, "password": PASSWORD} for use, user in users.items()},
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
            "parameters": {"unix_socket_directories": str(folder)},
            "pg_hba": [
                "local all all scram-sha-256",
                f"host replication replicator {NETWORK}.0/24 scram-sha-256",
                f"host all all {NETWORK}.0/24 scram-sha-256",
            ],
        },
        "watchdog": {"mode": "off"},  # this machine's would reset all hosts
    }


def shared_settings() -> dict[str, Any]:
    """What holds for all members."""
    return {
        "ttl": 20,
        "loop_wait": 1,
        "retry_timeout": 3,
        "maximum_lag_on_failover": 2**20,
        "synchronous_mode": True,
        "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": {"wal_keep_size": "128MB"}},
    }


def whole(shown: Shown) -> bool:
    """Whether Patroni shows a primary, a synchronous standby and a further one, that follow."""
    states = {one["state"] for one in shown if one["role"] != "leader"}
    timelines = {one.get("timeline") for one in shown}
    return sorted(one["role"] for one in shown) == MEMBERS and states == {"streaming"} and len(timelines) == 1


def leader_of(shown: Shown) -> str | None:
    """The member that is primary and runs."""
    return next((one["name"] for one in shown if (one["role"], one["state"]) == ("leader", "running")), None)


class StockHost:
    """etcd and Patroni on a host, and what can happen to it."""

    def __init__(self, net: Net, name: str, root: Path, programs: Path) -> None:
        self.name = name
        self._net = net
        self._folder = root / name
        self._folder.mkdir(mode=0o700)
        addresses = {one: net.addresses[one] for one in HOSTS}
        config = self._folder / "patroni.yml"
        config.write_text(json.dumps(patroni_config(name, addresses, self._folder, programs)))
        self._commands: Sequence[Sequence[str]] = (
            etcd_arguments(name, addresses, self._folder),
            [str(Path(sys.executable).parent / "patroni"), str(config)],
        )
        self._running: list[subprocess.Popen[bytes]] = []
        who = account.engine_account()
        assert who is not None, "only root makes namespaces"
        self._who = who
        for path in (self._folder, config):
            os.chown(path, who.user, who.group)

    def start(self) -> None:
        for command in self._commands:
            self._running.append(inside(self._net.namespace(self.name), partial(self._run, command)))

    def shown(self) -> Shown:
        """The cluster as Patroni on this host shows it; nothing when it does not answer."""

        def ask() -> Shown:
            patroni = http.client.HTTPConnection(self._net.addresses[self.name], 8008, timeout=ASK_S)
            with contextlib.closing(patroni):
                patroni.request("GET", "/cluster")
                members: Shown = json.loads(patroni.getresponse().read())["members"]
                return members

        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError):
            return inside(self._net.namespace(CLIENT), ask)
        return []

    def strike(self, fault: str) -> None:
        ways: dict[str, Callable[[], None]] = {
            "power-cut": self._power_cut,
            "freeze": self._freeze,
            "partition": partial(self._net.cut_off, self.name),
        }
        ways[fault]()

    def back(self, fault: str) -> None:
        {"power-cut": self._power_on, "freeze": self._thaw, "partition": self._net.heal}[fault]()

    def stop(self) -> None:
        """Patroni is to end, and its server with it."""
        self._thaw()
        for patroni in self._running[1:]:
            patroni.terminate()

    def stopped(self, until: float) -> None:
        """Wait until then at most (monotonic clock): a server that is killed leaves shared memory behind."""
        for patroni in self._running[1:]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                patroni.wait(timeout=max(0.0, until - time.monotonic()))

    def reap(self) -> None:
        for process in self._running:
            process.wait(timeout=30)
        self._running.clear()

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-3000:]

    def _run(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self._folder, env={"PATH": os.environ.get("PATH", os.defpath)}, start_new_session=True,
                user=self._who.user, group=self._who.group, extra_groups=self._who.groups,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _power_cut(self) -> None:
        self._net.unplug(self.name)
        self._signal(signal.SIGKILL)
        self.reap()

    def _power_on(self) -> None:
        self._net.renew(self.name)
        self.start()

    def _freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def _thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for _ in range(3):  # a process may start another one meanwhile
            strike(self._net.namespace(self.name), number)


class Stock:
    """Three hosts; a context manager. Nothing of it is left afterwards but what is in ``root``."""

    def __init__(self, root: Path) -> None:
        programs = binaries()
        assert programs is not None
        self._root, self._programs = root, programs
        self.net = Net([*HOSTS, CLIENT])
        self.hosts: dict[str, StockHost] = {}

    def __enter__(self) -> Self:
        self.net.__enter__()
        try:
            for name in HOSTS:
                self.hosts[name] = StockHost(self.net, name, self._root, self._programs)
                self.hosts[name].start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(AssertionError):  # a host may be half renewed
            self.net.heal()  # a Patroni without etcd takes its time to end
        until = time.monotonic() + STOP_S
        for host in self.hosts.values():
            host.stop()
        for host in self.hosts.values():
            host.stopped(until)
        self.net.__exit__(kind, err, trace)  # ends what is left inside
        for host in self.hosts.values():
            host.reap()

    @property
    def addresses(self) -> list[str]:
        return [self.net.addresses[name] for name in HOSTS]

    def redundant(self) -> str:
        """Wait until every member shows the same whole cluster; its primary."""
        return self.until(self._agreed, "a primary and two standbys that follow it")

    def moved(self, old: str) -> bool:
        """Whether the others show another primary than ``old``."""
        found = {leader_of(host.shown()) for name, host in self.hosts.items() if name != old}
        return bool(found - {old, None})

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """What ``look`` finds as soon as it is something. Raises AssertionError when that takes too long."""
        began = time.monotonic()
        while not (found := look()):
            if time.monotonic() - began > LIMIT_S:
                logs = "\n".join(f"--- {host.name}: {host.shown()}\n{host.log()}" for host in self.hosts.values())
                raise AssertionError(f"stock Patroni: not within {LIMIT_S:g} s: {what}\n{logs}")
            time.sleep(POLL_S)
        return found

    def _agreed(self) -> str | None:
        views = [host.shown() for host in self.hosts.values()]
        leaders = {leader_of(one) for one in views}
        return leaders.pop() if len(leaders) == 1 and all(map(whole, views)) else None
