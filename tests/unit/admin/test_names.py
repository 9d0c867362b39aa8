"""Two hosts of one name, in what people read and in what they type."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from morgand.admin import views
from morgand.cluster import codec, keys
from morgand.cluster.local import LocalStore
from morgand.cluster.snapshot import Inputs, read_snapshot
from morgand.cluster.store import Put
from morgand.cluster.view import view_of
from morgand.roles.catalog import SPECS
from morgand.scheduler.explain import explain
from morgand.scheduler.plan import plan
from morgand.state.hosts import HostState
from morgand.state.roles import RoleState, RoleStatus
from tests.fakes.clusters import MODELS, applied, profile

INPUTS = Inputs(SPECS, MODELS, {})


async def test_twins_are_told_apart_wherever_hosts_are_named(tmp_path: Path) -> None:
    """Roles, reasons and warnings; ids and plain names stay for programs."""
    store = await LocalStore.open(tmp_path)
    for host, name in (("3f2a90", "attic"), ("9bc1d2", "attic"), ("77aa11", "cellar")):
        record = codec.HostRecord(host, name, "192.0.2.1")
        await store.txn(
            [], [Put(keys.host(host), codec.encode(record)), Put(keys.profile(host), codec.encode(profile()))]
        )
    snapshot = read_snapshot(await view_of(store), INPUTS)
    await store.close()
    assert {host.display_name for host in snapshot.hosts} == {"attic (3f2a)", "attic (9bc1)", "cellar"}
    settled = applied(snapshot, plan(snapshot))
    told = views.explain_view(explain(settled), settled.hosts)
    shown = {one.host: one.host_name for one in told.placements} | {one.host: one.host_name for one in told.refusals}
    assert shown["3f2a90"] == "attic (3f2a)"
    (role, *_) = views.role_views(settled.assignments, [], settled.hosts)
    assert role.host_name in {"attic (3f2a)", "attic (9bc1)", "cellar"}
    away = tuple(replace(host, state=HostState.LEFT) if host.id == "9bc1d2" else host for host in settled.hosts)
    (warning,) = [one for one in views.warnings(away, (), [], 0, specs=SPECS) if "switch it on" in one]
    assert warning.startswith("attic (9bc1) is left")
    assert "`morganctl hosts remove 9bc1`" in warning


def test_a_role_that_loads_says_what() -> None:
    waits = RoleStatus("llm", "main", "a", RoleState.STARTING, 3, "the only host", model="qwen3-4b")
    view = views.role_view(waits, "attic")
    assert (view.state, view.detail, view.host_name) == ("starting", "loading qwen3-4b", "attic")
