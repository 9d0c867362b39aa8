"""The reference of every command as Markdown, made from the command tree."""

from __future__ import annotations

from collections.abc import Iterator

import click

from morganctl.cli import cli

HEAD = """\
# morganctl

Generated from the command tree by `python docs/generate.py`; do not edit.
"""


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ("morganctl",)
) -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name, groups before their members."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, member in sorted(command.commands.items()):
            yield from commands(member, (*path, name))


def reference() -> str:
    """The whole reference."""
    return "\n".join([HEAD, *(_section(path, command) for path, command in commands())])


def _section(path: str, command: click.Command) -> str:
    parent: click.Context | None = None
    for name in path.split()[:-1]:
        parent = click.Context(cli, info_name=name, parent=parent)
    # The width is fixed: the reference must not depend on the terminal it is made in.
    context = click.Context(
        command, info_name=path.rsplit(maxsplit=1)[-1], parent=parent, terminal_width=100, max_content_width=100,
        help_option_names=["-h", "--help"],
    )  # fmt: skip
    return f"## {path}\n\n```text\n{command.get_help(context)}\n```\n"
