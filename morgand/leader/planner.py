"""The leader's loop: read a snapshot, plan, commit under the fence. One canonical log line per cycle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from morgand.base.clock import Clock
from morgand.base.errors import NotFound, StorageFull, StoreConflict, Unavailable
from morgand.cluster import codec, keys
from morgand.cluster.election import Leadership, epoch_in
from morgand.cluster.fencing import INPUTS, commit_plan
from morgand.cluster.store import Changes, ClusterStore, Item
from morgand.fingerprint.override import apply_override
from morgand.leader.host_verdicts import on_probation
from morgand.roles.db.succession import Patroni, needed
from morgand.scheduler.plan import plan
from morgand.state.hosts import Host, Profile
from morgand.state.plans import Plan, Snapshot
from morgand.state.roles import Assignment, Model, RolePreference, RoleSpec

log = logging.getLogger("morgand.planner")

ATTEMPTS = 5  # at one plan, when the store changes under it
TICK_S = 30.0  # a cycle this often even if nothing was heard
RETRY_S = 1.0  # after one that could not be committed


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the planner knows besides the store: the roles, the models, and this host's own preferences."""

    roles: tuple[RoleSpec, ...]
    models: tuple[Model, ...]
    preferences: Mapping[str, RolePreference]
    now: datetime | None = None  # None: nobody is on probation


async def snapshot_of(store: ClusterStore, inputs: Inputs) -> Snapshot:
    """One consistent reading of the world."""
    items, revision = await store.list("/")
    return read_snapshot(items, revision, inputs)


def read_snapshot(items: Sequence[Item], revision: int, inputs: Inputs) -> Snapshot:
    """The snapshot that stands in these items; a host without a profile is not a host yet.

    What is planned from it begins the next epoch, so that a role that moves twice never has the same one twice.
    """
    counters = {item.key: item for item in items if item.key in (keys.EPOCH, keys.ELECTION)}
    epoch = epoch_in(counters.get(keys.EPOCH), counters.get(keys.ELECTION)) + 1
    profiles = {item.key: item for item in items if item.key.startswith(keys.PROFILES)}
    hosts = []
    for item in items:
        if item.key.startswith(keys.HOSTS):
            record = codec.decode(codec.HostRecord, item.value, key=item.key)
            found = profiles.get(keys.profile(record.id))
            if found is not None:
                profile = codec.decode(Profile, found.value, key=found.key)
                on_trial = inputs.now is not None and on_probation(record, inputs.now)
                facts = (record.address, profile, record.state, record.labels, record.draining, on_trial)
                hosts.append(Host(record.id, record.name, *facts))
    assignments = tuple(
        codec.decode(Assignment, item.value, key=item.key) for item in items if item.key.startswith(keys.ASSIGNMENTS)
    )
    settings = {
        item.key.removeprefix(keys.CONFIG): msgspec.json.decode(item.value)
        for item in items
        if item.key.startswith(keys.CONFIG)
    }
    patroni = Patroni({item.key: item for item in items}, revision)
    return Snapshot(
        revision=revision, epoch=epoch, hosts=tuple(hosts), roles=inputs.roles, assignments=assignments,
        models=inputs.models, preferences=merged(inputs.preferences, settings),
        needed={"db": needed(patroni)}, unled=frozenset() if patroni.leader else frozenset({"db"}),
    )  # fmt: skip


def merged(own: Mapping[str, RolePreference], settings: Mapping[str, Any]) -> dict[str, RolePreference]:
    """The host's own preferences with the cluster's shared settings laid over them."""
    found = dict(own)
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        role = section.removeprefix("roles.")
        if section.startswith("roles.") and name in ("prefer", "forbid"):
            was = found.get(role, RolePreference())
            found[role] = replace(was, prefer=tuple(value)) if name == "prefer" else replace(was, forbid=tuple(value))
        elif key == "llm.model":
            found["llm"] = replace(found.get("llm", RolePreference()), model=value or None)
    return found


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


class Planner:
    """Plans for as long as it leads. ``run`` ends with Fenced when another host has taken over."""

    def __init__(self, store: ClusterStore, leadership: Leadership, inputs: Callable[[], Inputs], clock: Clock) -> None:
        self._store = store
        self._leadership = leadership
        self._inputs = inputs
        self._clock = clock

    async def run(self) -> None:
        """Plan at once, then whenever hosts, profiles, assignments or settings change. Raises Fenced."""
        _, revision = await self._store.list(keys.ELECTION)
        watch = self._store.watch("/", revision)
        pending: asyncio.Task[Changes] | None = None
        try:
            while True:
                tick_s = TICK_S if await self._cycle_or_wait() else RETRY_S
                pending, heard = await self._next(watch, pending, tick_s)
                while heard is not None and not _concerns(heard):
                    pending, heard = await self._next(watch, pending, tick_s)
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.gather(pending, return_exceptions=True)

    async def cycle(self) -> Plan:
        """One plan, made and committed. Raises Fenced, Unavailable, and StoreConflict after the last attempt."""
        started = self._clock.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            snapshot = await snapshot_of(self._store, self._inputs())
            result = plan(snapshot)
            try:
                if not result.empty:
                    await commit_plan(self._store, self._leadership, result, snapshot.epoch)
            except StoreConflict:
                continue
            self._notify(snapshot, result, attempt, (self._clock.monotonic() - started) * 1000)
            return result
        raise StoreConflict(f"The cluster store changed {ATTEMPTS} times while a plan was made.")

    async def _cycle_or_wait(self) -> bool:
        """A cycle; a store that cannot take it now is logged, and tried again soon."""
        try:
            await self.cycle()
        except (StoreConflict, StorageFull, Unavailable) as err:
            log.warning("plan not committed", extra={"epoch": self._leadership.epoch, "reason": err.message})
            return False
        return True

    async def _next(
        self, watch: Any, pending: asyncio.Task[Changes] | None, tick_s: float
    ) -> tuple[asyncio.Task[Changes] | None, Changes | None]:
        """The next news (None when the tick came first). The same waiting task is kept over ticks."""
        pending = pending or asyncio.ensure_future(anext(watch))
        tick = asyncio.ensure_future(self._clock.sleep(tick_s))
        try:
            await asyncio.wait({pending, tick}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pending.cancel()
            raise
        finally:
            tick.cancel()
        if not pending.done():
            return pending, None
        try:
            return None, pending.result()
        except StopAsyncIteration:
            raise Unavailable("The cluster store is closed.") from None

    def _notify(self, snapshot: Snapshot, result: Plan, attempt: int, took_ms: float) -> None:
        log.log(
            logging.DEBUG if result.empty else logging.INFO,
            "planned",
            extra={
                "cause": result.id, "revision": result.revision, "epoch": snapshot.epoch,
                "hosts": len(snapshot.hosts), "assignments": len(result.assignments),
                "added": [f"{one.role}/{one.part}@{one.host}" for one in result.added],
                "removed": [f"{one.role}/{one.part}@{one.host}" for one in result.removed],
                "refused": [f"{one.role}/{one.part}" for one in result.refusals],
                "attempt": attempt, "took_ms": round(took_ms, 1),
            },
        )  # fmt: skip


def _concerns(heard: Changes) -> bool:
    return heard.resync or any(change.key.startswith(INPUTS) for change in heard.changes)
