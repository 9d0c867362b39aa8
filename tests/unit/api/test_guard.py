"""What every answer and every refusal has, on the site that strangers reach."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from morgand.api.http import all_routes
from tests.fakes.backend import ScriptedAssistant
from tests.fakes.server import Served


async def test_without_a_key_only_the_open_routes_answer(api: Served) -> None:
    """Every route on TCP wants a key but the probes and the description."""
    answered: list[str] = []
    async with aiohttp.ClientSession(api.url) as session:
        for route in all_routes(api.service):
            path = route.path.replace("{id}", "x").replace("{key}", "x")
            async with session.request(route.method, path) as response:
                if response.status != 401:
                    answered.append(route.path)
    assert sorted(answered) == sorted(route.path for route in all_routes(api.service) if route.open)
    assert len(answered) == 3


async def test_answers_and_refusals_are_private_and_are_what_they_say(api: Served) -> None:
    """No cache keeps an answer and no browser guesses its type, streams included."""
    headers = {"Authorization": f"Bearer {api.key}"}
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/v1/models", None),
        ("GET", "/nothing", None),
        ("DELETE", "/v1/query", None),
        ("POST", "/v1/query", {"text": "?", "stream": True}),
    ]
    async with aiohttp.ClientSession(api.url, headers=headers) as session:
        for method, path, body in asked:
            async with session.request(method, path, json=body) as response:
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Cache-Control"] == "no-store"


async def test_an_unforeseen_error_is_a_500_and_is_logged(api: Served, caplog: pytest.LogCaptureFixture) -> None:
    """The client gets the shape of every error and the request's id; the log has the traceback under it."""
    assistant = api.backend.assistant
    assert isinstance(assistant, ScriptedAssistant)
    assistant.words = (1,)  # type: ignore[assignment] # a fault of ours: the join of the words fails
    with caplog.at_level(logging.ERROR):
        async with api.session.post("/v1/query", json={"text": "secret words"}) as response:
            status, body = response.status, await response.json()
            request_id = response.headers["X-Request-Id"]
    assert (status, body["error"]["code"]) == (500, "error")
    record = next(one for one in caplog.records if one.message == "request failed")
    assert record.exc_info is not None
    assert record.__dict__["request"] == request_id
    assert "secret words" not in caplog.text


async def test_a_wrong_key_is_neither_echoed_nor_logged(api: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A mistyped key may be nearly a right one."""
    with caplog.at_level(logging.DEBUG):
        async with (
            aiohttp.ClientSession(api.url, headers={"Authorization": "Bearer mrgn_nearly"}) as session,
            session.get("/v1/models") as response,
        ):
            assert response.status == 401
            assert "mrgn_nearly" not in await response.text()
    assert "mrgn_nearly" not in caplog.text


@pytest.mark.parametrize(
    ("limit", "path", "body"),
    [
        ("chat_per_minute", "/v1/query", {"text": "?"}),
        ("search_per_minute", "/v1/search", {"text": "?"}),
        ("ingest_per_minute", "/v1/documents", None),
    ],
)
async def test_each_class_has_its_rate(api: Served, limit: str, path: str, body: Any) -> None:
    """The second request within a minute is refused with the time to wait."""
    api.limits[0] = replace(api.limits[0], **{limit: 1})
    async with aiohttp.ClientSession(api.url, headers={"Authorization": f"Bearer {api.key}"}) as session:
        for wanted in (False, True):
            async with session.post(path, json=body) as response:
                assert (response.status == 429) is wanted
    assert 1 <= int(response.headers["Retry-After"]) <= 60
