"""The only ways in which roles change hands: a plan, a host that is given up, or an engine that chose another host.
Each is one transaction, fenced on the election key and on what it was decided from, and begins an epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from morgand.base.errors import Fenced, StoreConflict
from morgand.cluster import codec, election, keys
from morgand.cluster.election import Leadership
from morgand.cluster.store import NOTHING, ClusterStore, Compare, Handoff, Item, Put, QuietSince, Unchanged
from morgand.state.plans import Plan

# what a snapshot is read from
INPUTS = (
    keys.HOSTS, keys.PROFILES, keys.ASSIGNMENTS, keys.CONFIG, keys.FAILURES, keys.EPOCH, keys.VOTERS,
    keys.PATRONI_LEADER, keys.PATRONI_SYNC,
)  # fmt: skip


async def fence(
    store: ClusterStore,
    leadership: Leadership,
    host: Item,
    record: codec.HostRecord,
    taken: Sequence[str],
    *,
    lease: int,
    passed: Handoff = NOTHING,
) -> int:
    """Give up a host: it is fenced and ``taken``, keys of its assignments, are nobody's; returns the revision.
    What an engine holds ready elsewhere is ``passed`` on at once.

    ``host`` is the record as it was, ``record`` as it is to be. ``lease`` is the revision at which its lease was last
    written when this was decided: a host that got a new one meanwhile is there again. Done twice is done once: the
    second finds the record changed. Raises StoreConflict.
    """
    return await hand_on(
        store,
        leadership,
        replace(
            passed,
            compares=(
                Unchanged(host.key, host.mod_revision), Unchanged(keys.lease(record.id), lease), *passed.compares,
            ),
            puts=(Put(host.key, codec.encode(record)), *passed.puts),
            deletes=(*taken, *passed.deletes),
        ),
    )  # fmt: skip


async def hand_on(store: ClusterStore, leadership: Leadership, passed: Handoff) -> int:
    """Let assignments follow what was decided elsewhere, in an epoch of its own; returns the revision.

    Raises StoreConflict.
    """
    counted, election_item = await asyncio.gather(store.get(keys.EPOCH), store.get(keys.ELECTION))
    epoch = election.epoch_in(counted, election_item) + 1
    unchanged = Unchanged(keys.EPOCH, counted.mod_revision if counted else 0)
    given = {keys.assignment(*one.slot): codec.encode(replace(one, epoch=epoch)) for one in passed.given}
    gone = dict.fromkeys((*passed.deletes, *(keys.assignment(*slot) for slot in passed.taken)))
    return await store.txn(
        [leadership.fence(), unchanged, *passed.compares],
        [*passed.puts, Put(keys.EPOCH, codec.encode(epoch)), *(Put(key, value) for key, value in given.items())],
        [key for key in gone if key not in given],
    )


async def commit_plan(store: ClusterStore, leadership: Leadership, plan: Plan, epoch: int) -> int:
    """Write the plan's difference and begin its epoch; returns the revision.

    Raises Fenced when another leads by now, StoreConflict when what was planned from has changed: plan again.
    """
    added = {one.slot for one in plan.added}
    puts = [Put(keys.assignment(*one.slot), codec.encode(one)) for one in plan.added]
    puts.append(Put(keys.EPOCH, codec.encode(epoch)))
    deletes = [keys.assignment(*one.slot) for one in plan.removed if one.slot not in added]
    compares: list[Compare] = [leadership.fence(), *(QuietSince(prefix, plan.revision) for prefix in INPUTS)]
    try:
        return await store.txn(compares, puts, deletes)
    except StoreConflict:
        now = await election.current(store)
        if now != leadership:
            successor = f"{now.host} leads in epoch {now.epoch}" if now else "nobody leads"
            raise Fenced(f"Epoch {leadership.epoch} has ended: {successor}.") from None
        raise
