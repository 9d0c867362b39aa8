"""An answer on the screen while it is written: live Markdown on a terminal, the whole text elsewhere."""

from __future__ import annotations

from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, TypeVar

from morganctl.answer import Answer
from morganctl.errors import CliError
from morganctl.output import Output, clean
from morgand.api.schema import QueryReply, QueryRequest, QueuedReply, TurnReply, TurnRequest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import Console, ConsoleOptions, RenderResult

    from morganctl.client import Client

R = TypeVar("R", TurnReply, QueryReply)

REDRAWS_PER_S = 10
TURNS = "/v1/turns"


class Tail:
    """The last lines of growing Markdown that fit the screen; the whole is printed once it is complete."""

    def __init__(self) -> None:
        self.text = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.markdown import Markdown
        from rich.segment import Segment, Segments

        lines = console.render_lines(Markdown(clean(self.text)), options, pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield Segments([*line, Segment.line()])


def _live(out: Output, tail: Tail) -> AbstractContextManager[object]:
    if not out.terminal:
        return nullcontext()
    from rich.live import Live

    return Live(tail, console=out.console(), refresh_per_second=REDRAWS_PER_S, transient=True)


async def streamed(client: Client, path: str, request: TurnRequest | QueryRequest, answer: Answer[R], out: Output) -> R:
    """Ask with ``stream``, show what comes, return the reply. Raises CliError.

    Whatever ends it, a terminal keeps the text that arrived.
    """
    await _shown(client, path, request, answer, out)
    return _complete(answer)


async def say(client: Client, request: TurnRequest, answer: Answer[TurnReply], out: Output) -> TurnReply | QueuedReply:
    """``streamed`` for a turn, which the daemon may keep for later instead of answering it."""
    await _shown(client, TURNS, request, answer, out)
    return answer.queued or _complete(answer)


async def ask_again(client: Client, request: TurnRequest) -> TurnReply | None:
    """The reply to a turn that was kept, without showing it; None while it waits. Raises CliError."""
    answer = Answer(TurnReply)
    async with aclosing(client.stream(TURNS, request)) as events:
        async for event in events:
            answer.apply(event)
    return None if answer.queued else _complete(answer)


async def _shown(
    client: Client, path: str, request: TurnRequest | QueryRequest, answer: Answer[R], out: Output
) -> None:
    tail = Tail()
    try:
        with _live(out, tail):
            async with aclosing(client.stream(path, request)) as events:
                async for event in events:
                    answer.apply(event)
                    tail.text = answer.text
    finally:
        show_text(out, answer.text)


def _complete(answer: Answer[R]) -> R:
    if answer.reply is None:
        raise CliError("The answer ended before it was complete.", code="protocol", remedy="Ask again.")
    return answer.reply


def show_text(out: Output, text: str) -> None:
    """Markdown on a terminal, the text as it is elsewhere, nothing with ``--json``."""
    if out.json or not text:
        return
    if not out.terminal:
        out.say(text)
        return
    from rich.markdown import Markdown

    out.console().print(Markdown(clean(text)))


def show_reply(out: Output, reply: TurnReply | QueryReply | QueuedReply) -> None:
    """What comes after the text: sources and notices, or where the message waits, or the reply as the JSON document."""
    if out.json:
        out.document(reply)
    elif isinstance(reply, QueuedReply):
        out.note(reply.message)
    else:
        out.sources(reply.citations, reply.notices)
