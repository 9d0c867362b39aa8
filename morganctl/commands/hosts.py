"""``morganctl hosts``: the machines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from morganctl.app import App, Group
from morganctl.errors import CliError
from morgand.api.schema import HostsReply, HostView

HOST_COLUMNS = ("host", "state", "duty", "address", "cpu %", "ram MB", "vram MB", "roles")


def host_rows(hosts: Iterable[HostView]) -> list[tuple[object, ...]]:
    """A line per host for ``status`` and ``hosts list``."""
    return [
        (
            host.name, "draining" if host.draining else host.state, host.duty, host.address,
            f"{host.usage.cpu_pct:.0f}",
            _of(host.usage.ram_mb, host.profile.get("ram_mb")), _of(host.usage.vram_mb, _vram_mb(host.profile)),
            host.roles,
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
    """See the hosts and what they have."""


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
