"""The only way a plan becomes true: one transaction, fenced on the election key and on what the plan was made from."""

from __future__ import annotations

from morgand.cluster import codec, election, keys
from morgand.cluster.election import Leadership
from morgand.cluster.store import ClusterStore, Compare, Put, QuietSince
from morgand.errors import Fenced, StoreConflict
from morgand.state import Plan

INPUTS = (keys.HOSTS, keys.PROFILES, keys.ASSIGNMENTS, keys.CONFIG, keys.EPOCH)  # what a snapshot is read from


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
