"""``morganctl query``: one question, no memory."""

from __future__ import annotations

import click

from morganctl.answer import Answer
from morganctl.app import App, Command
from morganctl.arguments import valid_text
from morganctl.present import show_reply, streamed
from morgand.api.schema import QueryReply, QueryRequest


@click.command(
    cls=Command,
    examples=(
        'morganctl query "What does the lease say about pets?"',
        'morganctl query --json "When is the boiler due?" | jq -r .answer',
    ),
)
@click.argument("question")
@click.option("--no-documents", is_flag=True, help="Answer without looking into the documents.")
@click.pass_obj
def query(app: App, question: str, *, no_documents: bool) -> None:
    """Ask one question. Nothing is remembered or stored."""
    request = QueryRequest(text=valid_text(question), documents=not no_documents, stream=True)
    reply = app.call(lambda client: streamed(client, "/v1/query", request, Answer(QueryReply), app.out))
    show_reply(app.out, reply)
