"""What this host has and can perform: the one answer that its record, every plan and `morgand check` go by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from morgand.base.disk import Disk
from morgand.config import Config
from morgand.fingerprint.collect import collect
from morgand.fingerprint.override import read_override
from morgand.process.account import why_no_way
from morgand.roles.catalog import CLUSTER_PROGRAMS, engine_sources, performed
from morgand.roles.db.patroni_keys import ENGINE as POSTGRESQL
from morgand.roles.models import available
from morgand.state.hosts import Duty, Profile
from morgand.state.roles import Model

log = logging.getLogger("morgand.fingerprint")

PROGRAMS = frozenset(program.engine for program in CLUSTER_PROGRAMS)


@dataclass(frozen=True, slots=True)
class Found:
    """``profile`` lists the engines that can be performed here, ``detected`` all there are; ``closed`` is why
    PostgreSQL is not among the first."""

    profile: Profile
    detected: Profile
    closed: str | None = None


def look(
    config: Config, root: Path, models: Sequence[Model], *, disk: Disk | None = None, before: Profile | None = None
) -> Found:
    """See what this host has. Blocking. ``root``: a folder on the disk of the data directory; ``models``: the
    catalogue; ``before``: what was detected the last time. Raises ConfigError for a bad override.
    """
    host = config.host
    detected = collect(
        root, engine_sources(), duty=Duty(host.duty), witness=host.witness, address=host.address,
        models=available(models, config.models_dir), disk=disk, before=before,
        override=read_override(config.profile_override) if config.profile_override else None,
    )  # fmt: skip
    usable = PROGRAMS if host.witness else performed() | PROGRAMS
    closed = why_no_way(root) if detected.has_engine(POSTGRESQL) else None
    if closed is not None:
        usable -= {POSTGRESQL}
        log.debug("no PostgreSQL here", extra={"reason": closed})
    engines = tuple(one for one in detected.engines if one.name in usable)
    return Found(replace(detected, engines=engines), detected, closed)
