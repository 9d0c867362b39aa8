"""``morganctl ingest``: files and folders into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from morganctl import errors
from morganctl.app import App, Command
from morganctl.identity import this_machine
from morganctl.output import Output, one_line
from morganctl.progress import progress_view

if TYPE_CHECKING:
    from morganctl.client import Client
    from morganctl.ingest import Summary


@click.command(
    cls=Command,
    examples=(
        "morganctl ingest ~/Documents",
        "morganctl ingest manual.pdf notes.md",
        "morganctl ingest --no-wait --json ~/Documents",
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--no-wait", is_flag=True, help="Return once everything is sent; processing goes on.")
@click.pass_obj
def ingest(app: App, paths: tuple[str, ...], *, no_wait: bool) -> int:
    """Read files and folders, with everything in them, into the store.

    Hidden files and kinds Morgan cannot read are skipped in folders; a file named here is always sent. Files that
    were ingested before and have not changed cost nothing; one that has changed becomes the new version of its
    document. The same path on another machine is another document. Exits with 1 if any file failed.
    """

    async def work(client: Client) -> Summary:
        from morganctl.ingest import Ingest

        with progress_view(app.out) as view:
            return await Ingest(client, view, machine, wait=not no_wait).run(paths)

    machine = this_machine()
    try:
        summary = app.call(work)
    except BaseExceptionGroup as group:
        # Four uploads run at once; the first thing that stopped them is what the person has to know.
        raise _first(group) from group
    if app.out.json:
        app.out.document(summary)
    else:
        show(app.out, summary)
    return errors.ERROR if summary.failed else errors.OK


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def show(out: Output, summary: Summary) -> None:
    """The summary for people; what failed goes to stderr, by file."""
    for failure in summary.failed:
        out.note(f"{one_line(failure['file'])}: {one_line(failure['error'])}")
    out.say(f"{summary.documents} documents, {summary.chunks} chunks, {summary.embeddings} embeddings")
    if summary.unchanged:
        out.say(f"{summary.unchanged} were there already, unchanged")
    if summary.waiting:
        out.say(f"{summary.waiting} are being processed; see `morganctl documents list`")
    if summary.skipped:
        out.say("skipped: " + ", ".join(f"{count} {reason}" for reason, count in sorted(summary.skipped.items())))
    if summary.failed:
        out.say(f"{len(summary.failed)} failed")
