"""Which models this host lacks that it would run if it had them."""

from __future__ import annotations

from dataclasses import replace

from morgand.scheduler.plan import plan
from morgand.state.plans import Snapshot
from morgand.state.roles import Model


def wanted_downloads(snapshot: Snapshot, host_id: str) -> tuple[Model, ...]:
    """Models this host would run if it had their files: what is worth fetching in the background."""
    handles = tuple(sorted({model.handle for model in snapshot.models}))
    able = tuple(replace(host, profile=replace(host.profile, models=handles)) for host in snapshot.hosts)
    mine = next((host for host in snapshot.hosts if host.id == host_id), None)
    if mine is None:
        return ()
    wanted = {(one.role, one.model, one.engine) for one in plan(replace(snapshot, hosts=able)).assignments
              if one.host == host_id}  # fmt: skip
    return tuple(
        model
        for model in snapshot.models
        if model.handle not in mine.profile.models
        and any((model.role, model.name, engine) in wanted for engine in model.engines)
    )
