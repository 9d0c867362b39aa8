"""``morganctl search``: the passages themselves, without an LLM."""

from __future__ import annotations

import click

from morganctl.app import App, Command
from morganctl.arguments import valid_text
from morganctl.output import one_line
from morgand.api.schema import SearchReply, SearchRequest

SHOWN_CHARACTERS = 300


@click.command(
    cls=Command,
    examples=(
        'morganctl search "boiler pressure" --limit 3',
        'morganctl search --json "rent" | jq -r ".[].title"',
    ),
)
@click.argument("text")
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="Most passages to show.")
@click.option("--no-rerank", is_flag=True, help="Skip the cross-encoder: faster, less precise.")
@click.pass_obj
def search(app: App, text: str, limit: int, *, no_rerank: bool) -> None:
    """Find passages in the documents, best first."""
    request = SearchRequest(text=valid_text(text), limit=limit, rerank=not no_rerank)
    reply = app.call(lambda client: client.ask("POST", "/v1/search", SearchReply, request, repeatable=True))
    if app.out.json:
        app.out.document(
            [
                {"document": p.document, "title": p.title, "place": p.place, "score": p.score, "text": p.text}
                for p in reply.passages
            ]
        )
    elif not app.out.terminal:
        rows = [(p.score, p.title, p.place, p.document, p.text) for p in reply.passages]
        app.out.table(("score", "title", "place", "document", "text"), rows)
    else:
        for number, passage in enumerate(reply.passages, 1):
            app.out.say(f"{number}. {one_line(passage.title)}, {one_line(passage.place)}  ({passage.score:.3f})")
            words = " ".join(passage.text.split())
            app.out.say(f"   {words[:SHOWN_CHARACTERS]}{'...' if len(words) > SHOWN_CHARACTERS else ''}")
    if not reply.passages:
        app.out.note("Nothing was found.")
    for notice in reply.notices:
        app.out.note(f"Notice: {one_line(notice)}")
