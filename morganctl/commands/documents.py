"""``morganctl documents``: what was ingested."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from morganctl import pages
from morganctl.app import App, Group
from morganctl.files import sources_meant
from morganctl.output import one_line, short
from morgand.api.schema import Deleted, DocumentsReply, DocumentView

if TYPE_CHECKING:
    from morganctl.client import Client

STATES = ("pending", "processing", "completed", "failed")


@click.group(cls=Group, examples=("morganctl documents list --state failed", "morganctl documents delete lease.pdf"))
def documents() -> None:
    """List, show and delete documents."""


@documents.command("list", examples=("morganctl documents list", "morganctl documents list --state failed --json"))
@click.option("--state", type=click.Choice(STATES), help="Only documents in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most to list.")
@click.option("--offset", type=click.IntRange(0), default=0, show_default=True, help="How many to skip.")
@click.pass_obj
def list_documents(app: App, state: str | None, limit: int, offset: int) -> None:
    """List documents."""

    async def collect(client: Client) -> list[DocumentView]:
        return [one async for one in pages.documents(client, state, offset=offset, limit=limit)]

    found = app.call(collect)
    if app.out.json:
        app.out.document(DocumentsReply(found))
        return
    rows = [(_id(app, item), item.name, item.state, item.chunks, item.size_bytes, item.error) for item in found]
    app.out.table(("id", "name", "state", "chunks", "bytes", "error"), rows)


@documents.command("show", examples=("morganctl documents show lease.pdf", "morganctl documents show 3f2a91c0 --json"))
@click.argument("document")
@click.pass_obj
def show_document(app: App, document: str) -> None:
    """Show one document, by id, the beginning of its id, name, or path."""

    async def fetch(client: Client) -> DocumentView:
        return await client.get(f"/v1/documents/{await find(client, document)}", DocumentView)

    item = app.call(fetch)
    if app.out.json:
        app.out.document(item)
        return
    facts = (
        ("id", item.id), ("name", item.name), ("title", item.title), ("source", item.source), ("type", item.mime),
        ("bytes", item.size_bytes), ("sha256", item.sha256), ("state", item.state), ("chunks", item.chunks),
        ("embeddings", item.embeddings), ("created", item.created), ("updated", item.updated), ("error", item.error),
    )  # fmt: skip
    app.out.table(("what", "value"), facts)


@documents.command("delete", examples=("morganctl documents delete lease.pdf", "morganctl documents delete 3f2a --yes"))
@click.argument("documents", nargs=-1, required=True, metavar="DOCUMENT...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete_documents(app: App, documents: tuple[str, ...], *, yes: bool) -> None:
    """Delete documents everywhere, by id, the beginning of an id, name, or path."""

    async def lookup(client: Client) -> list[DocumentView]:
        return [await client.get(f"/v1/documents/{await find(client, name)}", DocumentView) for name in documents]

    async def delete(client: Client) -> list[str]:
        return [(await client.ask("DELETE", f"/v1/documents/{item.id}", Deleted)).deleted for item in found]

    found = app.call(lookup)
    app.confirm(f"Delete {', '.join(one_line(item.name) for item in found)}?", yes=yes)
    deleted = app.call(delete)
    if app.out.json:
        app.out.document({"deleted": deleted})
    else:
        app.out.say(f"Deleted {', '.join(one_line(item.name) for item in found)}.")


async def find(client: Client, wanted: str) -> str:
    """The id of the document that ``wanted`` means."""
    return await pages.resolve(
        wanted, "document", pages.documents(client), lambda item: (item.name, item.source, item.title or item.name),
        sources_meant(wanted),
    )  # fmt: skip


def _id(app: App, item: DocumentView) -> str:
    return short(item.id) if app.out.terminal else item.id
