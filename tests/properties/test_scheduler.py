"""The scheduler's promises, over generated clusters."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from morgand.scheduler.feasible import DISK_RESERVE_MB, RAM_RESERVE_MB
from morgand.scheduler.plan import passed_over, plan
from morgand.state.hosts import Duty, Host, HostState
from morgand.state.plans import Snapshot
from morgand.state.roles import RolePreference
from tests.fakes.clusters import CARRIED, EMBEDDED, MODELS, applied, host, snapshot

# of all properties together: 2,600 clusters, and 10,400 with the profile `thorough` (tests/conftest.py)
clusters = settings(max_examples=2 * settings().max_examples, deadline=None, suppress_health_check=list(HealthCheck))
ENGINES = (*EMBEDDED, "sentence-transformers", "ollama", "postgresql", "redis", "prometheus", "qdrant", "seaweedfs")
BOUND = ("sqlite", "folder")  # what they store is on one host
FATES: list[dict[str, Any]] = [{"state": HostState.FENCED}, {"state": HostState.LEFT}, {"draining": True}]
SPECS = {spec.name: spec for spec in snapshot().roles}
HANDLES = sorted({model.handle for model in MODELS})


@st.composite
def hosts(draw: st.DrawFn, low: int = 1, high: int = 8) -> tuple[Host, ...]:
    count = draw(st.integers(low, high))
    return tuple(
        host(
            f"h{number}",
            draw(st.sampled_from((0.5, 1, 2, 4, 8, 16, 32, 64))),
            draw(st.sampled_from(((), (), (4,), (6,), (8,), (12,), (24,), (8, 8)))),
            engines=draw(st.sampled_from((EMBEDDED, ENGINES, EMBEDDED[:4]))),
            models=draw(st.sampled_from((CARRIED, HANDLES, ()))),
            disk_gb=draw(st.sampled_from((1, 5, 100))),
            duty=draw(st.sampled_from(Duty)),
            draining=draw(st.sampled_from((False, False, False, True))),
            state=draw(st.sampled_from((HostState.ALIVE, HostState.ALIVE, HostState.ALIVE, *HostState))),
        )
        for number in range(count)
    )


def able(found: tuple[Host, ...]) -> tuple[Host, ...]:
    """The same hosts, each with every engine and room for it."""
    roomy = host("roomy", engines=ENGINES).profile
    return tuple(
        replace(
            one, profile=replace(one.profile, engines=roomy.engines, disk=roomy.disk, ram_mb=one.profile.ram_mb + 4096)
        )
        for one in found
    )


def settled(found: tuple[Host, ...]) -> Snapshot:
    world = snapshot(*found)
    return applied(world, plan(world))


@clusters
@given(hosts(), st.randoms())
def test_the_order_of_hosts_does_not_matter(found: tuple[Host, ...], rng: random.Random) -> None:
    """The same hosts in any order get the same plan."""
    shuffled = list(found)
    rng.shuffle(shuffled)
    assert plan(snapshot(*found)) == plan(snapshot(*shuffled))


@clusters
@given(hosts(), hosts())
def test_planning_again_changes_nothing(before: tuple[Host, ...], after: tuple[Host, ...]) -> None:
    """Once a plan is applied the next one is empty, from any earlier world."""
    world = replace(settled(before), hosts=after)
    first = plan(world)
    again = plan(applied(world, first))
    assert again.added == again.removed == ()


ROLES = sorted(SPECS)


@st.composite
def failures(draw: st.DrawFn) -> dict[str, dict[str, str]]:
    """Roles, and hosts that they failed on."""
    names = st.sampled_from([f"h{number}" for number in range(8)])
    return {
        role: dict.fromkeys(sorted(draw(st.sets(names, max_size=5))), "It ended.")
        for role in draw(st.sets(st.sampled_from(ROLES), max_size=4))
    }


@clusters
@given(hosts(), failures())
def test_a_role_that_failed_on_a_host_moves_once(found: tuple[Host, ...], lost: dict[str, dict[str, str]]) -> None:
    """Planning again changes nothing; and what still is on such a host could be on no other: forbidden there it would
    be placed less often. What was made with a model is not made anew for it: most failures end sooner."""
    world = replace(settled(found), failures=lost)
    first = plan(world)
    assert plan(applied(world, first)).empty
    for role, on in lost.items():
        kept = [one for one in first.assignments if one.role == role and one.host in on]
        if any(SPECS[role].binds(one.engine) or SPECS[role].elects(one.engine) for one in first.assignments):
            continue
        barred = {role: RolePreference(forbid=tuple(on))}
        without = plan(replace(applied(world, first), preferences=barred)).assignments
        models = {one.model for one in first.assignments if one.role == role} if SPECS[role].keep_model else None
        others = [one for one in without if one.role == role and (models is None or one.model in models)]
        assert not kept or len(others) < sum(one.role == role for one in first.assignments)


@clusters
@given(hosts(low=2), failures())
def test_a_failure_moves_nothing_else(found: tuple[Host, ...], lost: dict[str, dict[str, str]]) -> None:
    """But for what keeps a distance to the role, and what had to make room for it."""
    world = settled(found)
    result = plan(replace(world, failures=lost))
    near = {spec.name for spec in world.roles for one in spec.parts for rule in one.apart if rule.role in lost}
    receivers = {one.host for one in result.added} | {one.host for one in result.removed}
    touched = [one for one in result.removed if one.role not in lost.keys() | near]
    assert touched == [] or any(one.host in receivers for one in touched)
    if not any(one.role in lost for one in (*result.added, *result.removed)):
        assert result.empty


@clusters
@given(hosts(), hosts())
def test_nothing_is_overcommitted(before: tuple[Host, ...], after: tuple[Host, ...]) -> None:
    """RAM, VRAM of each GPU, and disk for what was not there before stay within what a host has."""
    world = replace(settled(before), hosts=after)
    there = {(one.role, one.host, one.engine) for one in world.assignments}
    result = plan(world)
    for one in after:
        mine = [found for found in result.assignments if found.host == one.id]
        if all(SPECS[found.role].keeps(found.engine, found.part) for found in mine):
            continue  # what is stored here stays, however small the host has become
        assert not mine or sum(found.ram_mb for found in mine) <= one.profile.ram_mb - RAM_RESERVE_MB
        for index, gpu in enumerate(one.profile.gpus):
            assert sum(found.vram_mb for found in mine if found.gpu == index) <= gpu.vram_mb
        if not mine:
            continue
        needs = {spec.name: spec.disk_mb for spec in snapshot().roles}
        new = [
            found
            for found in result.added
            if found.host == one.id and (found.role, found.host, found.engine) not in there
        ]
        assert not new or sum(needs[found.role] for found in new) <= one.profile.disk.free_mb - DISK_RESERVE_MB


@clusters
@given(hosts(), st.data())
def test_what_is_stored_on_one_host_stays_there(found: tuple[Host, ...], data: st.DataObject) -> None:
    """Whatever becomes of a host that others still count as theirs, its database and originals are on it; and when it
    should have nothing, a reason says so."""
    world = settled(found)
    fate = data.draw(st.sampled_from(FATES))
    for before in (one for one in world.assignments if one.engine in BOUND):
        changed = tuple(replace(one, **fate) if one.id == before.host else one for one in found)
        after = plan(replace(world, hosts=(*changed, host("z", 256))))
        assert before.slot in {one.slot for one in after.assignments}
        assert [one.host for one in after.assignments if (one.role, one.part) == before.slot[:2]] == [before.host]
        assert any(one.host == before.host and "its data is on" in one.reason for one in after.refusals)


@clusters
@given(hosts(2), st.data())
def test_a_database_that_chooses_its_primary_is_left_to_it(found: tuple[Host, ...], data: st.DataObject) -> None:
    """No plan moves the primary; it begins only where two hosts can run it, and then a lone file makes way for it."""
    able = [one for one in found if one.profile.has_engine("postgresql")]
    world = settled(found)
    chosen = [one for one in world.assignments if one.engine == "postgresql"]
    assert not chosen or len(able) >= 2
    for primary in (one for one in chosen if one.part == "primary"):
        fate = data.draw(st.sampled_from(FATES))
        changed = tuple(replace(one, **fate) if one.id == primary.host else one for one in found)
        after = plan(replace(world, hosts=(*changed, host("z", 256, engines=ENGINES))))
        assert [one.host for one in after.assignments if one.slot[:2] == ("db", "primary")] == [primary.host]
        assert any(one.host == primary.host and "has not chosen another host" in one.reason for one in after.refusals)


@clusters
@given(hosts(2), hosts(2), st.data())
def test_no_copy_of_the_database_goes_that_may_be_waited_for(
    before: tuple[Host, ...], after: tuple[Host, ...], data: st.DataObject
) -> None:
    """While the engine does not count on every copy none is taken from an able host, for nobody knows which it will
    count on next; what it counts on is never taken. There is one copy too many at most, and planning again changes
    nothing."""
    before, after = able(before), able(after)
    world = replace(settled(before), hosts=after)
    copies = [one for one in world.assignments if one.engine == "postgresql"]
    if not any(one.part == "primary" and one.host in {host.id for host in after} for one in copies):
        return
    needed = frozenset(one.host for one in copies if one.part == "primary" or data.draw(st.booleans()))
    world = replace(world, needed={"db": needed})
    found = plan(world)
    kept = {one.host for one in found.assignments if one.role == "db"}
    others = {one.host for one in found.assignments if one.role == "db" and one.part != "primary"}
    for one in after:
        held = any(copy.host == one.id for copy in copies)
        if not held or one.draining or one.state in (HostState.FENCED, HostState.LEFT):
            continue
        if one.id in needed or not others <= needed:
            assert one.id in kept
    assert len(kept) <= 4
    assert plan(applied(world, found)).empty


def test_a_better_host_gets_the_database_without_anybody_waiting_for_a_copy_that_goes() -> None:
    """One copy more while all others are counted on; the worst goes when the new one is counted on instead."""
    before = snapshot(*(host(name, ram, engines=ENGINES) for name, ram in (("a", 32), ("b", 16), ("c", 8))))
    world = applied(before, plan(before))
    world = replace(world, hosts=(*world.hosts, host("z", 64, engines=ENGINES)))

    def copies(*needed: str) -> dict[str, str]:
        nonlocal world
        world = replace(world, needed={"db": frozenset(needed)})
        world = applied(world, plan(world))
        return {one.host: one.part for one in world.assignments if one.role == "db"}

    assert copies("a", "b") == {"a": "primary", "b": "standby", "c": "replica"}
    assert copies("a", "b", "c") == {"a": "primary", "b": "standby", "c": "replica", "z": "replica"}
    assert copies("a", "b") == {"a": "primary", "b": "standby", "c": "replica", "z": "replica"}
    world = replace(world, hosts=(*world.hosts, host("y", 128, engines=ENGINES)))
    assert copies("a", "b", "c") == {"a": "primary", "b": "standby", "c": "replica", "z": "replica"}  # one at a time
    assert copies("a", "b", "z") == {"a": "primary", "b": "standby", "z": "replica", "y": "replica"}
    assert copies("a", "z", "y") == {"a": "primary", "z": "replica", "y": "standby"}
    assert any("copy" in one.why for one in world.assignments if one.role == "db")


def test_a_database_that_is_being_made_beside_a_file_is_not_taken_from_its_maker() -> None:
    """A better host that joins in that moment waits until there is something to copy, and then gets one more."""
    lone = settled((host("a", 64),))
    world = replace(lone, hosts=(host("a", 64), *(host(name, 16, engines=ENGINES) for name in "bc")))
    world = replace(applied(world, plan(world)), unled=frozenset({"db"}))
    world = replace(world, hosts=(*world.hosts, host("z", 32, engines=ENGINES)))
    made = replace(world, unled=frozenset(), needed={"db": frozenset("bc")})
    for found, added in ((plan(world), []), (plan(made), ["z"])):
        assert not [one for one in found.removed if one.role == "db"]
        assert [one.host for one in found.added if one.role == "db"] == added


def test_no_copy_of_the_database_is_begun_while_nobody_leads_it() -> None:
    """Where one is there already it stays, whatever part it gets."""
    before = snapshot(*(host(name, ram, engines=ENGINES) for name, ram in (("a", 32), ("b", 16), ("c", 8), ("d", 4))))
    world = applied(before, plan(before))
    gone = tuple(one for one in world.assignments if (one.role, one.part) != ("db", "standby"))
    for unled, expected in ((frozenset({"db"}), {"a", "c"}), (frozenset[str](), {"a", "c", "b"})):
        found = plan(replace(world, assignments=gone, unled=unled))
        assert {one.host for one in found.assignments if one.role == "db"} == expected
        assert any("choosing its primary" in one.reason for one in found.refusals) == bool(unled)


def test_a_copy_of_the_database_does_not_move_for_a_host_that_was_away() -> None:
    """Neither is one taken from it because it was, nor does it get one at once."""
    before = snapshot(*(host(name, ram, engines=ENGINES) for name, ram in (("a", 32), ("b", 16), ("c", 8))))
    world = replace(applied(before, plan(before)), needed={"db": frozenset("abc")})
    away = [replace(one, on_probation=one.id in "bc") for one in world.hosts]

    def given(*others: Host) -> list[str]:
        found = plan(replace(world, hosts=(*away, *others)))
        assert not [one for one in found.removed if one.role == "db"]
        return [one.host for one in found.added if one.role == "db"]

    better = host("y", 64, engines=ENGINES)
    assert given(host("z", 6, engines=ENGINES)) == []
    assert given(replace(better, on_probation=True)) == []
    assert given(better) == ["y"]


def test_a_file_keeps_the_primary_until_its_successor_has_it_all() -> None:
    """PostgreSQL is begun beside SQLite as soon as two hosts can run it; no plan passes the primary on."""
    lone = settled((host("a", 64),))
    world = replace(lone, hosts=(host("a", 64), host("b", 32, engines=ENGINES), host("c", 16, engines=ENGINES)))
    found = {(one.part, one.host, one.engine) for one in plan(world).assignments if one.role == "db"}
    assert found == {("primary", "a", "sqlite"), ("standby", "b", "postgresql"), ("replica", "c", "postgresql")}
    few = replace(lone, hosts=(host("a", 64), host("b", 32, engines=ENGINES)))
    assert {one.part for one in plan(few).assignments if one.role == "db"} == {"primary"}


@clusters
@given(hosts())
def test_only_able_hosts_get_roles(found: tuple[Host, ...]) -> None:
    """Hosts that are draining, fenced, gone or suspect get nothing new, and nobody an engine it lacks."""
    by_id = {one.id: one for one in found}
    for one in plan(snapshot(*found)).assignments:
        holder = by_id[one.host]
        assert holder.state is HostState.ALIVE
        assert not holder.draining
        assert holder.profile.has_engine(one.engine)


@clusters
@given(hosts(), st.floats(1.0, 1.2))
def test_nothing_moves_for_a_small_gain(found: tuple[Host, ...], factor: float) -> None:
    """A host of up to 20 % more RAM and no other difference moves nothing that runs."""
    world = settled(found)
    rival = replace(found[0], id="z", name="z", profile=replace(found[0].profile, gpus=()))
    rival = replace(rival, profile=replace(rival.profile, ram_mb=int(rival.profile.ram_mb * factor)))
    if any(one.profile.gpus or one.profile.duty is not rival.profile.duty for one in found):
        return
    if any(one.profile.ram_mb * 1.25 <= rival.profile.ram_mb for one in found):
        return
    disks = {one.profile.disk.free_mb for one in found}
    if len(disks) > 1:
        return
    keeps_distance = {spec.name for spec in world.roles for part in spec.parts if part.apart}  # a place apart is a gain
    moved = plan(replace(world, hosts=(*found, rival))).removed
    assert {one.role for one in moved} <= keeps_distance


@clusters
@given(hosts(low=2), st.data())
def test_losing_a_host_moves_only_what_it_held(found: tuple[Host, ...], data: st.DataObject) -> None:
    """On hosts that stay, only parts of roles that the lost host held (or must keep a distance to) are touched, unless
    something had to make room on a host that took one over: what was freed there may be of use to others."""
    world = settled(found)
    lost = data.draw(st.sampled_from([one.id for one in found]))
    left = tuple(one for one in found if one.id != lost)
    result = plan(replace(world, hosts=left))
    held = {one.role for one in world.assignments if one.host == lost}
    near = {spec.name for spec in world.roles for one in spec.parts for rule in one.apart if rule.role in held}
    receivers = {one.host for one in result.added}
    touched = [one for one in result.removed if one.host != lost and one.role not in held | near]
    assert touched == [] or any(one.host in receivers for one in touched)


@clusters
@given(hosts())
def test_what_can_be_placed_is_placed(found: tuple[Host, ...]) -> None:
    """A role without a single holder was impossible on every host, each for a reason."""
    world = snapshot(*found)
    result = plan(world)
    held = {one.role for one in result.assignments}
    for refusal in result.refusals:
        assert refusal.reason
    reasons = passed_over(world)
    for spec in world.roles:
        if spec.name not in held:
            told = {one.host: one.reason for one in reasons if one.role == spec.name}
            assert set(told) == {one.id for one in found}
            assert all(reason and reason != "fits" for reason in told.values())


@clusters
@given(hosts())
def test_required_parts_are_refused_or_placed(found: tuple[Host, ...]) -> None:
    """Nothing is forgotten: every part that is not there in full has a refusal."""
    result = plan(snapshot(*found))
    for spec in snapshot().roles:
        for part in spec.parts:
            count = sum((one.role, one.part) == (spec.name, part.name) for one in result.assignments)
            refused = any((one.role, one.part) == (spec.name, part.name) for one in result.refusals)
            assert count >= part.high or refused
