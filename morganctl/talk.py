"""The conversation at the terminal: read a message, show the answer, obey slash commands.

Ctrl-C while an answer comes stops the answer, not the program; at the prompt it clears the line. Ctrl-D leaves.
"""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from morganctl.answer import Answer
from morganctl.arguments import valid_text
from morganctl.errors import Away, CliError, ServiceUnavailable
from morganctl.output import Output, one_line
from morganctl.present import ask_again, say, show_text
from morgand.api.schema import CitationView, ConversationsReply, MessagesReply, QueuedReply, TurnReply, TurnRequest

if TYPE_CHECKING:
    from morganctl.client import Client

SHOWN_MESSAGES = 6
READ_S = 8.0  # what is only nice to see is not waited for while the database is away
ECHO_CHARS = 60

HELP = """\
/help      this list
/new       begin a new conversation
/history   show this conversation
/sources   show the sources of the last answer, with the words they rest on
/clear     clear the screen
/exit      leave (also /quit and Ctrl-D)
Enter sends; Alt-Enter (or Esc, then Enter) begins a new line. Ctrl-C stops an answer."""


@dataclass
class Settings:
    """What every turn carries."""

    conversation: uuid.UUID | None = None
    user: str | None = None
    documents: bool = True


class Talk:
    """One session. ``read`` gives the next message, raises EOFError at the end, KeyboardInterrupt to clear."""

    def __init__(self, client: Client, out: Output, settings: Settings, read: Callable[[], Awaitable[str]]) -> None:
        self._client = client
        self._out = out
        self._settings = settings
        self._read = read
        self._citations: list[CitationView] = []
        self._waiting: list[TurnRequest] = []  # kept by the daemon, not answered yet

    async def run(self) -> None:
        """Until the person leaves. Errors of a turn are shown and the session goes on."""
        self._out.note("Ask away; /help shows what else there is, Ctrl-D leaves.")
        while True:
            try:
                text = (await self._read()).strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                self._tell_waiting()
                return
            if self._waiting:
                await self._guarded(self._collect())
            if text.startswith("/"):
                if not await self._command(text):
                    self._tell_waiting()
                    return
            elif text:
                await self._guarded(self._turn(text))

    async def _command(self, text: str) -> bool:
        """Obey a slash command; False: leave."""
        word = text.split(maxsplit=1)[0].lower()
        if word in {"/exit", "/quit"}:
            return False
        if word == "/help":
            self._out.say(HELP)
        elif word == "/new":
            self._settings.conversation = None
            self._citations = []
            self._out.note("A new conversation.")
        elif word == "/clear":
            self._out.console().clear()
        elif word == "/history":
            await self._guarded(self.show_history(None))
        elif word == "/sources":
            self._show_sources()
        else:
            self._out.note(f"There is no {one_line(word)}; /help lists what there is.")
        return True

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Run ``work`` so that Ctrl-C ends it alone, and an error is a line."""
        task = asyncio.ensure_future(work)
        with interruptible(task):
            try:
                await task
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    raise  # the whole program is being stopped
                self._out.note("(stopped)")
            except CliError as err:
                self._out.note(err.message if err.remedy is None else f"{err.message} {err.remedy}")

    async def _turn(self, text: str) -> None:
        answer = Answer(TurnReply)
        request = TurnRequest(
            id=uuid.uuid4(),  # made here, so that a repeated request is the same turn
            text=valid_text(text),
            conversation=self._settings.conversation,
            stream=True,
            documents=self._settings.documents,
            user=self._settings.user,
        )
        try:
            reply = await say(self._client, request, answer, self._out)
        finally:
            # A stopped answer's turn is stored all the same: what follows belongs to the same conversation.
            if answer.accepted is not None:
                self._settings.conversation = uuid.UUID(answer.accepted.conversation)
        self._settings.conversation = uuid.UUID(reply.conversation)
        if isinstance(reply, QueuedReply):
            self._waiting.append(request)
            self._out.note(f"{reply.message} Press Enter to see whether the answer is there.")
            return
        self._show_sources_of(reply)

    async def _collect(self) -> None:
        """Show the answers of kept messages that are there by now. Raises CliError."""
        for request in tuple(self._waiting):
            try:
                reply = await ask_again(self._client, request)
            except ServiceUnavailable:
                raise
            except CliError:
                self._waiting.remove(request)  # it was refused: asking again would say the same
                raise
            if reply is None:
                continue
            self._waiting.remove(request)
            line = one_line(request.text)
            self._out.say(f"To '{line if len(line) <= ECHO_CHARS else line[:ECHO_CHARS] + '…'}':")
            show_text(self._out, reply.answer or "")
            self._show_sources_of(reply)
        if self._waiting:
            self._out.note(f"Still waiting to be sent: {len(self._waiting)}.")

    def _tell_waiting(self) -> None:
        if self._waiting:
            self._out.note("What is not sent yet will be sent; see the answers with `morganctl conversations show`.")

    def _show_sources_of(self, reply: TurnReply) -> None:
        self._citations = reply.citations
        self._out.sources(reply.citations, reply.notices)

    async def recall(self, limit: int) -> None:
        """Show how the conversation stood; an error is a line."""
        await self._guarded(self.show_history(limit))

    async def show_history(self, limit: int | None) -> None:
        """The messages of the conversation so far, the last ``limit`` of them. Raises CliError."""
        if self._settings.conversation is None:
            self._out.note("This conversation has no messages yet.")
            return
        path = f"/v1/conversations/{self._settings.conversation}/messages"
        messages = (await self._client.ask("GET", path, MessagesReply, deadline_s=READ_S)).messages
        for message in messages if limit is None else messages[-limit:]:
            self._out.say(f"{'You' if message.role == 'user' else 'Morgan'}, {message.created:%Y-%m-%d %H:%M}:")
            show_text(self._out, message.text)

    def _show_sources(self) -> None:
        if not self._citations:
            self._out.note("The last answer names no sources.")
        for citation in self._citations:
            self._out.say(f"[{citation.number}] {one_line(citation.title)}, {one_line(citation.place)}")
            self._out.say(f'    "{one_line(citation.quote)}"')


async def latest_conversation(client: Client, out: Output, user: str | None) -> uuid.UUID | None:
    """The conversation to go on with: the user's latest one, if it can be read. Raises CliError without a daemon."""
    page = {"limit": 20, "offset": 0}
    try:
        reply = await client.ask("GET", "/v1/conversations", ConversationsReply, params=page, deadline_s=READ_S)
    except Away:
        raise
    except ServiceUnavailable:
        out.note("Earlier conversations cannot be read right now: this is a new one.")
        return None
    mine = [item for item in reply.conversations if item.user == user]
    return uuid.UUID(max(mine, key=lambda item: item.updated).id) if mine else None


@contextmanager
def interruptible(task: asyncio.Future[None]) -> Iterator[None]:
    """Within, Ctrl-C cancels ``task`` and nothing else."""
    loop = asyncio.get_running_loop()

    def stop(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
