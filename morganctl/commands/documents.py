"""``morganctl documents``: what was ingested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from morganctl import pages
from morganctl.app import App, Group
from morganctl.files import sources_meant
from morganctl.identity import known_id
from morganctl.output import one_line, short
from morgand.api.schema import Deleted, DocumentsReply, DocumentView

if TYPE_CHECKING:
    from morganctl.client import Client

STATES = ("pending", "processing", "completed", "failed")


@click.group(cls=Group, examples=("morganctl documents list --state failed", "morganctl documents delete lease.pdf"))
def documents() -> None:
    """List, show and delete documents, and see their earlier versions."""


@documents.command("list", examples=("morganctl documents list", "morganctl documents list --state failed --json"))
@click.option("--state", type=click.Choice(STATES), help="Only documents in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most to list.")
@click.option("--offset", type=click.IntRange(0), default=0, show_default=True, help="How many to skip.")
@click.pass_obj
def list_documents(app: App, state: str | None, limit: int, offset: int) -> None:
    """List documents, the newest version of each.

    Where the same path exists on several machines, their names are shown.
    """

    async def collect(client: Client) -> list[DocumentView]:
        return [one async for one in pages.documents(client, state, offset=offset, limit=limit)]

    found = app.call(collect)
    if app.out.json:
        app.out.document(DocumentsReply(found))
        return
    several = on_several_machines(found)
    rows = [
        (_id(app, item), item.name, *([machine_of(item)] if several else ()), item.state, item.chunks, item.size_bytes,
         item.error)
        for item in found
    ]  # fmt: skip
    app.out.table(("id", "name", *(["machine"] if several else ()), "state", "chunks", "bytes", "error"), rows)


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
        ("id", item.id), ("name", item.name), ("title", item.title), ("source", item.source),
        ("machine", machine_of(item)), ("type", item.mime), ("bytes", item.size_bytes), ("sha256", item.sha256),
        ("state", item.state), ("chunks", item.chunks), ("embeddings", item.embeddings), ("created", item.created),
        ("updated", item.updated), ("replaced", item.replaced), ("error", item.error),
    )  # fmt: skip
    app.out.table(("what", "value"), facts)


@documents.command(
    "versions", examples=("morganctl documents versions lease.pdf", "morganctl documents versions 3f2a91c0 --json")
)
@click.argument("document")
@click.pass_obj
def list_versions(app: App, document: str) -> None:
    """List a document and its earlier versions, newest first.

    Earlier versions are kept for documents.keep_versions_days days, documents.keep_versions at most. They are not
    searched; `documents show` and `documents delete` take their ids.
    """

    async def fetch(client: Client) -> DocumentsReply:
        return await client.get(f"/v1/documents/{await find(client, document)}/versions", DocumentsReply)

    found = app.call(fetch)
    if app.out.json:
        app.out.document(found)
        return
    rows = [(_id(app, item), item.name, item.created, item.replaced, item.size_bytes) for item in found.documents]
    app.out.table(("id", "name", "created", "replaced", "bytes"), rows)


@documents.command("delete", examples=("morganctl documents delete lease.pdf", "morganctl documents delete 3f2a --yes"))
@click.argument("documents", nargs=-1, required=True, metavar="DOCUMENT...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete_documents(app: App, documents: tuple[str, ...], *, yes: bool) -> None:
    """Delete documents and their earlier versions everywhere, by id, the beginning of an id, name, or path.

    By the id of an earlier version, that version alone.
    """

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
    """The id of the document that ``wanted`` means. A path means this machine's before another's."""
    here = known_id()

    def names(item: DocumentView) -> Sequence[str]:
        mine = [_here(item.source)] if item.machine in {here, ""} else []
        return (item.name, item.source, item.title or item.name, *mine)

    meant = [_here(source) for source in sources_meant(wanted)]
    return await pages.resolve(wanted, "document", pages.documents(client), names, meant)


def _here(source: str) -> str:
    """A path of this machine, which nobody can have written: no path holds a NUL."""
    return f"{source}\0here"


def on_several_machines(found: Sequence[DocumentView]) -> bool:
    """Whether a path is there twice, of which people then have to know where each is."""
    return any(number > 1 for number in Counter(item.source for item in found).values())


def machine_of(item: DocumentView) -> str | None:
    return item.machine_name or item.machine or None


def _id(app: App, item: DocumentView) -> str:
    return short(item.id) if app.out.terminal else item.id
