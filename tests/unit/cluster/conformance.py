"""What every ``ClusterStore`` does. Each case gets a store and a prefix of its own in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from morgand.base.errors import StoreConflict
from morgand.cluster.store import Changes, ClusterStore, Put, QuietSince, Unchanged

Case = Callable[[ClusterStore, str], Awaitable[None]]


async def revisions_grow_and_say_what_was_written_when(store: ClusterStore, at: str) -> None:
    first = await store.txn([], [Put(f"{at}a", b"1"), Put(f"{at}b", b"\x00\xff")])
    second = await store.txn([], [Put(f"{at}a", b"2")])
    items, revision = await store.list(at)
    assert revision >= second > first
    assert [(one.key, one.value, one.create_revision, one.mod_revision) for one in items] == [
        (f"{at}a", b"2", first, second),
        (f"{at}b", b"\x00\xff", first, first),
    ]
    assert await store.get(f"{at}b") == items[1]
    assert await store.get(f"{at}c") is None


async def a_compare_that_does_not_hold_changes_nothing(store: ClusterStore, at: str) -> None:
    revision = await store.txn([Unchanged(f"{at}a", 0)], [Put(f"{at}a", b"1")])
    for compare in (Unchanged(f"{at}a", 0), Unchanged(f"{at}b", 1), QuietSince(at, revision - 1)):
        with pytest.raises(StoreConflict):
            await store.txn([compare], [Put(f"{at}b", b"1")], [f"{at}a"])
    assert [one.key for one in (await store.list(at))[0]] == [f"{at}a"]
    await store.txn([Unchanged(f"{at}a", revision), QuietSince(at, revision)], [], [f"{at}a"])
    assert await store.get(f"{at}a") is None
    await store.txn([Unchanged(f"{at}a", 0)], [Put(f"{at}a", b"again")])


async def a_put_wins_over_a_delete_of_the_same_key(store: ClusterStore, at: str) -> None:
    await store.txn([], [Put(f"{at}a", b"1")])
    await store.txn([], [Put(f"{at}a", b"2")], [f"{at}a", f"{at}never"])
    item = await store.get(f"{at}a")
    assert item is not None
    assert item.value == b"2"


async def of_many_that_compare_the_same_one_wins(store: ClusterStore, at: str) -> None:
    tries = [store.txn([Unchanged(f"{at}a", 0)], [Put(f"{at}a", str(number).encode())]) for number in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, int) for one in results) == 1
    assert sum(isinstance(one, StoreConflict) for one in results) == 9


async def a_watch_tells_what_happened_under_its_prefix(store: ClusterStore, at: str) -> None:
    _, before = await store.list(at)
    watch = store.watch(f"{at}a", before)
    heard = asyncio.ensure_future(anext(watch))
    await store.txn([], [Put(f"{at}b", b"1")])
    revision = await store.txn([], [Put(f"{at}a1", b"1"), Put(f"{at}a2", b"1")])
    changes = await asyncio.wait_for(heard, 30)
    assert (changes.revision, changes.resync) == (revision, False)
    assert sorted((one.key, one.item.value if one.item else None) for one in changes.changes) == [
        (f"{at}a1", b"1"), (f"{at}a2", b"1"),
    ]  # fmt: skip
    revision = await store.txn([], [], [f"{at}a1"])
    changes = await asyncio.wait_for(anext(watch), 30)
    assert (changes.revision, [(one.key, one.item) for one in changes.changes]) == (revision, [(f"{at}a1", None)])


async def a_watch_replays_what_came_after_its_revision(store: ClusterStore, at: str) -> None:
    first = await store.txn([], [Put(f"{at}a", b"0")])
    for number in range(1, 4):
        await store.txn([], [Put(f"{at}a", str(number).encode())])
    values: list[bytes] = []
    watch = store.watch(at, first)
    while len(values) < 3:
        changes: Changes = await asyncio.wait_for(anext(watch), 30)
        values += [one.item.value for one in changes.changes if one.item]
    assert values == [b"1", b"2", b"3"]


async def a_long_list_is_whole_and_in_order(store: ClusterStore, at: str) -> None:
    names = [f"{at}{number:04}" for number in range(1200)]
    for start in range(0, len(names), 100):
        await store.txn([], [Put(name, b"x" * 100) for name in names[start : start + 100]])
    assert [one.key for one in (await store.list(at))[0]] == names


async def a_cancelled_caller_leaves_a_whole_transaction(store: ClusterStore, at: str) -> None:
    caller = asyncio.ensure_future(store.txn([], [Put(f"{at}a", b"1"), Put(f"{at}b", b"1")]))
    await asyncio.sleep(0.001)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await store.txn([], [Put(f"{at}c", b"1")])
    assert len((await store.list(at))[0]) in {1, 3}


async def a_closed_store_ends_its_watches(store: ClusterStore, at: str) -> None:
    _, revision = await store.list(at)
    heard = asyncio.ensure_future(anext(store.watch(at, revision), None))
    await asyncio.sleep(0.05)
    await store.close()
    assert await asyncio.wait_for(heard, 30) is None


CASES: tuple[Case, ...] = (
    revisions_grow_and_say_what_was_written_when,
    a_compare_that_does_not_hold_changes_nothing,
    a_put_wins_over_a_delete_of_the_same_key,
    of_many_that_compare_the_same_one_wins,
    a_watch_tells_what_happened_under_its_prefix,
    a_watch_replays_what_came_after_its_revision,
    a_long_list_is_whole_and_in_order,
    a_cancelled_caller_leaves_a_whole_transaction,
    a_closed_store_ends_its_watches,  # last: nothing works after it
)
