"""``morganctl cluster``: who belongs to it, and what is wrong with it."""

from __future__ import annotations

import click

from morganctl.app import App, Group
from morganctl.output import Output, one_line
from morgand.api.schema import DoctorReply, DoctorRequest, FindingView, InvitationReply

FOUNDING_S = 60.0  # the first invitation starts the cluster's own machinery
LOOKING_S = 120.0  # through all hosts, and twice through all documents


@click.group(cls=Group, examples=("morganctl cluster invite", "morganctl cluster doctor"))
def cluster() -> None:
    """Let further machines join; see what is wrong with the cluster."""


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


@cluster.command("doctor", examples=("morganctl cluster doctor", "morganctl cluster doctor --mend"))
@click.option("--mend", is_flag=True, help="Repair what is safe to repair, and say so.")
@click.pass_obj
def doctor(app: App, *, mend: bool) -> None:
    """Look through all hosts and stores, and say what is wrong and what to do. Takes some seconds.

    Exit code 1 when something is wrong that was not mended.
    """
    app.out.note("Looking through hosts and documents ...")
    reply = app.call(
        lambda client: client.ask(
            "POST", "/v1/cluster/doctor", DoctorReply, DoctorRequest(mend=mend), deadline_s=LOOKING_S
        )
    )
    if app.out.json:
        app.out.document(reply)
    else:
        _show(app.out, reply)
    if any(not one.mended for one in reply.findings):
        raise click.exceptions.Exit(1)


def _show(out: Output, reply: DoctorReply) -> None:
    for number, one in enumerate(reply.findings, 1):
        out.say(f"{number}. {one_line(one.text)}{_next_step(one)}")
    for left_out in reply.skipped:
        out.say(f"Left out: {one_line(left_out)}")
    where = ", ".join(one_line(name) for name in reply.examined) or "no host"
    what = {0: "Nothing is wrong", 1: "1 thing is wrong"}.get(
        len(reply.findings), f"{len(reply.findings)} things are wrong"
    )
    out.note(f"{what}; looked through {where}.")


def _next_step(one: FindingView) -> str:
    if one.mended:
        return " Mended."
    return f"\n   {one_line(one.remedy)}" if one.remedy else ""
