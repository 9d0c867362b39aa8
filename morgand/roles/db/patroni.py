"""Patroni's configuration as a value, and what Patroni says of the cluster in the store. Pure.

Source: Patroni 4.1, docs/{yaml_configuration,dynamic_configuration_settings,replication_modes}.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from morgand.cluster import keys
from morgand.cluster.store import Item
from morgand.roles.db.patroni_keys import Patroni, needed
from morgand.roles.db.site import APPLICATION, REPLICATOR, REWINDER, SUPERUSER, DbSite, Secrets, joined
from morgand.state.plans import EngineElection

T = TypeVar("T", bound=msgspec.Struct)

NAMESPACE, SCOPE = keys.PATRONI.rstrip("/").rsplit("/", 1)
STOP_S = 5  # a primary that is to stop may take so long for it before it is killed
ETCD_HOST = "127.0.0.1"


def patroni_config(
    site: DbSite, secrets: Secrets, *, etcd_port: int, sockets: Path, revocations: bool
) -> dict[str, Any]:
    """Everything Patroni is told.

    ``sockets``: the folder of the server's Unix socket; ``revocations``: whether there is a list of
    revoked certificates.
    """
    cert = {"cacert": str(site.tls / "ca.pem"), "cert": str(site.tls / "cert.pem"), "key": str(site.tls / "key.pem")}
    rest = joined(site.address, site.rest_port)
    return {
        "scope": SCOPE,
        "namespace": f"{NAMESPACE}/",
        "name": site.host,
        "tags": {"sync_priority": site.priority},
        "log": {"level": "INFO", "format": "%(levelname)s: %(message)s", "deduplicate_heartbeat_logs": True},
        "restapi": {
            "listen": rest, "connect_address": rest, "cafile": cert["cacert"], "certfile": cert["cert"],
            "keyfile": cert["key"], "verify_client": "required", "server_tokens": "minimal",
        },
        "ctl": {"cacert": cert["cacert"], "certfile": cert["cert"], "keyfile": cert["key"]},
        "etcd3": {"host": f"{ETCD_HOST}:{etcd_port}", "protocol": "https", "use_proxies": True, **cert},
        "bootstrap": {
            "dcs": {**shared_settings(), "failsafe_mode": True},  # the leader switches it: succession.takeover, rearm
            "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
        },
        "postgresql": _postgresql(site, secrets, sockets, revocations=revocations),
        "watchdog": {"mode": "off"},  # the daemon ends a Patroni that stands still, and the server with it
    }  # fmt: skip


def shared_settings() -> dict[str, Any]:
    """What holds for all members: it stands in the store, and Patroni applies it everywhere.

    ttl and loop_wait are the least that Patroni accepts. retry_timeout is not, for no lost host is noticed by it: a
    primary that etcd does not answer for so long stops, unless every member tells it that it is not alone.
    """
    return {
        "ttl": 20,
        "loop_wait": 1,
        "retry_timeout": 6,
        "maximum_lag_on_failover": 2**62,  # nobody is asked to take over who lacks anything that was acknowledged
        "synchronous_mode": True,
        "synchronous_mode_strict": False,
        "synchronous_node_count": 2,  # ADR 0010: with one, nobody has everything for 2 s whenever it changes
        "primary_start_timeout": 0,  # no waiting for a crashed primary while a standby has everything
        "primary_stop_timeout": STOP_S,
        "postgresql": {
            "use_pg_rewind": False,  # ADR 0010: it believes WAL of the old timeline where the new one's is gone
            "use_slots": True,
            "parameters": {
                "wal_level": "replica",
                "wal_log_hints": True,
                "hot_standby": True,
                "max_connections": 100,
                "max_worker_processes": 8,
                "max_wal_senders": 10,
                "max_replication_slots": 10,
                "wal_keep_size": "128MB",
            },
        },
    }


def server_settings(ram_mb: int) -> dict[str, Any]:
    """PostgreSQL's settings that may differ between hosts: memory by RAM, and to lose patience soon (more of that
    in ``postmaster``)."""
    return {
        "shared_buffers": f"{_within(ram_mb // 32, 32, 512)}MB",
        "effective_cache_size": f"{_within(ram_mb // 4, 128, 8192)}MB",
        "maintenance_work_mem": f"{_within(ram_mb // 64, 16, 256)}MB",
        "work_mem": "4MB",
        "max_wal_size": "256MB",
        "max_slot_wal_keep_size": "1GB",  # a host that is long away gets a new copy, instead of filling others' disks
        "synchronous_commit": "on",  # True is something else to Patroni: it would reload the server again and again
        "wal_sender_timeout": "3s",
        "wal_receiver_timeout": "3s",
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": "500ms",  # who wakes, and was given up meanwhile, hears of that before
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "logging_collector": False,  # the daemon keeps the log
        "log_error_verbosity": "terse",  # without the values of rows
        "log_statement": "none",
    }


def pg_hba(refused: Iterable[str] = ()) -> list[str]:
    """Who may connect, and how: nobody from elsewhere without a certificate of the cluster and a password.

    ``refused``: IP addresses that get no copy of the database. Whoever was given up, and wakes, would stream before it
    hears of that; Patroni would count on it, and commits would wait for it.
    """
    certified = "scram-sha-256 clientcert=verify-ca"
    return [
        *(f"hostssl replication {REPLICATOR} {_alone(one)} reject" for one in sorted(refused)),
        f"local all {SUPERUSER} scram-sha-256",
        f"local postgres {REWINDER} scram-sha-256",
        f"local replication {REPLICATOR} scram-sha-256",
        f"local {APPLICATION} {APPLICATION} scram-sha-256",
        f"hostssl replication {REPLICATOR} all {certified}",
        f"hostssl postgres {REWINDER} all {certified}",
        f"hostssl {APPLICATION} {APPLICATION} all {certified}",
    ]


def _alone(address: str) -> str:
    """The network in which it is the only one."""
    return str(ip_network(address.partition("%")[0]))  # without the zone of a link-local one


def _postgresql(site: DbSite, secrets: Secrets, sockets: Path, *, revocations: bool) -> dict[str, Any]:
    file = {name: str(site.tls / f"{name}.pem") for name in ("ca", "cert", "key", "crl")}
    client = {"sslmode": "verify-ca", "sslrootcert": file["ca"], "sslcert": file["cert"], "sslkey": file["key"]}
    server = {"ssl_ca_file": file["ca"], "ssl_cert_file": file["cert"], "ssl_key_file": file["key"]}
    if revocations:
        client["sslcrl"] = server["ssl_crl_file"] = file["crl"]
    address = joined(site.address, site.postgres_port)
    return {
        "listen": address,
        "connect_address": address,
        "data_dir": str(site.data),
        "bin_dir": str(site.programs),
        "bin_name": {"postgres": str(site.postgres)},
        "pgpass": str(site.server / "pgpass"),
        "use_unix_socket": True,
        "use_unix_socket_repl": True,
        # whoever returns becomes a standby with nobody's help
        "remove_data_directory_on_diverged_timelines": True,
        # where a password is not known it must not be asked for: nobody would ever answer
        "basebackup": [{"checkpoint": "fast"}, "no-password"],
        "authentication": {
            "superuser": {"username": SUPERUSER, "password": secrets.superuser, **client},
            "replication": {"username": REPLICATOR, "password": secrets.replication, **client},
            "rewind": {"username": REWINDER, "password": secrets.rewind, **client},
        },
        "parameters": {
            **server_settings(site.ram_mb),
            "hba_file": str(site.access),  # the daemon's: a reload by Patroni holds its loop for a second
            "unix_socket_directories": str(sockets),
            "unix_socket_permissions": "0700",
            "ssl": True,
            **server,
            "ssl_min_protocol_version": "TLSv1.2",
        },
    }


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


# --- what Patroni says ---------------------------------------------------------------------------


class _Member(msgspec.Struct):
    role: str = ""
    state: str = ""
    xlog_location: int | None = None
    api_url: str = ""
    replication_state: str | None = None


class _Status(msgspec.Struct):
    optime: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A member as Patroni sees it. ``lag_bytes``: behind the primary, a few seconds ago; None when not known.
    ``rest_url``: where its Patroni listens."""

    host: str
    state: str  # Patroni's word: running, streaming, starting, stopped ...
    primary: bool = False
    sync: bool = False
    lag_bytes: int | None = None
    rest_url: str = ""

    @property
    def follows(self) -> bool:
        """Whether it is a copy that gets what the primary writes."""
        return not self.primary and self.state == "streaming"


