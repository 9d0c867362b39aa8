"""Other people's client against a whole daemon."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest

from tests.e2e.harness import Daemon
from tests.engines.conformance import faults

pytestmark = pytest.mark.engine

RATES = ("chat", "search", "ingest")
FACT = b"# Boiler\n\nThe boiler of the house in Elm Street runs at a pressure of 1.5 bar.\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with one document, whose answers are short."""
    rates = tuple(f"limits.{name}_per_minute=1000000" for name in RATES)
    one = Daemon(tmp_path_factory.mktemp("clients") / "data", (*rates, "llm.max_tokens=24"))
    try:
        one.start()
        status, body = one.upload({"boiler.md": FACT})
        assert status in (200, 202), body
        one.until(one.settled, 120, "the document is read")
        yield one
    finally:
        if one.process is not None:
            one.stop()


@pytest.fixture(scope="module")
def door(daemon: Daemon) -> tuple[str, str]:
    """Base URL on TCP, and a key made on the Unix socket."""
    status, made = daemon.request("POST", "/v1/keys", {"owner": "test"})
    assert status in (200, 201), made
    ports = [one.laddr.port for one in psutil.Process(daemon.pid).net_connections("tcp") if one.status == "LISTEN"]
    return f"http://127.0.0.1:{ports[0]}", made["key"]


@pytest.fixture(scope="module")
def client(door: tuple[str, str]) -> Iterator[openai.OpenAI]:
    """The package over TCP."""
    with openai.OpenAI(base_url=f"{door[0]}/v1", api_key=door[1], max_retries=0, timeout=120) as one:
        yield one


def model(daemon: Daemon, role: str) -> str:
    return str(next(one["model"] for one in daemon.request("GET", "/v1/roles")[1]["roles"] if one["role"] == role))


def test_models_are_listed(daemon: Daemon, client: openai.OpenAI) -> None:
    """The assistant and the model under it."""
    assert {"morgan", model(daemon, "llm")} <= {one.id for one in client.models.list()}


@pytest.mark.parametrize("name", ["morgan", "llm"])
def test_a_chat_is_streamed_and_whole(daemon: Daemon, client: openai.OpenAI, name: str) -> None:
    """Text comes either way, from the assistant and from the model itself."""
    chosen = name if name == "morgan" else model(daemon, name)
    question = "What is the pressure of the boiler in Elm Street?"
    stream = client.chat.completions.create(model=chosen, messages=[{"role": "user", "content": question}], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    whole = client.chat.completions.create(model=chosen, messages=[{"role": "user", "content": question}])
    text = whole.choices[0].message.content
    assert text
    if name == "morgan":
        assert "1.5 bar" in text  # from the document, not from the model's own knowledge


def test_embeddings_are_unit_vectors(daemon: Daemon, client: openai.OpenAI) -> None:
    """384 numbers of length one, the same in both formats."""
    name = model(daemon, "embedder")
    plain = client.embeddings.create(model=name, input="boiler", encoding_format="float").data[0].embedding
    coded = client.embeddings.create(model=name, input="boiler", encoding_format="base64").data[0].embedding
    numbers = struct.unpack("<384f", base64.b64decode(str(coded)))
    assert len(plain) == 384
    assert math.isclose(math.hypot(*plain), 1, abs_tol=1e-3)
    assert plain == pytest.approx(numbers, abs=1e-4)


def test_errors_are_the_packages_own(client: openai.OpenAI) -> None:
    """A wrong model and a wrong key."""
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_the_socket_is_its_owners(daemon: Daemon) -> None:
    """The file's mode is the permission: nobody else may connect."""
    assert Path(daemon.data_dir / "morgand.sock").stat().st_mode & 0o777 == 0o600


def test_rerank_puts_the_fitting_text_first(daemon: Daemon, door: tuple[str, str]) -> None:
    """The cross-encoder over HTTP: the text that answers has the highest score."""
    texts = ["Bread is baked in an oven.", "The boiler runs at 1.5 bar.", "Cats sleep a lot."]
    body = {"model": model(daemon, "reranker"), "query": "pressure of the boiler", "documents": texts, "top_n": 2}
    status, reply = daemon.request("POST", "/v1/rerank", body)
    assert status == 200, reply
    assert next(one["index"] for one in reply["results"]) == 1
    assert len(reply["results"]) == 2


def test_every_answer_is_documented(door: tuple[str, str]) -> None:
    """Schemathesis on the whole daemon: it answers what its description says. Last: it stores strange things."""
    assert not faults(*door, examples=6)
