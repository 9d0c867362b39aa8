"""In which order the embedder computes, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from morgand.base.errors import Overloaded
from morgand.process.nice import BACKGROUND
from morgand.roles.embedder.engine import MAX_WAITING, PRIORITY, Cores, EmbedderEngine
from morgand.roles.embedder.wire import EmbedReply, EmbedRequest

QUERY, PASSAGE = PRIORITY["query"], PRIORITY["passage"]


class Held:
    """A model that computes one text at a time, remembers in which order, and begins when it is let."""

    dimension = 1

    def __init__(self, side_by_side: int = 1, *, overtaken: bool = False) -> None:
        self.side_by_side, self.overtaken = side_by_side, overtaken
        self.computed: list[str] = []
        self.nice: dict[str, int] = {}  # of the thread that computed a text
        self.let = threading.Event()

    def cut(self, texts: Sequence[str]) -> list[list[int]]:
        return [[index] for index in reversed(range(len(texts)))]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.nice.update(dict.fromkeys(texts, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        assert "question" in texts or self.let.wait(10)
        self.computed += texts
        if "bad" in texts:
            raise ValueError("bad")
        return np.array([[len(text)] for text in texts], dtype=np.float32)


async def test_questions_go_before_passages() -> None:
    """A lower number is served first; equals are served in order of arrival."""
    model = Held()
    cores = Cores(model)
    async with asyncio.TaskGroup() as group:
        for name in ("running", "p1", "p2", "q1", "q2"):
            group.create_task(cores.embed([name], QUERY if name.startswith("q") else PASSAGE))
            await asyncio.sleep(0.01)
        model.let.set()
    assert model.computed == ["running", "q1", "q2", "p1", "p2"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own there")
async def test_a_question_is_computed_beside_passages_which_stand_back_for_it() -> None:
    """However long a mini-batch of passages takes, a question neither waits for it nor shares the core with it."""
    model = Held(side_by_side=2, overtaken=True)
    cores = Cores(model)
    passages = asyncio.create_task(cores.embed(["one", "two", "three"], PASSAGE))
    while len(model.nice) < 2:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        await cores.embed(["question"], QUERY)
    assert model.computed == ["question"]
    model.let.set()
    assert len(await passages) == 3
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert model.nice == {"one": BACKGROUND, "two": BACKGROUND, "three": BACKGROUND, "question": own}


async def test_a_request_is_finished_before_the_next_one() -> None:
    """Requests in line do not share the cores: the first is answered while the next is computed."""
    model = Held(side_by_side=2)
    engine = EmbedderEngine(model, "held")
    first, second = ([f"{name}{'x' * number}" for number in range(20)] for name in "ab")
    bodies = [msgspec.msgpack.encode(EmbedRequest(texts, "passage")) for texts in (first, second)]
    model.let.set()
    replies = await asyncio.gather(*map(engine.embed, bodies))
    assert set(model.computed[:19]) <= set(first)  # the last one may still be computed when a core is free
    assert sorted(model.computed) == sorted(first + second)
    for texts, reply in zip((first, second), replies, strict=True):
        vectors = msgspec.msgpack.decode(reply, type=EmbedReply).vectors
        assert [float(np.frombuffer(one, "<f4")[0]) for one in vectors] == [len(text) for text in texts]


async def test_a_full_line_refuses() -> None:
    """What would not fit into the line is refused whole; the others are unharmed."""
    model = Held()
    cores = Cores(model)
    running = asyncio.create_task(cores.embed(["running"], PASSAGE))
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(cores.embed(["waiting"] * MAX_WAITING, PASSAGE))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await cores.embed(["one more"], QUERY)
    model.let.set()
    assert len(await running) == 1
    assert len(await waiting) == MAX_WAITING
    assert "one more" not in model.computed


async def test_what_nobody_waits_for_any_more_is_not_computed() -> None:
    """A caller that is gone leaves the line, and the next one is served."""
    model = Held()
    cores = Cores(model)
    names = ("running", "gone", "stays")
    running, gone, stays = (asyncio.create_task(cores.embed([name], PASSAGE)) for name in names)
    await asyncio.sleep(0.05)
    gone.cancel()
    await asyncio.sleep(0)
    model.let.set()
    assert len(await running) == len(await stays) == 1
    assert model.computed == ["running", "stays"]


async def test_a_text_the_model_fails_on_is_told_to_its_caller_alone() -> None:
    """An error of the model ends that request; the threads go on."""
    model = Held()
    cores = Cores(model)
    model.let.set()
    with pytest.raises(ValueError, match="bad"):
        await cores.embed(["bad"], PASSAGE)
    assert len(await cores.embed(["good"], PASSAGE)) == 1
