"""Lists that come in pages, and things named by the beginning of their id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from morganctl.arguments import whole_id
from morganctl.errors import CliError
from morganctl.output import one_line
from morgand.api.schema import ConversationsReply, ConversationView, DocumentsReply, DocumentView

if TYPE_CHECKING:
    from morganctl.client import Client

V = TypeVar("V", ConversationView, DocumentView)

PAGE = 100
EVERYTHING = 1_000_000  # more than anybody has, and an end for a listing that has none
SHOWN_MATCHES = 5


async def conversations(client: Client, *, offset: int = 0, limit: int = EVERYTHING) -> AsyncIterator[ConversationView]:
    """Conversations, latest first, a page at a time."""

    async def page(**params: int) -> Sequence[ConversationView]:
        return (await client.get("/v1/conversations", ConversationsReply, params)).conversations

    async for item in _paged(page, offset, limit):
        yield item


async def documents(
    client: Client, state: str | None = None, *, offset: int = 0, limit: int = EVERYTHING
) -> AsyncIterator[DocumentView]:
    """Documents, or those in one state, a page at a time."""
    only = {} if state is None else {"state": state}

    async def page(**params: int) -> Sequence[DocumentView]:
        return (await client.get("/v1/documents", DocumentsReply, {**params, **only})).documents

    async for item in _paged(page, offset, limit):
        yield item


async def resolve(
    wanted: str, kind: str, items: AsyncIterator[V], names: Callable[[V], Sequence[str]] = lambda _item: (),
    meant: Sequence[str] = (),
) -> str:  # fmt: skip
    """The id of the one item that ``wanted`` means: an id, a name as it is or as it is shown, the beginning of an id.

    A whole id is taken as it is. ``meant`` are names that go before all others. What is nearest counts. Raises CliError
    when nothing or several things match.
    """
    if whole_id(wanted) is not None:
        return wanted
    near: list[list[V]] = [[], [], [], []]
    async for item in items:
        known = names(item)
        ways = (
            any(one in meant for one in known), wanted in known, one_line(wanted) in map(one_line, known),
            bool(wanted) and item.id.startswith(wanted.lower()),
        )  # fmt: skip
        if True in ways:
            near[ways.index(True)].append(item)
    matches = next((found for found in near if found), [])
    if len(matches) == 1:
        return matches[0].id
    remedy = f"See `morganctl {kind}s list`."
    if not matches:
        raise CliError(f"There is no {kind} '{wanted}'.", code="not_found", remedy=remedy)
    shown = ", ".join(item.id for item in matches[:SHOWN_MATCHES])
    more = f" and {len(matches) - SHOWN_MATCHES} more" if len(matches) > SHOWN_MATCHES else ""
    raise CliError(f"'{wanted}' means {len(matches)} {kind}s: {shown}{more}.", code="ambiguous", remedy=remedy)


async def _paged(page: Callable[..., Awaitable[Sequence[V]]], offset: int, limit: int) -> AsyncIterator[V]:
    while limit > 0:
        items = await page(limit=min(PAGE, limit), offset=offset)
        if not items:
            return
        for item in items:
            yield item
        offset, limit = offset + len(items), limit - len(items)
