"""Patroni's configuration, and what its keys say: values in, values out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from morgand.cluster import keys
from morgand.cluster.store import Item
from morgand.roles.db.patroni import (
    Standing,
    election,
    patroni_config,
    pg_hba,
    server_settings,
    shared_settings,
    standings,
)
from morgand.roles.db.patroni_keys import Patroni
from morgand.roles.db.site import DbSite, Secrets

SECRETS = Secrets("pw-super", "pw-replication", "pw-rewind", "pw-application")


def site(address: str = "192.0.2.7") -> DbSite:
    return DbSite("h1", address, 7480, Path("/d/db"), Path("/d/cluster"), Path("/pg/bin"), 8192)


def config(address: str = "192.0.2.7", *, revocations: bool = True) -> dict[str, Any]:
    return patroni_config(site(address), SECRETS, etcd_port=4001, sockets=Path("/d/db/run"), revocations=revocations)


def test_patroni_writes_where_the_cluster_reads() -> None:
    found = config()
    assert f"{found['namespace']}{found['scope']}/" == keys.PATRONI
    assert found["name"] == "h1"


def test_every_connection_between_programs_is_mutual_tls() -> None:
    """The store, Patroni's own interface and calls of it, the server, and its copies."""
    found = config()
    assert found["etcd3"]["protocol"] == "https"
    assert {"cacert", "cert", "key"} <= set(found["etcd3"])
    assert found["restapi"]["verify_client"] == "required"
    assert {"cacert", "certfile", "keyfile"} <= set(found["ctl"])
    parameters = found["postgresql"]["parameters"]
    assert parameters["ssl"] is True
    assert parameters["ssl_min_protocol_version"] == "TLSv1.2"
    for login in found["postgresql"]["authentication"].values():
        assert login["sslmode"] == "verify-ca"
        assert {"sslrootcert", "sslcert", "sslkey", "sslcrl"} <= set(login)


def test_nobody_connects_from_elsewhere_without_a_certificate_and_a_password() -> None:
    remote = [line for line in pg_hba() if not line.startswith("local ")]
    assert remote
    for line in remote:
        assert line.startswith("hostssl ")
        assert line.endswith("scram-sha-256 clientcert=verify-ca")
        assert line.split()[2] in ("replicator", "rewinder", "morgan")
    assert all(line.split()[2] != "all" and "trust" not in line for line in pg_hba())


def test_who_was_given_up_gets_no_copy_and_everybody_else_does() -> None:
    """The first line that fits decides."""
    refusals = pg_hba({"192.0.2.8", "2001:db8::8", "fe80::8%eth0"})[:3]
    assert refusals == [
        "hostssl replication replicator 192.0.2.8/32 reject",
        "hostssl replication replicator 2001:db8::8/128 reject",
        "hostssl replication replicator fe80::8/128 reject",
    ]
    assert pg_hba({"192.0.2.8"})[1:] == pg_hba()


def test_the_server_reads_who_may_connect_from_the_daemons_file() -> None:
    found = config()["postgresql"]
    assert found["parameters"]["hba_file"] == "/d/db/pg_hba.conf"
    assert "pg_hba" not in found


def test_the_server_listens_at_the_address_of_the_host_alone() -> None:
    found = config()
    assert found["postgresql"]["listen"] == "192.0.2.7:7484"
    assert found["restapi"]["listen"] == "192.0.2.7:7485"
    assert config("2001:db8::7")["postgresql"]["listen"] == "[2001:db8::7]:7484"
    assert found["etcd3"]["host"] == "127.0.0.1:4001"


def test_without_a_list_of_revoked_certificates_none_is_named() -> None:
    """The server does not start with a file that is not there."""
    found = config(revocations=False)["postgresql"]
    assert "ssl_crl_file" not in found["parameters"]
    assert all("sslcrl" not in login for login in found["authentication"].values())


def test_an_acknowledged_commit_is_on_two_hosts() -> None:
    """Never by a quorum: handing over early would not be safe then."""
    shared = shared_settings()
    assert shared["synchronous_mode"] is True
    assert server_settings(8192)["synchronous_commit"] == "on"
    assert shared["loop_wait"] + 2 * shared["retry_timeout"] <= shared["ttl"] == 20


@pytest.mark.parametrize(("ram_mb", "buffers"), [(256, "32MB"), (2048, "64MB"), (8192, "256MB"), (262_144, "512MB")])
def test_memory_follows_the_hosts(ram_mb: int, buffers: str) -> None:
    assert server_settings(ram_mb)["shared_buffers"] == buffers


def test_secrets_are_not_shown() -> None:
    """Not by the values that carry them, e.g. in a trace."""
    assert "pw-" not in repr(SECRETS)


def said(**items: bytes) -> Patroni:
    found = {keys.PATRONI + name.replace("_", "/"): value for name, value in items.items()}
    return Patroni({key: Item(key, value, 1, 1) for key, value in found.items()}, 1)


def test_standings_are_read_from_patronis_keys() -> None:
    found = standings(
        said(
            leader=b"h1",
            sync=b'{"leader":"h1","sync_standby":"h2"}',
            status=b'{"optime":5000,"slots":{}}',
            members_h1=b'{"state":"running","xlog_location":5100,"api_url":"https://192.0.2.1:7476/patroni"}',
            members_h2=b'{"role":"replica","state":"running","replication_state":"streaming","xlog_location":5050}',
            members_h3=b'{"role":"replica","state":"running","replication_state":"streaming","xlog_location":4000}',
            members_h4=b'{"role":"uninitialized","state":"creating replica"}',
        )
    )
    assert found == (
        Standing("h1", "running", primary=True, rest_url="https://192.0.2.1:7476"),
        Standing("h2", "streaming", sync=True, lag_bytes=0),
        Standing("h3", "streaming", lag_bytes=1000),
        Standing("h4", "creating replica"),
    )


@pytest.mark.parametrize(
    ("member", "copied"),
    [
        (b'{"state":"running","replication_state":"streaming"}', {"h2"}),
        (b'{"state":"starting"}', set()),
        (b'{"state":"running","replication_state":"in archive recovery"}', set()),
        (None, set()),
    ],
)
def test_a_synchronous_standby_has_everything_while_it_follows(member: bytes | None, copied: set[str]) -> None:
    """One that is started anew could not take over just now, though Patroni still counts on it: no plan takes it
    away, and status says what the loss of the primary would cost."""
    more = {} if member is None else {"members_h2": member}
    keys_ = said(leader=b"h1", sync=b'{"leader":"h1","sync_standby":"h2"}', members_h1=b'{"state":"running"}', **more)
    found = election(keys_.items, keys_.revision)
    assert found.copied == copied
    assert found.led
    assert "h2" in found.needed


def test_a_standby_of_an_earlier_primary_is_not_synchronous() -> None:
    """Between two primaries the key still names the pair of before."""
    found = standings(
        said(leader=b"h2", sync=b'{"leader":"h1","sync_standby":"h2,h3"}', members_h3=b'{"state":"running"}')
    )
    assert found == (Standing("h3", "running"),)


def test_what_cannot_be_read_is_not_there() -> None:
    assert standings(said()) == ()
    assert standings(said(leader=b"\xff", sync=b"null", status=b"[", members_h1=b"{")) == ()
    assert standings(said(sync=b'{"leader":null,"sync_standby":null}', members_h1=b"{}")) == (Standing("h1", ""),)
