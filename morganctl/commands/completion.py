"""``morganctl completion``: the shell's part of completing commands and options."""

from __future__ import annotations

import click

from morganctl.app import App, Command


@click.command(
    cls=Command,
    examples=(
        "morganctl completion bash > ~/.local/share/bash-completion/completions/morganctl",
        "morganctl completion fish > ~/.config/fish/completions/morganctl.fish",
    ),
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell."""
    from click.shell_completion import get_completion_class

    app = ctx.find_object(App)
    made_by = get_completion_class(shell)
    assert app is not None
    assert made_by is not None, "the choices are the shells Click knows"
    script = made_by(ctx.find_root().command, {}, "morganctl", "_MORGANCTL_COMPLETE").source()
    if app.out.json:
        app.out.document({"shell": shell, "script": script})
    else:
        app.out.say(script)
