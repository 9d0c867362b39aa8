"""What the API answers while only a copy of the database can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from morgand.base.clock import SystemClock
from morgand.base.errors import Unavailable
from morgand.peers.copies import Copies, with_copies
from morgand.peers.route import PortRoute
from morgand.state.ports import History, Library
from morgand.storage.database import Database
from tests.fakes.server import Served, of, served
from tests.unit.peers.test_copies import ATLAS, SILENT, Live
from tests.unit.peers.test_route import Hosts

STALE = "X-Morgan-Stale"


def half(database: Database) -> tuple[History, Library]:
    """The ports of a host that has a copy, and no primary any more."""
    place, wires = Hosts([ATLAS], cut_off=True), Live(atlas=SILENT)
    live: Any = wires

    def port(protocol: Any, name: str, copied: Any) -> Any:
        route = PortRoute("db", name, place, lambda: live, SystemClock(), 0.2, single_writer=True)
        return with_copies(protocol, route, copied, Copies(f"{name}-copy", copied, lambda: True, place))

    history, library = of(database)
    return port(History, "history", history), port(Library, "library", library)


async def got(api: Served, method: str, path: str, **body: Any) -> tuple[int, str | None]:
    async with api.session.request(method, path, **body) as response:
        return response.status, response.headers.get(STALE)


async def test_lists_say_that_they_may_be_stale(tmp_path: Path) -> None:
    async with served(tmp_path, half) as api:
        for path in ("/v1/conversations", "/v1/documents", "/v1/documents?state=failed"):
            assert await got(api, "GET", path) == (200, "true")
        assert await got(api, "GET", f"/v1/conversations/{uuid4()}") == (404, None)


async def test_nothing_is_deleted_or_rated_by_what_may_be_stale(tmp_path: Path) -> None:
    async with served(tmp_path, half) as api:
        assert await got(api, "DELETE", f"/v1/conversations/{uuid4()}") == (Unavailable.status, None)
        assert await got(api, "POST", "/v1/feedback", json={"rating": 5}) == (Unavailable.status, None)


async def test_a_database_that_answers_is_not_called_stale(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        assert await got(api, "GET", "/v1/conversations") == (200, None)


async def test_the_description_names_the_header_where_it_may_come(tmp_path: Path) -> None:
    async with served(tmp_path) as api, api.session.get("/v1/openapi.json") as response:
        paths = (await response.json())["paths"]
    assert STALE in paths["/v1/conversations"]["get"]["responses"]["200"]["headers"]
    assert "headers" not in paths["/v1/turns"]["post"]["responses"]["200"]
