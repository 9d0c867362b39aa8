"""The chat with a real line editor on a pipe and a real SIGINT."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from morganctl.client import Client
from morganctl.discover import Target
from morganctl.output import Output
from morganctl.prompt import HISTORY_FILE, reader
from morganctl.talk import Settings, Talk, latest_conversation
from morgand.api.schema import ConversationView
from tests.fakes.api import WHEN, FakeApi


@contextmanager
def keyboard() -> Iterator[PipeInput]:
    """What is sent here arrives as if typed."""
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


def talk(api: FakeApi, home: Path, typed: str, settings: Settings | None = None) -> None:
    """A whole session in an event loop of its own."""

    async def session() -> None:
        async with Client(Target("http://localhost", api.socket, None)) as client:
            with keyboard() as pipe:
                pipe.send_text(typed)
                await Talk(client, Output(), settings or Settings(), reader(home / "state")).run()

    asyncio.run(session())


def test_a_session(api: FakeApi, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two turns share a conversation, /new begins another, commands answer, /exit leaves."""
    talk(api, home, "one\rtwo\r/sources\r/history\r/new\rthree\r/help\r/nonsense\r/exit\r")
    out, err = capsys.readouterr()
    assert [turn.text for turn in api.turns] == ["one", "two", "three"]
    assert api.turns[0].conversation is None
    assert api.turns[1].conversation is not None
    assert api.turns[2].conversation is None
    assert out.count("Every spring [1].") == 3
    assert '"every spring"' in out
    assert "In spring." in out
    assert "Alt-Enter" in out
    assert "There is no /nonsense" in err


def test_several_lines_and_ctrl_d(api: FakeApi, home: Path) -> None:
    """Esc-Enter begins a new line, Enter sends, Ctrl-C clears the line, Ctrl-D leaves."""
    talk(api, home, "one\x1b\rtwo\rdropped\x03\x04")
    assert [turn.text for turn in api.turns] == ["one\ntwo"]


def test_history_is_private(api: FakeApi, home: Path) -> None:
    """What was typed is kept in a file only the user reads, even when it was wider before."""
    file = home / "state" / HISTORY_FILE
    file.parent.mkdir()
    file.touch(mode=0o644)
    talk(api, home, "secret question\r\x04")
    assert "secret question" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_ctrl_c_stops_the_answer_and_not_the_program(
    api: FakeApi, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGINT while an answer hangs ends it, keeps its text, and the next question goes to the same conversation."""
    api.stall_after = 1
    before = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        assert api.stalled.wait(10)
        api.stall_after = None
        time.sleep(0.3)  # what was sent has to arrive before the person can judge it
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    talk(api, home, "one\rtwo\r/exit\r")
    thread.join()
    out, err = capsys.readouterr()
    assert "(stopped)" in err
    assert "Every " in out
    assert [turn.text for turn in api.turns] == ["one", "two"]
    assert str(api.turns[1].conversation) in api.conversations
    assert signal.getsignal(signal.SIGINT) is before


def test_errors_do_not_end_the_session(api: FakeApi, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of one turn is a line, and the next turn works."""
    api.fail_next(500, path="/v1/turns", code="error")
    talk(api, home, "one\rtwo\r\x04")
    assert "It is error. Wait." in capsys.readouterr().err
    assert [turn.text for turn in api.turns] == ["two"]


async def test_goes_on_with_the_users_latest_conversation(api: FakeApi) -> None:
    """The latest conversation of the same user is meant; without one, none."""
    async with Client(Target("http://localhost", api.socket, None)) as client:
        assert await latest_conversation(client, Output(), None) is None
        mine, other = str(uuid.uuid4()), str(uuid.uuid4())
        api.conversations[mine] = ConversationView(mine, "t", WHEN, WHEN, 2, user="ann")
        api.conversations[other] = ConversationView(other, "t", WHEN, WHEN, 2)
        assert str(await latest_conversation(client, Output(), "ann")) == mine


async def test_a_chat_begins_although_the_database_is_away(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    """Earlier conversations cannot be read: it is said, and a new one begins."""
    api.fail_next(503, path="/v1/conversations", retry_after=60)
    async with Client(Target("http://localhost", api.socket, None)) as client:
        assert await latest_conversation(client, Output(), None) is None
    assert "this is a new one" in capsys.readouterr().err


def test_a_kept_message_is_told_and_its_answer_shown_later(
    api: FakeApi, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the database is away the person goes on; Enter shows each answer once, as soon as it is there."""
    api.keeping = True

    async def session() -> None:
        typed = iter(("one", "two", "", "back", "", "three"))

        async def read() -> str:
            text = next(typed, None)
            if text is None:
                raise EOFError
            if text != "back":
                return text
            api.keeping = False
            return ""

        async with Client(Target("http://localhost", api.socket, None)) as client:
            await Talk(client, Output(), Settings(), read).run()

    asyncio.run(session())
    out, err = capsys.readouterr()
    assert err.count("Your message is kept on attic. Press Enter") == 2
    assert "Still waiting to be sent: 2." in err
    assert out.count("To 'one':") == out.count("To 'two':") == 1
    assert out.count("Every spring [1].") == 3
    assert len({turn.id for turn in api.turns}) == 3
    assert api.turns[-1].text == "three"


def test_leaving_with_kept_messages_says_what_becomes_of_them(
    api: FakeApi, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.keeping = True
    talk(api, home, "one\r/exit\r")
    assert "will be sent" in capsys.readouterr().err


def test_a_kept_message_that_is_refused_in_the_end_is_told_once(
    api: FakeApi, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.keeping = True
    conversation = uuid.uuid4()

    async def session() -> None:
        typed = iter(("one", "refused", "", ""))

        async def read() -> str:
            text = next(typed, None)
            if text is None:
                raise EOFError
            if text == "refused":
                api.fail_next(404, path="/v1/turns", code="not_found")
                return ""
            return text

        async with Client(Target("http://localhost", api.socket, None)) as client:
            await Talk(client, Output(), Settings(conversation), read).run()

    asyncio.run(session())
    err = capsys.readouterr().err
    assert err.count("It is not_found.") == 1
    assert "Still waiting" not in err
