"""``morganctl conversations``: what was said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from morganctl import pages
from morganctl.app import App, Group
from morganctl.errors import CliError
from morganctl.output import clean, one_line, short
from morgand.api.schema import ConversationsReply, ConversationView, Deleted, MessagesReply, OutboxReply

if TYPE_CHECKING:
    from morganctl.client import Client

OUTBOX_PAGE = 1000


@click.group(
    cls=Group, examples=("morganctl conversations list", "morganctl conversations export 91ac --output talk.md")
)
def conversations() -> None:
    """List, show, delete and export conversations."""


@conversations.command(
    "list", examples=("morganctl conversations list", "morganctl conversations list --limit 5 --json")
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Most to list.")
@click.option("--offset", type=click.IntRange(0), default=0, show_default=True, help="How many to skip.")
@click.pass_obj
def list_conversations(app: App, limit: int, offset: int) -> None:
    """List conversations, latest first."""

    async def collect(client: Client) -> list[ConversationView]:
        return [one async for one in pages.conversations(client, offset=offset, limit=limit)]

    found = app.call(collect)
    if app.out.json:
        app.out.document(ConversationsReply(found))
        return
    rows = [
        (short(item.id) if app.out.terminal else item.id, item.title, item.messages, f"{item.updated:%Y-%m-%d %H:%M}")
        for item in found
    ]
    app.out.table(("id", "title", "messages", "updated"), rows)


@conversations.command("show", examples=("morganctl conversations show 91ac",))
@click.argument("conversation")
@click.pass_obj
def show_conversation(app: App, conversation: str) -> None:
    """Show the messages of one conversation, by its id or the beginning of it."""
    reply = app.call(lambda client: _messages(client, conversation))
    if app.out.json:
        app.out.document(reply)
        return
    for message in reply.messages:
        app.out.say(f"{message.role} ({message.created:%Y-%m-%d %H:%M}):")
        app.out.say(message.text)
        app.out.sources(message.citations, message.notices)
        app.out.say()


@conversations.command("delete", examples=("morganctl conversations delete 91ac --yes",))
@click.argument("conversation")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete_conversation(app: App, conversation: str, *, yes: bool) -> None:
    """Delete one conversation, by its id or the beginning of it."""

    async def lookup(client: Client) -> ConversationView:
        return await client.get(f"/v1/conversations/{await find(client, conversation)}", ConversationView)

    found = app.call(lookup)
    app.confirm(f"Delete the conversation '{one_line(found.title)}'?", yes=yes)
    deleted = app.call(lambda client: client.ask("DELETE", f"/v1/conversations/{found.id}", Deleted))
    if app.out.json:
        app.out.document(deleted)
    else:
        app.out.say(f"Deleted the conversation '{one_line(found.title)}'.")


@conversations.command(
    "export",
    examples=(
        "morganctl conversations export 91ac > talk.md",
        "morganctl conversations export 91ac --format json --output talk.json",
    ),
)
@click.argument("conversation")
@click.option(
    "--format",
    "form",
    type=click.Choice(("markdown", "json")),
    default="markdown",
    show_default=True,
    help="How to write it.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; stdout otherwise.")
@click.pass_obj
def export_conversation(app: App, conversation: str, form: str, output: Path | None) -> None:
    """Write one conversation as Markdown or JSON."""
    reply = app.call(lambda client: _messages(client, conversation))
    if output is None:
        if app.out.json or form == "json":
            app.out.document(reply)
        else:
            app.out.say(markdown(reply))
        return
    content = msgspec.json.format(msgspec.json.encode(reply)) if form == "json" else markdown(reply).encode()
    try:
        output.write_bytes(content)
    except OSError as err:
        raise CliError(f"{output} cannot be written: {err.strerror}.", remedy="Name another file.") from err
    if app.out.json:
        app.out.document({"written": str(output), "messages": len(reply.messages)})
    else:
        app.out.note(f"Wrote {len(reply.messages)} messages to {output}.")


@conversations.command(
    "waiting", examples=("morganctl conversations waiting", "morganctl conversations waiting --json")
)
@click.pass_obj
def list_waiting(app: App) -> None:
    """List the messages kept on this host: those that wait for the database, and those it refused for good."""
    reply = app.call(_outbox)
    if app.out.json:
        app.out.document(reply)
        return
    if not reply.messages:
        app.out.say(f"No message waits on {one_line(reply.host)}.")
        return
    rows = [
        (short(item.id) if app.out.terminal else item.id, f"{item.created:%Y-%m-%d %H:%M}", item.state, item.reason,
         item.text)
        for item in reply.messages
    ]  # fmt: skip
    app.out.table(("id", "sent", "state", "reason", "text"), rows)


@conversations.command("discard", examples=("morganctl conversations discard 7f3a --yes",))
@click.argument("message")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def discard_message(app: App, message: str, *, yes: bool) -> None:
    """Discard a kept message that was refused, by its id or the beginning of it."""
    kept = [one for one in app.call(_outbox).messages if one.id.startswith(message.lower())]
    if len(kept) != 1:
        raise CliError(
            f"'{message}' means {len(kept) or 'no'} kept messages.",
            code="ambiguous" if kept else "not_found",
            remedy="See `morganctl conversations waiting`.",
        )
    app.confirm(f"Discard the message '{one_line(kept[0].text)}'?", yes=yes)
    deleted = app.call(lambda client: client.ask("DELETE", f"/v1/outbox/{kept[0].id}", Deleted))
    if app.out.json:
        app.out.document(deleted)
    else:
        app.out.say("Discarded.")


def markdown(reply: MessagesReply) -> str:
    """A conversation to read or to keep."""
    parts = [f"# Conversation {reply.conversation}"]
    for message in reply.messages:
        parts.append(f"## {message.role}, {message.created.isoformat()}")
        parts.append(clean(message.text))
        if message.citations:
            parts.append(
                "\n".join(f"- [{c.number}] {one_line(c.title)}, {one_line(c.place)}" for c in message.citations)
            )
    return "\n\n".join(parts)


async def find(client: Client, wanted: str) -> str:
    """The id of the conversation that ``wanted`` means."""
    return await pages.resolve(wanted, "conversation", pages.conversations(client))


async def _outbox(client: Client) -> OutboxReply:
    """Everything that is kept, a page at a time."""
    reply = await client.get("/v1/outbox", OutboxReply, {"limit": OUTBOX_PAGE, "offset": 0})
    offset = OUTBOX_PAGE
    while True:
        page = await client.get("/v1/outbox", OutboxReply, {"limit": OUTBOX_PAGE, "offset": offset})
        if not page.messages:
            return reply
        reply.messages += page.messages
        offset += OUTBOX_PAGE


async def _messages(client: Client, wanted: str) -> MessagesReply:
    return await client.get(f"/v1/conversations/{await find(client, wanted)}/messages", MessagesReply)
