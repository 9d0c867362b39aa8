"""``roles plan``: what would happen without some hosts, or with others added. Nothing changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from morgand.base.errors import NotFound
from morgand.fingerprint.override import apply_override
from morgand.scheduler.plan import plan
from morgand.state.hosts import Host
from morgand.state.plans import Plan, Snapshot


def preview(snapshot: Snapshot, without: Sequence[str] = (), with_profiles: Sequence[Mapping[str, Any]] = ()) -> Plan:
    """What would happen without some hosts (by name or id), or with hosts added (each a profile override).

    A host that is added has the engines and models of the first host unless its override says otherwise.
    Raises NotFound for an unknown host, ConfigError for a bad override.
    """
    for word in without:
        if not any(word in (host.name, host.id) for host in snapshot.hosts):
            known = ", ".join(sorted(host.name for host in snapshot.hosts))
            raise NotFound(f"There is no host '{word}'; there are {known}.")
    hosts = [host for host in snapshot.hosts if not {host.name, host.id} & set(without)]
    if with_profiles and not snapshot.hosts:
        raise NotFound("There is no host to take engines from.")
    for number, override in enumerate(with_profiles, start=1):
        facts = dict(override)
        name = str(facts.pop("name", f"new-{number}"))
        pattern = replace(snapshot.hosts[0].profile, gpus=())
        hosts.append(Host(f"preview-{number}", name, "", apply_override(pattern, facts)))
    return plan(replace(snapshot, hosts=tuple(hosts)))
