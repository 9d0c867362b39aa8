"""``morganctl config``: settings, by dotted name."""

from __future__ import annotations

from urllib.parse import quote

import click

from morganctl.app import App, Group
from morganctl.output import one_line
from morgand.api.schema import Deleted, SettingRequest, SettingsReply, SettingView


@click.group(cls=Group, examples=("morganctl config list", "morganctl config set llm.temperature 0.3"))
def config() -> None:
    """Read and change settings. Those set here hold for the whole cluster and survive restarts."""


@config.command("list", examples=("morganctl config list", "morganctl config list --json"))
@click.pass_obj
def list_settings(app: App) -> None:
    """List every setting with its value and where it comes from."""
    reply = app.call(lambda client: client.get("/v1/settings", SettingsReply))
    if app.out.json:
        app.out.document(reply)
        return
    rows = [(item.key, item.value, item.source, item.shared, item.help) for item in reply.settings]
    app.out.table(("key", "value", "source", "settable", "help"), rows)


@config.command("get", examples=("morganctl config get llm.temperature",))
@click.argument("key")
@click.pass_obj
def get_setting(app: App, key: str) -> None:
    """Print the value of one setting."""
    reply = app.call(lambda client: client.get(_path(key), SettingView))
    if app.out.json:
        app.out.document(reply)
        return
    value = ",".join(map(str, reply.value)) if isinstance(reply.value, list) else reply.value
    app.out.say(one_line(str(value).lower() if isinstance(value, bool) else str(value)))
    app.out.note(f"({reply.source}; default {reply.default!r}) {reply.help}")


@config.command(
    "set",
    context_settings={"ignore_unknown_options": True},  # a value may be -1
    examples=("morganctl config set llm.temperature 0.3", "morganctl config set limits.chat_per_minute 200"),
)
@click.argument("key")
@click.argument("value")
@click.pass_obj
def set_setting(app: App, key: str, value: str) -> None:
    """Set one setting; the daemon checks the value. Lists are separated by commas."""
    reply = app.call(lambda client: client.ask("PUT", _path(key), SettingView, SettingRequest(value)))
    if app.out.json:
        app.out.document(reply)
    else:
        app.out.say(f"{reply.key} = {one_line(str(reply.value))}")


@config.command("delete", examples=("morganctl config delete llm.temperature --yes",))
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete_setting(app: App, key: str, *, yes: bool) -> None:
    """Forget a setting made with `set`: file, environment or default hold again."""
    app.confirm(f"Forget the cluster's value of {one_line(key)}?", yes=yes)
    reply = app.call(lambda client: client.ask("DELETE", _path(key), Deleted))
    if app.out.json:
        app.out.document(reply)
    else:
        app.out.say(f"Forgot {one_line(reply.deleted)}.")


def _path(key: str) -> str:
    return f"/v1/settings/{quote(key, safe='', errors='backslashreplace')}"
