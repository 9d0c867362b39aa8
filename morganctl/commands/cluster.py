"""``morganctl cluster``: who belongs to it."""

from __future__ import annotations

import click

from morganctl.app import App, Group
from morganctl.output import one_line
from morgand.api.schema import InvitationReply

FOUNDING_S = 60.0  # the first invitation starts the cluster's own machinery


@click.group(cls=Group, examples=("morganctl cluster invite",))
def cluster() -> None:
    """Let further machines join."""


@cluster.command("invite", examples=("morganctl cluster invite", "morganctl cluster invite --json"))
@click.pass_obj
def invite(app: App) -> None:
    """Invite one machine. The invitation is good once and for 15 minutes."""
    reply = app.call(
        lambda client: client.ask("POST", "/v1/cluster/invitations", InvitationReply, deadline_s=FOUNDING_S)
    )
    if app.out.json:
        app.out.document(reply)
        return
    app.out.note("On the other machine, with morgand installed:")
    app.out.say(one_line(reply.command))
    app.out.note(f"or, on the same network, say the code: morgand join {one_line(reply.code)}")
    app.out.note(f"Good once, until {reply.expires.astimezone():%H:%M}.")
