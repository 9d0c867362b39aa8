"""``morganctl roles``: what runs where, why, and what would happen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from morganctl.app import App, Group
from morganctl.errors import UsageFault
from morgand.api.schema import ExplainReply, PlacementView, PlanReply, PlanRequest, RefusalView, RolesReply, RoleView

ROLE_COLUMNS = ("role", "host", "state", "model", "detail")
PROFILE_LIMIT_BYTES = 1_000_000


def part_name(role: str, part: str) -> str:
    """``llm`` or ``cache/2``."""
    return role if part in {"", role} else f"{role}/{part}"


def role_rows(roles: Iterable[RoleView]) -> list[tuple[object, ...]]:
    """A line per role for ``status`` and ``roles list``."""
    return [(part_name(r.role, r.part), r.host_name or r.host, r.state, r.model, r.detail or r.why) for r in roles]


@click.group(cls=Group, examples=("morganctl roles list", "morganctl roles explain llm"))
def roles() -> None:
    """See roles, why they are where they are, and what would happen."""


@roles.command("list", examples=("morganctl roles list", "morganctl roles list --json"))
@click.pass_obj
def list_roles(app: App) -> None:
    """List roles with their host, health and model."""
    reply = app.call(lambda client: client.get("/v1/roles", RolesReply))
    if app.out.json:
        app.out.document(reply)
    else:
        app.out.table(ROLE_COLUMNS, role_rows(reply.roles))


@roles.command("explain", examples=("morganctl roles explain", "morganctl roles explain llm --json"))
@click.argument("role", required=False)
@click.pass_obj
def explain(app: App, role: str | None) -> None:
    """Say why roles are where they are and why other hosts were passed over."""
    params = {} if role is None else {"role": role}
    reply = app.call(lambda client: client.get("/v1/roles/explain", ExplainReply, params))
    if app.out.json:
        app.out.document(reply)
        return
    _placements(app, "Placed", reply.placements)
    _refusals(app, reply.refusals)


@roles.command(
    "plan",
    examples=(
        "morganctl roles plan --without attic",
        "morganctl roles plan --with new-gpu-host.json --json",
    ),
)
@click.option("--without", multiple=True, metavar="HOST", help="Plan as if this host were gone; can be repeated.")
@click.option(
    "--with",
    "profiles",
    multiple=True,
    metavar="PROFILE.json",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Plan as if a host with this profile were added; can be repeated.",
)
@click.pass_obj
def plan(app: App, without: tuple[str, ...], profiles: tuple[Path, ...]) -> None:
    """Show what would run where, without changing anything."""
    request = PlanRequest(without=list(without), with_profiles=[read_profile(path) for path in profiles])
    reply = app.call(lambda client: client.ask("POST", "/v1/roles/plan", PlanReply, request, repeatable=True))
    if app.out.json:
        app.out.document(reply)
        return
    _placements(app, "Would start", reply.added)
    _placements(app, "Would stop", reply.removed)
    _placements(app, "Then placed", reply.placements)
    _refusals(app, reply.refusals)


def read_profile(path: Path) -> dict[str, Any]:
    """A profile override such as ``{"ram_mb": 65536, "gpus": [...]}``. Raises UsageFault."""
    try:
        with path.open("rb") as file:
            content = file.read(PROFILE_LIMIT_BYTES)
        return msgspec.json.decode(content, type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as err:
        raise UsageFault(
            f"{path} is not a profile: {err}.",
            remedy='Write it as {"ram_mb": 65536, "gpus": [{"name": "RTX 3090", "vram_mb": 24576}]}.',
        ) from err


def _placements(app: App, title: str, placements: list[PlacementView]) -> None:
    if placements:
        app.out.say(f"{title}:")
        rows = [(part_name(p.role, p.part), p.host_name or p.host, p.engine, p.model, p.why) for p in placements]
        app.out.table(("role", "host", "engine", "model", "why"), rows)
        app.out.say()


def _refusals(app: App, refusals: list[RefusalView]) -> None:
    if refusals:
        app.out.say("Passed over:")
        rows = [(part_name(r.role, r.part), r.host_name or r.host, r.reason) for r in refusals]
        app.out.table(("role", "host", "reason"), rows)