def standings(patroni: Patroni) -> tuple[Standing, ...]:
    """Every member, by its host. What cannot be read counts as not there."""
    status = _read(_Status, patroni.items.get(keys.PATRONI_STATUS))
    optime = status.optime if status else None
    found = []
    for key in sorted(patroni.items):
        member = _read(_Member, patroni.items[key]) if key.startswith(keys.PATRONI_MEMBERS) else None
        if member is not None:
            host = key.removeprefix(keys.PATRONI_MEMBERS)
            primary, sync = host == patroni.leader, host in patroni.synchronous
            state = member.replication_state or member.state
            lag = None if primary else _lag(optime, member.xlog_location)
            found.append(Standing(host, state, primary, sync, lag, member.api_url.removesuffix("/patroni")))
    return tuple(found)


def election(items: Mapping[str, Item], revision: int) -> EngineElection:
    """What a snapshot says of PostgreSQL's cluster: whom it counts on, whether it has chosen its primary, who has all
    that this one acknowledged and still follows it: one that is started anew could not take over just now."""
    found = Patroni(items, revision)
    following = (one.host for one in standings(found) if one.sync and one.follows)
    return EngineElection(needed(found), led=found.leader is not None, copied=frozenset(following))


def _lag(optime: int | None, location: int | None) -> int | None:
    return None if optime is None or location is None else max(0, optime - location)


def _read(kind: type[T], item: Item | None) -> T | None:
    try:
        return msgspec.json.decode(item.value, type=kind) if item else None
    except msgspec.MsgspecError:
        return None
