"""Shared settings: checked, kept in the cluster's store, laid over the host's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from morgand.admin.settings import SharedSettings
from morgand.base.clock import SystemClock
from morgand.base.errors import InvalidInput, NotFound
from morgand.cluster import keys
from morgand.cluster.local import LocalStore
from morgand.cluster.mirror import Mirror
from morgand.cluster.snapshot import Inputs, read_snapshot
from morgand.cluster.store import Put
from morgand.cluster.view import view_of
from morgand.config import Config, load
from morgand.roles.catalog import NAMES


async def over(store: LocalStore, own: Config) -> SharedSettings:
    """Settings of a host that has read the store."""
    mirror = Mirror(store, SystemClock())
    await mirror.load()
    return SharedSettings(store, mirror, own)


async def test_set_and_delete_a_shared_setting(tmp_path: Path) -> None:
    """A set value is in force at once and says where it comes from; deleted, the host's own is back."""
    store = await LocalStore.open(tmp_path)
    settings = await over(store, load(None, {}, ["llm.max_tokens=100"], roles=NAMES))
    view = await settings.set("llm.max_tokens", "200")
    assert (view.value, view.default, view.source, view.shared) == (200, 256, "cluster", True)
    assert settings.current().llm.max_tokens == 200
    view = await settings.delete("llm.max_tokens")
    assert (view.value, view.source) == (100, "command line")
    with pytest.raises(NotFound, match="is not set for the cluster"):
        await settings.delete("llm.max_tokens")


async def test_a_shared_setting_survives_a_restart(tmp_path: Path) -> None:
    """Another process that opens the store reads it."""
    await (await over(await LocalStore.open(tmp_path), load(None, {}, roles=NAMES))).set("limits.queue", 7)
    again = await over(await LocalStore.open(tmp_path), load(None, {}, roles=NAMES))
    assert again.current().limits.queue == 7


@pytest.mark.parametrize(
    ("key", "value", "error", "words"),
    [
        ("llm.temprature", 1, NotFound, "did you mean 'llm.temperature'"),
        ("host.data_dir", "/x", InvalidInput, "belongs to one host"),
        ("llm.temperature", "nan", InvalidInput, "out of range"),
        ("llm.temperature", [1], InvalidInput, "is not a number"),
        ("limits.queue", 0, InvalidInput, "out of range"),
        ("limits.queue", None, InvalidInput, "is not a whole number"),
        ("llm.model", {"a": 1}, InvalidInput, "is not a text"),
        ("roles.llm.prefers", "desktop", NotFound, "did you mean 'roles.llm.prefer'"),
        ("roles.lmm.prefer", "desktop", NotFound, "did you mean 'roles.llm.prefer'"),
        ("roles.llm.prefer", 7, InvalidInput, "is not a list of texts"),
        ("roles.llm.prefer", ["desktop", 7], InvalidInput, "is not a list of texts"),
        ("roles.llm.forbid", ["desktop", " "], InvalidInput, "is not a list of texts"),
    ],
)
async def test_a_bad_setting_changes_nothing(
    tmp_path: Path, key: str, value: object, error: type[Exception], words: str
) -> None:
    """Unknown keys, keys of one host and wrong values are refused in words; the store stays as it was."""
    store = await LocalStore.open(tmp_path)
    settings = await over(store, load(None, {}, roles=NAMES))
    with pytest.raises(error, match=words):
        await settings.set(key, value)
    assert (await store.list(keys.CONFIG))[0] == []


async def test_settings_of_another_version_are_passed_over(tmp_path: Path) -> None:
    """An unknown key or a value no longer allowed does not keep a host from starting."""
    store = await LocalStore.open(tmp_path)
    for key, value in (("llm.colour", b'"red"'), ("limits.queue", b"-1"), ("llm.max_tokens", b"9")):
        await store.txn([], [Put(keys.config(key), value)])
    settings = await over(store, load(None, {}, roles=NAMES))
    assert settings.current().llm.max_tokens == 9
    assert settings.current().limits.queue == 50


async def test_changes_of_others_are_followed(tmp_path: Path) -> None:
    """What another writer puts into the store comes into force without a restart."""
    store = await LocalStore.open(tmp_path)
    mirror = Mirror(store, SystemClock())
    settings = SharedSettings(store, mirror, load(None, {}, roles=NAMES))
    following = asyncio.create_task(mirror.run())
    try:
        await asyncio.sleep(0)
        await store.txn([], [Put(keys.config("limits.queue"), b"9")])
        async with asyncio.timeout(30):
            while settings.current().limits.queue != 9:
                await asyncio.sleep(0.01)
    finally:
        following.cancel()


async def test_preferences_of_a_role_are_settings_like_others(tmp_path: Path) -> None:
    """`roles.NAME.prefer` and `.forbid`: for the cluster over the host's own, in the planner's terms, and back."""
    settings = await over(await LocalStore.open(tmp_path), load(None, {}, ["roles.llm.prefer=attic,loud"], roles=NAMES))
    assert settings.get("roles.llm.prefer").source == "command line"
    view = await settings.set("roles.llm.prefer", "desktop, attic")
    assert (view.value, view.default, view.source, view.shared) == (["desktop", "attic"], [], "cluster", True)
    await settings.set("roles.llm-fast.forbid", ["attic"])
    preferences = settings.current().preferences()
    assert preferences["llm"].prefer == ("desktop", "attic")
    assert preferences["llm-fast"].forbid == ("attic",)
    assert (await settings.delete("roles.llm.prefer")).value == ["attic", "loud"]
    assert {"roles.llm.prefer", "roles.monitor.forbid"} <= {one.key for one in settings.list()}


async def test_a_preference_moves_the_role(tmp_path: Path) -> None:
    """The planner reads the shared preferences from the store, laid over the leader's own."""
    store = await LocalStore.open(tmp_path)
    settings = await over(store, load(None, {}, ["roles.llm.forbid=attic"], roles=NAMES))
    await settings.set("roles.llm.prefer", "desktop")
    inputs = Inputs(roles=(), models=(), preferences=settings.current().preferences())
    seen = (read_snapshot(await view_of(store), inputs)).preferences["llm"]
    assert (seen.prefer, seen.forbid) == (("desktop",), ("attic",))


async def test_every_key_is_listed_with_its_help(tmp_path: Path) -> None:
    """What `morganctl config` shows: key, value, default, source, and a sentence."""
    settings = await over(await LocalStore.open(tmp_path), load(None, {}, ["host.labels=a,b"], roles=NAMES))
    views = {view.key: view for view in settings.list()}
    assert views["host.labels"].value == ["a", "b"]
    assert views["host.labels"].source == "command line"
    assert all(view.help for view in views.values())
    assert settings.get("llm.threads").value == 0
