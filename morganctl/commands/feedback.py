"""``morganctl feedback``: what was good or wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from uuid import UUID

import click

from morganctl.app import App, Command
from morganctl.arguments import valid_text
from morganctl.commands.conversations import find
from morganctl.errors import UsageFault
from morgand.api.schema import FeedbackReply, FeedbackRequest

if TYPE_CHECKING:
    from morganctl.client import Client


@click.command(
    cls=Command,
    examples=(
        "morganctl feedback --rating 5",
        'morganctl feedback --kind correction --comment "The filter is changed in May." --conversation 91ac',
    ),
)
@click.option("--rating", type=click.IntRange(1, 5), help="From 1 (bad) to 5 (good).")
@click.option("--comment", help="What was good or wrong.")
@click.option("--conversation", metavar="ID", help="The conversation meant; the latest one otherwise.")
@click.option(
    "--kind",
    type=click.Choice(("rating", "correction", "preference")),
    default="rating",
    show_default=True,
    help="What it is.",
)
@click.pass_obj
def feedback(
    app: App,
    rating: int | None,
    comment: str | None,
    conversation: str | None,
    kind: Literal["rating", "correction", "preference"],
) -> None:
    """Rate or correct an answer."""
    if rating is None and comment is None:
        raise UsageFault("There is neither a rating nor a comment.", remedy="Add --rating or --comment.")
    text = None if comment is None else valid_text(comment)

    async def give(client: Client) -> FeedbackReply:
        meant = None if conversation is None else UUID(await find(client, conversation))
        request = FeedbackRequest(conversation=meant, rating=rating, comment=text, kind=kind)
        return await client.ask("POST", "/v1/feedback", FeedbackReply, request)

    reply = app.call(give)
    if app.out.json:
        app.out.document(reply)
    else:
        app.out.say(f"Thank you. Noted for conversation {reply.conversation}.")
