"""``roles plan``: what would happen without some hosts, or with others added. Nothing changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from morgand.base.errors import NotFound
from morgand.fingerprint.override import apply_override
from morgand.scheduler.plan import plan
from morgand.state.host_names import find
from morgand.state.hosts import Host
from morgand.state.plans import Plan, Snapshot


def preview(snapshot: Snapshot, without: Sequence[str] = (), with_profiles: Sequence[Mapping[str, Any]] = ()) -> Plan:
    """What would happen without some hosts (by name or id), or with hosts added (each a profile override).

    A host that is added has the engines and models of the first host unless its override says otherwise.
    Raises NotFound for an unknown host, Conflict for a name of several, ConfigError for a bad override.
    """
    wider = with_hosts(snapshot, with_profiles)
    names = {host.id: host.name for host in wider.hosts}
    gone = {find(names, word) for word in without}
    return plan(replace(wider, hosts=tuple(host for host in wider.hosts if host.id not in gone)))


def with_hosts(snapshot: Snapshot, profiles: Sequence[Mapping[str, Any]]) -> Snapshot:
    """The snapshot with a host more for each profile override. Raises NotFound, ConfigError."""
    if profiles and not snapshot.hosts:
        raise NotFound("There is no host to take engines from.")
    hosts = list(snapshot.hosts)
    for number, override in enumerate(profiles, start=1):
        facts = dict(override)
        name = str(facts.pop("name", f"new-{number}"))
        pattern = replace(snapshot.hosts[0].profile, gpus=())
        hosts.append(Host(f"preview-{number}", name, "", apply_override(pattern, facts)))
    return replace(snapshot, hosts=tuple(hosts))
