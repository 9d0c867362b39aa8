"""Names of keys in the cluster store."""

from __future__ import annotations

from urllib.parse import quote

ELECTION = "/election"
EPOCH = "/epoch"  # the last epoch that was begun
CLUSTER = "/cluster"
HOSTS = "/hosts/"
PROFILES = "/profiles/"
ASSIGNMENTS = "/assignments/"
CONFIG = "/config/"
API_KEYS = "/keys/"
AUTHORITY = "/ca"
STATUS = "/status/"
FAILURES = "/failures/"
VOTERS = "/voters/"
INVITATIONS = "/invitations/"
REVOKED = "/revoked/"
MEMBERS = "/members/"
LEASES = "/leases/"
BEATS = "/beats"  # the key that heartbeats are signed with
DATABASE = "/database"  # what the database's own accounts are known by
MOVE = "/move"  # the database's data are in PostgreSQL too, says the host that has them in a file
MOVED = "/moved"  # and by now only there: the mark of the move
PATRONI = "/patroni/morgan/"  # Patroni's own: https://patroni.readthedocs.io, "DCS keys"
PATRONI_CONFIG = PATRONI + "config"
PATRONI_LEADER = PATRONI + "leader"
PATRONI_SYNC = PATRONI + "sync"
PATRONI_FAILOVER = PATRONI + "failover"
PATRONI_STATUS = PATRONI + "status"
PATRONI_MEMBERS = PATRONI + "members/"
TAKEOVER = "/takeover"  # what ``PATRONI_SYNC`` said when a primary was given up, and who may take over is written there

# their last element is a host's id
OF_ONE_HOST = (HOSTS, PROFILES, STATUS, FAILURES, LEASES, ASSIGNMENTS, MEMBERS, VOTERS)


def of_another(key: str, host_id: str) -> bool:
    """Whether something is said there of one host, and of another one than this."""
    return key.startswith(OF_ONE_HOST) and not key.endswith(f"/{_part(host_id)}")


def host(host_id: str) -> str:
    return HOSTS + _part(host_id)


def profile(host_id: str) -> str:
    return PROFILES + _part(host_id)


def status(host_id: str) -> str:
    return STATUS + _part(host_id)


def failures(host_id: str) -> str:
    return FAILURES + _part(host_id)


def voter(host_id: str) -> str:
    return VOTERS + _part(host_id)


def invitation(invitation_id: str) -> str:
    return INVITATIONS + _part(invitation_id)


def member(host_id: str) -> str:
    return MEMBERS + _part(host_id)


def lease(host_id: str) -> str:
    return LEASES + _part(host_id)


def revoked(serial: str) -> str:
    return REVOKED + _part(serial)


def assignment(role: str, part: str, host_id: str) -> str:
    return f"{ASSIGNMENTS}{_part(role)}/{_part(part)}/{_part(host_id)}"


def config(key: str) -> str:
    return CONFIG + _part(key)


def api_key(key_id: str) -> str:
    return API_KEYS + _part(key_id)


def _part(text: str) -> str:
    """A name as one element of a key: no slash can come from outside."""
    return quote(text, safe="._-:")
