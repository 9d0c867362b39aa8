"""What every command gets: where the daemon is, how to speak to it, and where to print."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from morganctl.discover import read_key, target
from morganctl.errors import CliError
from morganctl.output import Output

if TYPE_CHECKING:
    from morganctl.client import Client

T = TypeVar("T")
STALE = "Notice: the database cannot be reached; this comes from a copy of it and may be stale."


@dataclass
class App:
    """Options that stand before the command, and the output."""

    url: str | None = None
    data_dir: str | None = None
    key_file: str | None = None
    out: Output = field(default_factory=Output)

    def call(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Run ``work`` with a client in an event loop of its own. Raises CliError."""
        key, warning = read_key(self.key_file, os.environ)
        where = target(self.url, self.data_dir, key, os.environ)
        if warning:
            self.out.note(f"Warning: {warning}")
        from morganctl.client import Client

        async def session() -> T:
            async with Client(where) as client:
                found = await work(client)
                if client.stale:
                    self.out.note(STALE)
                return found

        return asyncio.run(session())

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask a person at a terminal; a script that spells the command out means it. Raises CliError."""
        if yes or self.out.json or not sys.stdin.isatty():
            return
        if not click.confirm(question, err=True):
            raise CliError("Nothing was deleted.", code="aborted")


def _set_json(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001  # Click's signature
    if value and isinstance(app := ctx.find_root().obj, App):
        app.out.json = True


def _show_help(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001  # Click's signature
    if not value or ctx.resilient_parsing:
        return
    app = ctx.find_root().obj
    if isinstance(app, App) and app.out.json:
        app.out.document({"help": ctx.get_help()})
    else:
        click.echo(ctx.get_help())
    ctx.exit()


class _Documented(click.Command):
    """A command with ``--json`` and an Examples section."""

    examples: Sequence[str] = ()

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def json_option() -> click.Option:
    return click.Option(
        ["--json"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_set_json,
        help="Print one JSON document on stdout and nothing else.",
    )


class Command(_Documented):
    """A leaf: what it does, with examples of its use."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params.append(json_option())


class Group(_Documented, click.Group):
    """A group: ``documents``, ``hosts`` and the like."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params.append(json_option())
