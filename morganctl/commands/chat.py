"""``morganctl chat``: a conversation, or one turn of it."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING

import click

from morganctl.answer import Answer
from morganctl.app import App, Command
from morganctl.arguments import valid_text
from morganctl.commands.conversations import find
from morganctl.errors import UsageFault
from morganctl.present import say, show_reply
from morgand.api.schema import QueuedReply, TurnReply, TurnRequest

if TYPE_CHECKING:
    from morganctl.client import Client

USER_LIMIT = 255


@click.command(
    cls=Command,
    examples=(
        "morganctl chat",
        "morganctl chat --new",
        'morganctl chat --message "And in winter?" --conversation 91ac --json',
    ),
)
@click.option("--message", metavar="TEXT", help="Send this one message, print the answer, leave.")
@click.option("--conversation", metavar="ID", help="Go on with this conversation; the beginning of its id will do.")
@click.option("--new", is_flag=True, help="Begin a new conversation.")
@click.option("--user-id", metavar="NAME", help="Whose conversation it is.")
@click.option("--no-documents", is_flag=True, help="Answer without looking into the documents.")
@click.pass_obj
def chat(
    app: App, message: str | None, conversation: str | None, user_id: str | None, *, new: bool, no_documents: bool
) -> None:
    """Talk with Morgan.

    Without --message this is interactive and goes on with the latest conversation, unless --new or --conversation
    says otherwise. A single --message begins a new conversation unless --conversation names one.

    While the database cannot be reached a message is kept on the host and sent later; the answer is then in the
    conversation, and the interactive chat shows it after the next Enter.
    """
    if new and conversation is not None:
        raise UsageFault("--new and --conversation exclude each other.", remedy="Name one of them.")
    if user_id is not None and not 0 < len(user_id) <= USER_LIMIT:
        raise UsageFault(f"--user-id takes 1 to {USER_LIMIT} characters.")
    if message is not None:
        _one_turn(app, valid_text(message), conversation, user_id, documents=not no_documents)
        return
    if app.out.json:
        raise UsageFault("--json needs --message.", remedy="Add --message TEXT for one turn.")
    if not sys.stdin.isatty():
        raise UsageFault("There is no terminal to talk at.", remedy="Use --message TEXT for one turn.")
    app.call(lambda client: _interactive(app, client, conversation, user_id, new=new, documents=not no_documents))


def _one_turn(app: App, text: str, conversation: str | None, user: str | None, *, documents: bool) -> None:
    async def turn(client: Client) -> TurnReply | QueuedReply:
        meant = None if conversation is None else uuid.UUID(await find(client, conversation))
        request = TurnRequest(
            id=uuid.uuid4(), text=text, conversation=meant, stream=True, documents=documents, user=user
        )
        return await say(client, request, Answer(TurnReply), app.out)

    reply = app.call(turn)
    show_reply(app.out, reply)
    if app.out.terminal:
        app.out.note(f"(conversation {reply.conversation})")


async def _interactive(
    app: App, client: Client, conversation: str | None, user: str | None, *, new: bool, documents: bool
) -> None:
    from morganctl.prompt import reader
    from morganctl.talk import SHOWN_MESSAGES, Settings, Talk, latest_conversation

    if conversation is not None:
        meant: uuid.UUID | None = uuid.UUID(await find(client, conversation))
    else:
        # asked even for a new one: it tells whether the daemon is there
        latest = await latest_conversation(client, app.out, user)
        meant = None if new else latest
    talk = Talk(client, app.out, Settings(meant, user, documents), reader())
    if meant is not None:
        await talk.recall(SHOWN_MESSAGES)
    await talk.run()
