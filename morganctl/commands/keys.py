"""``morganctl keys``: who may use the API over the network."""

from __future__ import annotations

from urllib.parse import quote

import click
from msgspec import UNSET

from morganctl.app import App, Group
from morganctl.output import one_line
from morgand.api.schema import Deleted, KeyRequest, KeysReply, KeyView


@click.group(cls=Group, examples=("morganctl keys create --owner laptop --expires-days 365", "morganctl keys list"))
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command("create", examples=("morganctl keys create --owner laptop", "morganctl keys create --owner ci --json"))
@click.option("--owner", required=True, help="Whom or what the key is for.")
@click.option("--expires-days", type=click.IntRange(1, 3650), help="Days until it expires; never otherwise.")
@click.pass_obj
def create_key(app: App, owner: str, expires_days: int | None) -> None:
    """Create a key. It is shown once: keep it."""
    request = KeyRequest(owner=owner, expires_days=expires_days)
    reply = app.call(lambda client: client.ask("POST", "/v1/keys", KeyView, request))
    if app.out.json:
        app.out.document(reply)
        return
    app.out.say(one_line(reply.key) if reply.key is not UNSET else "")
    expiry = f"expires {reply.expires:%Y-%m-%d}" if reply.expires else "never expires"
    app.out.note(f"Key {reply.id} for {one_line(reply.owner)} {expiry}. It is not shown again.")


@keys.command("list", examples=("morganctl keys list",))
@click.pass_obj
def list_keys(app: App) -> None:
    """List keys, without the keys themselves."""
    reply = app.call(lambda client: client.get("/v1/keys", KeysReply))
    if app.out.json:
        app.out.document(reply)
        return
    rows = [(item.id, item.owner, item.created, item.expires or "never") for item in reply.keys]
    app.out.table(("id", "owner", "created", "expires"), rows)


@keys.command("revoke", examples=("morganctl keys revoke 7d1f0a52",))
@click.argument("key_id", metavar="ID")
@click.pass_obj
def revoke_key(app: App, key_id: str) -> None:
    """Revoke a key by its id; it stops working at once."""
    path = f"/v1/keys/{quote(key_id, safe='', errors='backslashreplace')}"
    reply = app.call(lambda client: client.ask("DELETE", path, Deleted))
    if app.out.json:
        app.out.document(reply)
    else:
        app.out.say(f"Revoked {one_line(reply.deleted)}.")
