"""What is wrong with a cluster, as whoever looks through it finds it: values of ``morganctl cluster doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class FindingKind(StrEnum):
    """What a finding is about: a stable word for programs."""

    STATUS = "status"  # one of the warnings of ``morganctl status``
    HOST = "host"  # one could not be looked through
    PORT = "port"  # one does not reach another
    CLOCK = "clock"
    CERTIFICATE = "certificate"
    VERSION = "version"
    PERMISSIONS = "permissions"
    COPIES = "copies"  # of the database
    ORIGINALS = "originals"  # a document's file is missing
    ORPHANS = "orphans"  # a file that no document has
    INDEX = "index"  # what search goes by lacks something
    KEY = "key"  # an API key is about to end


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, in a sentence, and what to do about it.

    ``host``: the id of the host that it is wrong with, None for the cluster's. ``mendable``: ``--mend`` repairs it.
    """

    kind: FindingKind
    text: str
    remedy: str
    host: str | None = None
    mendable: bool = False


@dataclass(frozen=True, slots=True)
class Examination:
    """What a host says when it is asked to look through itself."""

    version: str
    now: datetime  # by its own clock
    certificate_renews: datetime | None = None  # when the next one is asked for; None on a lone host
    certificate_ends: datetime | None = None
    unreachable: tuple[str, ...] = ()  # ids of hosts whose API it does not reach
    exposed: tuple[str, ...] = ()  # files of its data directory that any user of the machine can read
