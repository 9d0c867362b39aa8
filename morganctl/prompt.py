"""The line editor of the chat: several lines, and a history file only the user can read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from morganctl.discover import state_dir
from morganctl.record import private_dir

HISTORY_FILE = "chat_history"


def open_history(directory: Path) -> History:
    """The history in ``directory``, mode 0600; in memory when it cannot be written."""
    path = directory / HISTORY_FILE
    try:
        private_dir(directory)
        path.touch(mode=0o600)
        path.chmod(0o600)  # made by an older version or a copy with another mode
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def reader(directory: Path | None = None) -> Callable[[], Awaitable[str]]:
    """A function that reads one message. Raises EOFError (Ctrl-D) and KeyboardInterrupt (Ctrl-C)."""
    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    session: PromptSession[str] = PromptSession(
        multiline=True, key_bindings=bindings, history=open_history(directory or state_dir())
    )

    async def read() -> str:
        return await session.prompt_async("> ", prompt_continuation="  ")

    return read
