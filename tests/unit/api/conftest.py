"""The API on both sites; a call that blocks the event loop fails the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from tests.fakes.server import Served, served


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as running:
        with blockbuster_ctx("morgand.api"):
            yield running
