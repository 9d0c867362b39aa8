"""``morganctl status``: how everything is doing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from morganctl.app import App, Command
from morganctl.commands.hosts import HOST_COLUMNS, host_rows
from morganctl.commands.roles import ROLE_COLUMNS, role_rows
from morganctl.errors import ServiceUnavailable, UsageFault
from morganctl.machine import called
from morganctl.output import Output, one_line
from morgand.api.schema import StatusReply

if TYPE_CHECKING:
    from morganctl.client import Client

WATCH_S = 5.0


@click.command(cls=Command, examples=("morganctl status", "morganctl status --watch", "morganctl status --json"))
@click.option("--watch", is_flag=True, help="Show it again every 5 seconds until Ctrl-C.")
@click.pass_obj
def status(app: App, *, watch: bool) -> None:
    """Show hosts, roles, database, documents and warnings."""
    if watch and app.out.json:
        raise UsageFault("--watch and --json exclude each other.", remedy="Call `morganctl --json status` repeatedly.")
    if watch:
        try:
            app.call(lambda client: _watch(client, app.out))
        except KeyboardInterrupt:
            return
        return
    reply = app.call(lambda client: client.get("/v1/status", StatusReply))
    if app.out.json:
        app.out.document(reply)
    else:
        show(app.out, reply)


async def _watch(client: Client, out: Output) -> None:
    while True:
        try:
            reply = await client.get("/v1/status", StatusReply)
        except ServiceUnavailable as err:
            out.note(f"{err.message} Trying again every {WATCH_S:.0f} s.")
        else:
            if out.terminal:
                click.clear()
            show(out, reply)
        await asyncio.sleep(WATCH_S)


def show(out: Output, reply: StatusReply) -> None:
    """The status for people."""
    cluster = reply.cluster
    names = {host.id: called(host) for host in reply.hosts}
    leader = names.get(cluster.leader or "", cluster.leader) or "none"
    quorum = cluster.quorum
    out.say(
        f"Cluster {one_line(cluster.name)}: leader {one_line(leader)}, {quorum.healthy} of {len(quorum.voters)} voters "
        f"healthy, {quorum.needed} needed; the loss of {quorum.tolerates} is tolerated. Version {reply.version}."
    )
    out.say()
    out.table(HOST_COLUMNS, host_rows(reply.hosts))
    out.say()
    out.table(ROLE_COLUMNS, role_rows(reply.roles))
    out.say()
    database = reply.database
    standbys = ", ".join(
        f"{names.get(s.host, s.host)} ({'sync' if s.sync else 'async'}, {s.lag_bytes} bytes behind)"
        for s in database.standbys
    )
    primary = names.get(database.primary or "", database.primary) or "none"
    out.say(f"Database: primary {primary}; standbys: {standbys or 'none'}.")
    counts = ", ".join(f"{count} {state}" for state, count in sorted(reply.documents.items()))
    out.say(f"Documents: {counts or 'not known'}.")
    for warning in reply.warnings:
        out.say(f"Warning: {one_line(warning)}")
