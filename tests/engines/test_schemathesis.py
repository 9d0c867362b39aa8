"""Schemathesis over the served description: no 5xx that is not documented, no undocumented status or body.

With ``MORGAN_TEST_URL`` and ``MORGAN_TEST_KEY`` it runs against that daemon; else against the fake backend.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fakes.server import served

pytestmark = pytest.mark.engine

EXAMPLES = 20
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URL and key of what is tested."""
    if url := os.environ.get("MORGAN_TEST_URL"):
        yield url, os.environ["MORGAN_TEST_KEY"]
        return
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
    url, key = target
    description = schemathesis.openapi.from_url(f"{url}/v1/openapi.json")
    faults: list[str] = []
    modes = schemathesis.GenerationMode
    for result in description.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        for mode in (modes.POSITIVE, modes.NEGATIVE):

            @seed(7)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def explore(case: schemathesis.Case[Any]) -> None:
                case.call_and_validate(
                    base_url=url, headers={"Authorization": f"Bearer {key}"}, checks=CHECKS, timeout=60
                )

            try:
                explore()
            except Unsatisfiable:
                continue  # without parameters and body no request to this operation is invalid
            except (Exception, BaseExceptionGroup) as err:  # noqa: BLE001 - every operation is reported, not the first
                faults.append(f"{operation.method.upper()} {operation.path} {mode.value}: {err}")
    assert not faults, "\n\n".join(faults)
