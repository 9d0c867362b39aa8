"""The real ``openai`` package against the API on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tests.fakes.server import Served, served

pytestmark = pytest.mark.engine


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as running:
        yield running


@pytest.fixture
async def client(api: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=api.key, max_retries=0) as made:
        yield made


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    """The assistant, the LLM itself, the embedder and the reranker."""
    names = [model.id async for model in client.models.list()]
    assert names[:2] == ["morgan", "large"]
    assert len(names) == 4


async def test_a_chat_streams_with_usage(client: openai.AsyncOpenAI) -> None:
    """Pieces arrive one by one; the last chunk counts tokens."""
    stream = await client.chat.completions.create(
        model="large",
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello there."
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_the_assistant_cites(client: openai.AsyncOpenAI) -> None:
    """The model ``morgan`` answers from documents and says which."""
    reply = await client.chat.completions.create(
        model="morgan", messages=[{"role": "user", "content": [{"type": "text", "text": "Pressure?"}]}]
    )
    assert reply.choices[0].message.content == "The pressure is 1.5 bar [1]."
    assert reply.model_extra is not None
    assert reply.model_extra["citations"][0]["title"] == "Boiler"


async def test_texts_are_embedded_in_both_formats(client: openai.AsyncOpenAI, api: Served) -> None:
    """The package asks for base64 by default; floats are the same numbers."""
    model = await api.backend.embedder.model()
    coded = await client.embeddings.create(model=model, input=["a", "b"])
    plain = await client.embeddings.create(model=model, input=["a", "b"], encoding_format="float")
    assert [one.embedding for one in coded.data] == [one.embedding for one in plain.data]
    with pytest.raises(openai.BadRequestError, match="token arrays"):
        await client.embeddings.create(model=model, input=[1, 2, 3])


async def test_errors_are_the_packages_own(client: openai.AsyncOpenAI) -> None:
    """An unknown model and a wrong key raise what clients expect."""
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="x", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").models.list()
