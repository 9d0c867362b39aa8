"""Where roles go, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from morgand.base.disk import DiskLevel
from morgand.scheduler.explain import explain
from morgand.scheduler.plan import plan
from morgand.state.hosts import Duty, HostState
from morgand.state.roles import RolePreference
from tests.fakes.clusters import CARRIED, EMBEDDED, applied, host, sick, snapshot, where


def test_one_host_does_the_whole_job() -> None:
    """The embedded default: everything that can run runs here; what cannot says why."""
    result = plan(snapshot(host("atlas")))
    assert {f"{one.role}/{one.part}/{one.engine}" for one in result.assignments} == {
        "core/main/assistant", "llm/main/llama.cpp", "embedder/main/onnx", "reranker/main/onnx",
        "db/primary/sqlite", "cache/primary/memory", "vectors/main/qdrant-edge", "objects/main/folder",
    }  # fmt: skip
    assert {one.epoch for one in result.assignments} == {3}
    assert result.id == "plan-7"
    reasons = {one.role: one.reason for one in result.refusals}
    assert "prometheus is not installed" in reasons["monitor"]
    assert "must be on another host" in reasons["llm-fast"]


def test_five_hosts_follow_their_hardware() -> None:
    """The main LLM takes the largest VRAM, the small one the next, embedder and reranker a moderate one,
    database and core the hosts with the most RAM and no GPU."""
    world = snapshot(
        host("g24", 32, (24,)), host("g12", 32, (12,)), host("g8", 16, (8,)), host("c64", 64), host("c32", 32)
    )
    placed = where(plan(world))
    assert placed["llm/main"] == "g24"
    assert placed["llm-fast/main"] == "g12"
    assert placed["embedder/main"] == "g8"
    assert placed["reranker/main"] == "g8"
    assert placed["db/primary"] == "c64"
    assert plan(applied(world, plan(world))).empty


def test_a_cause_that_is_everywhere_costs_one_try_on_each_host() -> None:
    """A role that failed on every host stays where it failed last: it does not begin again on the best of them."""
    world = snapshot(host("a", 32, (24,)), host("b", 32, (12,)), host("c", 32))
    world = applied(world, plan(world))
    tried = [where(plan(world))["llm/main"]]
    for _ in range(5):
        failed = {"llm": dict.fromkeys(tried, "The model's file is damaged.")}
        world = replace(world, failures=failed)
        result = plan(world)
        world = applied(world, result)
        tried.append(where(result)["llm/main"])
    assert tried == ["a", "b", "c", "c", "c", "c"]


def test_a_lost_holder_is_replaced_by_its_warm_standby() -> None:
    """The standby becomes the main, under the new epoch, and a new standby is found."""
    world = snapshot(host("a", 64), host("b", 32), host("c", 16))
    before = applied(world, plan(world))
    assert where(plan(world))["embedder/main"] == "a"
    standby = where(plan(world))["embedder/standby"]
    after = plan(replace(before, hosts=tuple(one for one in before.hosts if one.id != "a")))
    main = next(one for one in after.added if (one.role, one.part) == ("embedder", "main"))
    assert (main.host, main.epoch) == (standby, before.epoch)


def test_a_much_better_host_takes_over_and_a_slightly_better_one_does_not() -> None:
    world = applied(snapshot(host("a", 16, (12,))), plan(snapshot(host("a", 16, (12,)))))
    slightly = replace(world, hosts=(*world.hosts, host("b", 16, (14,))))
    much = replace(world, hosts=(*world.hosts, host("b", 16, (24,))))
    assert where(plan(slightly))["llm/main"] == "a"
    assert where(plan(much))["llm/main"] == "b"


def test_a_witness_gets_no_role_whatever_it_has() -> None:
    """Not even where that leaves a role with nobody."""
    box = host("box", 64, (24,))
    witness = replace(box, profile=replace(box.profile, witness=True))
    assert "box" not in where(plan(snapshot(host("a"), witness))).values()
    alone = plan(snapshot(witness))
    assert not alone.assignments
    assert any("box is a witness: it only votes" in one.reason for one in alone.refusals)


def test_preferences_name_hosts_and_labels() -> None:
    hosts = (host("a", 64), host("b", 16, labels=("cellar",)))
    prefer = {"db": RolePreference(prefer=("cellar",)), "vectors": RolePreference(forbid=("a",))}
    placed = where(plan(snapshot(*hosts, preferences=prefer)))
    assert placed["db/primary"] == "b"
    assert placed["vectors/main"] == "b"


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    result = plan(snapshot(host("a"), preferences={"llm": RolePreference(model="smollm-135m")}))
    reason = next(one.reason for one in result.refusals if (one.role, one.part) == ("llm", "main"))
    assert "did you mean 'smollm2-135m-instruct'?" in reason


def test_the_largest_model_on_the_host_is_taken_and_a_configured_one_waited_for() -> None:
    """A model counts only when its files are there; until the configured one is, another serves and says so."""
    bigger = host("a", 16, (12,), models=(*CARRIED, "qwen3-8b", "qwen3-32b"))
    llm = next(one for one in plan(snapshot(bigger)).assignments if one.role == "llm")
    assert (llm.model, llm.gpu, llm.vram_mb) == ("qwen3-8b", 0, 6900)
    waiting = plan(snapshot(host("a"), preferences={"llm": RolePreference(model="qwen3-4b")}))
    llm = next(one for one in waiting.assignments if one.role == "llm")
    assert llm.model == "smollm2-135m-instruct"
    assert "until qwen3-4b is on a" in llm.why


def test_a_configured_model_that_cannot_fit_is_refused() -> None:
    result = plan(snapshot(host("a"), preferences={"llm": RolePreference(model="qwen3-32b")}))
    assert "llm/main" not in where(result)
    assert any("VRAM" in one.reason for one in result.refusals if one.role == "llm")


def test_a_model_that_arrives_upgrades_in_place_under_a_new_epoch() -> None:
    world = snapshot(host("a", 16, (12,)))
    before = applied(world, plan(world))
    result = plan(replace(before, hosts=(host("a", 16, (12,), models=(*CARRIED, "qwen3-8b")),)))
    assert [(one.role, one.model, one.epoch) for one in result.added] == [("llm", "qwen3-8b", before.epoch)]
    assert [(one.role, one.model) for one in result.removed] == [("llm", "smollm2-135m-instruct")]


def test_the_embedding_model_stays_whatever_arrives() -> None:
    """Stored vectors belong to a model: it changes only when no host can run it."""
    world = snapshot(host("a"))
    before = applied(world, plan(world))
    able = host("a", 16, (8,), engines=(*EMBEDDED, "sentence-transformers"), models=(*CARRIED, "all-minilm-l6-v2"))
    assert not [one for one in plan(replace(before, hosts=(able,))).added if one.role == "embedder"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"draining": True}, "being drained"),
        ({"state": HostState.FENCED}, "is fenced"),
        ({"state": HostState.SUSPECT}, "is suspect"),
    ],
)
def test_hosts_that_must_not_get_roles_say_why(change: dict[str, object], words: str) -> None:
    result = plan(snapshot(host("a", **change)))  # type: ignore[arg-type]
    assert result.assignments == ()
    assert all(words in one.reason for one in result.refusals)


def test_a_suspect_host_keeps_what_it_has() -> None:
    """Suspicion is a hint: nothing moves because of it."""
    world = applied(snapshot(host("a")), plan(snapshot(host("a"))))
    assert plan(replace(world, hosts=(host("a", state=HostState.SUSPECT),))).empty


@pytest.mark.parametrize("level", [DiskLevel.FULL, DiskLevel.READ_ONLY, DiskLevel.FAILING, DiskLevel.SLOW])
def test_a_host_with_a_sick_disk_gets_nothing_new_to_store_and_keeps_what_it_has(level: DiskLevel) -> None:
    """What needs no disk may still go there; alone it gets what there is."""
    best, other = host("a", 64), host("b", 16)
    fresh = where(plan(snapshot(sick(best, level), other)))
    assert {fresh[part] for part in ("db/primary", "objects/main", "vectors/main")} == {"b"}
    assert "a" in fresh.values()
    world = applied(snapshot(best, other), plan(snapshot(best, other)))
    kept = plan(replace(world, hosts=(sick(best, level), other)))
    assert (kept.added, kept.removed) == ((), ())
    assert where(plan(snapshot(sick(best, level))))["db/primary"] == "a"


def test_a_host_that_is_sometimes_on_holds_the_database_only_alone() -> None:
    pc, box = host("pc", 64, duty=Duty.SOMETIMES), host("box", 8)
    assert where(plan(snapshot(pc)))["db/primary"] == "pc"
    assert where(plan(snapshot(pc, box)))["db/primary"] == "box"


def test_the_explanation_names_every_host() -> None:
    """For each part: who has it and why, and for each other host why not."""
    world = snapshot(host("a", 64), host("b", 16))
    told = explain(world, "db")
    assert told.placements[0].host == "a"
    assert {one.host for one in told.refusals if one.part == "primary"} == {"b"}
    assert told.placements[0].engine == "sqlite"
    assert any("16.0 GB RAM against 64.0 GB RAM on a" in one.reason for one in told.refusals)
    assert len(set(told.refusals)) == len(told.refusals)
    assert {one.role for one in told.placements} == {one.role for one in told.refusals} == {"db"}
    assert {one.role for one in explain(world).placements} > {"db", "llm", "core"}


def test_every_refusal_is_explained_once() -> None:
    """A line for each part and host, whatever was tried for it; whoever has the part was not passed over."""
    for world in (snapshot(host("a")), snapshot(host("a"), host("b"), host("c", 64, (24,)))):
        settled = applied(world, plan(world))
        told = explain(settled)
        named = [(one.role, one.part, one.host) for one in told.refusals if one.host is not None]
        assert len(named) == len(set(named))
        assert not {one.slot for one in told.placements} & set(named)
        whole = {(one.role, one.part) for one in told.refusals if one.host is None}
        assert not whole & {slot[:2] for slot in named}
        refused = {(one.role, one.part) for one in plan(settled).refusals}
        assert refused <= whole | {slot[:2] for slot in named}  # nothing is kept from anybody


def test_reasons_tell_hosts_of_one_name_apart() -> None:
    first, second = (replace(host("attic", gb), id=key, suffix=key) for gb, key in ((64, "3f2a"), (16, "9bc1")))
    reasons = " ".join(one.reason for one in explain(snapshot(first, replace(second, draining=True))).refusals)
    assert "attic (9bc1) is being drained" in reasons
