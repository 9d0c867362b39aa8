"""``morganctl hosts``: the machines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import click

from morganctl.app import App, Group
from morganctl.errors import CliError
from morganctl.output import one_line
from morgand.api.schema import Deleted, HostsReply, HostView

HOST_COLUMNS = ("host", "state", "duty", "address", "cpu %", "ram MB", "vram MB", "roles")


def host_rows(hosts: Iterable[HostView]) -> list[tuple[object, ...]]:
    """A line per host for ``status`` and ``hosts list``."""
    return [
        (
            host.name, "draining" if host.draining else host.state, host.duty, host.address,
            f"{host.usage.cpu_pct:.0f}",
            _of(host.usage.ram_mb, host.profile.get("ram_mb")), _of(host.usage.vram_mb, _vram_mb(host.profile)),
            "witness" if host.witness else host.roles,
        )
        for host in hosts
    ]  # fmt: skip


def _of(used: int, total: object) -> str:
    return f"{used}/{total}" if isinstance(total, int) and total > 0 else str(used) if used else "-"


def _vram_mb(profile: dict[str, Any]) -> int:
    gpus = profile.get("gpus")
    found = [gpu.get("vram_mb") for gpu in gpus if isinstance(gpu, dict)] if isinstance(gpus, list) else []
    return sum(size for size in found if isinstance(size, int))


@click.group(cls=Group, examples=("morganctl hosts list", "morganctl hosts show attic"))
def hosts() -> None:
    """See the hosts and what they have; drain, resume and remove them."""


@hosts.command("list", examples=("morganctl hosts list", "morganctl hosts list --json"))
@click.pass_obj
def list_hosts(app: App) -> None:
    """List hosts with their load and roles."""
    reply = app.call(lambda client: client.get("/v1/hosts", HostsReply))
    if app.out.json:
        app.out.document(reply)
    else:
        app.out.table(HOST_COLUMNS, host_rows(reply.hosts))


@hosts.command("show", examples=("morganctl hosts show attic",))
@click.argument("host")
@click.pass_obj
def show_host(app: App, host: str) -> None:
    """Show one host's hardware, by name, id or the beginning of its id."""
    reply = app.call(lambda client: client.get("/v1/hosts", HostsReply))
    exact = [item for item in reply.hosts if host in {item.name, item.id}]
    matches = exact or [item for item in reply.hosts if host and item.id.startswith(host)]
    if len(matches) != 1:
        known = ", ".join(item.name for item in reply.hosts)
        what = f"There is no host '{host}'" if not matches else f"'{host}' means {len(matches)} hosts"
        raise CliError(f"{what}.", code="not_found", remedy=f"Known hosts: {known}.")
    found = matches[0]
    if app.out.json:
        app.out.document(found)
        return
    facts: list[tuple[str, object]] = [
        ("id", found.id), ("name", found.name), ("address", found.address), ("state", found.state),
        ("duty", found.duty), ("labels", found.labels), ("roles", found.roles),
    ]  # fmt: skip
    app.out.table(("what", "value"), facts + list(_flat("", found.profile)))


@hosts.command("drain", examples=("morganctl hosts drain atlas",))
@click.argument("host")
@click.pass_obj
def drain_host(app: App, host: str) -> None:
    """Move every role off a host that can be elsewhere, before it is switched off for long."""
    reply = app.call(lambda client: client.ask("POST", _path(host, "/drain"), HostView, repeatable=True))
    if app.out.json:
        app.out.document(reply)
        return
    app.out.say(f"{one_line(reply.name)} is being drained and gets nothing new.")
    if reply.roles:
        app.out.note(f"It still holds {', '.join(reply.roles)}: `morganctl status --watch` shows them move.")
    app.out.note(f"`morganctl hosts resume {one_line(reply.name)}` takes it back.")


@hosts.command("resume", examples=("morganctl hosts resume atlas",))
@click.argument("host")
@click.pass_obj
def resume_host(app: App, host: str) -> None:
    """Let a drained host have roles again."""
    reply = app.call(lambda client: client.ask("POST", _path(host, "/resume"), HostView, repeatable=True))
    if app.out.json:
        app.out.document(reply)
    else:
        app.out.say(f"{one_line(reply.name)} takes part again.")


@hosts.command("remove", examples=("morganctl hosts remove attic", "morganctl hosts remove attic --force"))
@click.argument("host")
@click.option("--force", is_flag=True, help="Although it is there, or the only one that has some of the data.")
@click.pass_obj
def remove_host(app: App, host: str, *, force: bool) -> None:
    """End a host's membership for good: its certificate is refused from now on, and keys it knew are changed."""
    params = {"force": "true"} if force else None
    reply = app.call(lambda client: client.ask("DELETE", _path(host), Deleted, params=params, repeatable=False))
    if app.out.json:
        app.out.document(reply)
    else:
        app.out.say(f"Removed {one_line(host)}. To have it again, invite it with `morganctl cluster invite`.")


def _path(host: str, action: str = "") -> str:
    return f"/v1/hosts/{quote(host, safe='', errors='backslashreplace')}{action}"


def _flat(prefix: str, value: object) -> Iterable[tuple[str, object]]:
    """A nested profile as dotted names and plain values."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, inner in enumerate(value):
            yield from _flat(f"{prefix}[{number}]", inner)
    else:
        yield prefix, value
