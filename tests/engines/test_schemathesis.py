"""Schemathesis over the served description, on the application with a fake backend: every route, quickly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.conformance import faults
from tests.fakes.server import served

pytestmark = pytest.mark.engine

EXAMPLES = 20


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URL and key of what is tested."""
    started: list[tuple[str, str]] = []
    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def run(folder: Path) -> None:
        async with served(folder) as api:
            many = dict.fromkeys(("chat_per_minute", "search_per_minute", "ingest_per_minute"), 1_000_000)
            api.limits[0] = replace(api.limits[0], **many)
            started.append((api.url, api.key))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(tmp_path_factory.mktemp("s")),))
    thread.start()
    ready.wait(30)
    yield started[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def test_every_answer_is_documented(target: tuple[str, str]) -> None:
    """Valid and invalid requests alike get an answer the description names."""
    assert not faults(*target, EXAMPLES)
