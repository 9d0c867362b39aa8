"""Speak to llama.cpp's server: ``ports.Chat`` over its Unix socket."""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from morgand.base.errors import EngineError, InvalidInput, MorganError, Unavailable
from morgand.state.ports import ChatDelta, ChatInfo, ChatMessage, ChatOptions

BASE = "http://llm"
FIRST_TOKEN_S = 60.0
NEXT_TOKEN_S = 30.0
TOKENIZE_S = 10.0
PROOF_S = 300.0  # the first token after loading, on a machine that has much else to do
MAX_CONNECTIONS = 64
TOKENIZE_AT_ONCE = 8


class LlamaChat:
    """One LLM engine. ``info`` says which model it was started with; raises Unavailable when there is none."""

    def __init__(self, socket: Path, info: Callable[[], ChatInfo], *, first_token_s: float = FIRST_TOKEN_S) -> None:
        self._socket = socket
        self._info = info
        self._first_token_s = first_token_s
        self._session: aiohttp.ClientSession | None = None
        self._tokenizing = asyncio.Semaphore(TOKENIZE_AT_ONCE)

    async def info(self) -> ChatInfo:
        return self._info()

    async def stream(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]:
        """Stream an answer. Leaving the iterator early closes the connection, which ends the generation."""
        body = _request(messages, options)
        try:
            async with self._open().post(
                f"{BASE}/v1/chat/completions", json=body, timeout=aiohttp.ClientTimeout(sock_read=self._first_token_s)
            ) as response:
                if response.status != 200:
                    raise _refusal(response.status, await response.read())
                async for delta in self._deltas(response):
                    yield delta
        except TimeoutError as err:
            raise EngineError("The LLM did not go on with its answer in time.") from err
        except (aiohttp.ClientError, OSError) as err:
            raise EngineError("The LLM is not running.") from err

    async def _deltas(self, response: aiohttp.ClientResponse) -> AsyncIterator[ChatDelta]:
        finish: str | None = None
        async for event in _events(response.content, self._first_token_s):
            if error := event.get("error"):
                code = error.get("code") if isinstance(error, dict) else None
                raise _refusal(code if isinstance(code, int) else 500, json.dumps(event).encode())
            if usage := event.get("usage"):
                yield ChatDelta("", finish or "stop", usage["prompt_tokens"], usage["completion_tokens"])
                return
            for choice in event.get("choices", ()):
                finish = choice.get("finish_reason") or finish
                if text := choice.get("delta", {}).get("content"):
                    yield ChatDelta(text)
        raise EngineError("The LLM ended in the middle of its answer.")

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return list(await asyncio.gather(*(self._count(text) for text in texts)))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _count(self, text: str) -> int:
        timeout = aiohttp.ClientTimeout(total=TOKENIZE_S)
        try:
            async with (
                self._tokenizing,
                self._open().post(f"{BASE}/tokenize", json={"content": text}, timeout=timeout) as response,
            ):
                if response.status != 200:
                    raise _refusal(response.status, await response.read())
                return len((await response.json())["tokens"])
        except TimeoutError as err:
            raise EngineError("The LLM did not count tokens in time.") from err
        except (aiohttp.ClientError, OSError) as err:
            raise EngineError("The LLM is not running.") from err

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # llama.cpp closes a connection after a streamed answer: whoever asks again at once must not meet that one
            connector = aiohttp.UnixConnector(str(self._socket), limit=MAX_CONNECTIONS, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


def harmless(text: str) -> str:
    """Without control tokens: llama.cpp reads ``<|im_end|>`` in a message as the end of it, so that a document or a
    person could speak for somebody else."""
    return text.replace("<|", "< |")


async def say_a_token(socket: Path) -> None:
    """Have the engine behind ``socket`` answer once, in one token. Raises MorganError.

    llama.cpp calls itself healthy as soon as the model is read; the first token after that takes as long again.
    """

    def info() -> ChatInfo:
        raise Unavailable

    chat = LlamaChat(socket, info, first_token_s=PROOF_S)
    try:
        async for _ in chat.stream([ChatMessage("user", "Are you there?")], ChatOptions(max_tokens=1)):
            pass
    finally:
        await chat.close()


def _request(messages: Sequence[ChatMessage], options: ChatOptions) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": [{"role": one.role, "content": harmless(one.content)} for one in messages],
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_tokens": options.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": True,
    }
    if options.stop:
        body["stop"] = list(options.stop)
    if options.seed is not None:
        body["seed"] = options.seed
    return body


async def _events(content: aiohttp.StreamReader, first_s: float) -> AsyncIterator[dict[str, Any]]:
    """Server-sent events, however the bytes are cut: lines and characters may be split anywhere."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pending = ""
    deadline_s = first_s
    while True:
        async with asyncio.timeout(deadline_s):
            chunk = await content.readany()
        if not chunk:
            return
        deadline_s = NEXT_TOKEN_S
        *lines, pending = (pending + decoder.decode(chunk)).split("\n")
        for line in lines:
            data = line.removeprefix("data:").strip()
            if line.startswith("data:") and data and data != "[DONE]":
                yield _decoded(data)


def _decoded(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except json.JSONDecodeError as err:
        raise EngineError("The LLM answered something that is not an answer.") from err
    if not isinstance(event, dict):
        raise EngineError("The LLM answered something that is not an answer.")
    return event


def _refusal(status: int, body: bytes) -> MorganError:
    """llama.cpp's error in our words."""
    try:
        said = json.loads(body).get("error", {})
        error = said if isinstance(said, dict) else {"message": said}
    except (json.JSONDecodeError, AttributeError):
        error = {}
    if error.get("type") == "exceed_context_size_error":
        return InvalidInput(
            f"The text is too long for the model: {error.get('n_prompt_tokens', 'too many')} tokens, "
            f"{error.get('n_ctx', 'fewer')} fit.",
            remedy="Shorten it.",
        )
    if status == 503:
        return Unavailable("The LLM is still loading.", retry_after_s=1.0)
    if status == 400:
        return InvalidInput(f"The LLM refused the request: {error.get('message', 'no reason given')}")
    return EngineError(f"The LLM failed: {error.get('message', f'status {status}')}")
