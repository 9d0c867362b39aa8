"""``morganctl hosts``: the machines."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

import click

from morganctl import machine
from morganctl.app import App, Group
from morganctl.errors import CliError
from morganctl.output import one_line
from morgand.api.schema import Deleted, HostsReply, HostView

HOST_COLUMNS = ("host", "state", "duty", "address", "cpu %", "ram", "roles")
MACHINE_COLUMNS = ("host", "state", "duty", "address", "system", "cpu", "ram", "gpu", "roles")


def host_rows(hosts: Iterable[HostView]) -> list[tuple[object, ...]]:
    """A line per host for ``status``: how it is doing."""
    return [(*_standing(host), f"{host.usage.cpu_pct:.0f}", machine.ram(host), _roles(host)) for host in hosts]


def machine_rows(hosts: Iterable[HostView]) -> list[tuple[object, ...]]:
    """A line per host for ``hosts list``: what it is."""
    return [
        (*_standing(host), machine.system(host), machine.cpu(host), machine.ram(host), machine.gpus(host), _roles(host))
        for host in hosts
    ]


def _standing(host: HostView) -> tuple[object, ...]:
    return machine.called(host), "draining" if host.draining else host.state, host.duty, host.address


def _roles(host: HostView) -> object:
    return "witness" if host.witness else host.roles


@click.group(cls=Group, examples=("morganctl hosts list", "morganctl hosts show attic"))
def hosts() -> None:
    """See the hosts and what they have; drain, resume and remove them."""


@hosts.command("list", examples=("morganctl hosts list", "morganctl hosts list --json"))
@click.pass_obj
def list_hosts(app: App) -> None:
    """List hosts with their machine and roles."""
    reply = app.call(lambda client: client.get("/v1/hosts", HostsReply))
    if app.out.json:
        app.out.document(reply)
    else:
        app.out.table(MACHINE_COLUMNS, machine_rows(reply.hosts))


@hosts.command("show", examples=("morganctl hosts show attic",))
@click.argument("host")
@click.pass_obj
def show_host(app: App, host: str) -> None:
    """Show one host: its machine, engines, models and roles. HOST is its name, id or the beginning of that."""
    reply = app.call(lambda client: client.get("/v1/hosts", HostsReply))
    exact = [item for item in reply.hosts if host in {item.name, item.id, machine.called(item)}]
    matches = exact or [item for item in reply.hosts if host and item.id.startswith(host)]
    if len(matches) != 1:
        known = ", ".join(machine.called(item) for item in reply.hosts)
        what = f"There is no host '{host}'" if not matches else f"'{host}' means {len(matches)} hosts"
        raise CliError(f"{what}.", code="not_found", remedy=f"Known hosts: {known}.")
    found = matches[0]
    if app.out.json:
        app.out.document(found)
        return
    app.out.table(("what", "value"), machine.facts(found))


@hosts.command("drain", examples=("morganctl hosts drain atlas",))
@click.argument("host")
@click.pass_obj
def drain_host(app: App, host: str) -> None:
    """Move every role off a host that can be elsewhere, before it is switched off for long."""
    reply = app.call(lambda client: client.ask("POST", _path(host, "/drain"), HostView, repeatable=True))
    if app.out.json:
        app.out.document(reply)
        return
    app.out.say(f"{one_line(machine.called(reply))} is being drained and gets nothing new.")
    if reply.roles:
        app.out.note(f"It still holds {', '.join(reply.roles)}: `morganctl status --watch` shows them move.")
    app.out.note(f"`morganctl hosts resume {one_line(host)}` takes it back.")


@hosts.command("resume", examples=("morganctl hosts resume atlas",))
@click.argument("host")
@click.pass_obj
def resume_host(app: App, host: str) -> None:
    """Let a drained host have roles again."""
    reply = app.call(lambda client: client.ask("POST", _path(host, "/resume"), HostView, repeatable=True))
    if app.out.json:
        app.out.document(reply)
    else:
        app.out.say(f"{one_line(machine.called(reply))} takes part again.")


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
