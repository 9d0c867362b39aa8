"""The typed view of the store: each record is decoded once, however many look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from morgand.base.clock import SystemClock
from morgand.base.errors import MorganError
from morgand.cluster import codec, keys
from morgand.cluster.codec import HostRecord
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import Item, Put
from morgand.cluster.view import View, view_of, view_of_values
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.peers.directory import ClusterDirectory
from morgand.state.roles import Assignment


def host(name: str, *, draining: bool = False) -> Put:
    return Put(keys.host(name), codec.encode(HostRecord(name, name, "10.0.0.1", draining=draining)))


def assignment(role: str, name: str) -> Put:
    return Put(
        keys.assignment(role, "main", name), codec.encode(Assignment(role, "main", name, "engine", 1, "it fits"))
    )


def voter(name: str, state: VoterState) -> Put:
    return Put(keys.voter(name), codec.encode(VoterRecord(name, "peer", "client", state)))


def identities(view: View) -> dict[str, int]:
    return {name: id(record) for name, record in view.hosts.items()}


async def test_a_record_is_decoded_once_a_revision(tmp_path: Path) -> None:
    """However many look, whatever else changes, and though everything is read anew: what is not decoded anew is the
    very same object."""
    store = await LocalStore.open(tmp_path)
    mirror = Mirror(store, SystemClock())
    directory = ClusterDirectory("a", mirror, lambda _: False, specs={}, leased=lambda: True)
    seen: dict[str, list[object]] = {}

    def look() -> None:
        view = mirror.view
        assigned = {one.role: one for one in (*view.assignments, *view.assigned("llm"))}
        for looked in (view.hosts, directory.hosts(), assigned):
            for name, record in looked.items():
                known = seen.setdefault(name, [])
                if not any(record is one for one in known):
                    known.append(record)

    await mirror.until(await store.txn([], [host("a"), host("b"), assignment("llm", "a")]))
    look()
    look()
    await mirror.until(await store.txn([], [Put("/other", b"1"), host("b", draining=True)]))
    look()
    await mirror.load()
    look()
    assert {name: len(records) for name, records in seen.items()} == {"a": 1, "b": 2, "llm": 1}
    assert [one.draining for one in mirror.view.hosts.values()] == [False, True]


async def test_a_view_never_changes(tmp_path: Path) -> None:
    """Who took one may wait: what is decided from it is of one moment, revisions to compare included."""
    store = await LocalStore.open(tmp_path)
    mirror = Mirror(store, SystemClock())
    first = await store.txn([], [host("a")])
    await mirror.until(first)
    before = mirror.view
    assert mirror.view is before
    second = await store.txn([], [host("a", draining=True)])
    await mirror.until(second)
    assert (before.hosts["a"].draining, before.items[keys.host("a")].mod_revision) == (False, first)
    assert (mirror.view.hosts["a"].draining, mirror.view.items[keys.host("a")].mod_revision) == (True, second)


async def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    """One that is written again, with what once stood there, is another record."""
    store = await LocalStore.open(tmp_path)
    await store.txn([], [host("a"), host("b")])
    whole = await view_of(store)
    seen = identities(whole)
    await store.txn([], [], [keys.host("a")])
    smaller = await view_of(store, whole)
    assert identities(smaller) == {"b": seen["b"]}
    await store.txn([], [host("a")])
    again = await view_of(store, smaller)
    assert again.hosts["a"] == whole.hosts["a"]
    assert again.hosts["a"] is not whole.hosts["a"]


def test_what_cannot_be_read_costs_only_who_looks_at_it() -> None:
    """A newer version wrote it: it is named, and told again to whoever asks."""
    view = view_of_values(
        {keys.host("new"): b"[]", keys.assignment("new", "main", "a"): b"[]"}
        | {put.key: put.value for put in (host("a"), assignment("db", "a"))}
    )
    assert view.hosts["a"].name == "a"
    assert [one.role for one in view.assigned("db")] == ["db"]
    for _ in range(2):
        with pytest.raises(MorganError, match="/hosts/new") as told:
            list(view.hosts.values())
        assert told.value.remedy == "It was written by another version; update this host."
        with pytest.raises(MorganError, match="/assignments/new/main/a"):
            _ = view.assignments


def test_records_are_known_by_their_ids() -> None:
    """Whatever letters are in them, in order of their keys; only voters vote."""
    puts = [
        host("büro/1"), host("a"), voter("a", VoterState.VOTER), voter("b", VoterState.LEARNER),
    ]  # fmt: skip
    view = View((Item(put.key, put.value, 1, 1) for put in puts), 1)
    assert list(view.hosts) == ["a", "büro/1"]
    assert view.hosts.get("nobody") is None
    assert set(view.voters) == {"a", "b"}
    assert [one.host for one in view.voting] == ["a"]
