"""A program of whatever version Python finds: it writes to a database until its stdin ends, and says how that went.

``python upgrade_load.py URL``; one line of JSON when the first writes are done, one at the end.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from uuid import uuid4

import morgand
from morgand.base.clock import SystemClock
from morgand.storage.database import Database
from morgand.storage.history import SqlHistory

WRITERS = 8
PAUSE_S = 0.02


class Load:
    """Turns with answers and feedback in a few conversations, which are read, summed up and deleted meanwhile."""

    def __init__(self, history: SqlHistory) -> None:
        self._history, self._chance = history, random.Random(7)
        self.done, self.failed = 0, list[str]()
        self.stop = False

    async def write(self) -> None:
        while not self.stop:
            conversation = str(uuid4())
            for number in range(5):
                try:
                    await self._turn(conversation, number)
                except Exception as err:  # noqa: BLE001 - whatever it is, a write has failed
                    self.failed.append(f"{type(err).__name__}: {err}"[:300])
                self.done += 1
                await asyncio.sleep(PAUSE_S * self._chance.random())

    async def _turn(self, conversation: str, number: int) -> None:
        history, turn = self._history, str(uuid4())
        await history.store_message(turn, conversation, f"Message {number}", tokens=1, user="ada")
        await history.store_answer(turn, "Answer", tokens=1, citations=[], notices=[])
        await history.add_feedback(conversation, turn, rating=3, comment="x", kind="rating")
        await history.since_summary(conversation)
        if number == 4:
            await history.delete_conversation(conversation)


async def main(url: str) -> None:
    database = Database(url)
    await database.open()
    await database.begin_term(1)
    load = Load(SqlHistory(database, SystemClock()))
    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(load.write())
        while load.done < WRITERS:
            await asyncio.sleep(0.05)
        _say({"version": morgand.__version__})
        await asyncio.to_thread(sys.stdin.read)
        load.stop = True
    await database.close()
    _say({"done": load.done, "failed": load.failed[:5]})


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
