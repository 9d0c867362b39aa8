"""A role is a folder and a line: its definition says all of it, and nobody else knows its name."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import cast

import pytest

from morgand.admin.views import explain_view, role_views
from morgand.base.clock import SystemClock
from morgand.base.disk import Disk
from morgand.fingerprint.engines import BuiltIn, engines
from morgand.host.assignments import Assignments
from morgand.host.runner import Runner
from morgand.roles.base import EmbeddedService, HostContext
from morgand.roles.catalog import NAMES, ROLES, engine_sources, performed
from morgand.roles.db.factory import DatabaseFactory
from morgand.roles.definition import RoleDefinition
from morgand.scheduler.explain import explain
from morgand.scheduler.plan import plan
from morgand.state.hosts import Host, Network, Profile
from morgand.state.plans import Snapshot
from morgand.state.roles import EngineOption, Part, Rank, RoleSpec, RoleState
from morgand.wiring import Local, Parts, services

ROOT = Path(__file__).parents[3] / "morgand"
# what the assistant's ports are called on the wire, where they are put together; a section of settings that is called
# as its role
ALLOWED = {
    "wiring.py": {"objects", "llm", "llm-fast", "embedder", "reranker", "vectors"},
    "config.py": {"llm"},
}


def test_every_engine_of_a_role_is_found_by_its_definition() -> None:
    """What can be performed is looked for, and nothing else of the roles is."""
    for one in ROLES:
        named = {option.name for option in one.spec.engines}
        assert one.performed <= named
        assert one.performed <= {source.engine for source in one.engines}
        assert set(one.perform).isdisjoint(one.wired)


def test_nobody_but_its_folder_knows_a_role() -> None:
    """No text outside ``roles`` is a role's name: a new role touches no other file."""
    found: dict[str, set[str]] = {}
    for file in sorted(ROOT.rglob("*.py")):
        room = file.relative_to(ROOT)
        if room.parts[0] == "roles":
            continue
        texts = {
            node.value
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        if named := (texts & set(NAMES)) - ALLOWED.get(str(room), set()):
            found[str(room)] = named
    assert found == {}


async def nothing() -> None:
    """Opens, checks and closes nothing."""


def weather_service(context: HostContext, *_: object) -> EmbeddedService:
    return EmbeddedService(nothing, nothing, nothing, context.clock)


async def test_a_role_of_a_catalogue_is_planned_performed_explained_and_shown(tmp_path: Path) -> None:
    """Given a definition, and nothing else, every part of Morgan does what it does for the others."""
    spec = RoleSpec(
        "weather", "says what it will be like", (Part("main"),), (EngineOption("barometer"),), (Rank.RAM,), needed=True
    )
    weather = RoleDefinition(spec, (BuiltIn("barometer", "1.0"),), perform={"barometer": weather_service})
    roles = (*ROLES, weather)
    found = tuple(one for one in engines(engine_sources(roles)) if one.name in performed(roles))
    disk = Disk("/", 100_000, 90_000, 1.0)
    profile = Profile(8192, "cpu", 2, "linux", "x86_64", disk, Network("lo", "127.0.0.1", wired=True), engines=found)
    host = Host("h", "atlas", "127.0.0.1", profile)
    snapshot = Snapshot(1, 1, (host,), roles=tuple(one.spec for one in roles))
    made = plan(snapshot)
    [placed] = [one for one in made.assignments if one.role == "weather"]
    assert (placed.host, placed.engine) == ("h", "barometer")
    assert any(
        one.role == "weather" and one.host == "h" for one in explain_view(explain(snapshot), snapshot.hosts).placements
    )

    context = cast("HostContext", type("Here", (), {"clock": SystemClock()})())
    factory = services(
        context, Assignments((), tmp_path), cast("Local", None), cast("Parts", None), cast("DatabaseFactory", None),
        roles=roles,
    )  # fmt: skip
    runner = Runner(factory, SystemClock(), lambda _: None)
    await runner.apply([placed])
    try:
        async with asyncio.timeout(10):
            while [one.state for one in runner.statuses()] != [RoleState.READY]:
                await asyncio.sleep(0.01)
        [view] = role_views((placed,), runner.statuses(), (host,))
        assert (view.role, view.state) == ("weather", "ready")
    finally:
        await runner.stop()


@pytest.mark.parametrize("one", ROLES, ids=lambda one: one.spec.name)
def test_what_a_role_stores_is_said(one: RoleDefinition) -> None:
    """A role that stays where its data are says in which folder they are."""
    if any(option.bound for option in one.spec.engines):
        assert one.stores
