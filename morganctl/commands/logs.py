"""``morganctl logs``: what an engine printed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from morganctl.app import App, Command
from morganctl.errors import UsageFault
from morganctl.output import Output
from morgand.api.schema import LogReply

if TYPE_CHECKING:
    from morganctl.client import Client

FOLLOW_S = 1.0


@click.command(cls=Command, examples=("morganctl logs llm", "morganctl logs embedder --lines 50 --follow"))
@click.argument("role")
@click.option("--lines", type=click.IntRange(1, 10_000), default=200, show_default=True, help="How many, newest last.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.pass_obj
def logs(app: App, role: str, lines: int, *, follow: bool) -> None:
    """Show the log of a role's engine."""
    if follow and app.out.json:
        raise UsageFault("--follow and --json exclude each other.", remedy="Leave one of them out.")
    path = f"/v1/logs/{quote(role, safe='', errors='backslashreplace')}"
    if follow:
        try:
            app.call(lambda client: _follow(client, path, lines, app.out))
        except KeyboardInterrupt:
            return
        return
    reply = app.call(lambda client: client.get(path, LogReply, {"lines": lines}))
    if app.out.json:
        app.out.document(reply)
    else:
        for line in reply.lines:
            app.out.say(line)


async def _follow(client: Client, path: str, lines: int, out: Output) -> None:
    shown: list[str] = []
    while True:
        reply = await client.get(path, LogReply, {"lines": lines})
        for line in fresh(shown, reply.lines):
            out.say(line)
        shown = reply.lines
        await asyncio.sleep(FOLLOW_S)


def fresh(before: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """The lines of ``now`` that come after ``before``, both windows on the same growing log."""
    for overlap in range(min(len(before), len(now)), 0, -1):
        if list(before[-overlap:]) == list(now[:overlap]):
            return now[overlap:]
    return now
