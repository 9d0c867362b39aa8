"""Values in the store are JSON, so that people can read them. Hosts of two versions share a store: a field that is
added has a default, and one that is not known is left alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from morgand.base.errors import MorganError
from morgand.state.hosts import HostState, Usage
from morgand.state.roles import RoleFailure, RoleStatus
from morgand.state.schema_version import OLDEST, Schema

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What stands under ``/hosts/ID``; the profile stands under its own key, because it changes more often."""

    id: str
    name: str
    address: str
    state: HostState = HostState.ALIVE
    labels: tuple[str, ...] = ()
    draining: bool = False
    peer: str = ""  # address and port of its API for other hosts; empty on a lone host
    api_port: int = 0  # of the API for people and programs; 0 when it is off
    version: str = ""
    joined: datetime | None = None  # when it was first here
    returned: datetime | None = None  # when it was last welcomed back after it had been fenced
    schema: Schema = OLDEST  # of the database, as its program knows it


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What stands under ``/status/ID``: what a host says of itself."""

    roles: tuple[RoleStatus, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class HostFailures:
    """What stands under ``/failures/ID``: roles that had better be elsewhere."""

    roles: tuple[RoleFailure, ...]


@dataclass(frozen=True, slots=True)
class ElectionRecord:
    """What stands under ``/election``: who leads (None: nobody since the last leader resigned), and the epoch."""

    host: str | None
    epoch: int = 0


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def decode(kind: type[T], data: bytes, *, key: str) -> T:
    """Raises MorganError that names the key when the value is not of this kind."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as err:
        raise MorganError(
            f"The value of {key} in the cluster store cannot be read: {err}.",
            remedy="It was written by another version; update this host.",
        ) from err
