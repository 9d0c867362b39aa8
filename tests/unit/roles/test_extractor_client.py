"""The document reader's client: when it asks whether its engine is there."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, cast

import msgspec
import pytest

from morgand.errors import EngineError, Unreadable
from morgand.roles.core.extractor_client import FRESH_S, EngineExtractor
from morgand.roles.core.extractor_wire import ExtractReply, ExtractRequest
from morgand.roles.process import EngineClient
from morgand.state import Extracted
from tests.fakes.storage import HandClock

ReplyT = TypeVar("ReplyT")
NOTES = Path("notes.txt")


class Reader(EngineClient):
    """An engine that reads everything, crashes on ``deadly`` files, and is back at once."""

    def __init__(self, *deadly: str) -> None:
        super().__init__(Path("unused.sock"), "extractor")
        self.deadly = list(deadly)
        self.asked = 0

    async def call(self, name: str, payload: msgspec.Struct, reply: type[ReplyT], *, deadline_s: float) -> ReplyT:
        assert isinstance(payload, ExtractRequest)
        if payload.name in self.deadly:
            self.deadly.remove(payload.name)
            raise EngineError("The extractor engine is not running.")
        return cast("ReplyT", ExtractReply(Extracted(payload.name, "text/plain", ())))

    async def healthy(self, *, deadline_s: float = 5.0) -> bool:
        self.asked += 1
        return True


async def test_an_engine_that_has_just_read_a_file_is_not_asked_again() -> None:
    """Many small files in a row cost a request each, not two; after a pause the engine may have gone."""
    reader, clock = Reader(), HandClock()
    extractor = EngineExtractor(reader, clock)
    for number in range(5):
        assert (await extractor.extract(NOTES, f"{number}.txt")).title == f"{number}.txt"
    assert reader.asked == 1
    clock.turn(FRESH_S + 0.1)
    await extractor.extract(NOTES, "later.txt")
    assert reader.asked == 2


async def test_a_file_is_blamed_for_the_second_crash_and_the_engine_is_waited_for_after_it() -> None:
    """One crash is forgiven, even if the engine was fine a moment ago; after two the next file asks first."""
    reader = Reader("once.txt", "bad.txt", "bad.txt")
    extractor = EngineExtractor(reader, HandClock())
    await extractor.extract(NOTES, "good.txt")
    assert (await extractor.extract(NOTES, "once.txt")).title == "once.txt"
    with pytest.raises(Unreadable, match="the parser crashed"):
        await extractor.extract(NOTES, "bad.txt")
    before = reader.asked
    assert (await extractor.extract(NOTES, "next.txt")).title == "next.txt"
    assert reader.asked == before + 1
